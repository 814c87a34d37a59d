//! What another program needs to log in to the same server.

use crate::Error;
use crate::client::Vim;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use site_recovery_https::Secret;

/// Server, user and password, and by what the server is known again: for a program that opens sessions of its own, as VMware's
/// VDDK does.
#[derive(Debug, Clone)]
pub struct Login {
    /// A name or an address, without brackets.
    pub server: String,
    /// 443 where the settings name none.
    pub port: u16,
    /// Who.
    pub user: String,
    /// As it stands now. It belongs in no argument, variable or file.
    pub password: Secret,
    /// The SHA-1 of the server's certificate, `AB:CD:…`, as VDDK knows servers by. It is the one that was trusted by its authority
    /// or its SHA-256; alone, SHA-1 would not do.
    pub thumbprint: String,
}

impl Vim {
    /// What another program needs to log in to this server, after the server has shown its certificate once more.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) where the password cannot be read; [`Stranger`](crate::Lost::Stranger); those of any read.
    pub async fn login(&self) -> Result<Login, Error> {
        let base = self.http().base();
        let host = base.host_str().unwrap_or_default();
        let server = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = base.port_or_known_default().unwrap_or(443);
        let certificate = self.http().certificate().await?;
        let digest = digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let (user, password) = self.who()?;
        Ok(Login { server, port, user: user.to_owned(), password, thumbprint: pairs.join(":") })
    }
}

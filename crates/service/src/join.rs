//! Joins a vault.

use crate::settings::Settings;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_transport::enrol::{Credentials, JoinToken, Stated};
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// The most bytes of a token and what may stand around it.
const LONGEST: u64 = 64 * 1024;

/// Joins by the token in `token_file` (`-`: standard input), and tells the authority where the service is and what it
/// serves.
///
/// # Errors
/// `NotFound`, `Denied` where the token cannot be read; `Invalid` where it is none; those of
/// [`CredentialsBuilder::join`](site_recovery_transport::enrol::CredentialsBuilder::join).
pub async fn join(settings: &Settings, stated: Stated, token_file: &Path) -> Result<Credentials> {
    settings.check()?;
    let token: JoinToken = token(token_file)?.trim().parse()?;
    Credentials::at(settings.credentials()).states(stated).join(&token).await
}

fn token(file: &Path) -> Result<Zeroizing<String>> {
    let unread = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Denied,
        };
        Error::new(kind, format!("the join token {} cannot be read", file.display())).caused_by(e)
    };
    let mut text = Zeroizing::new(String::new());
    let input: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).map_err(unread)?),
    };
    input.take(LONGEST).read_to_string(&mut text).map_err(unread)?;
    Ok(text)
}

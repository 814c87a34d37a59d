//! Credentials that go from one system of a service to another: from a rescue system to what it restored.

use super::credentials::{Credentials, Record};
use super::place;
use super::revoked::Revoked;
use super::roster::RosterEntry;
use super::service::Service;
use crate::fault::Result;
use site_recovery::{Error, ErrorKind};
use std::path::Path;

impl Credentials {
    /// Whose credentials are in a directory; `None`: there are none. Blocks.
    ///
    /// # Errors
    /// `Corrupt`; `Unsupported` for those of a newer program; those of the file system.
    pub fn whose(directory: &Path) -> Result<Option<Service>> {
        Ok(identity(directory)?.map(|record| record.service))
    }

    /// Hands the credentials in `from` over to `to`, both of which are for their owner alone: key and certificate, what was
    /// revoked, and the roster. Each file is replaced whole, and durable on return; a repeat does the same. Where the
    /// credentials in `to` are another service's, nothing is written, and that service is returned: what is signed for one
    /// service is of no use to another. Both systems may show them then; each renews its own. Blocks.
    ///
    /// # Errors
    /// `NotFound` where there are none in `from`; `Corrupt`; `Unsupported` for those of a newer program; `Refused` where
    /// others may look into a directory; those of the file system. None tells a secret.
    pub fn hand_over(from: &Path, to: &Path) -> Result<Option<Service>> {
        place::private(from)?;
        place::private(to)?;
        let Some(record) = identity(from)? else {
            let said = format!("there are no credentials in {}: join by a token", from.display());
            return Err(Error::new(ErrorKind::NotFound, said));
        };
        match identity(to) {
            Ok(Some(there)) if there.service != record.service => return Ok(Some(there.service)),
            // Nobody could use what is damaged.
            Err(e) if e.kind() != ErrorKind::Corrupt => return Err(e),
            _ => {}
        }
        let revoked: Option<Revoked> = place::read(&from.join("revoked.json"))?;
        if let Some(mut all) = revoked {
            let known: Revoked =
                place::read(&to.join("revoked.json")).unwrap_or_default().unwrap_or_default();
            known.iter().for_each(|(serial, service)| {
                all.add(serial.clone(), service.clone());
            });
            place::write(&to.join("revoked.json"), &all)?;
        }
        if let Some(roster) = place::read::<Vec<RosterEntry>>(&from.join("roster.json"))? {
            place::write(&to.join("roster.json"), &roster)?;
        }
        // Last: with it the others are what goes with it.
        place::write(&to.join("identity.json"), &record)?;
        Ok(None)
    }
}

fn identity(directory: &Path) -> Result<Option<Record>> {
    let path = directory.join("identity.json");
    let record = place::read::<Record>(&path)?;
    record.map(|record| place::known(record.version, &path).map(|()| record)).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, EnrolmentLimits, EnrolmentServer, Invitation, ServiceKind};
    use super::*;
    use site_recovery::SystemClock;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    fn modes(dir: &Path) -> Vec<(String, u32)> {
        let entries = fs::read_dir(dir).expect("a directory").map(|entry| {
            let entry = entry.expect("an entry");
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o7777;
            (entry.file_name().into_string().expect("a plain name"), mode)
        });
        let mut all: Vec<_> = entries.collect();
        all.sort();
        all
    }

    #[tokio::test]
    async fn c1_credentials_go_over_to_the_same_service_alone_and_stay_for_their_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let authority = Authority::open(at("authority"), Arc::new(SystemClock)).expect("made");
        let port = "127.0.0.1:0".parse().expect("an address");
        let server = EnrolmentServer::listen(authority.clone(), port, EnrolmentLimits::default());
        let server = server.await.expect("it listens");
        let join = async |name: &str, to: &str| {
            let service = Service::new(ServiceKind::Agent, name).expect("a label");
            let invitation = Invitation::new(service, server.address().to_string());
            let token = authority.mint(invitation).await.expect("minted");
            Credentials::at(at(to)).join(&token).await.expect("joined")
        };
        let old = join("web-1", "installed").await;
        let fresh = join("web-1", "rescue").await;
        fs::write(at("rescue/roster.json"), "[]").expect("written");
        fs::write(at("rescue/joining.json"), "never read").expect("written");
        fs::write(at("rescue/revoked.json"), "{\"0a\":\"agent/a\"}").expect("written");
        fs::write(at("installed/revoked.json"), "{\"0b\":\"agent/b\"}").expect("written");
        // A repeat, too, and after what a kill leaves: a part of the files.
        for _ in 0..2 {
            assert_eq!(Credentials::hand_over(&at("rescue"), &at("installed")).expect("handed over"), None);
            let opened = Credentials::at(at("installed")).open().await.expect("they are live");
            assert_eq!(opened.serial(), fresh.serial());
            assert_ne!(opened.serial(), old.serial());
            opened.renew().await.expect("the authority knows it");
            let revoked = fs::read_to_string(at("installed/revoked.json")).expect("read");
            assert!(revoked.contains("0a") && revoked.contains("0b"), "{revoked}");
            let named = ["identity.json", "revoked.json", "roster.json"].map(|name| (name.to_owned(), 0o600));
            assert_eq!(modes(&at("installed")), named);
            fs::remove_file(at("installed/roster.json")).expect("removed");
        }
        // A damaged one is of use to nobody, and another service's stays.
        fs::write(at("installed/identity.json"), "{").expect("written");
        assert_eq!(Credentials::hand_over(&at("rescue"), &at("installed")).expect("handed over"), None);
        join("web-2", "installed").await;
        let before = fs::read(at("installed/identity.json")).expect("read");
        let other = Credentials::hand_over(&at("rescue"), &at("installed")).expect("told");
        assert_eq!(other.map(|service| service.to_string()).as_deref(), Some("agent/web-2"));
        assert_eq!(fs::read(at("installed/identity.json")).expect("read"), before);
        let whose = Credentials::whose(&at("rescue")).expect("read").expect("there");
        assert_eq!(whose.to_string(), "agent/web-1");
        // Nothing to hand over, or to somebody whom others look over the shoulder.
        let none = Credentials::hand_over(&at("nowhere"), &at("installed")).expect_err("none are there");
        assert_eq!(none.kind(), ErrorKind::NotFound, "{none}");
        fs::create_dir(at("open")).expect("made");
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o755)).expect("set");
        let open = Credentials::hand_over(&at("rescue"), &at("open")).expect_err("others could read it");
        assert_eq!(open.kind(), ErrorKind::Refused, "{open}");
        assert!(modes(&at("open")).is_empty());
        server.stop().await;
    }
}

//! What an authority remembers: a file for each token and for each service, and one for what was revoked. Each is replaced
//! whole, and what binds comes first: a crash between two leaves a certificate on record that nobody got, never one that
//! somebody has and that is on no record.

use super::place;
use super::revoked::{Revoked, Serial};
use super::roster::{RosterEntry, ServedRole, Stated};
use super::service::Service;
use crate::fault::Result;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Timestamp};
use site_recovery_register::{durable, locked};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long what has expired stays on record: the longest life of a certificate.
pub(super) const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Certificates of one service that have not expired.
pub(super) const MOST_VALID: usize = 64;

/// The ledger, for whoever has the turn: in this process or another one.
#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
    _turn: File,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TokenRecord {
    pub(super) version: u32,
    pub(super) service: Service,
    pub(super) roles: Vec<ServedRole>,
    /// SHA-256 of the secret.
    pub(super) secret: String,
    pub(super) expires: Timestamp,
    /// Revoked before it was used.
    pub(super) void: bool,
    pub(super) spent: Option<Spent>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Spent {
    /// SHA-256 of the public key that it was spent for.
    pub(super) key: String,
    pub(super) serial: Serial,
}

/// A service that joined once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) version: u32,
    pub(super) service: Service,
    /// What it may state.
    pub(super) granted: Vec<ServedRole>,
    pub(super) stated: Stated,
    pub(super) issued: Vec<Issued>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Issued {
    pub(super) serial: Serial,
    /// SHA-256 of its public key.
    pub(super) key: String,
    pub(super) until: Timestamp,
}

impl Ledger {
    /// Waits for the turn. Blocks.
    pub(super) fn turn(dir: &Path) -> Result<Self> {
        Ok(Self { dir: dir.to_owned(), _turn: locked(&dir.join("ledger.lock"))? })
    }

    pub(super) fn token(&self, id: &str) -> Result<Option<TokenRecord>> {
        // It comes from strangers.
        if super::digits::unhex::<8>(id).is_none() {
            return Ok(None);
        }
        self.read_token(&self.token_path(&id.to_ascii_lowercase()))
    }

    pub(super) fn put_token(&self, id: &str, record: &TokenRecord) -> Result<()> {
        self.put(&self.token_path(id), record)
    }

    /// All by their ids.
    pub(super) fn tokens(&self) -> Result<Vec<(String, TokenRecord)>> {
        let mut all = vec![];
        for path in durable::list(&self.dir.join("tokens"))? {
            let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            if let (Some(id), Some(token)) = (id, self.read_token(&path)?) {
                all.push((id, token));
            }
        }
        Ok(all)
    }

    pub(super) fn member(&self, service: &Service) -> Result<Option<Member>> {
        self.read_member(&self.member_path(service))
    }

    pub(super) fn put_member(&self, member: &Member) -> Result<()> {
        self.put(&self.member_path(&member.service), member)
    }

    pub(super) fn members(&self) -> Result<Vec<Member>> {
        let paths = durable::list(&self.dir.join("services"))?;
        let read = paths.iter().filter_map(|path| self.read_member(path).transpose());
        read.collect()
    }

    pub(super) fn revoked(&self) -> Result<Revoked> {
        Ok(place::read(&self.revoked_path())?.unwrap_or_default())
    }

    pub(super) fn put_revoked(&self, revoked: &Revoked) -> Result<()> {
        self.put(&self.revoked_path(), revoked)
    }

    pub(super) fn roster(&self) -> Result<Vec<RosterEntry>> {
        let entry = |member: Member| {
            let Stated { address, roles } = member.stated;
            Some(RosterEntry { service: member.service, address: address?, roles })
        };
        Ok(self.members()?.into_iter().filter_map(entry).collect())
    }

    /// A role belongs to one service: whose this one is, or is to be by a token that can still be used.
    pub(super) fn holder(&self, role: &ServedRole, now: Timestamp) -> Result<Option<Service>> {
        let held = self.members()?.into_iter().find(|member| member.granted.contains(role));
        if let Some(member) = held {
            return Ok(Some(member.service));
        }
        let open = |token: &TokenRecord| !token.void && token.spent.is_none() && now < token.expires;
        let promised = self.tokens()?.into_iter().find(|(_, t)| open(t) && t.roles.contains(role));
        Ok(promised.map(|(_, token)| token.service))
    }

    /// Drops tokens that nobody can use any more.
    pub(super) fn forget(&self, now: Timestamp) -> Result<()> {
        for (id, token) in self.tokens()? {
            if token.expires.after(REMEMBERED) < now {
                durable::remove_file(&self.token_path(&id))?;
            }
        }
        Ok(())
    }

    fn put<T: Serialize>(&self, path: &Path, record: &T) -> Result<()> {
        #[cfg(test)]
        crash::at_the_last()?;
        place::write(path, record)
    }

    fn read_token(&self, path: &Path) -> Result<Option<TokenRecord>> {
        let record: Option<TokenRecord> = place::read(path)?;
        record.map(|r| place::known(r.version, path).map(|()| r)).transpose()
    }

    fn read_member(&self, path: &Path) -> Result<Option<Member>> {
        let record: Option<Member> = place::read(path)?;
        record.map(|r| place::known(r.version, path).map(|()| r)).transpose()
    }

    fn token_path(&self, id: &str) -> PathBuf {
        self.dir.join("tokens").join(format!("{id}.json"))
    }

    fn member_path(&self, service: &Service) -> PathBuf {
        self.dir.join("services").join(format!("{}.{}.json", service.kind(), service.name()))
    }

    fn revoked_path(&self) -> PathBuf {
        self.dir.join("revoked.json")
    }
}

impl Member {
    /// Puts one more certificate on record, and drops those that expired long ago.
    pub(super) fn issue(&mut self, issued: Issued, now: Timestamp) -> Result<()> {
        self.issued.retain(|old| now <= old.until.after(REMEMBERED));
        if self.issued.iter().filter(|old| now < old.until).count() >= MOST_VALID {
            let said = format!(
                "{} has {MOST_VALID} certificates that have not expired: wait, or revoke it",
                self.service
            );
            return Err(Error::new(ErrorKind::Busy, said));
        }
        self.issued.push(issued);
        Ok(())
    }

    /// Takes what it states, if it may.
    pub(super) fn state(&mut self, stated: Stated) -> Result<()> {
        stated.check()?;
        if let Some(role) = stated.roles.iter().find(|role| !self.granted.contains(role)) {
            let said =
                format!("{} may not say that it serves {role}: its token did not allow it", self.service);
            return Err(Error::new(ErrorKind::Denied, said).with("role", role));
        }
        self.stated = stated;
        Ok(())
    }
}

/// Ends what is being done before one of its writes, as a crash does.
#[cfg(test)]
pub(super) mod crash {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// After so many writes of this thread; `None` for never.
    pub(in crate::enrol) fn after(writes: Option<u32>) {
        LEFT.set(writes);
    }

    pub(super) fn at_the_last() -> Result<()> {
        match LEFT.get() {
            Some(0) => Err(Error::new(ErrorKind::Unavailable, "the process was killed")),
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}

//! What a service knows of the others: who is revoked, and who is where.

use super::credentials::Credentials;
use super::place;
use super::revoked::Revoked;
use super::roster::{RoleKind, RosterEntry};
use crate::fault::Result;
use site_recovery::{Error, ErrorKind, RoleName};
use site_recovery_register::blocking;
use std::sync::Arc;
use tokio::sync::watch;

impl Credentials {
    /// Where the authority is asked: host and port, as they were told, or as the token of the service had them.
    pub fn authority(&self) -> String {
        self.record().authority.clone()
    }

    /// Asks which certificates are revoked, and keeps it, here and on disk: they are turned away from now on, also after a
    /// restart without the authority.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    pub async fn refresh_revoked(&self) -> Result<Arc<Revoked>> {
        let told = self.link().await?.revoked().await?;
        self.learn(told).await
    }

    /// What is known to be revoked.
    pub fn revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.0.revoked.subscribe()
    }

    /// Asks where every service is, and keeps it, here and on disk.
    ///
    /// # Errors
    /// As [`renew`](Self::renew).
    pub async fn refresh_roster(&self) -> Result<Arc<Vec<RosterEntry>>> {
        let told = self.link().await?.roster().await?;
        self.place_all(told).await
    }

    /// Where every service was when the authority was asked last.
    pub fn roster(&self) -> watch::Receiver<Arc<Vec<RosterEntry>>> {
        self.0.roster.subscribe()
    }

    /// Who serves a role, and where: as far as is known here, and the authority is asked about one that is not.
    ///
    /// # Errors
    /// `NotFound` for a role that nobody says he serves; others as [`renew`](Self::renew).
    pub async fn locate(&self, kind: RoleKind, role: &RoleName) -> Result<RosterEntry> {
        let find = |roster: &[RosterEntry]| {
            let serves = |entry: &&RosterEntry| entry.roles.iter().any(|r| r.kind == kind && r.name == *role);
            roster.iter().find(serves).cloned()
        };
        let known = find(&self.0.roster.borrow());
        if let Some(entry) = known {
            return Ok(entry);
        }
        find(&self.refresh_roster().await?).ok_or_else(|| {
            let said = format!("no service says that it serves {kind} {:?}", role.0);
            Error::new(ErrorKind::NotFound, said).with("role", role)
        })
    }

    /// Both at once, on one connection.
    pub(super) async fn refresh(&self) -> Result<()> {
        let mut link = self.link().await?;
        self.learn(link.revoked().await?).await?;
        self.place_all(link.roster().await?).await.map(|_| ())
    }

    async fn learn(&self, told: Revoked) -> Result<Arc<Revoked>> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let _one = inner.learning.lock().expect("no panic under this lock");
            let mut all = Revoked::clone(&inner.revoked.borrow());
            let mut more = false;
            for (serial, service) in told.iter() {
                more |= all.add(serial.clone(), service.clone());
            }
            let all = Arc::new(all);
            if more {
                // In force first: a full disk is no reason to let anybody in.
                inner.revoked.send_replace(Arc::clone(&all));
            }
            if more || !inner.dir.join("revoked.json").exists() {
                place::write(&inner.dir.join("revoked.json"), &*all)?;
            }
            Ok(all)
        })
        .await
    }

    async fn place_all(&self, told: Vec<RosterEntry>) -> Result<Arc<Vec<RosterEntry>>> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let _one = inner.learning.lock().expect("no panic under this lock");
            let told = Arc::new(told);
            let before = inner.roster.send_replace(Arc::clone(&told));
            if before != told {
                place::write(&inner.dir.join("roster.json"), &*told)?;
            }
            Ok(told)
        })
        .await
    }
}

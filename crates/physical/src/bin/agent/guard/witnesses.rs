//! The question, as it goes out: to every witness, by the agent's own credentials.

use super::settings::Guard;
use async_trait::async_trait;
use futures_util::future::join_all;
use site_recovery::{Error, ErrorKind, PhaseRecord, Result, RoleName};
use site_recovery_physical::guard::{Ask, Mark};
use site_recovery_transport::RemoteWitness;
use site_recovery_transport::enrol::{Credentials, RoleKind, RosterEntry};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::timeout;

/// For the roster: without an answer, what is on disk has to do.
const BRIEFLY: Duration = Duration::from_secs(5);
/// For each witness.
const PATIENCE: Duration = Duration::from_secs(20);

/// All who have to answer, reached anew for each question: they may have moved.
#[derive(Debug)]
pub(crate) struct Witnesses {
    pub(crate) credentials: PathBuf,
    pub(crate) asked: Guard,
}

/// What came of asking.
#[derive(Debug)]
pub(crate) struct Told {
    /// Where the authority is, and whether the roster is of now.
    pub(crate) authority: (String, Result<()>),
    pub(crate) witnesses: Vec<OfOne>,
}

/// What one witness answered.
#[derive(Debug)]
pub(crate) struct OfOne {
    pub(crate) name: RoleName,
    /// Where it says that it is.
    pub(crate) address: Option<String>,
    pub(crate) answer: Result<Option<PhaseRecord>>,
}

impl Witnesses {
    /// Asks all of them at once.
    ///
    /// # Errors
    /// Those of the credentials: then nobody can be asked.
    pub(crate) async fn each(&self, mark: &Mark) -> Result<Told> {
        let place = || Credentials::at(&self.credentials);
        let authority = place().open().await?.authority();
        let credentials = place().authority(self.asked.pinned(&authority)).open().await?;
        let refreshed = match timeout(BRIEFLY, credentials.refresh_roster()).await {
            Ok(refreshed) => refreshed.map(drop),
            Err(_) => Err(silent("the authority", BRIEFLY)),
        };
        if let Err(error) = &refreshed {
            tracing::debug!(%error, "the roster is the one of before");
        }
        let roster = credentials.roster().borrow().clone();
        let one = async |name: &RoleName| {
            let (name, found) = (name.clone(), find(&roster, name));
            let address = found.as_ref().ok().map(|entry| entry.address.clone());
            let answer = match found {
                Ok(entry) => match timeout(PATIENCE, self.ask_one(&credentials, entry, &name, mark)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(silent(&name.0, PATIENCE)),
                },
                Err(error) => Err(error),
            };
            OfOne { name, address, answer }
        };
        let witnesses = join_all(self.asked.witnesses.iter().map(one)).await;
        Ok(Told { authority: (authority, refreshed), witnesses })
    }

    async fn ask_one(
        &self,
        credentials: &Credentials,
        entry: &RosterEntry,
        name: &RoleName,
        mark: &Mark,
    ) -> Result<Option<PhaseRecord>> {
        let (address, tls) = (self.asked.pinned(&entry.address), credentials.client_tls(&entry.service)?);
        let witness = RemoteWitness::builder(address, name.clone(), tls).connect().await?;
        witness.standing(&mark.machine).await
    }
}

#[async_trait]
impl Ask for Witnesses {
    async fn ask(&self, mark: &Mark) -> Result<Option<PhaseRecord>> {
        let mut newest: Option<PhaseRecord> = None;
        for OfOne { name, address, answer } in self.each(mark).await?.witnesses {
            let at = address.map_or_else(String::new, |address| format!(" at {address}"));
            let told = |error: Error| {
                Error::new(error.kind(), format!("the witness {name}{at} does not tell")).caused_by(error)
            };
            let record = answer.map_err(told)?;
            newest = newest.into_iter().chain(record).max_by_key(PhaseRecord::order);
        }
        Ok(newest)
    }
}

/// A store of this name, else a master target.
fn find<'a>(roster: &'a [RosterEntry], name: &RoleName) -> Result<&'a RosterEntry> {
    let of_kind = |kind: RoleKind| {
        roster.iter().find(|entry| entry.roles.iter().any(|role| role.kind == kind && role.name == *name))
    };
    of_kind(RoleKind::Store).or_else(|| of_kind(RoleKind::MasterTarget)).ok_or_else(|| {
        let said = format!("no service says that it is the store or the master target {name}");
        Error::new(ErrorKind::NotFound, said)
    })
}

fn silent(who: &str, span: Duration) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{who} has not answered within {} seconds", span.as_secs()))
}

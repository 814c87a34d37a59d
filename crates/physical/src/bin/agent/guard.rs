//! The boot guard: asks before the server takes part in the network.

use crate::settings::{self, Agent};
use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, PhaseRecord, Result, RoleName, SystemClock};
use site_recovery_physical::agent;
use site_recovery_physical::guard::{All, Ask, Guard, Leave, Mark};
use site_recovery_physical::inventory::Inventory;
use site_recovery_transport::RemoteWitness;
use site_recovery_transport::enrol::{Credentials, RoleKind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn run(settings: Agent, lift: Option<(String, String)>, once: bool) -> Result<ExitCode> {
    let asked = settings.guard.as_ref().ok_or_else(|| {
        let rule = "a guard is told whom it asks";
        Error::invalid("guard", "absent", rule, "add a table [guard] with witnesses = [\"points\"]")
    })?;
    let mark = match Mark::read(&settings.agent()?.guard_mark()) {
        Ok(mark) => mark,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("the server is not enrolled: nothing is guarded");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error),
    };
    let guard = guard(&settings, asked, mark);
    if let Some((operator, reason)) = lift {
        guard.lift(&operator, &reason)?;
        println!("{operator} answers for this start: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(why) = elsewhere(&settings.agent()?) {
        guard.void(&why)?;
        println!("this server takes part, and nobody is asked: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let times = once.then_some(1);
    let leave = match &asked.network {
        None => guard.until_it_may(times).await?,
        Some(network) => {
            let network = network.clone();
            let asking = move || {
                let asking = network.set_up()?;
                asking.inside(move || async move { guard.until_it_may(times).await })
            };
            let gone = |e| Error::new(ErrorKind::Unavailable, "the question broke off").caused_by(e);
            tokio::task::spawn_blocking(asking).await.map_err(gone)??
        }
    };
    match leave {
        Some(Leave::Given) => println!("this server takes part"),
        Some(Leave::Lifted { operator, reason }) => println!("this server takes part: {operator}, {reason}"),
        None => {
            println!("this server stays off the network; guard.log in its state says why");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why the mark is another server's. What cannot be read keeps it guarded.
fn elsewhere(settings: &agent::Settings) -> Option<String> {
    agent::elsewhere(settings, &Inventory::of("/")).unwrap_or_else(|error| {
        tracing::warn!(%error, "it cannot be told whether this is the hardware of the mark: it is asked about");
        None
    })
}

fn guard(settings: &Agent, asked: &settings::Guard, mark: Mark) -> Guard {
    let credentials = settings.service.credentials();
    let witness = |name: &RoleName| -> Arc<dyn Ask> {
        Arc::new(Witness { credentials: credentials.clone(), name: name.clone() })
    };
    let all = Arc::new(All(asked.witnesses.iter().map(witness).collect()));
    let state = settings.service.state.join("guard");
    let every = Duration::from_secs(asked.every_seconds);
    Guard::new(mark, all, state, Arc::new(SystemClock)).asking(every, Duration::from_secs(30))
}

/// A replica, reached with the agent's own credentials, anew for each question: it may have moved, and so may they.
#[derive(Debug)]
struct Witness {
    credentials: PathBuf,
    name: RoleName,
}

#[async_trait]
impl Ask for Witness {
    async fn ask(&self, mark: &Mark) -> Result<Option<PhaseRecord>> {
        let credentials = Credentials::at(&self.credentials).open().await?;
        let entry = match credentials.locate(RoleKind::Store, &self.name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                credentials.locate(RoleKind::MasterTarget, &self.name).await?
            }
            located => located?,
        };
        let tls = credentials.client_tls(&entry.service)?;
        let witness = RemoteWitness::builder(entry.address, self.name.clone(), tls).connect().await?;
        witness.standing(&mark.machine).await
    }
}

//! The boot guard: asks before the server takes part in the network.

mod check;
mod settings;
mod witnesses;

pub(crate) use settings::{Guard as Settings, shows_its_own};

use crate::settings::Agent;
use settings::Through;
use site_recovery::{Clock, Error, ErrorKind, Result, SystemClock};
use site_recovery_physical::agent;
use site_recovery_physical::guard::{AskingNetwork, Guard, Leave, Mark};
use site_recovery_physical::inventory::Inventory;
use site_recovery_service as service;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use witnesses::Witnesses;

/// Between two tries of what failed before anybody was asked.
const AGAIN: Duration = Duration::from_secs(2);
/// For whoever stands before the console.
const WAY_OUT: &str = "To let it in all the same: log in on the console, and say \
                       `site-recovery-agent guard --lift NAME --reason TEXT`";
/// For one question.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wanted of the guard.
#[derive(Debug)]
pub(crate) enum Wanted {
    UntilItMay,
    Once,
    Check,
    Lift { operator: String, reason: String },
}

/// What came of one look at settings, mark and witnesses.
enum Came {
    /// It takes part: this is why.
    Part(String),
    /// Not by these settings, in so many questions as were asked.
    Off,
}

pub(crate) async fn run(config: &Path, wanted: Wanted) -> Result<ExitCode> {
    let came = match wanted {
        Wanted::UntilItMay => until_it_may(config).await,
        Wanted::Once => look(config, true).await?,
        Wanted::Check => {
            let settings: Agent = service::read(config)?;
            let Some(asked) = settings.guard.as_ref() else {
                let rule = "a guard is told whom it asks";
                let remedy = "add a table [guard] with witnesses = [\"points\"]";
                return Err(Error::invalid("guard", "absent", rule, remedy));
            };
            return check::run(&settings, asked).await;
        }
        Wanted::Lift { operator, reason } => {
            // Whatever else the settings say: only where the notes are.
            let settings: Agent = service::read(config)?;
            match (&settings.guard, mark(&settings)?) {
                (Some(asked), Some(mark)) => guard(&settings, asked, mark).lift(&operator, &reason)?,
                _ => {
                    println!("nothing is guarded here: there is nothing to lift");
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Came::Part(format!("{operator} answers for this start: {reason}"))
        }
    };
    match came {
        Came::Part(why) => println!("this server takes part: {why}"),
        Came::Off => {
            println!("this server stays off the network; guard.log in its state says why");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whatever is in the way is tried again, here: a unit that failed would leave the server without a network for good.
async fn until_it_may(config: &Path) -> Came {
    let mut said = String::new();
    loop {
        match look(config, false).await {
            Ok(Came::Off) => {}
            Ok(part) => return part,
            Err(error) => {
                let error = error.to_string();
                if error != said {
                    tracing::warn!(
                        "this server is kept off the network, and nobody can be asked yet: {error}. It is tried again, \
                         also when {} is mended. {WAY_OUT}",
                        config.display(),
                    );
                    said = error;
                }
                SystemClock.sleep(AGAIN).await;
            }
        }
    }
}

/// By the settings as they are now: until it may, or they change, or it was asked once.
async fn look(config: &Path, once: bool) -> Result<Came> {
    let text = std::fs::read(config).unwrap_or_default();
    let settings: Agent = service::read(config)?;
    let Some(asked) = settings.guard.clone() else {
        return Ok(Came::Part("nothing is guarded, for the settings have no table [guard]".into()));
    };
    let Some(mark) = mark(&settings)? else {
        return Ok(Came::Part("nothing is guarded, for the server is not enrolled".into()));
    };
    let guard = guard(&settings, &asked, mark);
    // First, whatever else is wrong.
    if let Some(leave) = guard.lifted()? {
        return Ok(part(leave));
    }
    if let Some(why) = elsewhere(&settings.agent()?) {
        guard.void(&why)?;
        return Ok(Came::Part(format!("nobody is asked: {why}")));
    }
    settings.check()?;
    shows_its_own(&settings)?;
    let witnesses: Vec<&str> = asked.witnesses.iter().map(|name| name.0.as_str()).collect();
    tracing::info!("asking {} whether this server may take part. {WAY_OUT}", witnesses.join(", "));
    let questions = Questions { guard, every: Duration::from_secs(asked.every_seconds), once };
    let questions = questions.until_it_may(config.to_owned(), text);
    match asked.network {
        Some(Through::Lent(network)) if !stands(&network).await? => {
            blocks(move || network.set_up()?.inside(|| questions)).await
        }
        _ => questions.await,
    }
}

/// Whether the server has its network already: started anew on a server that runs, the guard leaves it as it is.
async fn stands(network: &AskingNetwork) -> Result<bool> {
    let network = network.clone();
    blocks(move || {
        let stands = network.stands()?;
        if stands {
            tracing::warn!(
                "{} is in use already: it is asked through the network that stands",
                network.adapter
            );
        }
        Ok(stands)
    })
    .await
}

struct Questions {
    guard: Guard,
    every: Duration,
    once: bool,
}

impl Questions {
    async fn until_it_may(self, config: PathBuf, text: Vec<u8>) -> Result<Came> {
        loop {
            if let Some(leave) = self.guard.look().await? {
                return Ok(part(leave));
            }
            if self.once {
                return Ok(Came::Off);
            }
            SystemClock.sleep(self.every).await;
            if std::fs::read(&config).unwrap_or_default() != text {
                return Ok(Came::Off);
            }
        }
    }
}

fn part(leave: Leave) -> Came {
    Came::Part(match leave {
        Leave::Given => "it is the one that counts".into(),
        Leave::Lifted { operator, reason } => format!("{operator} answers for this start: {reason}"),
    })
}

/// The mark of this server; `None`: nobody has enrolled it.
fn mark(settings: &Agent) -> Result<Option<Mark>> {
    match Mark::read(&settings.agent()?.guard_mark()) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        mark => mark.map(Some),
    }
}

/// Why the mark is another server's. What cannot be read keeps it guarded.
fn elsewhere(settings: &agent::Settings) -> Option<String> {
    agent::elsewhere(settings, &Inventory::of("/")).unwrap_or_else(|error| {
        tracing::warn!(%error, "it cannot be told whether this is the hardware of the mark: it is asked about");
        None
    })
}

fn guard(settings: &Agent, asked: &Settings, mark: Mark) -> Guard {
    let witnesses = Witnesses { credentials: settings.service.credentials(), asked: asked.clone() };
    let state = settings.service.state.join("guard");
    let every = Duration::from_secs(asked.every_seconds);
    Guard::new(mark, Arc::new(witnesses), state, Arc::new(SystemClock)).asking(every, PATIENCE)
}

async fn blocks<T: Send + 'static>(what: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let gone = |e| Error::new(ErrorKind::Unavailable, "the question broke off").caused_by(e);
    tokio::task::spawn_blocking(what).await.map_err(gone)?
}

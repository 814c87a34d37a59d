//! Who starts the system on disks that something has landed on.

use super::program;
use crate::power::{Command, PowerControl, PowerState};
use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, Result, Stamp};
use site_recovery_register::Told;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The disks of one server, with what stands on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landing {
    /// Name of the server.
    pub server: String,
    /// Its disks, the system disk first.
    pub disks: Vec<PathBuf>,
}

/// Starts and stops what has landed, and says whether it runs.
#[async_trait]
pub trait Starter: Debug + Send + Sync {
    /// Whether the system on these disks runs: not the rescue system that writes them. `None`: nobody can say.
    async fn runs(&self, landing: &Landing) -> Result<Option<bool>>;

    /// Starts it. Returns how it can be reached, when it was started or is about to start.
    async fn start(&self, landing: &Landing) -> Result<Vec<String>>;

    /// Stops it: in order within `grace`, then hard.
    async fn stop(&self, landing: &Landing, grace: Duration) -> Result<()>;

    /// Keeps it from being started, or lets that go. Nothing to do where a start changes [`stamp`](Self::stamp).
    async fn hold(&self, landing: &Landing, hold: bool) -> Result<()>;

    /// A value that every start changes for ever; `None` where nobody can tell.
    async fn stamp(&self, landing: &Landing) -> Result<Option<Stamp>>;

    /// Where starting ends this very process: a name of its present life. A start that was asked for in another life has
    /// been made.
    fn session(&self) -> Option<String> {
        None
    }
}

/// The disks are another server's than this one, and its power control starts it.
#[derive(Debug)]
pub struct Switched(pub Arc<dyn PowerControl>);

#[async_trait]
impl Starter for Switched {
    async fn runs(&self, _: &Landing) -> Result<Option<bool>> {
        Ok(match self.0.state().await? {
            PowerState::On => Some(true),
            PowerState::Off => Some(false),
            PowerState::Unknown => None,
        })
    }

    async fn start(&self, _: &Landing) -> Result<Vec<String>> {
        self.0.on().await.map(|()| vec![])
    }

    async fn stop(&self, _: &Landing, grace: Duration) -> Result<()> {
        match !grace.is_zero() && self.0.off(grace).await.unwrap_or(false) {
            true => Ok(()),
            false => self.0.force_off().await,
        }
    }

    async fn hold(&self, landing: &Landing, hold: bool) -> Result<()> {
        let keeps = self.0.keeps();
        if !keeps.holds {
            return if keeps.tells { Ok(()) } else { Err(nobody_would_tell(&landing.server)) };
        }
        self.0.hold(hold).await?;
        match self.0.held().await? {
            Some(held) if held == hold => Ok(()),
            held => {
                let message =
                    format!("{} was to be held ({hold}), and reads back as {held:?}", landing.server);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    async fn stamp(&self, _: &Landing) -> Result<Option<Stamp>> {
        self.0.stamp().await
    }
}

fn nobody_would_tell(server: &str) -> Error {
    let message = format!(
        "nobody keeps {server} from being started, and nothing would tell: give it a power control that holds it or counts its \
         starts"
    );
    Error::new(ErrorKind::Unsupported, message)
}

/// This very server, started from a rescue system: as long as that runs, nothing else does.
///
/// Its stamp is the life of the rescue system (`boot_id` of the kernel): after any restart it is another one, also where
/// that led back to the rescue system. `start` runs a program that leaves it: `systemctl reboot`, or one that loads the
/// restored system's kernel (`kexec`).
#[derive(Debug)]
pub struct Rescue {
    command: Command,
    boot_id: PathBuf,
}

impl Rescue {
    /// Leaves by restarting.
    pub fn rebooting() -> Self {
        Self::leaving_by(Command { run: vec!["/usr/bin/systemctl".into(), "reboot".into()], seconds: 60 })
    }

    /// Leaves by a program of the user's.
    pub fn leaving_by(command: Command) -> Self {
        Self { command, boot_id: "/proc/sys/kernel/random/boot_id".into() }
    }

    /// Reads the life of the system there. For tests, which cannot restart.
    #[doc(hidden)]
    #[must_use]
    pub fn living_by(self, boot_id: &Path) -> Self {
        Self { boot_id: boot_id.to_owned(), ..self }
    }

    fn life(&self) -> Result<String> {
        let read = std::fs::read_to_string(&self.boot_id);
        read.map(|id| id.trim().to_owned()).told("read", &self.boot_id)
    }
}

#[async_trait]
impl Starter for Rescue {
    async fn runs(&self, _: &Landing) -> Result<Option<bool>> {
        Ok(Some(false))
    }

    async fn start(&self, landing: &Landing) -> Result<Vec<String>> {
        // What did not end in time may still leave: nobody can say.
        let failed = format!("{} could not leave its rescue system", landing.server);
        program::run(&self.command, &landing.server, &failed).await.map(|()| vec![])
    }

    async fn stop(&self, _: &Landing, _: Duration) -> Result<()> {
        Ok(())
    }

    async fn hold(&self, _: &Landing, _: bool) -> Result<()> {
        Ok(())
    }

    async fn stamp(&self, _: &Landing) -> Result<Option<Stamp>> {
        self.life().map(|life| Some(Stamp(life.into_bytes())))
    }

    fn session(&self) -> Option<String> {
        self.life().ok()
    }
}

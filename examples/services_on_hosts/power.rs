//! A stand-in for a power control: there is no controller to switch, as the server is a process and a mounted file system of
//! this machine. Off, its agent has ended and its file system is unmounted; held, it starts its rescue system. What a real
//! one does is in `site_recovery_physical::power`: Redfish, or programs of yours.

use crate::ground::Mount;
use crate::programs::{Process, Program};
use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_physical::power::{Keeps, PowerControl, PowerState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Switches the example's server.
#[derive(Debug)]
pub(crate) struct StandIn {
    device: PathBuf,
    at: PathBuf,
    agent: Program,
    /// What runs while it has power; in its rescue system nothing is mounted. The agent is dropped first.
    runs: Mutex<Option<(Process, Option<Mount>)>>,
    held: AtomicBool,
}

impl StandIn {
    /// A server without power: its disk, where it mounts that, and its agent, which has joined.
    pub(crate) fn new(device: &Path, at: &Path, agent: Program) -> Arc<Self> {
        let (device, at, runs, held) =
            (device.to_owned(), at.to_owned(), Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { device, at, agent, runs, held })
    }

    /// Somebody presses its button: held as it is, it starts its rescue system.
    ///
    /// # Errors
    /// Those of the agent's start.
    pub(crate) async fn press_button(&self) -> Result<()> {
        let agent = self.agent.start_to_receive().await?;
        *self.runs() = Some((agent, None));
        Ok(())
    }

    fn runs(&self) -> MutexGuard<'_, Option<(Process, Option<Mount>)>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PowerControl for StandIn {
    async fn state(&self) -> Result<PowerState> {
        // A rescue system that is left ends, and with it here all that the server runs.
        let lives = self.runs().as_mut().is_some_and(|(agent, _)| agent.lives());
        Ok(if lives { PowerState::On } else { PowerState::Off })
    }

    async fn off(&self, _: Duration) -> Result<bool> {
        let runs = self.runs().take();
        if let Some((agent, mount)) = runs {
            let ended = agent.stop().await;
            drop(mount);
            ended?;
        }
        Ok(true)
    }

    async fn force_off(&self) -> Result<()> {
        drop(self.runs().take());
        Ok(())
    }

    async fn on(&self) -> Result<()> {
        if self.held.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Refused, "the server is held"));
        }
        if self.state().await? == PowerState::Off {
            let mount = Mount::new(&self.device, &self.at)?;
            let agent = self.agent.start().await?;
            *self.runs() = Some((agent, Some(mount)));
        }
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps { holds: true, tells: false }
    }

    async fn hold(&self, hold: bool) -> Result<()> {
        self.held.store(hold, Ordering::SeqCst);
        Ok(())
    }

    async fn held(&self) -> Result<Option<bool>> {
        Ok(Some(self.held.load(Ordering::SeqCst)))
    }
}

/// Unplugs the server when the example ends, however it does: others may hold its power control still.
#[derive(Debug)]
pub(crate) struct Unplug(pub(crate) Arc<StandIn>);

impl Drop for Unplug {
    fn drop(&mut self) {
        drop(self.0.runs().take());
    }
}

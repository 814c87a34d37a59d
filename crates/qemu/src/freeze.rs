//! Guests held still: file systems frozen by the guest agent, for a limited time.

use crate::Site;
use crate::description::DescribedAgent;
use crate::home::Home;
use crate::known::Known;
use crate::layer::{Layer, told};
use crate::pause::PAUSED;
use crate::watchdog::Watchdog;
use site_recovery::{Consistency, Error, ErrorKind, Result};
use site_recovery_qmp::Agent;
use site_recovery_register::durable;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Stands while a guest may be frozen by us.
pub(crate) const HELD: &str = "frozen.json";

/// File systems that are frozen. Dropped, they are thawed.
#[derive(Debug)]
pub(crate) struct Frozen {
    agent: Agent,
    systems: u64,
    watchdog: Option<Watchdog>,
    note: PathBuf,
}

impl Site {
    /// What a machine's agent can reach, as it is described.
    pub(crate) fn reach(known: &Known) -> Option<Consistency> {
        known.description.agent.map(|agent| match agent {
            DescribedAgent::Freezes => Consistency::FileSystem,
            DescribedAgent::Hooks => Consistency::Application,
        })
    }

    /// Lets a guest go on that a run before this one may have left frozen or paused, should its watchdog have died with it.
    ///
    /// # Errors
    /// `Unavailable` while its monitor or its agent does not answer: it is asked again.
    pub(crate) fn let_go_on(&self, home: &Home) -> Result<()> {
        let note = home.own(PAUSED);
        if note.exists() {
            if let Some(mut layer) = self.live(home)? {
                layer.go_on_after("paused")?;
            }
            durable::remove_file(&note)?;
        }
        let note = home.own(HELD);
        if !note.exists() {
            return Ok(());
        }
        if self.process(home)?.is_some() {
            let place = self.place(home)?;
            let mut agent = Agent::connect(&place.agent(), self.limits()).map_err(told)?;
            if agent.frozen().map_err(told)? {
                agent.thaw().map_err(told)?;
            }
        }
        durable::remove_file(&note)
    }

    /// Freezes all file systems of a guest that runs.
    ///
    /// # Errors
    /// `Refused`, with the reason; then nothing is frozen.
    pub(crate) fn freeze(&self, known: &Known, layer: &Layer) -> Result<Frozen> {
        let name = &known.home.name;
        let refused = |why: String| Error::new(ErrorKind::Refused, format!("{name}: {why}"));
        if known.description.agent.is_none() {
            return Err(refused("no guest agent is described".into()));
        }
        let place = self.place(&known.home)?;
        let limits = site_recovery_qmp::Limits {
            greeting: self.options.freeze,
            answer: self.options.freeze,
            ..Default::default()
        };
        let mut agent =
            Agent::connect(&place.agent(), limits).map_err(|e| refused(format!("guest agent: {e}")))?;
        let copies = (
            agent.socket().as_fd().try_clone_to_owned(),
            layer.monitor.socket().as_fd().try_clone_to_owned(),
        );
        let (Ok(of_agent), Ok(of_monitor)) = copies else {
            return Err(refused("no more files can be opened".into()));
        };
        durable::write(&known.home.own(HELD), &self.clock.now())?;
        // It stands before the freeze begins: there is no moment in which nobody would thaw.
        let watchdog =
            Watchdog::over(&self.options.launcher, Some(of_agent), Some(of_monitor), self.options.freeze)?;
        match agent.freeze(self.options.freeze) {
            Ok(0) => {
                watchdog.release();
                durable::remove_file(&known.home.own(HELD))?;
                Err(refused("the guest has no file system that can be frozen".into()))
            }
            Ok(systems) => {
                let note = known.home.own(HELD);
                Ok(Frozen { agent, systems, watchdog: Some(watchdog), note })
            }
            Err(e) => {
                drop(watchdog); // which thaws: a freeze that failed may have frozen a part
                Err(refused(format!("the freeze failed: {e}")))
            }
        }
    }
}

impl Frozen {
    /// Lets the guest go on, and says whether it was frozen until now.
    pub(crate) fn thaw(mut self) -> bool {
        let thawed = self.agent.thaw();
        if let Some(watchdog) = self.watchdog.take() {
            // Where this fails, the next sweep thaws once more.
            let _noted = if thawed.is_ok() { durable::remove_file(&self.note) } else { Ok(()) };
            // Only where we have certainly thawed, the watchdog does not have to.
            if thawed.is_ok() { watchdog.release() } else { drop(watchdog) }
        }
        thawed.is_ok_and(|n| n >= self.systems)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            drop(watchdog);
        }
    }
}

/// What a monitor says of a guest's state.
pub(crate) fn executes(layer: &mut Layer) -> Result<bool> {
    let status = layer.monitor.call("query-status", serde_json::Value::Null).map_err(told)?;
    Ok(status["running"].as_bool() == Some(true))
}

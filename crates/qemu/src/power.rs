//! Power of a machine: whether its process lives, whether somebody else writes its images, and what keeps it off.

use crate::Site;
use crate::branch::must_be_whole;
use crate::home::Home;
use crate::image::is_written;
use crate::known::Known;
use crate::landed;
use crate::mark::FenceMark;
use crate::process::Process;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use site_recovery::{Op, OpKey, Power, Result, StartGuard};
use site_recovery_register::{durable, refused};
use std::time::Duration;

/// `state.json`: how the machine was started last, and by which of our keys ever.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// The only network that it is in, where it was started in one.
    pub(crate) network: Option<String>,
    /// Our keys that started it, or lifted its fence: none does so twice.
    pub(crate) done: Vec<OpKey>,
}

impl Home {
    pub(crate) fn state(&self) -> Result<State> {
        Ok(durable::read(&self.own("state.json"))?.unwrap_or_default())
    }

    pub(crate) fn set_state(&self, state: &State) -> Result<()> {
        durable::write(&self.own("state.json"), state)
    }
}

impl Site {
    /// Its own process, where that lives.
    pub(crate) fn process(&self, home: &Home) -> Result<Option<Process>> {
        Process::of(&self.place(home)?.pid())
    }

    /// Whether something writes its images, read now; `None` where that cannot be told.
    pub(crate) fn running(&self, home: &Home) -> Result<Option<bool>> {
        if self.process(home)?.is_some() {
            return Ok(Some(true));
        }
        let Ok(known) = self.known_as_is(home.clone()) else { return Ok(None) };
        Ok(self.is_written_outside(&known).ok())
    }

    /// Whether a process that is none of ours holds QEMU's lock on an image of a machine whose own process is off.
    pub(crate) fn is_written_outside(&self, known: &Known) -> Result<bool> {
        // Whoever holds the locks is the only one.
        if Process::of(&self.place(&known.home)?.storage_pid())?.is_some() {
            return Ok(false);
        }
        for held in known.disks.iter().filter(|d| d.image.is_some()) {
            if is_written(&held.path)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn power_of(&self, home: &Home) -> Result<Power> {
        let (Ok(Some(runs)), Ok(fence)) = (self.running(home), home.fence_mark()) else {
            return Ok(Power::Unknown);
        };
        if runs {
            return Ok(Power::On);
        }
        let blocked = fence.is_some() && home.is_fenced();
        let start = if blocked { StartGuard::Blocked { until: None } } else { StartGuard::Free };
        Ok(Power::Off { start })
    }

    /// Refuses unless the machine is known to be off.
    ///
    /// # Errors
    /// `Refused`; what keeps it from being known, where that is its description.
    pub(crate) fn must_be_off(&self, home: &Home) -> Result<()> {
        match self.running(home)? {
            Some(false) => Ok(()),
            Some(true) => Err(refused(format!("{} runs: stop or fence it first", home.name))),
            None => {
                self.known_as_is(home.clone())?;
                Err(refused(format!("{} does not say whether it runs: ask again", home.name)))
            }
        }
    }

    /// Leaves the fence mark and hides the images, of a machine that is off. A mark that stands already is kept.
    pub(crate) fn block(&self, op: &Op, home: &Home, why: &str) -> Result<()> {
        if home.fence_mark()?.is_none() {
            self.leave_mark(op, home, false, why)?;
        }
        home.hide_images()
    }

    pub(crate) fn leave_mark(&self, op: &Op, home: &Home, ran_before: bool, why: &str) -> Result<()> {
        let mark = FenceMark {
            by: op.key.clone(),
            epoch: op.epoch.clone(),
            when: self.clock.now(),
            ran_before,
            asked: false,
            why: why.to_owned(),
            lift: format!(
                "Source::unfence of {} with a permit; by hand, when nothing else runs for this machine: rename \
                 fenced/ to disks/ and remove this file",
                self.name
            ),
        };
        durable::write(&home.own("fence.json"), &mark)
    }

    /// Stops the machine, blocks its start, and reads back that it is off.
    pub(crate) fn halt(&self, op: &Op, home: &Home, grace: Duration, why: &str) -> Result<()> {
        match self.process(home)? {
            None => {
                self.must_be_off(home)?;
                self.block(op, home, why)?;
            }
            Some(process) => {
                let asked = home.fence_mark()?.is_some_and(|m| m.asked);
                if !asked {
                    self.leave_mark(op, home, true, why)?;
                }
                if !grace.is_zero() {
                    self.ask_to_shut_down(home)?;
                    process.ended_within(grace);
                }
                self.switch_off(home, &process)?;
                home.hide_images()?;
            }
        }
        if let Some(mark) = home.fence_mark()?
            && mark.asked
        {
            durable::write(&home.own("fence.json"), &FenceMark { asked: false, ..mark })?;
        }
        // Read once more where they stand now: whoever opened them by name before the rename has them still.
        self.must_be_off(home)
    }

    /// Asks the guest to shut down, by its agent or by its power button. It may not listen.
    fn ask_to_shut_down(&self, home: &Home) -> Result<()> {
        if let Some(mark) = home.fence_mark()? {
            durable::write(&home.own("fence.json"), &FenceMark { asked: true, ..mark })?;
        }
        let has_agent = home.description().is_ok_and(|d| d.agent.is_some());
        if has_agent {
            let agent = site_recovery_qmp::Agent::connect(&self.place(home)?.agent(), self.limits());
            match agent.and_then(|mut a| a.shut_down()) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::info!(machine = %home.name, %error, "its agent does not shut it down"),
            }
        }
        if let Ok(Some(mut layer)) = self.live(home)
            && let Err(error) = layer.call("system_powerdown", Value::Null)
        {
            tracing::info!(machine = %home.name, %error, "its power button does not work");
        }
        Ok(())
    }

    /// Ends the process: by its own `quit`, which stores bitmaps, else hard.
    fn switch_off(&self, home: &Home, process: &Process) -> Result<()> {
        if process.is_over() {
            return Ok(());
        }
        match self.live(home) {
            // It may end before it answers.
            Ok(Some(mut layer)) => drop(layer.call("quit", Value::Null)),
            Ok(None) => {}
            Err(error) => tracing::warn!(machine = %home.name, %error, "its monitor is silent: it is killed"),
        }
        if process.ended_within(self.options.patience) { Ok(()) } else { process.kill(self.options.patience) }
    }

    /// Ends a shutdown that somebody asked for and did not see to its end: the guest may still obey it.
    pub(crate) fn settle_request(&self, home: &Home) -> Result<()> {
        let asked = home.fence_mark()?.is_some_and(|m| m.asked);
        if !asked {
            return Ok(());
        }
        if let Some(process) = self.process(home)? {
            self.switch_off(home, &process)?;
        }
        home.hide_images()?;
        if let Some(mark) = home.fence_mark()? {
            durable::write(&home.own("fence.json"), &FenceMark { asked: false, ..mark })?;
        }
        Ok(())
    }

    /// Starts the machine once for this key, then lifts the block. Says whether it runs.
    pub(crate) fn ignite(&self, op: &Op, home: &Home, network: Option<String>) -> Result<bool> {
        must_be_whole(home, &landed::read(home)?.unwrap_or_default())?;
        let mut state = home.state()?;
        if state.done.contains(&op.key) {
            let runs = self.process(home)?.is_some();
            if runs {
                self.go(home)?;
                durable::remove_file(&home.own("fence.json"))?;
            }
            return Ok(runs);
        }
        if self.process(home)?.is_some() {
            let prepared = self.is_prepared(home)?;
            if state.network != network {
                if !prepared {
                    let now = state.network.as_deref().unwrap_or("its own network");
                    return Err(refused(format!("{} runs already, in {now}: stop it first", home.name)));
                }
                let process = self.process(home)?;
                process.map_or(Ok(()), |p| p.kill(self.options.patience))?;
            } else {
                return self.went(op, home, state);
            }
        }
        self.must_be_off(home)?;
        self.give_disks_back(home)?;
        self.end_store(home)?;
        state.network.clone_from(&network);
        home.set_state(&state)?;
        home.show_images()?;
        if let Err(e) = self.launch(home, network.as_deref()) {
            if home.fence_mark()?.is_some() && self.process(home)?.is_none() {
                home.hide_images()?;
            }
            return Err(e);
        }
        self.went(op, home, state)
    }

    /// The machine stands prepared and executes nothing: notes the key, then lets it go.
    fn went(&self, op: &Op, home: &Home, mut state: State) -> Result<bool> {
        state.done.push(op.key.clone());
        home.set_state(&state)?;
        self.go(home)?;
        durable::remove_file(&home.own("fence.json"))?;
        Ok(self.process(home)?.is_some())
    }

    /// Whether its process waits for its first instruction.
    fn is_prepared(&self, home: &Home) -> Result<bool> {
        let Some(mut layer) = self.live(home)? else { return Ok(false) };
        Ok(layer.call("query-status", Value::Null)?["status"] == "prelaunch")
    }

    pub(crate) fn go(&self, home: &Home) -> Result<()> {
        let Some(mut layer) = self.live(home)? else { return Ok(()) };
        let status = layer.call("query-status", Value::Null)?;
        if status["status"] == "prelaunch" { layer.call("cont", Value::Null).map(drop) } else { Ok(()) }
    }

    /// Lifts the block and starts nothing. Says whether it runs.
    pub(crate) fn lift(&self, op: &Op, home: &Home) -> Result<bool> {
        must_be_whole(home, &landed::read(home)?.unwrap_or_default())?;
        let mut state = home.state()?;
        if !state.done.contains(&op.key) {
            self.give_disks_back(home)?;
            if self.process(home)?.is_none() {
                self.end_store(home)?;
            }
            home.show_images()?;
            durable::remove_file(&home.own("fence.json"))?;
            state.done.push(op.key.clone());
            home.set_state(&state)?;
        }
        Ok(self.process(home)?.is_some())
    }
}

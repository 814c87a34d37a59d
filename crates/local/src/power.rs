//! Power of a machine: a state of its directory (`power.json`), and the user's own commands where there are any.

use crate::command::{Ended, failed};
use crate::description::{Command, Commands, Description};
use crate::home::{FenceMark, Home};
use crate::{Site, handles, landed};
use serde::{Deserialize, Serialize};
use site_recovery::{Op, OpKey, Power, Result, Stamp, StartGuard};
use site_recovery_register::durable;
use site_recovery_register::refused;
use std::time::Duration;

/// `.site-recovery/power.json`. A person may edit `state`, and raises `starts` by one when turning it on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PowerState {
    pub(crate) state: Switch,
    /// The only network that it is in, where it was started in one.
    pub(crate) network: Option<String>,
    /// Starts from outside, ever.
    pub(crate) starts: u64,
    /// Our keys that started it, or lifted its fence: none does so twice.
    pub(crate) done: Vec<OpKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    On,
    #[default]
    Off,
}

impl Home {
    pub(crate) fn power_state(&self) -> Result<PowerState> {
        Ok(durable::read(&self.own("power.json"))?.unwrap_or_default())
    }

    pub(crate) fn set_power_state(&self, state: &PowerState) -> Result<()> {
        durable::write(&self.own("power.json"), state)
    }

    pub(crate) fn stamp(&self) -> Result<Stamp> {
        Ok(Stamp(self.power_state()?.starts.to_le_bytes().to_vec()))
    }
}

impl Site {
    /// Whether it runs, read now; `None` where its own command does not say.
    pub(crate) fn running(&self, home: &Home) -> Result<Option<bool>> {
        let commands = Description::read(&home.dir)?.map(|d| d.commands).unwrap_or_default();
        let Some(ask) = commands.is_running else {
            return Ok(Some(home.power_state()?.state == Switch::On));
        };
        Ok(match self.run(home, "is_running", &ask, ask.limit(), &[])? {
            Ended::Exit(Some(0)) => Some(true),
            Ended::Exit(Some(1)) => Some(false),
            _ => None,
        })
    }

    pub(crate) fn power_of(&self, home: &Home) -> Result<Power> {
        // A description or a state that cannot be read is silence, and silence is never off.
        let (Ok(Some(runs)), Ok(stamp), Ok(fence)) = (self.running(home), home.stamp(), home.fence_mark())
        else {
            return Ok(Power::Unknown);
        };
        if runs {
            return Ok(Power::On);
        }
        let commands = Description::read(&home.dir)?.map(|d| d.commands).unwrap_or_default();
        let start = match (fence, commands.start) {
            (Some(_), _) => StartGuard::Blocked { until: None },
            (None, None) => StartGuard::Tells(stamp),
            // Whoever runs the command by hand need not touch the directory.
            (None, Some(_)) => StartGuard::Free,
        };
        Ok(Power::Off { start })
    }

    /// Refuses unless the machine is known to be off.
    pub(crate) fn must_be_off(&self, home: &Home) -> Result<()> {
        match self.running(home)? {
            Some(false) => Ok(()),
            Some(true) => Err(refused(format!("{} runs: stop or fence it first", home.name))),
            None => Err(refused(format!("{} does not say whether it runs: ask again", home.name))),
        }
    }

    /// Blocks the start, stops the machine, and reads back that it is off.
    pub(crate) fn halt(&self, op: &Op, home: &Home, grace: Duration, why: &str) -> Result<()> {
        let commands = Description::read(&home.dir)?.map(|d| d.commands).unwrap_or_default();
        let runs = self.running(home)?;
        let ran_before = runs.unwrap_or(home.power_state()?.state == Switch::On);
        self.block(op, home, ran_before, why)?;
        if runs == Some(false) {
            let state = home.power_state()?;
            return home.set_power_state(&PowerState { state: Switch::Off, ..state });
        }
        self.cut(home, &commands, grace)?;
        let state = home.power_state()?;
        home.set_power_state(&PowerState { state: Switch::Off, ..state })?;
        self.must_be_off(home)
    }

    /// Asks it to shut down, and after `grace` cuts its power, by its own commands.
    fn cut(&self, home: &Home, commands: &Commands, grace: Duration) -> Result<()> {
        let asked = match (&commands.stop, &commands.kill) {
            (Some(stop), kill) if kill.is_none() || !grace.is_zero() => {
                let limit = if grace.is_zero() { stop.limit() } else { grace };
                let seconds = limit.as_secs().to_string();
                self.must_run(home, "stop", stop, limit, &[("SITE_RECOVERY_GRACE", &seconds)])
            }
            (_, None) => Ok(()),
            (_, Some(kill)) => self.must_run(home, "kill", kill, kill.limit(), &[]),
        };
        // Where it can say for itself whether it runs, that counts more than how a command ended.
        let answers = commands.is_running.is_some();
        let off = || if answers { self.must_be_off(home) } else { Ok(()) };
        match (&commands.kill, &asked) {
            (Some(kill), _) if asked.is_err() || off().is_err() => {
                self.must_run(home, "kill", kill, kill.limit(), &[])?;
                off()
            }
            _ if answers => off(),
            _ => asked,
        }
    }

    pub(crate) fn must_run(
        &self,
        home: &Home,
        verb: &'static str,
        command: &Command,
        limit: Duration,
        environment: &[(&str, &str)],
    ) -> Result<()> {
        match self.run(home, verb, command, limit, environment)? {
            Ended::Exit(Some(0)) => Ok(()),
            ended => Err(failed(home, verb, command, ended)),
        }
    }

    /// Leaves the fence mark. One that stands already is kept, unless the machine was started past it.
    pub(crate) fn block(&self, op: &Op, home: &Home, ran_before: bool, why: &str) -> Result<()> {
        if home.fence_mark()?.is_some() && !ran_before {
            return Ok(());
        }
        let mark = FenceMark {
            by: op.key.clone(),
            epoch: op.epoch.clone(),
            when: self.clock.now(),
            ran_before,
            why: why.to_owned(),
            lift: format!(
                "Source::unfence of {} with a permit; by hand, when nothing else runs for this machine: remove this \
                 file",
                self.name
            ),
        };
        durable::write(&home.own("fence.json"), &mark)
    }

    /// Starts the machine once for this key, then lifts the block. Says whether it runs.
    pub(crate) fn ignite(&self, op: &Op, home: &Home, network: Option<String>) -> Result<bool> {
        let runs = self.running(home)?;
        let mut state = home.power_state()?;
        if state.done.contains(&op.key) {
            if runs == Some(true) {
                durable::remove_file(&home.own("fence.json"))?;
            }
            return Ok(runs == Some(true));
        }
        match runs {
            None => self.must_be_off(home)?,
            Some(true) if state.network != network => {
                let now = state.network.as_deref().unwrap_or("its own network");
                return Err(refused(format!("{} runs already, in {now}: stop it first", home.name)));
            }
            Some(true) => {
                state.done.push(op.key.clone());
                home.set_power_state(&state)?;
                durable::remove_file(&home.own("fence.json"))?;
                return Ok(true);
            }
            Some(false) => {}
        }
        self.give_disks_back(home)?;
        state.done.push(op.key.clone());
        state.network = network;
        if let Some(start) = home.description()?.commands.start {
            home.set_power_state(&state)?;
            let place = state.network.clone().unwrap_or_default();
            let ended =
                self.run(home, "start", &start, start.limit(), &[("SITE_RECOVERY_NETWORK", &place)])?;
            // A start that is known to have failed is made again under the same key.
            let answers = home.description()?.commands.is_running.is_some();
            let failed_for_sure =
                answers && ended != Ended::Exit(Some(0)) && self.running(home)? == Some(false);
            if ended == Ended::NeverRan || failed_for_sure {
                state.done.pop();
                home.set_power_state(&state)?;
            }
            if ended != Ended::Exit(Some(0)) {
                return Err(failed(home, "start", &start, ended));
            }
        }
        state.state = Switch::On;
        home.set_power_state(&state)?;
        durable::remove_file(&home.own("fence.json"))?;
        Ok(self.running(home)? == Some(true))
    }

    /// Lifts the block and starts nothing. Says whether it runs.
    pub(crate) fn lift(&self, op: &Op, home: &Home) -> Result<bool> {
        let mut state = home.power_state()?;
        if !state.done.contains(&op.key) {
            self.give_disks_back(home)?;
            durable::remove_file(&home.own("fence.json"))?;
            state.done.push(op.key.clone());
            home.set_power_state(&state)?;
        }
        Ok(self.running(home)? == Some(true))
    }

    /// Ends every landing handle: from here on the disks are the machine's own.
    pub(crate) fn give_disks_back(&self, home: &Home) -> Result<()> {
        let Some(mut landing) = landed::read(home)? else { return Ok(()) };
        let _ended = handles::end_all(home)?;
        landing.attached = false;
        landed::write(home, &landing)
    }
}

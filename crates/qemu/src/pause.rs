//! The instant of a capture: every drive goes to its filter, while the guests stand still where there is more than one.
//!
//! All that one guest has to do is sent in one piece, its `cont` last, so that its pause does not depend on us any more.

use crate::Site;
use crate::command_line::device;
use crate::layer::{Layer, told};
use crate::watchdog::Watchdog;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::durable;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Stands while a guest may be paused by us.
pub(crate) const PAUSED: &str = "paused.json";

/// What one machine has to do.
pub(crate) struct Switch<'a> {
    pub(crate) layer: &'a mut Layer,
    /// Whether its guest has to stand still for it.
    pub(crate) pauses: bool,
    /// The node that each disk's drive goes to.
    pub(crate) to: Vec<(usize, String)>,
    /// Where it is noted that the guest stands still by our hand.
    pub(crate) note: PathBuf,
}

impl Site {
    /// Switches all drives of all machines. With several machines that pause: all stop, all switch, all go on.
    ///
    /// # Errors
    /// `Unavailable` when a drive was not switched, or a guest went on too early: then there is no instant. The guests go
    /// on in any case.
    pub(crate) fn switch_all(&self, machines: &mut [Switch<'_>]) -> Result<()> {
        match machines {
            [] => Ok(()),
            [one] => one.alone(self),
            many => self.together(many),
        }
    }

    fn together(&self, machines: &mut [Switch<'_>]) -> Result<()> {
        let mut watchdogs = vec![];
        for one in machines.iter().filter(|m| m.pauses) {
            watchdogs.push(one.watched(self)?);
        }
        let done = machines
            .iter_mut()
            .filter(|m| m.pauses)
            .try_for_each(|m| m.send(&[("stop", Value::Null)]))
            .and_then(|()| machines.iter_mut().try_for_each(|m| m.send(&m.switches())));
        // Whatever happened: each that was stopped goes on.
        let on: Vec<Result<()>> =
            machines.iter_mut().filter(|m| m.pauses).map(|m| m.still_paused_then_on()).collect();
        let went_on = on.into_iter().collect::<Result<()>>();
        if went_on.is_ok() {
            watchdogs.into_iter().for_each(Watchdog::release);
            machines.iter().filter(|m| m.pauses).try_for_each(|m| durable::remove_file(&m.note))?;
        }
        done.and(went_on)
    }
}

impl Switch<'_> {
    fn alone(&mut self, site: &Site) -> Result<()> {
        if !self.pauses {
            return self.send(&self.switches());
        }
        let watchdog = self.watched(site)?;
        let mut all = vec![("stop", Value::Null)];
        all.extend(self.switches());
        all.push(("cont", Value::Null));
        let sent = self.send(&all);
        if sent.is_ok() {
            watchdog.release();
            durable::remove_file(&self.note)?;
        }
        sent
    }

    fn watched(&self, site: &Site) -> Result<Watchdog> {
        durable::write(&self.note, &site.clock.now())?;
        let copy = self.layer.monitor.socket().as_fd().try_clone_to_owned();
        let copy =
            copy.map_err(|e| Error::new(ErrorKind::Unavailable, "no more files can be opened").caused_by(e))?;
        Watchdog::over(&site.options.launcher, None, Some(copy), site.options.pause)
    }

    fn switches(&self) -> Vec<(&'static str, Value)> {
        let to = self.to.iter();
        to.map(|(n, node)| ("qom-set", json!({ "path": device(*n), "property": "drive", "value": node })))
            .collect()
    }

    fn send(&mut self, commands: &[(&'static str, Value)]) -> Result<()> {
        let answers = self.layer.monitor.call_each(commands).map_err(told)?;
        let refused =
            commands.iter().zip(answers).find_map(|((name, _), answer)| Some((name, answer.err()?)));
        match refused {
            None => Ok(()),
            Some((name, refusal)) => {
                let message = format!("QEMU refused {name}: {}", refusal.description);
                Err(Error::new(ErrorKind::Unavailable, message))
            }
        }
    }

    /// # Errors
    /// `Unavailable` when it did not stand still until now.
    fn still_paused_then_on(&mut self) -> Result<()> {
        let was = crate::freeze::executes(self.layer);
        self.send(&[("cont", Value::Null)])?;
        match was? {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, "a guest went on before all had switched")),
        }
    }
}

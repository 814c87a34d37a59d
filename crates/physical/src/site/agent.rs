//! Talking to a server's agent: in its own names, and never longer than anybody wants to wait.

use super::home::{Home, Owed, wait};
use super::power::said;
use super::{Kept, Site};
use crate::power::{PowerControl, PowerState};
use site_recovery::{Capture, Error, ErrorKind, Instance, Machine, Op, Result, Source};
use site_recovery_register::conflict;
use std::sync::PoisonError;

impl Kept {
    /// Ends what waits for it.
    pub(crate) fn enough(&self) {
        self.enough.send_modify(|n| *n += 1);
    }

    /// What is asked of it, ended where somebody has had enough since this was made.
    pub(crate) fn patient(&self) -> Patient {
        Patient(self.enough.subscribe())
    }

    /// Ends what waits for it, and waits instead.
    pub(crate) fn instead(&self) -> Patient {
        self.enough();
        self.patient()
    }

    /// How often it was seen to be started, since this keeper was opened.
    pub(crate) fn starts(&self) -> u64 {
        *self.starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn agent(&self) -> &dyn Source {
        &*self.server.agent
    }

    /// An instance in the agent's words.
    pub(crate) fn there(&self, instance: &Instance) -> Instance {
        Instance { site: self.server.agent.name(), ..instance.clone() }
    }

    /// A machine in the agent's words.
    pub(crate) fn machine_there(&self, machine: &Machine) -> Machine {
        machine.standing_as(self.there(&machine.instance))
    }

    /// A capture in the agent's words.
    pub(crate) fn capture_there(&self, capture: &Capture) -> Capture {
        let mut there = capture.clone();
        there.members.iter_mut().for_each(|m| m.machine = self.machine_there(&m.machine));
        there
    }
}

/// Waits for others: a server's agent, its rescue system, its power control.
#[derive(Debug)]
pub(crate) struct Patient(tokio::sync::watch::Receiver<u64>);

impl Patient {
    pub(crate) async fn waits<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        let mut enough = self.0.clone();
        tokio::select! {
            biased;
            _ = enough.changed() => {
                let message = "the server is fenced, started or claimed by another call: this one waits no more";
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            done = asked => done,
        }
    }

    /// Whether somebody has had enough.
    pub(crate) fn is_over(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }

    /// The same, on a thread of blocking work.
    pub(crate) fn wait<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        wait(self.waits(asked))
    }

    /// What a power control says.
    pub(crate) fn hears(&self, control: &dyn PowerControl) -> Result<PowerState> {
        self.wait(async { Ok(said(Some(control)).await) })
    }
}

impl Site {
    /// For as long as an agent has to say that it is there.
    pub(crate) async fn briefly<T>(&self, kept: &Kept, asked: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = asked => done,
            () = self.clock.sleep(self.patience.agent) => Err(silent(kept)),
        }
    }

    /// A machine as its agent tells it, in the site's words, with the ids of the site's mark.
    pub(crate) fn here(&self, kept: &Kept, home: &Home, told: Machine) -> Result<Machine> {
        let name = &kept.server.name;
        if told.instance.name != *name {
            let message = format!("the agent of {name} answers as {}", told.instance.name);
            return Err(conflict(message));
        }
        let instance = Instance { site: self.name.clone(), ..told.instance.clone() };
        let told = told.standing_as(instance);
        let Some(mark) = home.mark()? else { return Ok(told) };
        if told.instance.machine == mark.machine {
            let instance = Instance { generation: mark.generation, ..told.instance.clone() };
            return Ok(told.standing_as(instance));
        }
        // Its own mark is another's, or none: what was restored onto it, or has not been told yet. Ours counts.
        mark.described.must_fit(&told)?;
        Ok(Machine { disks: mark.described.disks, ..told.standing_as(mark.described.instance) })
    }

    /// A capture in the site's words.
    pub(crate) fn capture_here(&self, kept: &Kept, home: &Home, told: Capture) -> Result<Capture> {
        let mut here = told;
        for member in &mut here.members {
            member.machine = self.here(kept, home, member.machine.clone())?;
        }
        Ok(here)
    }

    /// Tells the agent what it could not be told before. Its epoch is that of the call that gets through.
    pub(crate) fn settle(&self, kept: &Kept, home: &Home, op: &Op, patient: &Patient) -> Result<()> {
        let mut owed = home.owed()?;
        while let Some(first) = owed.first().cloned() {
            let as_of = |key: &site_recovery::OpKey| Op { key: key.clone(), epoch: op.epoch.clone() };
            let agent = kept.agent();
            let told = match &first {
                Owed::Release { key, capture, machine, fate } => {
                    let (op, capture) = (as_of(key), kept.capture_there(capture));
                    patient.wait(self.briefly(kept, agent.release(&op, &capture, machine, *fate)))
                }
                Owed::Dismiss { key, instance } => {
                    patient.wait(self.briefly(kept, agent.dismiss(&as_of(key), &kept.there(instance))))
                }
                Owed::Enrol { key, machine } => {
                    patient.wait(self.briefly(kept, agent.enrol(&as_of(key), &kept.machine_there(machine))))
                }
            };
            match told {
                // What is gone needs no word any more.
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                told => told?,
            }
            owed.remove(0);
            home.set_owed(&owed)?;
        }
        Ok(())
    }
}

/// An agent that does not answer.
pub(crate) fn silent(kept: &Kept) -> Error {
    let message = format!("the agent of {} does not answer", kept.server.name);
    Error::new(ErrorKind::Unavailable, message).with("server", &kept.server.name)
}

//! The site as a source.

use super::agent::silent;
use super::home::{Home, Mark, Owed};
use super::{Kept, PhysicalSite, Site};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, Changes, Consistency, Cursor, Disks, Error, ErrorKind, Fate, Instance, Lifted,
    Machine, MachineId, Op, OpKey, Power, Purpose, Result, Source, Start,
};
use site_recovery_register::{durable, not_found};
use std::time::Duration;

#[async_trait]
impl Source for PhysicalSite {
    /// A server whose agent is silent is told as it was described last; one that never answered is an error that names it.
    async fn discover(&self) -> Result<Vec<Machine>> {
        let site = &self.0;
        let each = site.servers.values().map(|kept| async move {
            let told = site.tell(kept).await;
            told.map_err(|e| e.with("machine", &kept.server.name).at(&site.name, "discover"))
        });
        futures_util::future::join_all(each).await.into_iter().collect()
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("enrol", move |site| {
            machine.validate()?;
            let (kept, _) = site.of(&machine.instance)?;
            let patient = kept.patient();
            let _turn = site.register.turn(&op, machine.id())?;
            let (_, home) = site.of(&machine.instance)?;
            let mark = home.mark()?;
            let generation = mark.map_or(machine.instance.generation, |m| m.generation);
            let instance = Instance { generation, ..machine.instance.clone() };
            let described = machine.standing_as(instance);
            site.settle(kept, &home, &op, &patient)?;
            patient.wait(kept.agent().enrol(&op, &kept.machine_there(&described)))?;
            home.set_mark(&Mark { machine: machine.id().clone(), generation, described })
        })
        .await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("dismiss", move |site| {
            let Some(kept) = site.servers.get(&instance.name) else { return Ok(()) };
            let patient = kept.patient();
            let _turn = site.register.turn(&op, &instance.machine)?;
            let (kept, home) = match site.of(&instance) {
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                found => found.map(|(_, home)| (kept, home))?,
            };
            let told = site
                .settle(kept, &home, &op, &patient)
                .and_then(|()| patient.wait(kept.agent().dismiss(&op, &kept.there(&instance))));
            match told {
                // It is told when it answers again; nobody else is to wait for that.
                Err(e) if e.kind() == ErrorKind::Unavailable => {
                    home.owe(Owed::Dismiss { key: op.key.clone(), instance: instance.clone() })?;
                }
                told => told?,
            }
            home.set_returns(None)?;
            durable::remove_file(&home.path("mark.json"))
        })
        .await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let [instance] = of else {
            let message = format!("servers are captured one at a time: {} were named", of.len());
            return Err(Error::new(ErrorKind::Unsupported, message).at(&self.0.name, "capture"));
        };
        let (op, instance) = (op.clone(), instance.clone());
        self.act("capture", move |site| {
            let kept = site.of(&instance)?.0;
            let patient = kept.patient();
            let _turn = site.register.turn(&op, &instance.machine)?;
            let (_, home) = site.of(&instance)?;
            site.settle(kept, &home, &op, &patient)?;
            let there = [kept.there(&instance)];
            let captured = patient.wait(kept.agent().capture(&op, &there, want))?;
            let captured = site.capture_here(kept, &home, captured)?;
            site.remember(&home, &captured, &instance.machine)?;
            Ok(captured)
        })
        .await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let asked = async {
            let (kept, home, instance) = self.0.member(capture, machine)?;
            let there = kept.capture_there(capture);
            let changes = kept.patient().waits(kept.agent().changes(&there, machine, since)).await;
            self.0.or_lost(kept, &home, &instance, changes).await
        };
        asked.await.map_err(|e| e.at(&self.0.name, "changes"))
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("disks", move |site| {
            let patient = site.member(&capture, &machine)?.0.patient();
            let _turn = site.register.turn(&op, &machine)?;
            let (kept, home, instance) = site.member(&capture, &machine)?;
            let there = kept.capture_there(&capture);
            let disks = patient.wait(kept.agent().disks(&op, &there, &machine));
            patient.wait(site.or_lost(kept, &home, &instance, disks))
        })
        .await
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("release", move |site| {
            let patient = site.member(&capture, &machine)?.0.patient();
            let _turn = site.register.turn(&op, &machine)?;
            let (kept, home, instance) = site.member(&capture, &machine)?;
            let released = site.settle(kept, &home, &op, &patient).and_then(|()| {
                let there = kept.capture_there(&capture);
                patient.wait(kept.agent().release(&op, &there, &machine, fate))
            });
            match released {
                // Off: the capture ended with its system. What became of it is told when that answers again.
                Err(e)
                    if e.kind() == ErrorKind::Unavailable
                        && patient.wait(site.runs(kept, &home, &instance))? == Some(false) =>
                {
                    home.owe(Owed::Release { key: op.key.clone(), capture: capture.clone(), machine, fate })
                }
                released => released,
            }
        })
        .await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (op, instance, keep) = (op.clone(), instance.clone(), keep.to_vec());
        self.act("sweep", move |site| {
            let kept = site.of(&instance)?.0;
            let patient = kept.patient();
            let _turn = site.register.turn(&op, &instance.machine)?;
            let (_, home) = site.of(&instance)?;
            site.settle(kept, &home, &op, &patient)?;
            patient.wait(kept.agent().sweep(&op, &kept.there(&instance), &keep))
        })
        .await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        let read = async {
            let (kept, home) = self.0.of(instance)?;
            self.0.power_of(kept, &home, instance).await
        };
        read.await.map_err(|e| e.at(&self.0.name, "power"))
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("fence", move |site| {
            let patient = site.of(&instance)?.0.instead();
            let _turn = site.register.turn(&op, &instance.machine)?;
            let (kept, home) = site.of(&instance)?;
            site.fence(&op, kept, &home, &instance, grace, &patient)
        })
        .await
    }

    async fn unfence(
        &self,
        op: &Op,
        instance: &Instance,
        permit: BootPermit,
        start: Start,
    ) -> Result<Lifted> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("unfence", move |site| {
            permit.admits(&op, &instance, Purpose::Failover)?;
            let patient = site.of(&instance)?.0.instead();
            let _turn = site.register.turn(&op, &instance.machine)?;
            let (kept, home) = site.of(&instance)?;
            site.unfence(&op, kept, &home, &instance, start, &patient)
        })
        .await
    }
}

impl Site {
    async fn tell(&self, kept: &Kept) -> Result<Machine> {
        let home = self.home(&kept.server.name)?;
        match self.briefly(kept, kept.agent().discover()).await {
            Ok(told) => {
                let mut told = told.into_iter();
                match (told.next(), told.next()) {
                    (Some(machine), None) => {
                        let machine = self.here(kept, &home, machine)?;
                        machine.validate()?;
                        Ok(machine)
                    }
                    _ => Err(not_found(format!("the agent of {} tells of no one machine", kept.server.name))),
                }
            }
            Err(e) if e.kind() == ErrorKind::Unavailable => match home.mark()? {
                Some(mark) => Ok(mark.described),
                None => Err(silent(kept).caused_by(e)),
            },
            Err(e) => Err(e),
        }
    }

    /// One member of a capture: its server, and what is kept of it.
    fn member(&self, capture: &Capture, machine: &MachineId) -> Result<(&Kept, Home, Instance)> {
        let instance = capture.member(machine)?.machine.instance.clone();
        let (kept, home) = self.of(&instance)?;
        Ok((kept, home, instance))
    }

    /// A capture of a server that is off ended with its system.
    async fn or_lost<T>(&self, kept: &Kept, home: &Home, of: &Instance, got: Result<T>) -> Result<T> {
        match got {
            Err(e)
                if e.kind() == ErrorKind::Unavailable && self.runs(kept, home, of).await? == Some(false) =>
            {
                let message = format!("{} is off: its captures ended with its system", kept.server.name);
                Err(not_found(message).caused_by(e))
            }
            got => got,
        }
    }

    /// The newest description counts, for a server that is silent later.
    fn remember(&self, home: &Home, capture: &Capture, machine: &MachineId) -> Result<()> {
        let seen = &capture.member(machine)?.machine;
        match home.mark()? {
            Some(mark) if mark.described != *seen => home.set_mark(&Mark { described: seen.clone(), ..mark }),
            _ => Ok(()),
        }
    }
}

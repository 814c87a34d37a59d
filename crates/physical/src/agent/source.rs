//! The agent as a source.

use super::disk::CapturedDisk;
use super::{Agent, FORMAT};
use crate::guard;
use crate::tracking::CutRef;
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, Changes, Consistency, Cursor, Disk, Disks, Error, ErrorKind, Fate, Instance, Lifted,
    Machine, MachineId, Op, OpKey, Power, Result, Source, Start,
};
use site_recovery_register::{conflict, durable};
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl Source for Agent {
    async fn discover(&self) -> Result<Vec<Machine>> {
        let server = self.look("discover").await?;
        self.act("discover", move |inner| {
            let machine = inner.known(server)?.machine(&inner.settings.site, &inner.settings.name);
            machine.validate().map_err(|e| e.with("machine", &inner.settings.name))?;
            Ok(vec![machine])
        })
        .await
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        let server = self.look("enrol").await?;
        self.act("enrol", move |inner| {
            machine.validate()?;
            inner.must_be_us(&machine.instance)?;
            let board = inner.board.as_deref();
            inner.known(server.clone())?.mark_as(&machine, board, FORMAT)?;
            let _turn = inner.register.turn(&op, machine.id())?;
            let known = inner.known(server)?;
            if let Some(mark) = known.mark.as_ref().filter(|m| &m.machine != machine.id()) {
                return Err(conflict(format!(
                    "{} carries the mark of machine {}",
                    inner.settings.name, mark.machine
                )));
            }
            if known.foreign {
                // Nothing of another server's life is of use to this one.
                inner.dismiss()?;
            }
            // First: with a mark of an older generation the server would stay off the network.
            guard::Mark::of(&machine.instance, &op.epoch).write(&inner.settings.guard_mark())?;
            durable::write(&inner.own("mark.json"), &known.mark_as(&machine, board, FORMAT)?)
        })
        .await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("dismiss", move |inner| {
            inner.must_be_us(&instance)?;
            let _turn = inner.register.turn(&op, &instance.machine)?;
            match inner.mark()? {
                Some(mark) if mark.machine != instance.machine => {
                    Err(conflict(format!("{} carries the mark of machine {}", instance.name, mark.machine)))
                }
                _ => {
                    durable::remove_file(&inner.settings.guard_mark())?;
                    inner.dismiss()
                }
            }
        })
        .await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let [of] = of else {
            let message = format!("an agent captures its own server, and {} are named", of.len());
            let error = Error::new(ErrorKind::Unsupported, message);
            return Err(error.at(&self.inner().settings.site, "capture"));
        };
        let (op, of) = (op.clone(), of.clone());
        let server = self.look("capture").await?;
        self.act("capture", move |inner| inner.capture(&op, &of, want, inner.known(server)?)).await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let (capture, machine, since) = (capture.clone(), machine.clone(), since.clone());
        self.act("changes", move |inner| {
            let member = capture.member(&machine)?;
            inner.captured(&capture)?;
            let lost = |reason: &str| Ok(Changes::Lost { reason: reason.into() });
            let Some(until) = &member.cursor else { return lost("the capture carries no cursor") };
            let Some(cut) = CutRef::of(until) else { return lost("the capture is not of this agent") };
            match inner.scan_up_to(&OpKey(capture.cut.0.clone())) {
                Ok(()) => Ok(inner.tracking.changes(&since, &cut, until.generation)),
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    lost(&e.to_string())
                }
                Err(e) => Err(e),
            }
        })
        .await
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("disks", move |inner| {
            capture.member(&machine)?;
            let _turn = inner.register.turn(&op, &machine)?;
            let mut disks = Disks::new();
            for (spec, path) in inner.captured(&capture)? {
                disks.insert(spec.id, Arc::new(CapturedDisk::open(&path, spec.size)?) as Arc<dyn Disk>);
            }
            Ok(disks)
        })
        .await
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("release", move |inner| {
            let member = capture.member(&machine)?;
            let key = OpKey(capture.cut.0.clone());
            drop(inner.register.turn(&op, &machine)?);
            if fate != Fate::Abandoned
                && inner.is_whole(&key)
                && let Err(error) = inner.scan_up_to(&key)
            {
                if error.kind() == ErrorKind::Cancelled {
                    return Err(error);
                }
                // The capture is let go all the same: what is lost is the next delta.
                tracing::warn!(%error, "tracking did not come to a capture: the next cycle compares");
            }
            let _turn = inner.register.turn(&op, &machine)?;
            // First what became of it: a crash in between costs space, not the next delta.
            if let Some(cut) = member.cursor.as_ref().and_then(CutRef::of) {
                inner.tracking.note(&cut, fate, &inner.living()?)?;
            }
            inner.remove_capture(&key).map(drop)
        })
        .await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (op, instance, keep) = (op.clone(), instance.clone(), keep.to_vec());
        self.act("sweep", move |inner| {
            inner.must_be_us(&instance)?;
            let _turn = inner.register.turn(&op, &instance.machine)?;
            inner.sweep(&keep)
        })
        .await
    }

    /// `On`: an agent that answers on its own hardware runs. On other hardware it cannot tell, and says `Unknown`.
    async fn power(&self, instance: &Instance) -> Result<Power> {
        let instance = instance.clone();
        let server = self.look("power").await?;
        self.act("power", move |inner| {
            inner.must_be_us(&instance)?;
            Ok(if inner.known(server)?.foreign { Power::Unknown } else { Power::On })
        })
        .await
    }

    async fn fence(&self, _op: &Op, instance: &Instance, _grace: Duration) -> Result<()> {
        Err(self.no_power(instance, "fence"))
    }

    async fn unfence(
        &self,
        _op: &Op,
        instance: &Instance,
        _permit: BootPermit,
        _start: Start,
    ) -> Result<Lifted> {
        Err(self.no_power(instance, "unfence"))
    }
}

impl Agent {
    fn no_power(&self, instance: &Instance, operation: &'static str) -> Error {
        let message = format!("an agent cannot keep {} off: ask the site's power control", instance.name);
        Error::new(ErrorKind::Unsupported, message).at(&self.inner().settings.site, operation)
    }
}

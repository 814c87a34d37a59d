//! The site as a source.

use crate::capture::living;
use crate::disk::FileDisk;
use crate::home::{Home, Known, Mark};
use crate::{LocalSite, Site, tables, tracking};
use async_trait::async_trait;
use site_recovery::{
    BootPermit, Capture, Changes, Consistency, Cursor, Disk, DiskId, Disks, Error, ErrorKind, Fate, Instance,
    Lifted, Machine, MachineId, Op, OpKey, Power, Purpose, Result, Source, Start,
};
use site_recovery_register::durable;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[async_trait]
impl Source for LocalSite {
    async fn discover(&self) -> Result<Vec<Machine>> {
        self.act("discover", |site| {
            let describe = |home: Home| {
                let name = home.name.clone();
                let machine = Known::read(home).and_then(|known| {
                    let machine = known.machine(&site.name, None);
                    machine.validate()?;
                    let network = known.home.power_state()?.network;
                    Ok(site.in_network(machine, network))
                });
                machine.map_err(|e| e.with("machine", name))
            };
            site.homes()?.into_iter().map(describe).collect()
        })
        .await
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("enrol", move |site| {
            machine.validate()?;
            must_be_as_described(&Known::read(site.home_of(&machine.instance)?)?, &machine)?;
            let _turn = site.register.turn(&op, machine.id())?;
            let known = Known::read(site.home_of(&machine.instance)?)?;
            let fresh = known.mark_as(&machine, None)?;
            let mark = match &known.mark {
                Some(old) => Mark { disks: fresh.disks, nics: fresh.nics, ..old.clone() },
                None => fresh,
            };
            known.home.set_mark(&mark)
        })
        .await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("dismiss", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let Some(home) = site.home_if_there(&instance)? else { return Ok(()) };
            site.thaw_leftover(&home)?;
            site.sweep_captures(&home, &[])?;
            durable::remove_tree(&home.own("tracking"))?;
            durable::remove_file(&home.own("mark.json"))
        })
        .await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let (op, of) = (op.clone(), of.to_vec());
        self.act("capture", move |site| site.capture(&op, &of, want)).await
    }

    async fn changes(&self, capture: &Capture, machine: &MachineId, since: &Cursor) -> Result<Changes> {
        let (capture, machine, since) = (capture.clone(), machine.clone(), since.clone());
        self.act("changes", move |site| {
            let member = capture.member(&machine)?;
            let home = site.home_of(&member.machine.instance)?;
            let Some(until) = &member.cursor else {
                return Ok(Changes::Lost { reason: "the capture carries no cursor".into() });
            };
            Ok(tracking::compare(&home, &machine, &since, until))
        })
        .await
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("disks", move |site| {
            let member = capture.member(&machine)?;
            let _turn = site.register.turn(&op, &machine)?;
            let home = site.home_of(&member.machine.instance)?;
            let opened =
                |(id, path): (DiskId, PathBuf)| Ok((id, Arc::new(FileDisk::open(&path)?) as Arc<dyn Disk>));
            site.captured_disks(&capture, &home)?.into_iter().map(opened).collect()
        })
        .await
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, fate: Fate) -> Result<()> {
        let (op, capture, machine) = (op.clone(), capture.clone(), machine.clone());
        self.act("release", move |site| {
            let member = capture.member(&machine)?;
            let _turn = site.register.turn(&op, &machine)?;
            let Some(home) = site.home_if_there(&member.machine.instance)? else { return Ok(()) };
            // First what became of it: a crash in between costs space, not the next delta.
            if let Some(table) = member.cursor.as_ref().and_then(tracking::table_of) {
                tables::note(&home, &table, fate.into(), &living(&home)?)?;
            }
            site.drop_share(&home, &OpKey(capture.cut.0.clone())).map(drop)
        })
        .await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (op, instance, keep) = (op.clone(), instance.clone(), keep.to_vec());
        self.act("sweep", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let Some(home) = site.home_if_there(&instance)? else { return Ok(vec![]) };
            site.thaw_leftover(&home)?;
            site.sweep_captures(&home, &keep)
        })
        .await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        let instance = instance.clone();
        self.act("power", move |site| site.power_of(&site.home_of(&instance)?)).await
    }

    async fn fence(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.act("fence", move |site| {
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            site.halt(&op, &home, grace, "fenced")
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
            let _turn = site.register.turn(&op, &instance.machine)?;
            let home = site.home_of(&instance)?;
            let ran_before = home.fence_mark()?.is_some_and(|f| f.ran_before);
            let running = if start == Start::Run || start == Start::AsBefore && ran_before {
                site.ignite(&op, &home, None)?
            } else {
                site.lift(&op, &home)?
            };
            Ok(Lifted { running })
        })
        .await
    }
}

impl Site {
    /// As `home_of`, but a directory that is gone is no error.
    pub(crate) fn home_if_there(&self, instance: &Instance) -> Result<Option<Home>> {
        match self.home_of(instance) {
            Ok(home) => Ok(Some(home)),
            Err(e) if e.kind() == ErrorKind::NotFound && instance.site == self.name => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// A machine that was started in one network is in no other.
    fn in_network(&self, machine: Machine, network: Option<String>) -> Machine {
        let Some(network) = network else { return machine };
        let nics = machine.nics.into_iter();
        let nics = nics.map(|n| site_recovery::Nic { network: Some(network.clone()), ..n }).collect();
        Machine { nics, ..machine }
    }
}

fn must_be_as_described(known: &Known, machine: &Machine) -> Result<()> {
    let mark = known.mark_as(machine, None)?;
    for marked in mark.disks.values() {
        let Some(told) = machine.disk(&marked.id) else { continue };
        if told.size != marked.size {
            let value = format!("{} of disk {}", told.size, told.id);
            let rule = format!("its file has {} bytes", marked.size);
            return Err(Error::invalid("disk.size", value, &rule, "discover it anew"));
        }
    }
    Ok(())
}

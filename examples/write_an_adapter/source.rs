//! The adapter: a folder of qcow2 images as a [`Source`].
//!
//! Every call that changes something is one turn at the folder, and its effect is one machine's record, replaced. So the
//! check of the epoch and the effect are one act, a capture is one instant over all disks, and what a crash interrupts
//! has happened whole or not at all.

use crate::disk::Captured;
use crate::host::{Host, Record, get, put};
use async_trait::async_trait;
use site_recovery::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A host as a site of this name. It does not track changes: every cycle compares.
#[derive(Debug, Clone)]
pub(crate) struct HostSite {
    pub(crate) name: RoleName,
    pub(crate) host: Host,
    pub(crate) clock: Arc<dyn Clock>,
}

impl HostSite {
    /// Changes a machine's record, for an operation that passes the register of epochs.
    async fn change<T, F>(&self, what: &'static str, op: &Op, of: &Instance, effect: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Record, Op) -> Result<T> + Send + 'static,
    {
        let (op, of) = (op.clone(), of.clone());
        let turn = self.host.turn(move |dir| {
            pass(dir, &op, &of.machine)?;
            Record::change(&dir.join(of.name), |record| effect(record, op))
        });
        turn.await.map_err(|e| e.at(&self.name, what))
    }
}

/// The register stands beside the machines, so that it stays when one of them is removed.
fn pass(dir: &Path, op: &Op, machine: &MachineId) -> Result<()> {
    let mut register: BTreeMap<MachineId, Epoch> = get(&dir.join("epochs.json"))?.unwrap_or_default();
    if !op.epoch.passes(register.get(machine)) {
        let message = format!("{} is not in charge of {machine} any more", op.epoch.owner);
        return Err(Error::new(ErrorKind::StaleEpoch, message));
    }
    register.insert(machine.clone(), op.epoch.clone());
    put(&dir.join("epochs.json"), &register)
}

#[async_trait]
impl Role for HostSite {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability { tracks: false, groups: false, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.host.turn(move |dir| pass(dir, &op, &machine)).await
    }
}

#[async_trait]
impl Source for HostSite {
    async fn discover(&self) -> Result<Vec<Machine>> {
        let records = self.host.turn(Record::all).await?;
        Ok(records.into_iter().map(|r| r.machine).collect())
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let described = machine.clone();
        self.change("enrol", op, &machine.instance, move |found, _| {
            if found.enrolled && found.machine.id() != described.id() {
                return Err(Error::new(ErrorKind::Conflict, format!("it is {} already", found.machine.id())));
            }
            described.must_fit(&found.machine)?;
            (found.machine, found.enrolled) = (described, true);
            Ok(())
        })
        .await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.change("dismiss", op, instance, |record, _| {
            record.enrolled = false;
            record.captures.clear();
            Ok(())
        })
        .await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let [instance] = of else {
            return Err(Error::new(ErrorKind::Unsupported, "groups is false").at(&self.name, "capture"));
        };
        let (who, taken) = (instance.clone(), self.clock.now());
        self.change("capture", op, instance, move |record, op| {
            let cut = CutId(op.key.0);
            if let Some(earlier) = record.captures.iter().find(|c| c.cut == cut) {
                return Ok(earlier.clone());
            }
            let machine = record.machine.standing_as(who);
            let members = vec![Member { machine, cursor: None, sidecars: vec![] }];
            let quiesce_failed = (want > Consistency::Crash).then(|| "there is no guest to ask".into());
            let capture = Capture { cut, taken, consistency: Consistency::Crash, quiesce_failed, members };
            record.copy_disks(&capture)?;
            record.captures.push(capture.clone());
            Ok(capture)
        })
        .await
    }

    async fn changes(&self, _: &Capture, _: &MachineId, _: &Cursor) -> Result<Changes> {
        Ok(Changes::Lost { reason: "a folder of images does not track changes".into() })
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let of = capture.clone();
        self.change("disks", op, &capture.member(machine)?.machine.instance, move |record, _| {
            let images = record.images_of(&of)?.into_iter();
            Ok(images.map(|(id, image)| (id, Arc::new(Captured::new(image)) as Arc<dyn Disk>)).collect())
        })
        .await
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, _: Fate) -> Result<()> {
        let cut = capture.cut.clone();
        self.change("release", op, &capture.member(machine)?.machine.instance, move |record, _| {
            record.captures.retain(|c| c.cut != cut);
            Ok(())
        })
        .await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let keep = keep.to_vec();
        self.change("sweep", op, instance, move |record, _| {
            let swept = record.captures.extract_if(.., |c| keep.iter().all(|k| k.0 != c.cut.0));
            Ok(swept.map(|c| OpKey(c.cut.0)).collect())
        })
        .await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        let name = instance.name.clone();
        let record = self.host.turn(move |dir| Record::of(&dir.join(name))).await?;
        let start = record.fence.map_or(StartGuard::Free, |_| StartGuard::Blocked { until: None });
        Ok(if record.running { Power::On } else { Power::Off { start } })
    }

    async fn fence(&self, op: &Op, instance: &Instance, _grace: Duration) -> Result<()> {
        let at = self.clock.now();
        self.change("fence", op, instance, move |record, by| {
            record.stop_and_block(by, at);
            Ok(())
        })
        .await
    }

    async fn unfence(&self, op: &Op, of: &Instance, permit: BootPermit, start: Start) -> Result<Lifted> {
        let instance = of.clone();
        self.change("unfence", op, of, move |record, op| {
            permit.admits(&op, &instance, Purpose::Failover)?;
            let ran = record.lift(&op.key);
            if start == Start::Run || start == Start::AsBefore && ran {
                record.start(op.key);
            }
            Ok(Lifted { running: record.running })
        })
        .await
    }
}

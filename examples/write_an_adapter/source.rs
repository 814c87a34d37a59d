//! The adapter: a shelf as a [`Source`].
//!
//! Every call is one transaction of the file. So the check of the epoch and its effect are one atomic act, a capture is
//! one instant over all disks, and whatever a crash interrupts has happened whole or not at all.

use crate::disk::Captured;
use crate::shelf::{Act, BLOCK, BLOCKS, Fence, Kept, Shelf, failed, live};
use async_trait::async_trait;
use redb::ReadableTable;
use site_recovery::*;
use std::sync::Arc;
use std::time::Duration;

/// A shelf as a site of this name. It does not track changes: every cycle compares.
#[derive(Debug, Clone)]
pub(crate) struct ShelfSite {
    /// The site's name.
    pub(crate) name: RoleName,
    /// The machines.
    pub(crate) shelf: Shelf,
    /// The time of captures and fences.
    pub(crate) clock: Arc<dyn Clock>,
}

impl ShelfSite {
    /// One transaction, off the async workers. It goes on when nobody waits for it any more.
    async fn act<T, F>(&self, operation: &'static str, effect: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Act) -> Result<T> + Send + 'static,
    {
        let shelf = self.shelf.clone();
        let done = tokio::task::spawn_blocking(move || shelf.act(effect)).await;
        let lost = |e| Error::new(ErrorKind::Unavailable, "the call did not end").caused_by(e);
        done.map_err(lost).flatten().map_err(|e| e.at(&self.name, operation))
    }

    /// As `act`, once the operation has passed the machine's epoch register and raised it.
    async fn change<T, F>(&self, what: &'static str, op: &Op, machine: &MachineId, effect: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Act, Op) -> Result<T> + Send + 'static,
    {
        let (op, register) = (op.clone(), format!("epoch/{machine}"));
        self.act(what, move |act| {
            if !op.epoch.passes(act.get(&register)?.as_ref()) {
                let message = format!("{} does not hold {register} any more", op.epoch.owner);
                return Err(Error::new(ErrorKind::StaleEpoch, message));
            }
            act.put(&register, &op.epoch)?;
            effect(act, op)
        })
        .await
    }
}

fn captures_of(act: &Act, machine: &MachineId) -> Result<Vec<Capture>> {
    let all: Vec<Capture> = act.all("capture/")?;
    Ok(all.into_iter().filter(|c| c.member(machine).is_some()).collect())
}

fn drop_capture(act: &Act, capture: &Capture) -> Result<()> {
    let (note, disks) = (format!("capture/{}", capture.cut), format!("capture/{}/", capture.cut));
    let mut blocks = act.0.open_table(BLOCKS).map_err(failed)?;
    blocks.retain(|(owner, _), _| !owner.starts_with(&disks)).map_err(failed)?;
    act.remove(&note)
}

#[async_trait]
impl Role for ShelfSite {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability { tracks: false, groups: false, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.change("claim", op, machine, |_, _| Ok(())).await
    }
}

#[async_trait]
impl Source for ShelfSite {
    async fn discover(&self) -> Result<Vec<Machine>> {
        let all: Vec<Kept> = self.act("discover", |act| act.all("machine/")).await?;
        let here = |m: Machine| Machine { instance: Instance { site: self.name.clone(), ..m.instance }, ..m };
        Ok(all.into_iter().map(|kept| here(kept.machine)).collect())
    }

    async fn enrol(&self, op: &Op, machine: &Machine) -> Result<()> {
        let machine = machine.clone();
        self.change("enrol", op, &machine.id().clone(), move |act, _| {
            let kept = act.kept(&machine.instance.name)?;
            if kept.enrolled && kept.machine.id() != machine.id() {
                return Err(Error::new(ErrorKind::Conflict, format!("it is {} already", kept.machine.id())));
            }
            let sizes = |m: &Machine| format!("{:?}", m.disks.iter().map(|d| d.size).collect::<Vec<_>>());
            if sizes(&kept.machine) != sizes(&machine) {
                let rule = format!("the disks have {}", sizes(&kept.machine));
                return Err(Error::invalid("disk.size", sizes(&machine), &rule, "discover it anew"));
            }
            act.keep(&Kept { machine, enrolled: true, ..kept })
        })
        .await
    }

    async fn dismiss(&self, op: &Op, instance: &Instance) -> Result<()> {
        let instance = instance.clone();
        self.change("dismiss", op, &instance.machine.clone(), move |act, _| {
            captures_of(act, &instance.machine)?.iter().try_for_each(|c| drop_capture(act, c))?;
            act.keep(&Kept { enrolled: false, ..act.kept(&instance.name)? })
        })
        .await
    }

    async fn capture(&self, op: &Op, of: &[Instance], want: Consistency) -> Result<Capture> {
        let [instance] = of else {
            return Err(Error::new(ErrorKind::Unsupported, "groups is false").at(&self.name, "capture"));
        };
        let (instance, taken) = (instance.clone(), self.clock.now());
        self.change("capture", op, &instance.machine.clone(), move |act, op| {
            let (kept, note) = (act.kept(&instance.name)?, format!("capture/{}", op.key));
            match act.get::<Capture>(&note)? {
                Some(earlier) if earlier.member(&instance.machine).is_some() => return Ok(earlier),
                Some(_) => return Err(Error::new(ErrorKind::Conflict, "the key is of another machine")),
                None => {}
            }
            let mut blocks = act.0.open_table(BLOCKS).map_err(failed)?;
            for (at, disk) in kept.machine.disks.iter().enumerate() {
                let (from, to) = (live(&instance.name, at), format!("{note}/{}", disk.id));
                for number in 0..disk.size.div_ceil(BLOCK) {
                    let block = blocks.get((from.as_str(), number)).map_err(failed)?;
                    let Some(bytes) = block.map(|b| b.value().to_vec()) else { continue };
                    blocks.insert((to.as_str(), number), bytes.as_slice()).map_err(failed)?;
                }
            }
            let less = (want > Consistency::Crash).then(|| "a shelf has no guest to ask".to_owned());
            let machine = kept.machine.standing_as(instance);
            let members = vec![Member { machine, cursor: None, sidecars: vec![] }];
            let (cut, consistency) = (CutId(op.key.0), Consistency::Crash);
            let capture = Capture { cut, taken, consistency, quiesce_failed: less, members };
            act.put(&note, &capture)?;
            Ok(capture)
        })
        .await
    }

    async fn changes(&self, _: &Capture, _: &MachineId, _: &Cursor) -> Result<Changes> {
        Ok(Changes::Lost { reason: "a shelf does not track changes".into() })
    }

    async fn disks(&self, op: &Op, capture: &Capture, machine: &MachineId) -> Result<Disks> {
        let (note, id, shelf) = (format!("capture/{}", capture.cut), machine.clone(), self.shelf.clone());
        self.change("disks", op, machine, move |act, _| {
            let gone = || Error::new(ErrorKind::NotFound, format!("{note} is gone"));
            let capture: Capture = act.get(&note)?.ok_or_else(gone)?;
            let member = capture.member(&id).ok_or_else(gone)?;
            let open = |d: &DiskSpec| {
                let disk = Captured::open(&shelf, format!("{note}/{}", d.id), d.size)?;
                Ok((d.id.clone(), Arc::new(disk) as Arc<dyn Disk>))
            };
            member.machine.included().map(open).collect()
        })
        .await
    }

    async fn release(&self, op: &Op, capture: &Capture, machine: &MachineId, _: Fate) -> Result<()> {
        let capture = capture.clone();
        self.change("release", op, machine, move |act, _| drop_capture(act, &capture)).await
    }

    async fn sweep(&self, op: &Op, instance: &Instance, keep: &[OpKey]) -> Result<Vec<OpKey>> {
        let (machine, keep) = (instance.machine.clone(), keep.to_vec());
        self.change("sweep", op, &instance.machine, move |act, _| {
            let mut swept = captures_of(act, &machine)?;
            swept.retain(|c| keep.iter().all(|k| k.0 != c.cut.0));
            swept.iter().try_for_each(|c| drop_capture(act, c))?;
            Ok(swept.into_iter().map(|c| OpKey(c.cut.0)).collect())
        })
        .await
    }

    async fn power(&self, instance: &Instance) -> Result<Power> {
        let name = instance.name.clone();
        let kept = self.act("power", move |act| act.kept(&name)).await?;
        let start = kept.fence.map_or(StartGuard::Free, |_| StartGuard::Blocked { until: None });
        Ok(if kept.running { Power::On } else { Power::Off { start } })
    }

    async fn fence(&self, op: &Op, instance: &Instance, _grace: Duration) -> Result<()> {
        let (name, at) = (instance.name.clone(), self.clock.now());
        self.change("fence", op, &instance.machine, move |act, by| {
            let mut kept = act.kept(&name)?;
            kept.fence.get_or_insert(Fence { by, at, ran: kept.running, lifted_by: "unfence".into() });
            act.keep(&Kept { running: false, ..kept })
        })
        .await
    }

    async fn unfence(&self, op: &Op, of: &Instance, permit: BootPermit, start: Start) -> Result<Lifted> {
        let instance = of.clone();
        self.change("unfence", op, &of.machine, move |act, op| {
            permit.admits(&op, &instance)?;
            if let BootPermit::Isolated { network } = permit {
                return Err(Error::new(ErrorKind::Refused, format!("a shelf has no network {network}")));
            }
            let mut kept = act.kept(&instance.name)?;
            let ran = kept.fence.take().is_some_and(|f| f.ran);
            let wanted = start == Start::Run || start == Start::AsBefore && ran;
            if wanted && !kept.started_by.contains(&op.key) {
                kept.running = true;
                kept.started_by.push(op.key);
            }
            act.keep(&kept)?;
            Ok(Lifted { running: kept.running })
        })
        .await
    }
}

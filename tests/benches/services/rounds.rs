//! One first copy: what an engine asks of the services, and what each of them spent on it.

use crate::Outcome;
use crate::fleet::{Fleet, Running};
use site_recovery::{
    Basis, Consistency, Control, Epoch, Fate, Item, Machine, MachineId, Op, Policy, Pool, ProcessServer,
    Replica, Run, Seed, Settings, Shipment, Shipped, Source,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const PIECE: u64 = 1 << 20;

/// Processor seconds of each.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) agent: f64,
    pub(crate) ps: f64,
    pub(crate) store: f64,
}

impl Spent {
    pub(crate) fn all(self) -> f64 {
        self.agent + self.ps + self.store
    }

    fn since(self, before: Self) -> Self {
        Self { agent: self.agent - before.agent, ps: self.ps - before.ps, store: self.store - before.store }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// From the capture until the point is durable.
    pub(crate) copy: Spent,
    /// Seconds.
    pub(crate) wall: f64,
    /// The release: the agent reads the snapshot for its table of hashes, which the next cycle needs.
    pub(crate) scan: Spent,
    /// Bytes of records that crossed to the store.
    pub(crate) crossed: u64,
}

fn op(key: String) -> Op {
    Op { key: key.as_str().into(), epoch: Epoch { number: 1, owner: "bench".into() } }
}

impl Fleet {
    fn spent(&self) -> Outcome<Spent> {
        let of = |running: &Running| running.group.cpu();
        let store = self.store.as_ref().map(of).transpose()?.unwrap_or(0.0);
        Ok(Spent { agent: of(&self.agent)?, ps: of(&self.ps)?, store })
    }

    /// Protects the server anew under this number, and copies it. With an image, an error where the point is not the
    /// image, byte for byte. Nothing of it is left but what the agent has.
    pub(crate) async fn first_copy(&self, number: usize, image: Option<&Path>) -> Outcome<Round> {
        let id = MachineId::from(format!("m-{number}").as_str());
        let op = |what: &str| op(format!("{what}-{number}"));
        let mut machine = self.source.discover().await?.remove(0);
        if machine.instance.machine != id && number > 0 {
            self.source.dismiss(&op("dismiss"), &machine.instance).await?;
        }
        machine.instance.machine = id.clone();
        self.source.enrol(&op("enrol"), &machine).await?;
        let machine = self.source.discover().await?.remove(0);
        self.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &Settings::default()).await?;

        let (began, before) = (Instant::now(), self.spent()?);
        let of = [machine.instance.clone()];
        let capture = self.source.capture(&op("capture"), &of, Consistency::Crash).await?;
        let what = shipment(capture.clone(), &machine);
        let (source, replica) =
            (Arc::clone(&self.source) as Arc<dyn Source>, Arc::clone(&self.points) as Arc<dyn Replica>);
        let shipped = self.shipper.ship(&op("ship"), &what, &source, &replica).await?;
        let Shipped::Sealed { shipped: crossed, .. } = shipped else {
            return Err(format!("it was not sealed: {shipped:?}").into());
        };
        let (wall, copied) = (began.elapsed().as_secs_f64(), self.spent()?);
        self.source.release(&op("release"), &capture, &id, Fate::Sealed).await?;
        let scanned = self.spent()?;
        if let Some(image) = image {
            self.compare(&machine, image).await?;
        }
        self.points.delete(&op("delete"), &id).await?;
        Ok(Round { copy: copied.since(before), wall, scan: scanned.since(copied), crossed })
    }

    async fn compare(&self, machine: &Machine, image: &Path) -> Outcome<()> {
        let (id, file) = (machine.id(), File::open(image)?);
        let newest = self.points.points(id).await?.last().ok_or("there is no point")?.id;
        let disks = self.points.open(id, newest).await?;
        let (disk, pool) =
            (disks.values().next().ok_or("the point has no disk")?, Pool::new(4 * PIECE as usize));
        if disk.size() != file.metadata()?.len() {
            return Err(
                format!("the point has {} bytes, not those of {}", disk.size(), image.display()).into()
            );
        }
        let mut there = vec![0; PIECE as usize];
        for run in Run::new(0, disk.size()).pieces(PIECE) {
            let there = &mut there[..run.len as usize];
            file.read_exact_at(there, run.start)?;
            if disk.read(run, &pool).await? != *there {
                return Err(format!("the point differs from {} in {run:?}", image.display()).into());
            }
        }
        Ok(())
    }
}

fn shipment(capture: site_recovery::Capture, machine: &Machine) -> Shipment {
    let id = machine.id().clone();
    let epoch = Epoch { number: 1, owner: "bench".into() };
    let item = Item::new(machine.clone(), epoch, Policy::default(), "out", "back");
    let control = Control { unit: "web".into(), members: vec![id.clone()], item };
    Shipment { capture, machine: id, basis: Basis::Delta, control }
}

//! A site of one machine whose disk is an image file: nothing but the reads that any process server does.

use crate::Outcome;
use crate::churn::Churn;
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{SeekFrom, seek};
use site_recovery::Basis;
use site_recovery::{
    BootPermit, Capability, Capture, ChangeSet, Changes, Consistency, Control, Cursor, Disk, DiskId,
    DiskRole, DiskSpec, Disks, Epoch, Error, ErrorKind, Extent, Fate, Fill, Firmware, Generation, GuestFacts,
    Instance, Item, Lifted, Machine, MachineId, Member, Op, OpKey, OsFamily, Platform, Policy, Pool, Power,
    Result, Role, RoleName, Run, Shipment, Source, Start, Timestamp,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

pub(crate) fn machine_id() -> MachineId {
    "web".into()
}

pub(crate) fn disk_id() -> DiskId {
    "root".into()
}

pub(crate) fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: epoch() }
}

fn epoch() -> Epoch {
    Epoch { number: 1, owner: "bench".into() }
}

/// The machine as it stands in one capture.
#[derive(Debug)]
pub(crate) struct Site {
    disk: Arc<Image>,
    /// What differs from the capture before; none where the site does not know.
    changes: Option<ChangeSet>,
}

impl Site {
    pub(crate) fn new(disk: &Arc<Image>, changes: Option<ChangeSet>) -> Self {
        Self { disk: Arc::clone(disk), changes }
    }

    pub(crate) fn machine(&self) -> Machine {
        let generation = Generation(0);
        let disk = DiskSpec { id: disk_id(), size: self.disk.size, role: DiskRole::System, included: true };
        Machine {
            instance: Instance {
                machine: machine_id(),
                site: "here".into(),
                name: "web-01".into(),
                generation,
            },
            title: None,
            disks: vec![disk],
            nics: vec![],
            cpus: 2,
            memory: 1 << 30,
            firmware: Firmware::Bios,
            os: OsFamily::Linux,
            platform: Platform::Virtual,
            guest: GuestFacts::default(),
        }
    }

    pub(crate) fn shipment(&self, cut: &str, basis: Basis) -> Shipment {
        let machine = self.machine();
        let cursor = Some(Cursor { generation: Generation(0), token: cut.as_bytes().to_vec() });
        let capture = Capture {
            cut: cut.into(),
            taken: Timestamp(0),
            consistency: Consistency::Crash,
            quiesce_failed: None,
            members: vec![Member { machine: machine.clone(), cursor, sidecars: vec![] }],
        };
        let item = Item::new(machine, epoch(), Policy::default(), "out", "back");
        let control = Control { unit: "web".into(), members: vec![machine_id()], item };
        Shipment { capture, machine: machine_id(), basis, control }
    }
}

/// An image file, and what a guest wrote over it since: nothing of that is in the file.
#[derive(Debug)]
pub(crate) struct Image {
    file: Arc<File>,
    size: u64,
    data: Vec<Run>,
    churn: Churn,
    /// For a block that was written, from where in the file its bytes are.
    written: RwLock<BTreeMap<u64, u64>>,
}

impl Image {
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        Self::churned(path, Churn::Large)
    }

    /// With a guest that writes as the churn says.
    pub(crate) fn churned(path: &Path, churn: Churn) -> Outcome<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let data = data_of(&file, size)?;
        Ok(Self { file: Arc::new(file), size, data, churn, written: RwLock::default() })
    }

    /// Writes what is written until this point.
    pub(crate) fn advance(&self, point: usize) {
        let mut written = self.written.write().expect("no panic under this lock");
        written.extend(self.churn.writes(point).iter().map(|write| (write.start, write.from)));
    }

    /// What a source would tell of the writes until this point.
    pub(crate) fn changes(&self, point: usize) -> ChangeSet {
        let writes = self.churn.writes(point).into_iter();
        writes.map(|write| (disk_id(), Run::new(write.start, self.churn.size()))).collect()
    }

    /// Where in the file the bytes of a run are, piece by piece.
    fn places(&self, run: Run) -> Vec<(Run, u64)> {
        let written = self.written.read().expect("no panic under this lock");
        if written.is_empty() {
            return vec![(run, run.start)];
        }
        let place = |piece: Run| {
            let block = piece.start / self.churn.size() * self.churn.size();
            (piece, written.get(&block).map_or(piece.start, |from| from + piece.start - block))
        };
        run.pieces(self.churn.size()).map(place).collect()
    }
}

fn data_of(file: &File, size: u64) -> Outcome<Vec<Run>> {
    let (mut data, mut at) = (vec![], 0);
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        at = seek(file, SeekFrom::Hole(start))?;
        data.push(Run::new(start, at - start));
    }
    Ok(data)
}

#[async_trait]
impl Disk for Image {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.end().min(self.size);
        let (mut extents, mut at) = (vec![], range.start);
        let range = Run::new(range.start, end.saturating_sub(range.start));
        let first = self.data.partition_point(|run| run.end() <= range.start);
        for run in self.data[first..].iter().map_while(|run| run.intersection(range)) {
            if at < run.start {
                extents.push(Extent { run: Run::new(at, run.start - at), fill: Fill::Zero });
            }
            extents.push(Extent { run, fill: Fill::Data });
            at = run.end();
        }
        if at < end {
            extents.push(Extent { run: Run::new(at, end - at), fill: Fill::Zero });
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let mut block = pool.take(run.len as usize).await?;
        let (file, places) = (Arc::clone(&self.file), self.places(run));
        let read = tokio::task::spawn_blocking(move || {
            for (piece, from) in places {
                let to = (piece.start - run.start) as usize;
                file.read_exact_at(&mut block[to..to + piece.len as usize], from)?;
            }
            Ok(block.freeze())
        });
        let failed =
            |e: std::io::Error| Error::new(ErrorKind::Unavailable, "the image cannot be read").caused_by(e);
        read.await.map_err(|e| Error::new(ErrorKind::Cancelled, "broken off").caused_by(e))?.map_err(failed)
    }
}

#[async_trait]
impl Role for Site {
    fn name(&self) -> RoleName {
        "here".into()
    }

    fn capability(&self) -> Capability {
        Capability::default()
    }

    async fn claim(&self, _: &Op, _: &MachineId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Source for Site {
    async fn changes(&self, _: &Capture, _: &MachineId, _: &Cursor) -> Result<Changes> {
        Ok(match &self.changes {
            Some(changes) => Changes::Known(changes.clone()),
            None => Changes::Lost { reason: "nothing is tracked here".into() },
        })
    }

    async fn disks(&self, _: &Op, _: &Capture, _: &MachineId) -> Result<Disks> {
        Ok(Disks::from([(disk_id(), Arc::clone(&self.disk) as Arc<dyn Disk>)]))
    }

    async fn discover(&self) -> Result<Vec<Machine>> {
        Ok(vec![self.machine()])
    }

    async fn enrol(&self, _: &Op, _: &Machine) -> Result<()> {
        no_part_of_it()
    }

    async fn dismiss(&self, _: &Op, _: &Instance) -> Result<()> {
        no_part_of_it()
    }

    async fn capture(&self, _: &Op, _: &[Instance], _: Consistency) -> Result<Capture> {
        no_part_of_it()
    }

    async fn release(&self, _: &Op, _: &Capture, _: &MachineId, _: Fate) -> Result<()> {
        no_part_of_it()
    }

    async fn sweep(&self, _: &Op, _: &Instance, _: &[OpKey]) -> Result<Vec<OpKey>> {
        no_part_of_it()
    }

    async fn power(&self, _: &Instance) -> Result<Power> {
        no_part_of_it()
    }

    async fn fence(&self, _: &Op, _: &Instance, _: Duration) -> Result<()> {
        no_part_of_it()
    }

    async fn unfence(&self, _: &Op, _: &Instance, _: BootPermit, _: Start) -> Result<Lifted> {
        no_part_of_it()
    }
}

fn no_part_of_it<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "an image file has no power and takes no captures"))
}

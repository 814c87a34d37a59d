//! A site of one machine whose disk is an image file: nothing but the reads that any process server does.

use crate::Outcome;
use crate::churn::{Churn, pattern};
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

const SMALLEST: u64 = 4096;

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

/// An image file, and what was written over it since: nothing of that is in the file.
#[derive(Debug)]
pub(crate) struct Image {
    file: Arc<File>,
    size: u64,
    data: Vec<Run>,
    pattern: Vec<u8>,
    /// Where in the pattern the bytes of a block are.
    written: RwLock<BTreeMap<u64, usize>>,
}

impl Image {
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let data = data_of(&file, size)?;
        Ok(Self { file: Arc::new(file), size, data, pattern: vec![], written: RwLock::default() })
    }

    /// With a guest that writes as [`Churn`] says.
    pub(crate) fn churned(path: &Path) -> Outcome<Self> {
        Ok(Self { pattern: pattern(path)?, ..Self::open(path)? })
    }

    /// Writes what is written until this point, and tells where.
    pub(crate) fn advance(&self, churn: Churn, point: usize) -> ChangeSet {
        let (mut changes, mut written) =
            (ChangeSet::new(), self.written.write().expect("no panic under this lock"));
        for write in churn.writes(point) {
            let run = Run::new(write.start, churn.size());
            changes.add(&disk_id(), run);
            for block in run.pieces(SMALLEST) {
                written.insert(block.start, write.from + (block.start - run.start) as usize);
            }
        }
        changes
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
        let first = self.data.partition_point(|run| run.end() <= range.start);
        let inside = self.data[first..]
            .iter()
            .map_while(|run| run.intersection(Run::new(range.start, end - range.start)));
        for run in inside {
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
        let file = Arc::clone(&self.file);
        let read =
            tokio::task::spawn_blocking(move || file.read_exact_at(&mut block, run.start).map(|()| block));
        let failed = |e| Error::new(ErrorKind::Unavailable, "the image cannot be read").caused_by(e);
        let mut block = read
            .await
            .map_err(|e| Error::new(ErrorKind::Cancelled, "broken off").caused_by(e))?
            .map_err(failed)?;
        let written = self.written.read().expect("no panic under this lock");
        for (start, from) in written.range(run.start..run.end()) {
            let (to, len) = ((start - run.start) as usize, SMALLEST.min(run.end() - start) as usize);
            block[to..to + len].copy_from_slice(&self.pattern[*from..*from + len]);
        }
        Ok(block.freeze())
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

use super::{BLOCK, disk::Content};
use site_recovery::{
    ChangeSet, Cursor, DiskId, DiskRole, DiskSpec, Error, ErrorKind, Generation, Instance, Machine, Op,
    OpKey, Power, Result, Run, Stamp, StartGuard, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A machine of byte arrays, as it really is.
#[derive(Debug, Clone)]
pub(super) struct Vm {
    /// As described, but for its disks.
    pub(super) machine: Machine,
    pub(super) disks: Vec<VmDisk>,
    pub(super) tracking: Tracking,
    /// Whether it carries our mark.
    pub(super) marked: bool,
    /// False when somebody removed the machine and left its disks.
    pub(super) exists: bool,
    /// The network it runs in; none while it is off.
    pub(super) runs_in: Option<Network>,
    pub(super) blocked: bool,
    pub(super) fence: Option<FenceMark>,
    /// Whether its disks are landing disks now.
    pub(super) held: bool,
    /// Whether they ever were.
    pub(super) landed: bool,
    /// Grows when all handles to landing disks end.
    pub(super) handles: u64,
    /// What stands below the branch, where there is one.
    pub(super) below: Option<Below>,
    pub(super) outside_starts: u64,
    /// The key that made it; none for what was there before.
    pub(super) made_by: Option<OpKey>,
    /// The keys under which it was started.
    pub(super) started: BTreeSet<OpKey>,
}

#[derive(Debug, Clone)]
pub(super) struct VmDisk {
    /// The name that tests call it by, the same at every site of the world.
    pub(super) label: String,
    pub(super) id: DiskId,
    pub(super) role: DiskRole,
    pub(super) included: bool,
    pub(super) bytes: Arc<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Network {
    Production,
    Isolated(String),
}

/// What a fence leaves on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FenceMark {
    /// Who, and under which authority.
    pub by: Op,
    /// When.
    pub at: Timestamp,
    /// Whether the machine ran then.
    pub ran: bool,
}

/// The last write of every block, counted. A new id makes all older cursors worthless.
#[derive(Debug, Clone)]
pub(super) struct Tracking {
    pub(super) id: u64,
    pub(super) seq: u64,
    last: BTreeMap<(DiskId, u64), u64>,
}

#[derive(Debug, Clone)]
pub(super) struct Below {
    disks: Vec<VmDisk>,
    tracking: Tracking,
    generation: Generation,
}

impl Vm {
    /// A machine that is off and blocked.
    pub(super) fn new(machine: Machine, disks: Vec<VmDisk>, tracking: Tracking) -> Self {
        Self {
            machine,
            disks,
            tracking,
            marked: false,
            exists: true,
            runs_in: None,
            blocked: true,
            fence: None,
            held: false,
            landed: false,
            handles: 0,
            below: None,
            outside_starts: 0,
            made_by: None,
            started: BTreeSet::new(),
        }
    }

    pub(super) fn instance(&self) -> &Instance {
        &self.machine.instance
    }

    pub(super) fn runs(&self) -> bool {
        self.runs_in.is_some()
    }

    /// The machine with its disks as they are now.
    pub(super) fn describe(&self) -> Machine {
        let spec = |d: &VmDisk| DiskSpec {
            id: d.id.clone(),
            size: d.bytes.len() as u64,
            role: d.role,
            included: d.included,
        };
        Machine { disks: self.disks.iter().map(spec).collect(), ..self.machine.clone() }
    }

    /// What a capture holds.
    pub(super) fn content(&self) -> Content {
        self.disks.iter().filter(|d| d.included).map(|d| (d.id.clone(), Arc::clone(&d.bytes))).collect()
    }

    pub(super) fn disk(&self, id: &DiskId) -> Result<&VmDisk> {
        let missing =
            || Error::new(ErrorKind::NotFound, format!("{} has no disk {id}", self.instance().name));
        self.disks.iter().find(|d| &d.id == id).ok_or_else(missing)
    }

    /// Writes, and notes it; also what lands from outside the guest is a change of the disk.
    pub(super) fn write(&mut self, id: &DiskId, start: u64, data: &[u8]) -> Result<()> {
        let run = Run::new(start, data.len() as u64);
        run.must_be_inside(self.disk(id)?.bytes.len() as u64)?;
        self.tracking.wrote(id, run);
        for disk in self.disks.iter_mut().filter(|d| &d.id == id) {
            Arc::make_mut(&mut disk.bytes)[start as usize..run.end() as usize].copy_from_slice(data);
        }
        Ok(())
    }

    pub(super) fn cursor(&self) -> Cursor {
        let token = format!("{}:{}", self.tracking.id, self.tracking.seq).into_bytes();
        Cursor { generation: self.instance().generation, token }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp(self.outside_starts.to_le_bytes().to_vec())
    }

    pub(super) fn power(&self, tells: bool) -> Power {
        if self.runs() {
            return Power::On;
        }
        let start = match (self.blocked || self.held, tells) {
            (false, false) => StartGuard::Free,
            (true, false) => StartGuard::Blocked { until: None },
            (_, true) => StartGuard::Tells(self.stamp()),
        };
        Power::Off { start }
    }

    pub(super) fn end_handles(&mut self) {
        self.handles += 1;
    }

    pub(super) fn branch(&mut self) {
        if self.below.is_none() {
            let (disks, tracking) = (self.disks.clone(), self.tracking.clone());
            self.below = Some(Below { disks, tracking, generation: self.instance().generation });
        }
    }

    /// Goes back to below the branch and returns the disks from above it; none without a branch.
    pub(super) fn part(&mut self) -> Option<Vec<VmDisk>> {
        let below = self.below.take()?;
        let seq = self.tracking.seq;
        self.tracking = Tracking { seq, ..below.tracking };
        self.machine.instance.generation = below.generation;
        Some(std::mem::replace(&mut self.disks, below.disks))
    }
}

impl Tracking {
    pub(super) fn new(id: u64) -> Self {
        Self { id, seq: 0, last: BTreeMap::new() }
    }

    fn wrote(&mut self, disk: &DiskId, run: Run) {
        self.seq += 1;
        for piece in run.pieces(BLOCK) {
            self.last.insert((disk.clone(), piece.start / BLOCK), self.seq);
        }
    }

    /// Disks were given other ids.
    pub(super) fn rename(&mut self, ids: &BTreeMap<DiskId, DiskId>) {
        let moved = std::mem::take(&mut self.last).into_iter();
        self.last = moved.map(|((d, b), at)| ((ids.get(&d).cloned().unwrap_or(d), b), at)).collect();
    }

    /// Every block written after `seq`.
    pub(super) fn since(&self, seq: u64, disks: &[VmDisk]) -> ChangeSet {
        let newer = self.last.iter().filter(|(_, at)| **at > seq);
        let runs: ChangeSet = newer.map(|((d, b), _)| (d.clone(), Run::new(b * BLOCK, BLOCK))).collect();
        let sizes: Vec<DiskSpec> = disks
            .iter()
            .map(|d| DiskSpec { id: d.id.clone(), size: d.bytes.len() as u64, role: d.role, included: true })
            .collect();
        runs.aligned(BLOCK, &sizes)
    }

    /// The position that a cursor's token speaks of, if it speaks of this tracking.
    pub(super) fn position(&self, token: &[u8]) -> Option<u64> {
        let (id, seq) = std::str::from_utf8(token).ok()?.split_once(':')?;
        let seq = seq.parse().ok().filter(|seq| *seq <= self.seq)?;
        (id.parse() == Ok(self.id)).then_some(seq)
    }
}

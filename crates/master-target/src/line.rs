//! One machine's timeline in hand: what is read of its folder, and the lock under which it changes.

use crate::folder::Folder;
use crate::layer::{Layer, Spans};
use crate::log::{Batch, Log, Stored};
use crate::timeline::{Link, Part, Timeline};
use site_recovery::{
    ChangeSet, Cursor, DiskId, DiskMut, Error, ErrorKind, Landed, Manifest, PointId, Result, Run,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::{Arc, Mutex, Weak};

const TIMELINE: &str = "timeline";
const LOCK: &str = "lock";

/// One machine's folder and what is known of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) folder: Folder,
    pub(crate) timeline: Option<Timeline>,
    /// What was overwritten since the newest point.
    pub(crate) pending: Option<Log>,
    /// What rolling overwrote, from `materialise` on.
    pub(crate) redo: Option<Log>,
    pub(crate) progress: Progress,
    /// Handles of the landing disks; ended ones are taken out.
    pub(crate) handles: Mutex<BTreeMap<DiskId, Arc<dyn DiskMut>>>,
    logs: Mutex<BTreeMap<u64, Weak<Log>>>,
    /// Cursor of the newest point.
    cursor: Option<Cursor>,
    /// Revision of what is known; none when it must be read again.
    revision: Option<u64>,
}

/// Where the open ingest stands.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) batches: BTreeSet<u64>,
    pub(crate) records: u64,
    pub(crate) digest: u64,
    pub(crate) landed: Landed,
    pub(crate) spans: BTreeMap<DiskId, Spans>,
}

impl Line {
    pub(crate) fn new(folder: Folder) -> Self {
        Self {
            folder,
            timeline: None,
            pending: None,
            redo: None,
            progress: Progress::default(),
            handles: Mutex::default(),
            logs: Mutex::default(),
            cursor: None,
            revision: None,
        }
    }

    /// Waits until nobody changes the folder, here or in another process, and keeps it so.
    pub(crate) fn lock(&self, alone: bool) -> Result<File> {
        let file = self.folder.open(LOCK)?;
        let locked = if alone { file.lock() } else { file.lock_shared() };
        locked.map_err(|e| self.folder.failed(LOCK, e))?;
        Ok(file)
    }

    /// Whether what is known is what stands there.
    pub(crate) fn is_fresh(&self) -> Result<bool> {
        let Some(revision) = self.revision else { return Ok(false) };
        let there = self.folder.revision(TIMELINE)?;
        let grown = |log: &Log| {
            let path = self.folder.path().join(Log::name(log.number));
            path.metadata().map_or(0, |m| m.len()) != log.end
        };
        let grown = self.pending.iter().chain(&self.redo).any(grown);
        Ok(!grown && there.unwrap_or(0) == revision)
    }

    /// Reads everything again, mends what a crash left, and removes files that nothing names.
    pub(crate) fn load(&mut self) -> Result<()> {
        self.handles = Mutex::default();
        self.revision = None;
        let read = self.folder.read::<Timeline>(TIMELINE)?;
        (self.timeline, self.pending, self.redo, self.progress) = (None, None, None, Progress::default());
        let Some((revision, timeline)) = read else {
            self.revision = Some(0);
            return Ok(());
        };
        self.open_logs(&timeline)?;
        self.progress = Progress::of(&timeline, self.pending.as_ref().map_or(&[], |log| &log.batches));
        self.cursor = match timeline.newest() {
            Some(point) => read_manifest(&self.folder, point)?.cursor,
            None => None,
        };
        self.sweep(&timeline)?;
        (self.timeline, self.revision) = (Some(timeline), Some(revision));
        Ok(())
    }

    /// What is known is in doubt: the next call reads everything again.
    pub(crate) fn forget(&mut self) {
        self.revision = None;
    }

    pub(crate) fn known(&self) -> Result<&Timeline> {
        let unknown =
            || Error::new(ErrorKind::NotFound, "this machine has no timeline here; prepare it first");
        self.timeline.as_ref().ok_or_else(unknown)
    }

    /// Makes a changed timeline the one that counts.
    pub(crate) fn publish(&mut self, next: Timeline) -> Result<()> {
        let revision = self.folder.revision(TIMELINE)?.unwrap_or(0) + 1;
        if let Err(error) = self.folder.write(TIMELINE, revision, &next) {
            self.forget();
            return Err(error);
        }
        if let Err(error) = self.open_logs(&next) {
            self.forget();
            return Err(error);
        }
        (self.timeline, self.revision) = (Some(next), Some(revision));
        Ok(())
    }

    fn open_logs(&mut self, next: &Timeline) -> Result<()> {
        let redo = next.handed_over().map(|over| over.redo);
        for (log, number) in [(&mut self.pending, Some(next.pending)), (&mut self.redo, redo)] {
            if log.as_ref().map(|log| log.number) != number {
                *log = number.map(|number| Log::open_last(&self.folder, number)).transpose()?;
            }
        }
        Ok(())
    }

    /// Takes the whole timeline away; the register and the phase record stay.
    pub(crate) fn erase(&mut self) -> Result<()> {
        self.forget();
        self.folder.erase(TIMELINE)?;
        for name in self.folder.names()?.iter().filter(|n| is_part(n)) {
            self.folder.remove(name)?;
        }
        self.load()
    }

    pub(crate) fn write_manifest(&mut self, point: PointId, manifest: &Manifest) -> Result<()> {
        self.folder.write(&manifest_name(point), 1, manifest)?;
        self.cursor.clone_from(&manifest.cursor);
        Ok(())
    }

    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.cursor.clone()
    }

    /// A closed file of the log.
    pub(crate) fn log(&self, part: Part) -> Result<Arc<Log>> {
        let mut logs = self.logs.lock().expect("no panic under this lock");
        logs.retain(|_, log| log.strong_count() > 0);
        if let Some(log) = logs.get(&part.number).and_then(Weak::upgrade) {
            return Ok(log);
        }
        let log = Arc::new(Log::open(&self.folder, part.number, part.end)?);
        logs.insert(part.number, Arc::downgrade(&log));
        Ok(log)
    }

    /// Everything that leads from the landing disks to a point: of each run, what the point held.
    pub(crate) fn way_to(&self, point: PointId) -> Result<Layer<Stored>> {
        let mut way = Layer::default();
        let mut lay = |log: &Log| {
            for (disk, run, piece) in log.layer.pieces() {
                way.add(disk, run, &log.stored(run, piece));
            }
        };
        for part in self.known()?.above(point) {
            lay(self.log(part)?.as_ref());
        }
        self.pending.iter().chain(&self.redo).for_each(&mut lay);
        Ok(way)
    }

    /// Runs that a link speaks of.
    pub(crate) fn runs(&self, link: &Link) -> Result<ChangeSet> {
        let mut all = ChangeSet::new();
        for number in &link.bare {
            let bare = self.folder.read::<ChangeSet>(&set_name(*number))?;
            let missing = || Error::new(ErrorKind::Corrupt, format!("{} is missing", set_name(*number)));
            all = all.union(&bare.ok_or_else(missing)?.1);
        }
        for part in &link.parts {
            all = all.union(&self.log(*part)?.layer.runs());
        }
        Ok(all)
    }

    /// Keeps a set of runs as file `number`.
    pub(crate) fn write_set(&self, number: u64, runs: &ChangeSet) -> Result<()> {
        self.folder.write(&set_name(number), 1, runs)
    }

    /// What was overwritten since the newest point.
    pub(crate) fn overwritten(&self) -> ChangeSet {
        self.pending.as_ref().map_or_else(ChangeSet::new, |log| log.layer.runs())
    }

    /// Removes what a crash, or a change that is durable now, left without a name.
    pub(crate) fn sweep(&self, timeline: &Timeline) -> Result<()> {
        let files = timeline.files();
        let mut named: BTreeSet<String> = files.iter().flat_map(|n| [Log::name(*n), set_name(*n)]).collect();
        named.extend(timeline.points.iter().map(|s| manifest_name(s.point.id)));
        for name in self.folder.names()? {
            if is_part(&name) && !named.contains(&name) {
                self.folder.remove(&name)?;
            }
        }
        Ok(())
    }
}

impl Progress {
    /// What the batches of the last session say.
    fn of(timeline: &Timeline, batches: &[Batch]) -> Self {
        let Some(open) = &timeline.open else { return Self::default() };
        let mut progress = Self::from_here(&open.resume);
        for batch in batches.iter().filter(|b| b.session == timeline.session) {
            progress.batches.insert(batch.batch);
            (progress.records, progress.digest) = (batch.records, batch.digest);
            progress.landed.clone_from(&batch.landed);
        }
        let landed = progress.landed.clone();
        Self { spans: Self::from_here(&landed).spans, ..progress }
    }

    /// A session that goes on from here.
    pub(crate) fn from_here(landed: &Landed) -> Self {
        let mut spans = BTreeMap::<DiskId, Spans>::new();
        for (disk, below) in landed {
            spans.entry(disk.clone()).or_default().add(Run::new(0, *below));
        }
        Self { landed: landed.clone(), spans, ..Self::default() }
    }

    /// Takes a run in, and moves the mark below which all of the plan has landed.
    pub(crate) fn land(&mut self, plan: &ChangeSet, disk: &DiskId, run: Run) {
        let spans = self.spans.entry(disk.clone()).or_default();
        spans.add(run);
        let from = self.landed.get(disk).copied().unwrap_or(0);
        self.landed.insert(disk.clone(), spans.landed(plan.runs(disk), from));
    }
}

pub(crate) fn read_manifest(folder: &Folder, point: PointId) -> Result<Manifest> {
    let missing = || Error::new(ErrorKind::Corrupt, format!("the manifest of point {point} is missing"));
    Ok(folder.read(&manifest_name(point))?.ok_or_else(missing)?.1)
}

pub(crate) fn manifest_name(point: PointId) -> String {
    format!("point-{point}")
}

fn set_name(number: u64) -> String {
    format!("{number:08}.set")
}

/// Whether a name is one of those that come and go with the timeline.
fn is_part(name: &str) -> bool {
    name.starts_with("point-") || [".log", ".set", ".new"].iter().any(|end| name.ends_with(end))
}

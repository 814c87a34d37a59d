//! An open ingest as this process knows it: what it may write, what it has landed, and the notes of it.

use super::line::Line;
use super::state::Open;
use super::sums::{Batch, Note};
use site_recovery::{
    ChangeSet, DiskId, Error, ErrorKind, Ingest, Landed, Machine, Op, Record, Result, Run, fold,
};
use site_recovery_azure_blob::{Container, Error as BlobError, PageBlob};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Notes of other processes in the place of ours, until a batch is given up.
const CROWDED: u32 = 16;
/// Sessions that one goes on from; what landed in earlier ones is compared again.
const MOST_RESUMED: usize = 16;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) op: Op,
    pub(super) machine: Machine,
    pub(super) plan: ChangeSet,
    /// Nothing was ever written to these blobs before this session: zeros need no clearing.
    pub(super) is_first: bool,
    blobs: BTreeMap<DiskId, PageBlob>,
    /// Where its notes go.
    container: Container,
    prefix: super::names::Names,
    progress: Mutex<Progress>,
    /// Held by the one that writes a note; the others wait, and find theirs written.
    noting: tokio::sync::Mutex<()>,
    /// A seal may have made snapshots.
    pub(super) is_doubtful: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
struct Progress {
    durable: BTreeSet<u64>,
    records: u64,
    digest: u64,
    /// Of the operation: by this session, and by those that it resumes.
    landed: ChangeSet,
    below: Landed,
    /// What may have landed without a note: of batches that failed or that nobody waited for, and of another process.
    unknown: ChangeSet,
    /// Pages that landed and are not noted yet.
    pending: BTreeMap<u64, Note>,
    next_note: u64,
}

impl Session {
    /// The open session of this line, with its plan and what it has landed before.
    pub(super) async fn of(line: &Line, open: &Open, plan: ChangeSet, is_new: bool) -> Result<Self> {
        let timeline = line.timeline()?;
        let mut progress = Progress::default();
        for session in resumed(&timeline.carried, open) {
            for note in line.store.notes(&line.names.notes(session)).await? {
                progress.land(&note.touched());
            }
        }
        if !is_new {
            progress.unknown = plan.clone();
            for note in line.store.notes(&line.names.notes(open.session)).await? {
                progress.next_note += 1;
                progress.count(&note);
            }
        }
        progress.advance(&plan);
        let pages = |blob: &str| line.store.container.pages(blob);
        Ok(Self {
            number: open.session,
            op: open.op.clone(),
            machine: timeline.machine.clone(),
            plan,
            is_first: timeline.points.is_empty() && timeline.carried.is_empty() && timeline.lost.is_none(),
            blobs: timeline.disks.iter().map(|(id, disk)| (id.clone(), pages(&disk.blob))).collect(),
            container: line.store.container.clone(),
            prefix: line.names.clone(),
            progress: Mutex::new(progress),
            noting: tokio::sync::Mutex::default(),
            is_doubtful: (!is_new).into(),
        })
    }

    pub(super) fn is(&self, ingest: &Ingest) -> bool {
        self.number == ingest.session && self.op == ingest.op
    }

    /// # Errors
    /// `Invalid` for a disk that is not replicated.
    pub(super) fn pages(&self, disk: &DiskId) -> Result<&PageBlob> {
        let missing = || {
            Error::invalid("record.disk", disk, "it is no replicated disk of the machine", "begin with it")
        };
        self.blobs.get(disk).ok_or_else(missing)
    }

    pub(super) fn landed(&self) -> Landed {
        self.progress().below.clone()
    }

    pub(super) fn has(&self, batch: u64) -> bool {
        self.progress().durable.contains(&batch)
    }

    /// Records of this session, and their digest.
    pub(super) fn count(&self) -> (u64, u64) {
        let progress = self.progress();
        (progress.records, progress.digest)
    }

    /// All that the operation has landed.
    pub(super) fn touched(&self) -> ChangeSet {
        self.progress().landed.clone()
    }

    /// All of it that may be there, beside what is noted.
    pub(super) fn unknown(&self) -> ChangeSet {
        self.progress().unknown.clone()
    }

    /// From here on pages of a batch may land.
    pub(super) fn doubt(&self, note: &Note) -> Doubt<'_> {
        Doubt { session: self, touched: note.touched() }
    }

    /// Makes durable that a batch has landed; one note for all that wait.
    ///
    /// # Cancel safety
    /// The batch stays to be noted, by another one's note or by its own repeat.
    pub(super) async fn note(&self, batch: u64, note: Note) -> Result<()> {
        self.progress().pending.insert(batch, note);
        let _turn = self.noting.lock().await;
        for _ in 0..CROWDED {
            let (number, waiting) = {
                let progress = self.progress();
                if progress.durable.contains(&batch) {
                    return Ok(());
                }
                (progress.next_note, progress.pending.clone())
            };
            let all = waiting.into_values().fold(Note::default(), Note::with);
            let bytes = all.encode()?;
            let document = self.container.document(&self.prefix.note(self.number, number));
            let written = match document.create(bytes.clone()).await {
                Ok(_) => all,
                // By a call that nobody waited for, or by another process.
                Err(error) if matches!(error, BlobError::Exists { .. }) || error.may_have_been_done() => {
                    match document.read().await? {
                        Some((found, _)) => Note::decode(&found)?,
                        None => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            };
            let mut progress = self.progress();
            progress.next_note = number + 1;
            progress.count(&written);
            progress.advance(&self.plan);
        }
        let message = format!("others note batches of session {} without end: begin again", self.number);
        Err(Error::new(ErrorKind::Busy, message))
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch whose pages are under way. Where it is dropped before its note is durable, nobody knows what has landed of it.
#[derive(Debug)]
pub(super) struct Doubt<'a> {
    session: &'a Session,
    touched: ChangeSet,
}

impl Doubt<'_> {
    pub(super) fn settle(mut self) {
        self.touched = ChangeSet::new();
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let mut progress = self.session.progress();
        progress.unknown = std::mem::take(&mut progress.unknown).union(&self.touched);
    }
}

impl Progress {
    fn count(&mut self, note: &Note) {
        for batch in &note.batches {
            self.pending.remove(&batch.number);
            if self.durable.insert(batch.number) {
                self.records += batch.records;
                self.digest = self.digest.wrapping_add(batch.digest);
            }
        }
        self.land(&note.touched());
    }

    fn land(&mut self, set: &ChangeSet) {
        for (disk, runs) in set.disks() {
            runs.iter().for_each(|run| self.landed.add(disk, *run));
        }
    }

    /// Moves the marks on over what has landed of the plan without a gap.
    fn advance(&mut self, plan: &ChangeSet) {
        for (disk, runs) in plan.disks() {
            let from = self.below.get(disk).copied().unwrap_or(0);
            let first = runs.partition_point(|run| run.end() <= from);
            let mut below = from;
            for run in &runs[first..] {
                let start = run.start.max(from);
                let landed = self.landed.runs(disk);
                let covering = landed.get(landed.partition_point(|l| l.end() <= start));
                let end = covering.filter(|l| l.start <= start).map_or(start, |l| l.end().min(run.end()));
                if end > start || start == run.end() {
                    below = end;
                }
                if end < run.end() {
                    break;
                }
            }
            if below > 0 {
                self.below.insert(disk.clone(), below);
            }
        }
    }
}

/// What a batch adds to the count of its session.
pub(super) fn batch(number: u64, records: &[Record]) -> Batch {
    let digest = records.iter().fold(0, fold);
    Batch { number, records: records.len() as u64, digest }
}

/// The newest closed sessions that belong to the same operation, and to the same bytes; oldest first.
pub(super) fn resumed(carried: &[Open], open: &Open) -> Vec<u64> {
    let (mut sessions, mut grew) = (vec![], open.grew);
    for earlier in carried.iter().rev() {
        if grew || sessions.len() == MOST_RESUMED || earlier.op.key != open.op.key || earlier.cut != open.cut
        {
            break;
        }
        sessions.push(earlier.session);
        grew = earlier.grew;
    }
    sessions.reverse();
    sessions
}

/// A run as people read it.
pub(super) fn shown(run: Run) -> String {
    format!("{} bytes at {}", run.len, run.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_stop_before_the_first_gap_of_the_plan() {
        let set = |runs: &[(u64, u64)]| -> ChangeSet {
            runs.iter().map(|(start, len)| ("d".into(), Run::new(*start, *len))).collect()
        };
        let plan = set(&[(0, 100), (200, 100), (400, 100)]);
        let mut progress = Progress::default();
        let mut mark = |landed: &[(u64, u64)]| {
            progress.land(&set(landed));
            progress.advance(&plan);
            progress.below.get(&"d".into()).copied().unwrap_or(0)
        };
        assert_eq!(mark(&[(200, 50)]), 0, "the first run is missing");
        assert_eq!(mark(&[(0, 60)]), 60);
        assert_eq!(mark(&[(60, 40)]), 250);
        assert_eq!(mark(&[(250, 50)]), 300);
        assert_eq!(mark(&[(450, 50)]), 300, "400 is missing");
        assert_eq!(mark(&[(400, 50)]), 500);
    }
}

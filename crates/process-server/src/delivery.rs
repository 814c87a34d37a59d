//! One ingest at the replica: batches in order, counted when they are acknowledged, then the seal.

use crate::desk::{Cost, Desk};
use crate::halt::{Halt, Transfer};
use crate::lane::{Found, Lane, Parcel};
use crate::means::Room;
use futures_util::StreamExt;
use futures_util::stream;
use site_recovery::{
    ALIGNMENT, ChangeSet, DiskId, Ingest, Manifest, Op, Payload, Point, Record, Replica, Run, Tally,
};
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender};

/// A batch closes at this many bytes, or when nothing more is ready.
pub(crate) const BATCH_BYTES: u64 = 4 << 20;
const BATCH_RECORDS: usize = 1024;

/// What crosses in one call, and its room in the pool.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) records: Vec<Record>,
    pub(crate) equal: Vec<(DiskId, Run)>,
    pub(crate) rooms: Vec<Room>,
}

impl Batch {
    /// The next batch, as far as it is ready; `None` at the end.
    pub(crate) async fn next(from: &mut Receiver<Parcel>) -> Option<Batch> {
        let mut batch = Batch::default();
        batch.add(from.recv().await?);
        while batch.crossing() < BATCH_BYTES && batch.records.len() < BATCH_RECORDS {
            match from.try_recv() {
                Ok(parcel) => batch.add(parcel),
                Err(_) => break,
            }
        }
        Some(batch)
    }

    fn add(&mut self, parcel: Parcel) {
        self.rooms.extend(parcel.room);
        for found in parcel.found {
            match found {
                Found::Equal(disk, run) => self.equal.push((disk, run)),
                Found::Differs(record) => self.records.push(record),
            }
        }
    }

    /// Bytes of the disks that it settles.
    pub(crate) fn settles(&self) -> u64 {
        self.equal.iter().map(|(_, run)| run.len).sum::<u64>() + self.changed()
    }

    pub(crate) fn changed(&self) -> u64 {
        self.records.iter().map(|r| r.run.len).sum()
    }

    /// Bytes that cross.
    pub(crate) fn crossing(&self) -> u64 {
        self.records.iter().map(payload_len).sum()
    }
}

fn payload_len(record: &Record) -> u64 {
    match &record.payload {
        Payload::Zero => 0,
        Payload::Plain(bytes) | Payload::Sealed(bytes) => bytes.len() as u64,
    }
}

/// Reads all lanes, some at once, into `to`.
pub(crate) async fn feed(lanes: Vec<(Lane, Vec<Run>)>, at_once: usize, to: Sender<Parcel>) -> Transfer<()> {
    let lanes = stream::iter(lanes).map(|(lane, todo)| lane.parcels(todo));
    let mut parcels = lanes.flatten_unordered(at_once);
    while let Some(parcel) = parcels.next().await {
        if to.send(parcel?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// An open ingest.
#[derive(Debug)]
pub(crate) struct Delivery {
    replica: Arc<dyn Replica>,
    desk: Arc<Desk>,
    ingest: Ingest,
    tally: Tally,
    batches: u64,
    cost: Cost,
}

impl Delivery {
    /// Begins, or goes on.
    pub(crate) async fn begin(
        replica: &Arc<dyn Replica>,
        desk: &Arc<Desk>,
        op: &Op,
        manifest: &Manifest,
        set: &ChangeSet,
    ) -> Transfer<Self> {
        let ingest = replica.begin(op, &manifest.machine, &manifest.cut, set).await.map_err(Halt::Replica)?;
        desk.progress.begin(manifest.machine.id(), set.bytes());
        Ok(Self {
            replica: Arc::clone(replica),
            desk: Arc::clone(desk),
            ingest,
            tally: Tally::new(set),
            batches: 0,
            cost: Cost::default(),
        })
    }

    /// Where this disk goes on: below it all has landed.
    pub(crate) fn resume(&self, disk: &DiskId) -> u64 {
        self.ingest.resume.get(disk).copied().unwrap_or(0)
    }

    /// Counts what has landed before, and says what is left of `runs`, aligned.
    pub(crate) fn left(&mut self, disk: &DiskId, runs: &[Run]) -> Vec<Run> {
        let landed = self.resume(disk);
        let mut left = vec![];
        for run in runs {
            let from =
                if landed >= run.end() { run.end() } else { (landed / ALIGNMENT * ALIGNMENT).max(run.start) };
            self.equal(disk, Run::new(run.start, from - run.start));
            if from < run.end() {
                left.push(Run::new(from, run.end() - from));
            }
        }
        left
    }

    /// Counts a run that need not cross.
    pub(crate) fn equal(&mut self, disk: &DiskId, run: Run) {
        self.tally.equal(disk, run);
        self.desk.progress.advance(&self.ingest.machine, run.len, 0);
    }

    /// Sends a batch and counts it, once it is acknowledged.
    pub(crate) async fn send(&mut self, batch: Batch) -> Transfer<()> {
        if !batch.records.is_empty() {
            let sent = self.replica.write(&self.ingest, self.batches, batch.records.clone()).await;
            sent.map_err(Halt::Replica)?;
            self.batches += 1;
        }
        batch.records.iter().for_each(|record| self.tally.landed(record));
        batch.equal.iter().for_each(|(disk, run)| self.tally.equal(disk, *run));
        self.cost.changed += batch.changed();
        self.cost.shipped += batch.crossing();
        self.desk.progress.advance(&self.ingest.machine, batch.settles(), batch.crossing());
        Ok(())
    }

    /// Makes it a point.
    pub(crate) async fn seal(self, manifest: &Manifest) -> Transfer<(Point, Cost)> {
        let complete = self.tally.finish()?;
        let point = self.replica.seal(&self.ingest, manifest, complete).await.map_err(Halt::Replica)?;
        let sealed = (point.cut.clone(), point.id, self.cost);
        *self.desk.cost.lock().expect("no panic under this lock") = Some(sealed);
        Ok((point, self.cost))
    }
}

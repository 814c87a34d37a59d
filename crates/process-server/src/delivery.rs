//! One ingest at the replica: batches, several under way at once, counted when they are acknowledged, then the seal.

use crate::base::Base;
use crate::blocking::Driven;
use crate::desk::{Cost, Desk, Turn};
use crate::halt::{Halt, Transfer};
use crate::lane::Parcel;
use crate::means::Means;
use crate::room::Room;
use futures_util::{Stream, StreamExt};
use site_recovery::{
    ALIGNMENT, ChangeSet, DiskId, Ingest, Landed, Manifest, Op, Payload, Point, Record, Replica, Run, Tally,
};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// A batch closes at so many bytes that cross.
pub(crate) const BATCH_BYTES: u64 = 4 << 20;
const BATCH_RECORDS: usize = 1024;

/// What crosses in one call, and its room in the pool.
#[derive(Debug, Default)]
struct Batch {
    records: Vec<Record>,
    crossing: u64,
    rooms: Vec<Room>,
}

impl Batch {
    fn add(&mut self, records: Vec<Record>, room: Option<Room>) {
        self.crossing += records.iter().map(payload_len).sum::<u64>();
        self.records.extend(records);
        self.rooms.extend(room);
    }

    fn is_full(&self, most: u64) -> bool {
        self.crossing >= most || self.records.len() >= BATCH_RECORDS
    }
}

fn payload_len(record: &Record) -> u64 {
    match &record.payload {
        Payload::Zero => 0,
        Payload::Plain(bytes) | Payload::Sealed(bytes) => bytes.len() as u64,
    }
}

fn got_smaller(record: &Record) -> bool {
    !matches!(&record.payload, Payload::Sealed(frame) if frame.len() as u64 >= record.run.len)
}

/// What is to be delivered.
pub(crate) struct Order<'a> {
    pub(crate) op: &'a Op,
    pub(crate) manifest: &'a Manifest,
    /// All that must be settled.
    pub(crate) set: &'a ChangeSet,
    /// Where the timeline stood when that was planned.
    pub(crate) base: &'a Base,
}

/// An open ingest.
#[derive(Debug)]
pub(crate) struct Delivery {
    means: Arc<Means>,
    desk: Arc<Desk>,
    turn: Turn,
    replica: Arc<dyn Replica>,
    ingest: Arc<Ingest>,
    tally: Tally,
    batches: u64,
    cost: Cost,
    touched: ChangeSet,
}

/// What is next.
enum Next {
    Acknowledged(Batch),
    Parcel(Parcel),
    /// Nothing is ready, and no batch is under way that could be waited for.
    Nothing,
    Ended,
}

impl Delivery {
    /// Begins, or goes on, and sees whether it still stands on what it was planned on.
    pub(crate) async fn begin(
        means: &Arc<Means>,
        desk: &Arc<Desk>,
        turn: &Turn,
        replica: &Arc<dyn Replica>,
        Order { op, manifest, set, base }: Order<'_>,
    ) -> Transfer<Self> {
        let machine = &manifest.machine;
        let ingest = replica.begin(op, machine, &manifest.cut, set).await.map_err(Halt::Replica)?;
        let head = replica.head(machine.id()).await.map_err(Halt::Replica)?;
        let touched = base.once_begun(machine, set, &head)?;
        desk.progress.begin(set);
        Ok(Self {
            means: Arc::clone(means),
            desk: Arc::clone(desk),
            turn: turn.clone(),
            replica: Arc::clone(replica),
            ingest: Arc::new(ingest),
            tally: Tally::new(set),
            batches: 0,
            cost: Cost::default(),
            touched,
        })
    }

    /// What of the set is not what the newest point holds, as it began.
    pub(crate) fn touched(&self) -> &ChangeSet {
        &self.touched
    }

    /// Where each disk goes on: below it all has landed.
    pub(crate) fn resume(&self) -> &Landed {
        &self.ingest.resume
    }

    /// Counts what has landed before, and says what is left of `runs`, aligned.
    pub(crate) fn left(&mut self, disk: &DiskId, runs: &[Run]) -> Vec<Run> {
        let landed = self.resume().get(disk).copied().unwrap_or(0);
        let mut left = vec![];
        for run in runs {
            let from =
                if landed >= run.end() { run.end() } else { (landed / ALIGNMENT * ALIGNMENT).max(run.start) };
            self.desk.progress.taken(disk, from - run.start);
            self.equal(disk, Run::new(run.start, from - run.start));
            if from < run.end() {
                left.push(Run::new(from, run.end() - from));
            }
        }
        left
    }

    /// Sends all parcels. A batch goes when it is full; one that is not, only when nothing is under way: then there is
    /// no acknowledgement whose time could be used to fill it. When one fails, those beside it are given up.
    pub(crate) async fn carry(
        &mut self,
        mut parcels: impl Stream<Item = Transfer<Parcel>> + Unpin,
    ) -> Transfer<()> {
        let mut under_way = Driven::new();
        let (mut batch, mut ended) = (Batch::default(), false);
        loop {
            let most = self.means.batch();
            let next = poll_fn(|cx| {
                if let Poll::Ready(Some(sent)) = under_way.poll_next(cx) {
                    return Poll::Ready(sent.map_err(Halt::Here).flatten().map(Next::Acknowledged));
                }
                if !ended
                    && !batch.is_full(most)
                    && let Poll::Ready(next) = parcels.poll_next_unpin(cx)
                {
                    return Poll::Ready(next.transpose().map(|p| p.map_or(Next::Ended, Next::Parcel)));
                }
                if under_way.len() == 0 && (ended || !batch.records.is_empty()) {
                    return Poll::Ready(Ok(Next::Nothing));
                }
                Poll::Pending
            });
            let next = next.await?;
            let is_due = match next {
                Next::Acknowledged(batch) => {
                    self.count(&batch);
                    false
                }
                Next::Parcel(Parcel { found, room }) => {
                    found.equal.iter().for_each(|(disk, run)| self.equal(disk, *run));
                    batch.add(found.records, room);
                    false
                }
                Next::Nothing if batch.records.is_empty() => return Ok(()),
                Next::Nothing => true,
                Next::Ended => {
                    ended = true;
                    false
                }
            };
            let may_go = under_way.len() < self.means.writes_at_once && !batch.records.is_empty();
            if may_go && (is_due || ended || batch.is_full(most)) {
                under_way.start(self.write(std::mem::take(&mut batch)));
            }
        }
    }

    /// Makes it a point.
    pub(crate) async fn seal(self, manifest: &Manifest) -> Transfer<(Point, Cost)> {
        let complete = self.tally.finish()?;
        let point = self.replica.seal(&self.ingest, manifest, complete).await.map_err(Halt::Replica)?;
        let sealed = (point.cut.clone(), point.id, self.cost);
        *self.desk.cost.lock().expect("no panic under this lock") = Some(sealed);
        Ok((point, self.cost))
    }

    fn write(&mut self, batch: Batch) -> impl Future<Output = Transfer<Batch>> + Send + 'static {
        let (replica, ingest, number) = (Arc::clone(&self.replica), Arc::clone(&self.ingest), self.batches);
        let (means, turn) = (Arc::clone(&self.means), self.turn.clone());
        self.batches += 1;
        async move {
            means.meter.pass(batch.crossing).await;
            // Part of the turn also when it is given up: the next call begins when it is over.
            let _turn = turn;
            let sent = replica.write(&ingest, number, batch.records.clone()).await;
            sent.map(|_| batch).map_err(Halt::Replica)
        }
    }

    fn count(&mut self, batch: &Batch) {
        for record in &batch.records {
            self.tally.landed(record);
            self.desk.progress.landed(&record.disk, record.run.len);
            self.cost.changed += record.run.len;
            if self.means.compresses && !got_smaller(record) {
                self.cost.incompressible += record.run.len;
            }
        }
        self.cost.shipped += batch.crossing;
        self.desk.progress.crossed(batch.crossing);
    }

    /// Counts a run that need not cross.
    fn equal(&mut self, disk: &DiskId, run: Run) {
        self.tally.equal(disk, run);
        self.desk.progress.landed(disk, run.len);
    }
}

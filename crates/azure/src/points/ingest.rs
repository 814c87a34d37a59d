//! `begin` and `write`: how bytes land.

use super::line::Line;
use super::pages::{Change, changes};
use super::session::{Session, batch, shown};
use super::state::Open;
use super::sums::Note;
use super::{PageBlobs, reports};
use futures_util::{StreamExt, TryStreamExt, stream};
use site_recovery::{
    ALIGNMENT, ChangeSet, CutId, DiskId, Error, ErrorKind, Ingest, Landed, Machine, Op, Payload, Record,
    Result, Run,
};
use site_recovery_azure_blob::Error as BlobError;
use site_recovery_record::hash;
use std::sync::Arc;

/// The most bytes of a record.
const LONGEST: u64 = 1 << 20;
/// Requests of one batch that are under way at a time.
const AT_ONCE: usize = 8;

impl PageBlobs {
    pub(super) async fn open_ingest(
        &self,
        op: &Op,
        machine: &Machine,
        cut: &CutId,
        plan: &ChangeSet,
    ) -> Result<Ingest> {
        let mut line = self.enter(machine.id()).await?;
        let mut next = line.state.admit(op)?;
        machine.validate()?;
        let timeline = next.timeline()?;
        timeline.must_take(machine)?;
        let plan = cut_plan(machine, |disk| timeline.disks.contains_key(disk), plan)?;
        let grew = machine.included().any(|d| timeline.disks.get(&d.id).is_some_and(|had| had.size < d.size));
        next.session += 1;
        line.fit(&mut next, op, machine).await?;
        let kept = line.keep_plan(next.timeline()?, &plan).await?;
        let open = Open { session: next.session, plan: kept, op: op.clone(), cut: cut.clone(), grew };
        let timeline = next.timeline_mut()?;
        timeline.close();
        timeline.machine = machine.clone();
        timeline.open = Some(open.clone());
        let owed = line.fold_plans(timeline).await?;
        let has_folded = !owed.is_empty();
        next.owed.extend(owed);
        line.commit(next).await?;
        if has_folded {
            line.collect().await;
        }
        let session = Session::of(&line, &open, plan, true).await?;
        let resume = session.landed();
        self.0.keep_session(machine.id(), Arc::new(session));
        Ok(Ingest { op: op.clone(), machine: machine.id().clone(), session: open.session, resume })
    }

    pub(super) async fn land(&self, ingest: &Ingest, number: u64, records: Vec<Record>) -> Result<Landed> {
        let session = self.session(ingest).await?;
        if records.is_empty() || session.has(number) {
            return Ok(session.landed());
        }
        let note = note_of(&session, number, &records)?;
        let doubt = session.doubt(&note);
        let mut changes = changes(&records);
        let writes = changes.iter().any(|change| matches!(change, Change::Write(..)));
        if session.is_first {
            // Nothing was there before: zeros are. One is sent where nothing else is, since a session that is closed shows so.
            let mut left = usize::from(!writes);
            changes.retain(|change| match change {
                Change::Write(..) => true,
                Change::Clear(..) => std::mem::replace(&mut left, 0) > 0,
            });
        }
        let sent = stream::iter(changes.into_iter().map(|change| send(&session, change)));
        let sent: std::result::Result<(), Failed> = sent.buffer_unordered(AT_ONCE).try_collect().await;
        match sent {
            Ok(()) => {}
            Err(Failed::Superseded(disk)) => {
                self.0.forget_session(&ingest.machine, ingest.session);
                // Says who has superseded it, where that is another engine.
                self.session(ingest).await?;
                return Err(self.intruded(ingest, &disk).await?);
            }
            Err(Failed::Otherwise(error)) => return Err(error),
        }
        session.note(number, note).await?;
        doubt.settle();
        Ok(session.landed())
    }

    /// What is said of a page blob whose sequence number nobody raised who goes by the state. The next session is above it.
    async fn intruded(&self, ingest: &Ingest, disk: &DiskId) -> Result<Error> {
        let mut line = self.enter(&ingest.machine).await?;
        let mut next = line.state.admit(&ingest.op)?;
        let timeline = next.timeline_mut()?;
        let (open, had) = (timeline.open.as_ref(), timeline.disks.get(disk));
        let (Some(had), true) = (had, open.is_some_and(|open| open.session == ingest.session)) else {
            return Ok(not_open(ingest));
        };
        let blob = had.blob.clone();
        let found = self.0.container.pages(&blob).properties().await?.map_or(0, |found| found.sequence);
        timeline.close();
        next.session = next.session.max(found) + 1;
        line.commit(next).await?;
        let message = format!(
            "somebody who is no engine of ours raised the sequence number of page blob {blob} to {found}, and may have \
             written to it: see to it that nobody else writes there, then begin again and scrub the point"
        );
        Ok(Error::new(ErrorKind::Conflict, message).with("blob", blob).with("disk", disk))
    }

    /// The open session of this ingest.
    ///
    /// # Errors
    /// `StaleEpoch`; `Refused` where it is closed.
    pub(super) async fn session(&self, ingest: &Ingest) -> Result<Arc<Session>> {
        if let Some(session) = self.0.session(&ingest.machine)
            && session.is(ingest)
        {
            return Ok(session);
        }
        let line = self.enter(&ingest.machine).await?;
        line.state.admit(&ingest.op)?;
        let open = line.timeline()?.open.as_ref();
        let Some(open) = open.filter(|o| o.session == ingest.session && o.op == ingest.op) else {
            return Err(not_open(ingest));
        };
        if let Some(session) = self.0.session(&ingest.machine)
            && session.is(ingest)
        {
            return Ok(session);
        }
        let plan = line.plan(&open.plan).await?;
        let session = Arc::new(Session::of(&line, open, plan, false).await?);
        self.0.keep_session(&ingest.machine, Arc::clone(&session));
        Ok(session)
    }
}

impl Line {
    /// Writes a document that is named by what it says.
    pub(super) async fn put(&self, name: &str, bytes: bytes::Bytes) -> Result<()> {
        self.makes();
        match self.store.container.document(name).create(bytes).await {
            Ok(_) | Err(BlobError::Exists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

enum Failed {
    Superseded(DiskId),
    Otherwise(Error),
}

async fn send(session: &Session, change: Change) -> std::result::Result<(), Failed> {
    let (disk, sent) = match change {
        Change::Write(disk, at, bytes) => {
            let pages = session.pages(&disk).map_err(Failed::Otherwise)?;
            let sent = pages.write(at, bytes, session.number).await;
            (disk, sent)
        }
        Change::Clear(disk, run) => {
            let pages = session.pages(&disk).map_err(Failed::Otherwise)?;
            let sent = pages.clear(run, session.number).await;
            (disk, sent)
        }
    };
    sent.map_err(|error| match error {
        BlobError::Superseded { .. } => Failed::Superseded(disk),
        other => Failed::Otherwise(reports(other)),
    })
}

/// What will be noted of a batch, once all of it has landed.
///
/// # Errors
/// `Invalid`, `Corrupt`: then nothing of it may land.
fn note_of(session: &Session, number: u64, records: &[Record]) -> Result<Note> {
    let mut note = Note::default();
    for record in records {
        let size = must_fit(session, record)?;
        match &record.payload {
            Payload::Plain(bytes) => {
                if bytes.len() as u64 != record.run.len || hash(bytes) != record.checksum {
                    let message = format!(
                        "a record of disk {}, {}, is not what was read",
                        record.disk,
                        shown(record.run)
                    );
                    return Err(Error::new(ErrorKind::Corrupt, message).with("disk", &record.disk));
                }
                note.wrote(record, bytes, size);
            }
            Payload::Zero if record.checksum == 0 => note.zeroed(record),
            Payload::Zero => {
                let message = format!("a record of zeros of disk {} has a checksum", record.disk);
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            Payload::Sealed(_) => {
                let rule = "a page blob holds the bytes of the disk";
                return Err(Error::invalid("record.payload", "sealed", rule, "send plain records"));
            }
        }
    }
    note.batches.push(batch(number, records));
    Ok(note)
}

/// The size of the record's disk.
fn must_fit(session: &Session, record: &Record) -> Result<u64> {
    let Run { start, len } = record.run;
    let bad = |rule: &str, remedy: &str| {
        Err(Error::invalid("record.run", shown(record.run), rule, remedy).with("disk", &record.disk))
    };
    session.pages(&record.disk)?;
    let Some(disk) = session.machine.included().find(|d| d.id == record.disk) else {
        let rule = "it is no replicated disk of the machine";
        return Err(Error::invalid("record.disk", &record.disk, rule, "begin with it"));
    };
    let Some(end) = start.checked_add(len).filter(|end| *end <= disk.size) else {
        return bad(&format!("the disk has {} bytes", disk.size), "cut it to the disk");
    };
    if len == 0 || len > LONGEST {
        return bad("a record carries 1 byte to 1 MiB", "cut the run");
    }
    if !start.is_multiple_of(ALIGNMENT) || !(end.is_multiple_of(ALIGNMENT) || end == disk.size) {
        return bad("records are aligned to 4096 bytes but for the end of the disk", "align the run");
    }
    if !session.plan.contains(&record.disk, record.run) {
        return bad("it is not in the plan of the ingest", "begin with a plan that holds it");
    }
    Ok(disk.size)
}

pub(super) fn not_open(ingest: &Ingest) -> Error {
    let message =
        format!("session {} of {} is not open any more: begin again", ingest.session, ingest.machine);
    Error::new(ErrorKind::Refused, message)
}

/// A plan may be too big: what is past the end of a disk, or of a disk that the machine has no more, is cut off.
fn cut_plan(
    machine: &Machine,
    is_known: impl Fn(&site_recovery::DiskId) -> bool,
    plan: &ChangeSet,
) -> Result<ChangeSet> {
    let mut cut = ChangeSet::new();
    for (disk, runs) in plan.disks() {
        match machine.included().find(|d| d.id == *disk) {
            Some(spec) => {
                let whole = Run::new(0, spec.size);
                runs.iter().filter_map(|run| run.intersection(whole)).for_each(|run| cut.add(disk, run));
            }
            None if is_known(disk) => {}
            None => {
                let rule = "a plan speaks of the machine's disks";
                return Err(Error::invalid("plan.disk", disk, rule, "leave it out"));
            }
        }
    }
    Ok(cut)
}

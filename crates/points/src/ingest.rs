//! `begin`, `write`, `seal`: how bytes become a point.

use crate::Points;
use crate::attached::Attached;
use crate::catalogue::Kept;
use crate::layer::Layered;
use crate::ledger::{Garbage, Ledger, Open, Timeline, call};
use crate::line::Line;
use crate::map::{Layer, LayerRef, due};
use crate::reader::{blocking, shown};
use crate::sealed::Sealed;
use crate::segment::{SegmentId, encode};
use crate::working_copy::Progress;
use site_recovery::{
    ALIGNMENT, ChangeSet, Complete, CutId, Error, ErrorKind, Ingest, Landed, Machine, Manifest, Op, Point,
    PointId, Record, Result, Run,
};
use site_recovery_record::MOST_BYTES;
use std::sync::Arc;

/// Objects that wait to be deleted before a seal does it, where nobody prunes.
const GARBAGE: usize = 64;
/// A layer that is larger lies beside its point, not in it.
const BESIDE: usize = 64 << 10;

impl Points {
    pub(crate) async fn open_ingest(
        &self,
        op: &Op,
        machine: &Machine,
        cut: &CutId,
        plan: &ChangeSet,
    ) -> Result<Ingest> {
        let mut line = self.enter(machine.id()).await?;
        let mut next = line.ledger.admit(op)?;
        machine.validate()?;
        let timeline = next.timeline_mut()?;
        timeline.describe(machine)?;
        let plan = cut_plan(machine, timeline, plan)?;
        timeline.close();
        let plan = line.note("plan", plan).await?;
        let session = next.next_session;
        next.timeline_mut()?.open = Some(Open { session, op: op.clone(), cut: cut.clone(), plan });
        next.next_session += 1;
        line.commit(next).await?;
        line.count_closed().await?;
        let Line { folder, ledger, working, .. } = &mut *line;
        working.sync_opened(folder, ledger.timeline()?).await?;
        let resume = working.progress(folder, ledger.timeline()?).await?.landed.clone();
        Ok(Ingest { op: op.clone(), machine: machine.id().clone(), session, resume })
    }

    /// The segment is created beside the lock, so that batches land side by side; that its session is still the open one
    /// is read after it is durable, and only then is it acknowledged.
    pub(crate) async fn land(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        let id = SegmentId { session: ingest.session, batch };
        let folder = {
            let mut line = self.enter(&ingest.machine).await?;
            admit_session(&line.ledger, ingest)?;
            let plan = Arc::clone(&line.progress().await?.plan);
            if records.is_empty() || line.working.has(id) {
                return Ok(line.progress().await?.landed.clone());
            }
            let timeline = line.ledger.timeline()?;
            records.iter().try_for_each(|record| check_record(timeline, &plan, record))?;
            line.folder.clone()
        };
        let (machine, with) = (ingest.machine.clone(), Arc::clone(&self.records));
        let (mut entries, parts) = blocking(move || encode(id, &machine, &records, &with)).await??;
        if !folder.create_segment(id, parts).await? {
            let there = folder.get_index(id).await?;
            if there.len() != entries.len() || !there.iter().zip(&entries).all(|(a, b)| a.is(b)) {
                let message = format!("batch {batch} of this session has landed with other records");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            entries = there;
        }
        let mut line = self.enter(&ingest.machine).await?;
        admit_session(&line.ledger, ingest)?;
        line.progress().await?;
        if !line.working.has(id) {
            line.working.land(id, entries);
        }
        Ok(line.progress().await?.landed.clone())
    }

    pub(crate) async fn make_point(
        &self,
        ingest: &Ingest,
        manifest: &Manifest,
        complete: Complete,
    ) -> Result<Point> {
        let mut line = self.enter(&ingest.machine).await?;
        let mut next = line.ledger.admit(&ingest.op)?;
        let call = call("seal", &ingest.op, &manifest.cut);
        let sealed = next.done(&call).map(<[PointId]>::to_vec);
        let is_open = next.timeline()?.open.as_ref().is_some_and(|open| is_session(open, ingest));
        if let Some(point) = line.sealed_as(&manifest.cut, is_open).await? {
            let timeline = next.timeline_mut()?;
            if is_open {
                timeline.close();
                line.commit(next).await?;
                line.count_closed().await?;
            }
            return Ok(point);
        }
        if let Some([dropped]) = sealed.as_deref() {
            let message = format!("cut {} was sealed as point {dropped}, which was dropped", manifest.cut);
            return Err(Error::new(ErrorKind::Refused, message).with("point", dropped));
        }
        let timeline = next.timeline_mut()?;
        let Some(open) = timeline.open.take_if(|_| is_open) else { return Err(not_open(ingest)) };
        check_manifest(ingest, &open, &timeline.machine, manifest)?;
        line.progress().await?;
        let expected = (complete.records(), complete.digest());
        let mut counted = line.working.count(ingest.session);
        if counted != expected {
            // Another process may have landed some of them.
            line.sync().await?;
            counted = line.working.count(ingest.session);
        }
        if counted != expected {
            let message = format!(
                "{} records landed in this session, {} were sent, or they are not the same ones: begin again",
                counted.0,
                complete.records()
            );
            return Err(Error::new(ErrorKind::Corrupt, message).with("session", ingest.session));
        }
        let id = PointId(next.next_point);
        let kept = line.keep(id, ingest.session, manifest).await?;
        let point = kept.point();
        next.next_point += 1;
        let timeline = next.timeline_mut()?;
        (timeline.seed, timeline.open) = (None, None);
        timeline.carried.clear();
        timeline.machine = manifest.machine.clone();
        let number = line.attaching();
        let replaced = timeline.catalogue.push(&line.folder, number, kept).await?;
        next.garbage.extend(replaced.into_iter().map(Garbage::Attached));
        next.remember_done(call, &[id]);
        line.commit(next).await?;
        if line.ledger.garbage.len() > GARBAGE {
            line.collect().await;
        }
        Ok(point)
    }
}

impl Line {
    /// Fixes which batches of closed sessions count. Before this, none of their writes can be acknowledged any more.
    async fn count_closed(&mut self) -> Result<()> {
        let mut next = self.ledger.clone();
        let timeline = next.timeline_mut()?;
        for carried in timeline.carried.iter_mut().filter(|c| c.landed.is_none()) {
            let batches = self.folder.list_segments(carried.session).await?;
            let mut runs: Vec<(u64, u64)> = vec![];
            for SegmentId { batch, .. } in batches {
                match runs.last_mut() {
                    Some((_, last)) if *last + 1 == batch => *last = batch,
                    _ => runs.push((batch, batch)),
                }
            }
            carried.landed = Some(runs);
        }
        timeline.carried.retain(|c| c.landed.as_ref().is_none_or(|runs| !runs.is_empty()));
        self.commit(next).await
    }

    async fn progress(&mut self) -> Result<&mut Progress> {
        let timeline = self.ledger.timeline()?;
        let open = timeline.open.as_ref().map(|open| open.session);
        if !open.is_some_and(|session| self.working.follows(session)) {
            self.working.sync(&self.folder, timeline).await?;
        }
        self.working.progress(&self.folder, timeline).await
    }

    /// The point that this cut was sealed as. Only a call that comes late, when its session is closed, looks at all.
    async fn sealed_as(&self, cut: &CutId, is_open: bool) -> Result<Option<Point>> {
        let catalogue = &self.ledger.timeline()?.catalogue;
        if let Some(kept) = catalogue.recent().iter().rev().find(|kept| kept.cut == *cut) {
            return Ok(Some(kept.point()));
        }
        if is_open {
            return Ok(None);
        }
        let all = catalogue.after(&self.folder, None, usize::MAX).await?;
        Ok(all.into_iter().find(|kept| kept.cut == *cut).map(|kept| kept.point()))
    }

    /// Writes the object of a new point, and merges layers where that is due.
    async fn keep(&mut self, id: PointId, session: u64, manifest: &Manifest) -> Result<Kept> {
        self.attaching();
        let base = self.working.base(&self.folder, self.ledger.timeline()?).await?;
        let (mut own, mut layers) = (None, base.refs());
        if !self.working.delta.is_empty() {
            own = Some(Layered::of(&self.working.delta));
        }
        let mut stack = base;
        if let Some(layer) = &own {
            stack.layers.insert(0, Layer::made(Attached::new(session, "own", &layer.bytes), layer));
        }
        let refs = stack.refs();
        let due = due(&refs);
        if due > 0 {
            let (merged, points) = (stack.merged(due).await?, refs[..due].iter().map(|l| l.points).sum());
            layers = refs[due..].to_vec();
            layers.insert(0, self.beside(session, &merged, points).await?);
            own = None;
        } else if let Some(layer) = own.take_if(|layer| layer.bytes.len() > BESIDE) {
            layers.insert(0, self.beside(session, &layer, 1).await?);
        }
        let bytes = Sealed::encode(manifest, own, layers)?;
        let object = self.folder.attach(session, "point", bytes).await?;
        let first = self.ledger.timeline()?.catalogue.newest().map_or(1, |newest| newest.last + 1);
        Ok(Kept::new(id, manifest, object, (first, session), self.working.space()))
    }

    /// Writes a layer as an object of its own.
    async fn beside(&self, session: u64, layer: &Layered, points: u64) -> Result<LayerRef> {
        let object = self.folder.attach(session, "map", layer.bytes.clone()).await?;
        Ok(LayerRef {
            object,
            at: 0,
            len: layer.bytes.len() as u64,
            pieces: layer.pieces,
            points,
            newest: layer.newest,
        })
    }
}

fn is_session(open: &Open, ingest: &Ingest) -> bool {
    open.session == ingest.session && open.op == ingest.op
}

fn admit_session(ledger: &Ledger, ingest: &Ingest) -> Result<()> {
    ledger.admit(&ingest.op)?;
    let open = ledger.timeline()?.open.as_ref();
    if open.is_some_and(|open| is_session(open, ingest)) { Ok(()) } else { Err(not_open(ingest)) }
}

fn not_open(ingest: &Ingest) -> Error {
    let message =
        format!("session {} of {} is not open any more: begin again", ingest.session, ingest.machine);
    Error::new(ErrorKind::Refused, message)
}

/// A plan may be too big: what is past the end of a disk, or of a disk that the machine has no more, is cut off.
fn cut_plan(machine: &Machine, timeline: &Timeline, plan: &ChangeSet) -> Result<ChangeSet> {
    let mut cut = ChangeSet::new();
    for (disk, runs) in plan.disks() {
        let known = timeline.sizes.contains_key(disk);
        match machine.included().find(|d| d.id == *disk) {
            Some(spec) => runs
                .iter()
                .filter(|run| run.start < spec.size)
                .for_each(|run| cut.add(disk, Run::new(run.start, run.len.min(spec.size - run.start)))),
            None if known => {}
            None => {
                let rule = "a plan speaks of the machine's disks";
                return Err(Error::invalid("plan.disk", disk, rule, "leave it out"));
            }
        }
    }
    Ok(cut)
}

fn check_record(timeline: &Timeline, plan: &ChangeSet, record: &Record) -> Result<()> {
    let Run { start, len } = record.run;
    let bad = |rule: &str, remedy: &str| {
        Err(Error::invalid("record.run", shown(record.run), rule, remedy).with("disk", &record.disk))
    };
    let Some(disk) = timeline.machine.included().find(|d| d.id == record.disk) else {
        let rule = "it is no replicated disk of the machine";
        return Err(Error::invalid("record.disk", &record.disk, rule, "begin with it"));
    };
    let Some(end) = start.checked_add(len).filter(|end| *end <= disk.size) else {
        return bad(&format!("the disk has {} bytes", disk.size), "cut it to the disk");
    };
    if len == 0 || len > MOST_BYTES {
        return bad("a record carries 1 byte to 1 MiB", "cut the run");
    }
    if !start.is_multiple_of(ALIGNMENT) || !(end.is_multiple_of(ALIGNMENT) || end == disk.size) {
        return bad("records are aligned to 4096 bytes but for the end of the disk", "align the run");
    }
    if !plan.contains(&record.disk, record.run) {
        return bad("it is not in the plan of the ingest", "begin with a plan that holds it");
    }
    Ok(())
}

fn check_manifest(ingest: &Ingest, open: &Open, begun: &Machine, manifest: &Manifest) -> Result<()> {
    if manifest.machine.id() != &ingest.machine {
        let rule = format!("the ingest is of {}", ingest.machine);
        return Err(Error::invalid(
            "manifest.machine",
            manifest.machine.id(),
            &rule,
            "seal its own manifest",
        ));
    }
    let disks = |machine: &Machine| -> Vec<_> {
        machine.included().map(|disk| (disk.id.clone(), disk.size)).collect()
    };
    if disks(&manifest.machine) != disks(begun) {
        let value = format!("{:?}", disks(&manifest.machine));
        let rule = format!("the ingest was begun with {:?}", disks(begun));
        return Err(Error::invalid(
            "manifest.machine.disks",
            value,
            &rule,
            "begin with the captured machine",
        ));
    }
    if manifest.cut != open.cut {
        let rule = format!("the ingest was begun for cut {}", open.cut);
        return Err(Error::invalid("manifest.cut", &manifest.cut, &rule, "seal the cut that was begun"));
    }
    Ok(())
}

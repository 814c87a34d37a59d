//! The way back lands: what a run held is durable in the log before the landing disk is written.

use crate::desk::{Desk, Entered, blocking};
use crate::line::{Line, Progress};
use crate::log::{Batch, GROUP, Group};
use crate::overwrite::{Keep, Write};
use crate::timeline::{Link, Opened, Part, Sealed, Stage, Timeline, compares};
use site_recovery::{
    ChangeSet, Complete, CutId, DiskId, Error, ErrorKind, Ingest, Landed, Machine, MachineId, Manifest, Op,
    Point, PointId, Record, Result, Run, fold,
};
use site_recovery_record::{Keyring, Unpacker};

impl Desk {
    pub(crate) async fn begin(
        &self,
        op: &Op,
        machine: &Machine,
        cut: &CutId,
        plan: &ChangeSet,
    ) -> Result<Ingest> {
        machine.validate()?;
        let mut line = self.enter(op, machine.id()).await?;
        let timeline = line.known()?;
        timeline.lands()?;
        timeline.fits(machine)?;
        let plan = &within(machine, plan)?;
        if self.outsider(&mut line).await? && !compares(plan, machine) {
            return Err(seen_outsider(line.known()?));
        }
        self.grow(op, &mut line, machine).await?;
        let same = |o: &&Opened| o.op.key == op.key && o.plan == *plan;
        let resumes = line.known()?.open.as_ref().filter(same).is_some();
        let resume = if resumes { line.progress.landed.clone() } else { Landed::new() };
        let open = Opened { op: op.clone(), cut: cut.clone(), plan: plan.clone(), resume: resume.clone() };
        line.publish(|t| {
            t.session += 1;
            t.open = Some(open);
            t.machine = machine.clone();
        })
        .await?;
        line.progress = Progress::from_here(&resume);
        let session = line.known()?.session;
        Ok(Ingest { op: op.clone(), machine: machine.id().clone(), session, resume })
    }

    pub(crate) async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        let mut line = self.enter(&ingest.op, &ingest.machine).await?;
        let timeline = line.known()?;
        let plan = &timeline.ours(ingest)?.plan;
        if line.progress.batches.contains(&batch) {
            return Ok(line.progress.landed.clone());
        }
        for record in &records {
            inside(&timeline.machine, &record.disk, record.run)?;
            planned(plan, &record.disk, record.run)?;
        }
        let digest = line.progress.digest;
        let machine = ingest.machine.clone();
        let (writes, digest) = blocking(move || verified(&machine, records, digest)).await?;
        let count = writes.len() as u64;
        for some in groups(&writes) {
            self.overwrite(&mut line, Keep::Pending, some).await?;
        }
        self.flush(&line).await?;
        line.blocking(move |line| acknowledge(line, &writes, batch, count, digest)).await
    }

    pub(crate) async fn seal(
        &self,
        ingest: &Ingest,
        manifest: &Manifest,
        complete: Complete,
    ) -> Result<Point> {
        let mut line = self.enter(&ingest.op, &ingest.machine).await?;
        let known = line.known()?.points.iter().find(|s| s.point.cut == manifest.cut);
        if let Some(sealed) = known {
            return Ok(sealed.point.clone());
        }
        let open = line.known()?.ours(ingest)?;
        if open.cut != manifest.cut || manifest.machine.id() != &ingest.machine {
            let rule = format!("the ingest is of cut {} and machine {}", open.cut, ingest.machine);
            return Err(Error::invalid("manifest.cut", &manifest.cut, &rule, "seal what was begun"));
        }
        let landed = (line.progress.records, line.progress.digest);
        if landed != (complete.records(), complete.digest()) {
            let message =
                format!("{} records landed, {} were counted, or they differ", landed.0, complete.records());
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        if self.outsider(&mut line).await? {
            return Err(seen_outsider(line.known()?));
        }
        let manifest = manifest.clone();
        line.blocking(move |line| {
            let mut next = line.known()?.clone();
            let id = PointId(next.next_point.max(1));
            line.write_manifest(id, &manifest)?;
            let point = next.seal(id, &manifest, line.pending.as_ref().map_or(0, |log| log.end));
            line.publish(next)?;
            if let Err(error) = line.tidy() {
                tracing::warn!(%error, machine = %manifest.machine.id(), "the retention log was not tidied");
            }
            Ok(point)
        })
        .await
    }

    /// Looks whether somebody else had the landing disks since we did; if so, that is durable when this returns.
    pub(crate) async fn outsider(&self, line: &mut Entered) -> Result<bool> {
        let stamp = self.landing.stamp(&line.landing()?).await?;
        let seen = line.known()?.outsider(&stamp);
        if seen {
            tracing::warn!(landing = %line.known()?.landing.name, "the landing was started from outside");
            line.publish(|t| t.doubt(stamp)).await?;
            line.progress = Progress::default();
        }
        Ok(seen)
    }

    async fn grow(&self, op: &Op, line: &mut Entered, machine: &Machine) -> Result<()> {
        let known = line.known()?;
        let grown = |d: &&site_recovery::DiskSpec| {
            known.machine.disk(&d.id).is_none_or(|k| !k.included || k.size < d.size)
        };
        if machine.included().find(grown).is_none() {
            return Ok(());
        }
        let (landing, settings) = (known.landing.clone(), known.settings.clone());
        self.landing.attach(&op.part("grow"), machine, Some(landing), &settings).await?;
        line.end_handles();
        Ok(())
    }
}

impl Timeline {
    /// Whether the landing disks are ours to write.
    pub(crate) fn lands(&self) -> Result<()> {
        let message = match &self.stage {
            Stage::Landing => return Ok(()),
            Stage::HandedOver(_) => {
                format!("{} is handed over; settle it or set it aside first", self.landing.name)
            }
            Stage::Released(_) => {
                format!("{} has its disks for good; prepare the way back first", self.landing.name)
            }
        };
        Err(Error::new(ErrorKind::Refused, message))
    }

    /// The open ingest, if it is this session of it.
    fn ours(&self, ingest: &Ingest) -> Result<&Opened> {
        self.lands()?;
        let over = || {
            let message = format!("session {} is over; begin again", ingest.session);
            Error::new(ErrorKind::Refused, message)
        };
        let open = self.open.as_ref().filter(|o| o.op.key == ingest.op.key && self.session == ingest.session);
        open.ok_or_else(over)
    }

    /// Whether any point rests on the landing disks.
    pub(crate) fn rests(&self) -> bool {
        let first = self.chains.last().map(|c| c.first);
        self.points.iter().any(|s| Some(s.point.id) >= first)
    }

    /// The ingest becomes a point; `end` is the length of the log since the point before.
    fn seal(&mut self, id: PointId, manifest: &Manifest, end: u64) -> Point {
        let point = Point {
            id,
            cut: manifest.cut.clone(),
            members: manifest.members.clone(),
            taken: manifest.taken,
            consistency: manifest.consistency,
            generation: manifest.machine.instance.generation,
            pins: vec![],
            locked_until: None,
            verified: true,
            verified_boot: None,
        };
        let parts = vec![Part { number: self.pending, end }];
        self.chains.drain(..self.chains.len().saturating_sub(1));
        if let Some(chain) = self.chains.last_mut() {
            chain.links.push(Link { to: id, parts, bare: vec![], sure: !self.doubted });
        }
        self.doubted = false;
        self.points.push(Sealed { point: point.clone(), whole: None, undo: true });
        (self.seed, self.open, self.next_point) = (None, None, id.0 + 1);
        self.pending = self.file();
        point
    }
}

fn acknowledge(line: &mut Line, writes: &[Write], batch: u64, count: u64, digest: u64) -> Result<Landed> {
    let timeline = line.known()?;
    let (session, plan) =
        (timeline.session, timeline.open.as_ref().map(|o| o.plan.clone()).unwrap_or_default());
    for write in writes {
        line.progress.land(&plan, &write.disk, write.run);
    }
    let (records, landed) = (line.progress.records + count, line.progress.landed.clone());
    let mut group = Group::default();
    group.batch(Batch { session, batch, records, digest, landed: landed.clone() });
    line.append(Keep::Pending, group)?;
    line.progress.batches.insert(batch);
    (line.progress.records, line.progress.digest) = (records, digest);
    Ok(landed)
}

fn verified(machine: &MachineId, records: Vec<Record>, digest: u64) -> Result<(Vec<Write>, u64)> {
    // Records come plain: there is nothing to open.
    let unpacker = Unpacker::new(Keyring::new());
    let mut digest = digest;
    let mut writes = Vec::with_capacity(records.len());
    for record in records {
        digest = fold(digest, &record);
        let bytes = unpacker.unpack(machine, &record)?;
        writes.push(Write { disk: record.disk, run: record.run, bytes });
    }
    Ok((writes, digest))
}

/// Stretches of at most [`GROUP`] bytes; a longer record stands alone.
fn groups(writes: &[Write]) -> impl Iterator<Item = &[Write]> {
    let mut rest = writes;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|w| {
            bytes += w.run.len;
            bytes <= GROUP
        });
        let (some, later) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = later;
        (!some.is_empty()).then_some(some)
    })
}

/// A plan, cut at the ends of the disks.
fn within(machine: &Machine, plan: &ChangeSet) -> Result<ChangeSet> {
    let mut cut = ChangeSet::new();
    for (disk, runs) in plan.disks() {
        inside(machine, disk, Run::new(0, 0))?;
        let whole = Run::new(0, machine.disk(disk).map_or(0, |d| d.size));
        runs.iter().filter_map(|run| run.intersection(whole)).for_each(|run| cut.add(disk, run));
    }
    Ok(cut)
}

fn inside(machine: &Machine, disk: &DiskId, run: Run) -> Result<()> {
    let Some(spec) = machine.disk(disk).filter(|d| d.included) else {
        let rule = "it is not a replicated disk of this machine";
        return Err(Error::invalid("record.disk", disk, rule, "prepare the machine as it is now"));
    };
    if run.start.checked_add(run.len).is_none_or(|end| end > spec.size) {
        let (value, rule) =
            (format!("{}+{}", run.start, run.len), format!("the disk has {} bytes", spec.size));
        return Err(
            Error::invalid("record.run", value, &rule, "cut it at the end of the disk").with("disk", disk)
        );
    }
    Ok(())
}

fn planned(plan: &ChangeSet, disk: &DiskId, run: Run) -> Result<()> {
    if plan.contains(disk, run) {
        return Ok(());
    }
    let value = format!("{}+{}", run.start, run.len);
    let rule = "it is not in the plan of the ingest";
    Err(Error::invalid("record.run", value, rule, "begin with a plan that holds it").with("disk", disk))
}

pub(crate) fn seen_outsider(timeline: &Timeline) -> Error {
    let message = format!(
        "{} was started from outside since it was last in hand: its points are unverified, compare before the next one",
        timeline.landing.name
    );
    Error::new(ErrorKind::Refused, message)
}

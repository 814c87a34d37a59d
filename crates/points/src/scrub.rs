//! Reading a point, whole or a sample of it.

use crate::Points;
use crate::catalogue::{Catalogue, Kept};
use crate::extent_map::Place;
use crate::folder::Folder;
use crate::ledger::Ledger;
use crate::line::Line;
use crate::map::Map;
use crate::overlay::Overlay;
use crate::reader::{Reader, shown};
use crate::sealed::Sealed;
use crate::segment::SegmentId;
use site_recovery::{DiskId, Error, ErrorKind, Finding, MachineId, PointId, Result, Run, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

const REMEDY: &str = "recover from another point, and ship the disk again with a comparison";

/// How often what was found is written down, where another process is faster.
const TRIES: usize = 8;

/// How much of a point is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    Whole,
    /// One record in so many, by chance. The same seed reads the same ones.
    OneIn {
        /// In how many.
        records: NonZeroU64,
        /// Of the choice.
        seed: u64,
    },
}

/// How far a scrub is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes of the machine's disks that it has passed.
    pub passed: u64,
    /// Bytes of them in all.
    pub of: u64,
    /// Records that were read.
    pub records: u64,
    /// Runs that were found damaged.
    pub damaged: u64,
}

impl Points {
    /// Reads a point, or a sample of it, and compares with what was sealed; tells after each piece how far it is, to a
    /// `progress` that must not block. A record whose key is not here is checked by its frame alone.
    ///
    /// What is damaged is remembered, by the batch that brought it: while the newest point needs something of that one, it
    /// matches nothing when the disk is compared next, and is shipped again.
    ///
    /// # Cancel safety
    /// Dropping the future ends it; what it found so far is not remembered.
    ///
    /// # Errors
    /// `NotFound`; what the store says, where it does not answer: what was found until then is remembered, where it
    /// takes that, and not answered. Damage is a finding: it names disk and run, and the points that need the damaged
    /// bytes; all others do not.
    pub async fn scrub_share(
        &self,
        machine: &MachineId,
        point: PointId,
        share: Share,
        progress: impl FnMut(Scrubbed) + Send,
    ) -> Result<Vec<Finding>> {
        self.read_share(machine, point, share, progress).await.map_err(|e| e.at(&self.name, "scrub"))
    }

    pub(crate) async fn read_share(
        &self,
        machine: &MachineId,
        point: PointId,
        share: Share,
        progress: impl FnMut(Scrubbed) + Send,
    ) -> Result<Vec<Finding>> {
        let line = self.enter(machine).await?;
        let kept = line.ledger.timeline()?.catalogue.get(&line.folder, point).await?;
        let _hold = self.open.hold(machine, point);
        let folder = line.folder.clone();
        drop(line);
        let sealed = match Sealed::read(&folder, &kept.object).await {
            Ok(sealed) => sealed,
            Err(error) => return Ok(vec![damage(point, error, String::new())?]),
        };
        let (reader, map) = (Reader::new(folder.clone(), machine, &self.records), sealed.map(&folder));
        let of = sealed.manifest.machine.included().map(|disk| disk.size).sum();
        let far = Scrubbed { passed: 0, of, records: 0, damaged: 0 };
        let mut check = Check { reader, point, share, far, findings: vec![], damaged: vec![], progress };
        let whole = async {
            for disk in sealed.manifest.machine.included() {
                let before = check.far.passed;
                match Overlay::of(&folder, &map.layers, &disk.id).await {
                    Ok(overlay) => check.disk(overlay, &disk.id, before).await?,
                    Err(error) => check.findings.push(damage(point, error, String::new())?),
                }
                check.passed(before + disk.size);
            }
            Ok(())
        };
        let whole: Result<()> = whole.await;
        let Check { mut findings, damaged, .. } = check;
        if let Err(error) = self.note_damage(machine, &damaged).await {
            tracing::warn!(%error, %machine, "what was found damaged is not remembered");
        }
        whole?;
        if damaged.is_empty() {
            return Ok(findings);
        }
        // As it is now: what stood there when this began may be gone.
        let line = self.enter(machine).await?;
        let catalogue = line.ledger.timeline()?.catalogue.clone();
        drop(line);
        let needing = Needing { folder: &folder, catalogue: &catalogue };
        for (at, disk, run, place) in damaged {
            findings[at].cause += &match needing.span(&kept, &disk, run, place).await {
                Ok((first, last)) => format!("; the points {first} to {last} need it"),
                Err(error) => format!("; which points need it could not be told: {error}"),
            };
        }
        Ok(findings)
    }

    /// So that a comparison ships again what is damaged. Forgets what the newest point needs nothing of any more.
    async fn note_damage(&self, machine: &MachineId, damaged: &[Damaged]) -> Result<()> {
        let mut line = self.enter(machine).await?;
        if damaged.is_empty() && line.ledger.timeline()?.damaged.is_empty() {
            return Ok(());
        }
        let Line { folder, ledger, working, .. } = &mut *line;
        let (point, base) = (newest(ledger), working.base(folder, ledger.timeline()?).await);
        drop(line);
        // Of a damaged map it cannot be told: all stays noted.
        let needed = match base {
            Ok(base) => segments(&base).await.ok(),
            Err(_) => None,
        };
        for _ in 0..TRIES {
            let mut line = self.enter(machine).await?;
            let mut next = line.ledger.clone();
            let is_the_same = newest(&next) == point;
            let noted = &mut next.timeline_mut()?.damaged;
            noted.extend(damaged.iter().map(|(_, _, _, place)| place.segment));
            if let Some(needed) = needed.as_ref().filter(|_| is_the_same) {
                noted.retain(|segment| needed.contains(segment));
            }
            match line.commit(next).await {
                Err(error) if error.kind() == ErrorKind::Busy => {}
                committed => return committed,
            }
        }
        Err(Error::new(ErrorKind::Busy, "another process changes the timeline again and again"))
    }
}

fn newest(ledger: &Ledger) -> Option<PointId> {
    Some(ledger.timeline.as_ref()?.catalogue.newest()?.id)
}

/// The segments that a point needs something of.
async fn segments(map: &Map) -> Result<BTreeSet<SegmentId>> {
    let mut needed = BTreeSet::new();
    map.above(0).visit(|_, _, held| needed.extend(held.place().map(|place| place.segment))).await?;
    Ok(needed)
}

/// The number of its finding, and where it is.
type Damaged = (usize, DiskId, Run, Place);

struct Check<P> {
    reader: Reader,
    point: PointId,
    share: Share,
    far: Scrubbed,
    findings: Vec<Finding>,
    damaged: Vec<Damaged>,
    progress: P,
}

impl<P: FnMut(Scrubbed) + Send> Check<P> {
    async fn disk(&mut self, mut overlay: Overlay<'_>, disk: &DiskId, before: u64) -> Result<()> {
        // A record of which several pieces are left is read once.
        let mut seen: BTreeMap<Run, ()> = BTreeMap::new();
        loop {
            match overlay.next().await {
                Ok(None) => return Ok(()),
                Ok(Some((run, held))) => {
                    seen.retain(|record, ()| record.end() > run.start);
                    if let Some(place) = held.place().filter(|place| self.is_chosen(place))
                        && seen.insert(place.run, ()).is_none()
                    {
                        self.record(disk, run, place).await?;
                    }
                    self.passed(before + run.end());
                }
                Err(error) => {
                    self.findings.push(damage(self.point, error, String::new())?);
                    return Ok(());
                }
            }
        }
    }

    fn is_chosen(&self, place: &Place) -> bool {
        match self.share {
            Share::Whole => true,
            Share::OneIn { records, seed } => {
                let mixed = (place.checksum as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 32).is_multiple_of(records.get())
            }
        }
    }

    async fn record(&mut self, disk: &DiskId, run: Run, place: Place) -> Result<()> {
        self.far.records += 1;
        if let Err(error) = self.reader.check(disk, place).await {
            let finding = damage(self.point, error, format!("{} of disk {disk}: ", shown(run)))?;
            self.damaged.push((self.findings.len(), disk.clone(), run, place));
            self.findings.push(finding);
            self.far.damaged += 1;
        }
        Ok(())
    }

    fn passed(&mut self, passed: u64) {
        self.far.passed = passed;
        (self.progress)(self.far);
    }
}

/// Which points need a piece. They are neighbours, since what was written over does not come back.
struct Needing<'a> {
    folder: &'a Folder,
    catalogue: &'a Catalogue,
}

impl Needing<'_> {
    async fn span(&self, one: &Kept, disk: &DiskId, run: Run, place: Place) -> Result<(PointId, PointId)> {
        let (mut first, mut last) = (one.id, one.id);
        let (mut too_old, mut too_new) = (PointId(0), PointId(u64::MAX));
        while let Some(middle) = self.between(too_old, first).await? {
            if self.needs(&middle, disk, run, place).await? { first = middle.id } else { too_old = middle.id }
        }
        while let Some(middle) = self.between(last, too_new).await? {
            if self.needs(&middle, disk, run, place).await? { last = middle.id } else { too_new = middle.id }
        }
        Ok((first, last))
    }

    /// A point about in the middle between these two.
    async fn between(&self, older: PointId, newer: PointId) -> Result<Option<Kept>> {
        let newest = self.catalogue.newest().map_or(0, |kept| kept.id.0);
        let middle = PointId(older.0 + (newer.0.min(newest + 1) - older.0) / 2);
        let above = self.catalogue.at_or_after(self.folder, middle).await?;
        let above = above.filter(|kept| kept.id > older && kept.id < newer);
        match above {
            Some(kept) => Ok(Some(kept)),
            None => Ok(self.catalogue.before(self.folder, middle).await?.filter(|kept| kept.id > older)),
        }
    }

    async fn needs(&self, kept: &Kept, disk: &DiskId, run: Run, place: Place) -> Result<bool> {
        let map = match Sealed::read(self.folder, &kept.object).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(false),
            sealed => sealed?.map(self.folder),
        };
        match map.pieces(disk, run).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
            pieces => Ok(pieces?.iter().any(|(_, held)| held.and_then(|held| held.place()) == Some(place))),
        }
    }
}

/// A finding where bytes are damaged; every other error stays one.
fn damage(point: PointId, error: Error, place: String) -> Result<Finding> {
    if error.kind() != ErrorKind::Corrupt {
        return Err(error);
    }
    let cause = format!("point {point}: {place}{error}");
    Ok(Finding::new("point.damaged", Severity::Critical, cause, REMEDY))
}

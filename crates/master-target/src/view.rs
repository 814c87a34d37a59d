//! A point as bytes: files of the log laid over the landing disks, or a whole copy.

use crate::desk::{Desk, blocking};
use crate::line::{Line, manifest_name, read_manifest};
use crate::log::{Log, PIECE, Stored};
use crate::timeline::Part;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Disk, DiskId, Disks, Error, ErrorKind, Extent, Fill, HASH_BLOCK, Hash, MachineId, PointId, Pool, Result,
    Run,
};
use std::fmt;
use std::fs::File;
use std::sync::{Arc, Mutex};

/// Most bytes that are read of a landing disk at once.
pub(crate) const STRETCH: u64 = 1 << 20;

/// Where a point's bytes are.
#[derive(Debug, Clone)]
pub(crate) struct View {
    parts: Vec<Part>,
    logs: Vec<Arc<Log>>,
    /// Whether what no file holds is on the landing disks; else it is zeros.
    lands: bool,
}

/// A point that is held open.
struct Held {
    desk: Arc<Desk>,
    machine: MachineId,
    point: PointId,
    /// What was needed at the last read; points above are sealed meanwhile.
    view: Mutex<View>,
    _open: File,
}

/// One disk of a point.
struct PointDisk {
    held: Arc<Held>,
    disk: DiskId,
    size: u64,
}

impl Desk {
    pub(crate) async fn open(self: &Arc<Self>, machine: &MachineId, point: PointId) -> Result<Disks> {
        let looking = self.look_at(machine).await?;
        let (view, manifest, open) = blocking(move || {
            let missing = || Error::new(ErrorKind::NotFound, format!("there is no point {point}"));
            looking.known()?.sealed(point).ok_or_else(missing)?;
            let open = looking.folder.open(&manifest_name(point))?;
            open.lock_shared().map_err(|e| looking.folder.failed(&manifest_name(point), e))?;
            Ok((View::of(&looking, point)?, read_manifest(&looking.folder, point)?, open))
        })
        .await?;
        let (desk, machine, view) = (Arc::clone(self), machine.clone(), Mutex::new(view));
        let held = Arc::new(Held { desk, machine, point, view, _open: open });
        let disks = manifest.machine.included().map(|spec| {
            let disk = PointDisk { held: Arc::clone(&held), disk: spec.id.clone(), size: spec.size };
            (spec.id.clone(), Arc::new(disk) as Arc<dyn Disk>)
        });
        Ok(disks.collect())
    }

    pub(crate) async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        let looking = self.look_at(machine).await?;
        looking.known()?.lands()?;
        let landing = self.disk(&looking, disk).await?;
        if !run.start.is_multiple_of(HASH_BLOCK)
            || run.start.checked_add(run.len).is_none_or(|end| end > landing.size())
        {
            let rule = format!("it starts at a multiple of {HASH_BLOCK} and ends within the disk");
            let value = format!("{}+{}", run.start, run.len);
            return Err(Error::invalid("run", value, &rule, "align it").with("disk", disk));
        }
        let mut hashes = vec![];
        for stretch in run.pieces(STRETCH) {
            let bytes = landing.read(stretch, &self.pool).await?;
            let hash = move || {
                Ok(bytes.chunks(HASH_BLOCK as usize).map(site_recovery_record::hash).collect::<Vec<_>>())
            };
            hashes.extend(blocking(hash).await?);
        }
        Ok(hashes)
    }

    /// Reads a run of a point into `into`.
    pub(crate) async fn read(
        &self,
        line: &Line,
        view: &View,
        disk: &DiskId,
        run: Run,
        into: &mut [u8],
    ) -> Result<()> {
        let (stored, gaps) = view.find(line, disk, run);
        let held =
            blocking(move || stored.iter().map(|s| Ok((s.within, s.read()?))).collect::<Result<Vec<_>>>());
        for (part, bytes) in held.await.map_err(|e| e.with("disk", disk))? {
            match bytes {
                Some(bytes) => place(into, run, part).copy_from_slice(&bytes),
                None => place(into, run, part).fill(0),
            }
        }
        for gap in gaps {
            if !view.lands {
                place(into, run, gap).fill(0);
                continue;
            }
            let landing = self.disk(line, disk).await?;
            for stretch in gap.pieces(STRETCH) {
                let bytes = landing.read(stretch, &self.pool).await?;
                place(into, run, stretch).copy_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// What is known of a run of a point without reading it.
    pub(crate) async fn extents(
        &self,
        line: &Line,
        view: &View,
        disk: &DiskId,
        run: Run,
    ) -> Result<Vec<Extent>> {
        let (stored, gaps) = view.find(line, disk, run);
        let fill = |s: &Stored| if s.kept() == crate::layer::Kept::Zero { Fill::Zero } else { Fill::Data };
        let mut all: Vec<Extent> = stored.iter().map(|s| Extent { run: s.within, fill: fill(s) }).collect();
        for gap in gaps {
            if view.lands {
                all.extend(self.disk(line, disk).await?.extents(gap).await?);
            } else {
                all.push(Extent { run: gap, fill: Fill::Zero });
            }
        }
        all.sort_unstable_by_key(|e| e.run);
        all.dedup_by(|next, last| {
            let joins = next.fill == last.fill;
            if joins {
                last.run.len += next.run.len;
            }
            joins
        });
        Ok(all)
    }
}

impl View {
    /// Where a listed point's bytes are now.
    ///
    /// # Errors
    /// `Refused` while a machine has the disks that the point rests on.
    pub(crate) fn of(line: &Line, point: PointId) -> Result<Self> {
        let timeline = line.known()?;
        let whole = timeline.sealed(point).and_then(|s| s.whole);
        if !timeline.opens() && whole.is_none() {
            let message = format!("point {point} rests on the disks that {} runs on", timeline.landing.name);
            return Err(Error::new(ErrorKind::Refused, message));
        }
        let parts = whole.map_or_else(|| timeline.above(point), |whole| vec![whole]);
        let logs = parts.iter().map(|p| line.log(*p)).collect::<Result<_>>()?;
        Ok(Self { parts, logs, lands: whole.is_none() })
    }

    fn is_of(&self, line: &Line, point: PointId) -> bool {
        let Ok(timeline) = line.known() else { return false };
        match timeline.sealed(point).map(|s| s.whole) {
            Some(Some(whole)) => !self.lands && self.parts == [whole],
            Some(None) => self.lands && timeline.opens() && self.parts == timeline.above(point),
            None => false,
        }
    }

    /// What files hold of a run, and what none of them does.
    fn find(&self, line: &Line, disk: &DiskId, run: Run) -> (Vec<Stored>, Vec<Run>) {
        let last = line.pending.iter().chain(&line.redo).filter(|_| self.lands);
        let (mut stored, mut gaps) = (vec![], vec![run]);
        for log in self.logs.iter().map(AsRef::as_ref).chain(last) {
            for gap in std::mem::take(&mut gaps) {
                for (part, piece) in log.layer.over(disk, gap) {
                    match piece {
                        Some(piece) => stored.push(log.stored(part, piece)),
                        None => gaps.push(part),
                    }
                }
            }
        }
        (stored, gaps)
    }
}

impl fmt::Debug for PointDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { machine, point, .. } = &*self.held;
        write!(f, "disk {} of point {point} of {machine}", self.disk)
    }
}

impl Held {
    /// The timeline, kept still, and the point's view of it.
    async fn look(&self) -> Result<(crate::desk::Looking, View)> {
        let looking = self.desk.look_at(&self.machine).await?;
        let view = self.view.lock().expect("no panic under this lock").clone();
        if view.is_of(&looking, self.point) {
            return Ok((looking, view));
        }
        let point = self.point;
        let (looking, view) = blocking(move || {
            let view = View::of(&looking, point)?;
            Ok((looking, view))
        })
        .await?;
        *self.view.lock().expect("no panic under this lock") = view.clone();
        Ok((looking, view))
    }
}

#[async_trait]
impl Disk for PointDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let Some(range) = range.intersection(Run::new(0, self.size)) else { return Ok(vec![]) };
        let (looking, view) = self.held.look().await?;
        self.held.desk.extents(&looking, &view, &self.disk, range).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.start.checked_add(run.len).is_none_or(|end| end > self.size) {
            let (value, rule) =
                (format!("{}+{}", run.start, run.len), format!("the disk has {} bytes", self.size));
            return Err(Error::invalid("run", value, &rule, "read within the disk").with("disk", &self.disk));
        }
        // The caller's memory first: nobody waits for it with the timeline in hand.
        let mut block = pool.take(run.len as usize).await?;
        let (looking, view) = self.held.look().await?;
        self.held.desk.read(&looking, &view, &self.disk, run, &mut block).await?;
        Ok(block.freeze())
    }
}

fn place(into: &mut [u8], run: Run, part: Run) -> &mut [u8] {
    let from = (part.start - run.start) as usize;
    &mut into[from..from + part.len as usize]
}

const _: () = assert!(STRETCH.is_multiple_of(HASH_BLOCK) && PIECE <= STRETCH);

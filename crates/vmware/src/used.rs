//! Which areas of a captured disk are in use, so that a first copy does not read all of a disk that is almost empty.
//!
//! VMware tells it (`changeId "*"`) rightly where tracking began on VMFS, with nothing below the disk and no snapshot. Whether it
//! did is noted when we switch tracking on; where somebody else did that, nobody knows, and all is data. So it is where the disk's
//! size or the UUID of its tracking is another by now, the machine was reverted, merged or landed on since, the answer is an error,
//! nothing, or the whole disk. And so it is once a point was sealed: a comparison looks at all bytes, as it is to find what VMware
//! did not tell.

use crate::Inner;
use crate::describe::disk_name;
use crate::tracking::era;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Capture, Disk, DiskId, Disks, ErrorKind, Extent, Fill, MachineId, OpKey, Pool, Result, Run,
};
use site_recovery_vim::EVERYTHING;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::OnceCell;

/// Part of a disk: who asks for extents of less of it copies no disk, and VMware is not asked.
const SHARE: u64 = 16;

/// Disks of a capture that know what is in use, as far as VMware does.
pub(crate) fn mapped(site: &Arc<Inner>, capture: &Capture, machine: &MachineId, disks: Disks) -> Disks {
    let of = |(id, disk): (DiskId, Arc<dyn Disk>)| {
        let question = Question { capture: capture.clone(), machine: machine.clone(), disk: id.clone() };
        let (asked, used) = (AtomicU64::new(0), OnceCell::new());
        let mapped = Mapped { disk, site: Arc::clone(site), question, asked, used };
        (id, Arc::new(mapped) as Arc<dyn Disk>)
    };
    disks.into_iter().map(of).collect()
}

struct Question {
    capture: Capture,
    machine: MachineId,
    disk: DiskId,
}

struct Mapped {
    disk: Arc<dyn Disk>,
    site: Arc<Inner>,
    question: Question,
    /// Bytes whose extents were asked for.
    asked: AtomicU64,
    /// In order; none where that is not known.
    used: OnceCell<Option<Vec<Run>>>,
}

// By hand: the site is told once, not for each disk.
impl fmt::Debug for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cut, disk) = (&self.question.capture.cut, &self.question.disk);
        f.debug_struct("Mapped").field("capture", cut).field("id", disk).field("disk", &self.disk).finish()
    }
}

#[async_trait]
impl Disk for Mapped {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let asked = self.asked.fetch_add(range.len, Ordering::Relaxed).saturating_add(range.len);
        if asked < self.size() / SHARE {
            return self.disk.extents(range).await;
        }
        let used = self.used.get_or_try_init(|| self.site.used(&self.question)).await?;
        let Some(used) = used else { return self.disk.extents(range).await };
        let end = range.end().min(self.size());
        let (mut at, mut all) = (range.start, vec![]);
        let zero = |from: u64, to: u64| Extent { run: Run::new(from, to - from), fill: Fill::Zero };
        let first = used.partition_point(|run| run.end() <= range.start);
        for run in used[first..].iter().filter_map(|run| run.intersection(range)) {
            if run.start > at {
                all.push(zero(at, run.start));
            }
            all.extend(self.disk.extents(run).await?);
            at = run.end();
        }
        if at < end {
            all.push(zero(at, end));
        }
        Ok(all)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.disk.read(run, pool).await
    }
}

impl Inner {
    async fn used(&self, of: &Question) -> Result<Option<Vec<Run>>> {
        let instance = &of.capture.member(&of.machine)?.machine.instance;
        let vm = self.vm(instance).await?;
        let Some(tracking) = vm.notes.tracking.clone() else { return Ok(None) };
        if !tracking.captures.contains(&OpKey(of.capture.cut.0.clone())) {
            return Ok(None);
        }
        let snapshot = self.snapshot_of(&vm, &of.capture, instance)?;
        let devices = self.vim.snapshot_devices(&snapshot.moref).await?;
        let mark = vm.marked()?;
        let is_it = |name: &str| mark.disks.get(name).is_some_and(|marked| marked.id == of.disk);
        let Some(disk) = devices.disks.into_iter().find(|disk| is_it(&disk_name(disk))) else {
            return Ok(None);
        };
        let whole = tracking.whole.get(&disk_name(&disk)).is_some_and(|began| {
            let now = disk.backing.change_id.as_deref();
            began.capacity == disk.capacity && now.is_some_and(|now| era(now) == era(&began.change_id))
        });
        if !whole || !self.is_on_vmfs(&disk).await? {
            return Ok(None);
        }
        let (machine, at) = (&vm.moref, Some(&snapshot.moref));
        match self.vim.changed_areas(machine, at, disk.key, disk.capacity, EVERYTHING).await {
            Ok(areas) if areas.is_empty() || areas == [Run::new(0, disk.capacity)] => Ok(None),
            Ok(areas) => Ok(Some(areas)),
            Err(e) if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::Denied) => Err(e.into()),
            Err(e) => {
                tracing::info!(disk = %of.disk, error = %e, "what is in use is not told: all is read");
                Ok(None)
            }
        }
    }

    async fn is_on_vmfs(&self, disk: &site_recovery_vim::Disk) -> Result<bool> {
        let files: Vec<_> = disk.backing.file.iter().chain(&disk.backing.parents).collect();
        let all = self.vim.datastores().await?;
        let vmfs = |name: &str| {
            let mut found = all.iter().filter(|store| store.name == name).peekable();
            found.peek().is_some() && found.all(|store| store.kind.as_deref() == Some("VMFS"))
        };
        Ok(!files.is_empty() && files.iter().all(|file| vmfs(file.datastore())))
    }
}

//! A disk at a point, and the hold that keeps the point while somebody reads it.

use crate::map::Map;
use crate::reader::Reader;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskId, Error, Extent, Fill, MachineId, PointId, Pool, Result, Run};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Points that are open in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenPoints(Arc<Mutex<BTreeMap<(MachineId, PointId), usize>>>);

impl OpenPoints {
    pub(crate) fn hold(&self, machine: &MachineId, point: PointId) -> Hold {
        let key = (machine.clone(), point);
        *self.0.lock().expect("no panic under this lock").entry(key.clone()).or_default() += 1;
        Hold { open: self.clone(), key }
    }

    pub(crate) fn of(&self, machine: &MachineId) -> Vec<PointId> {
        let open = self.0.lock().expect("no panic under this lock");
        open.keys().filter(|(m, _)| m == machine).map(|(_, point)| *point).collect()
    }
}

/// While it lives, the point is not dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    open: OpenPoints,
    key: (MachineId, PointId),
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().expect("no panic under this lock");
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct PointDisk {
    pub(crate) id: DiskId,
    pub(crate) size: u64,
    pub(crate) map: Arc<Map>,
    pub(crate) reader: Reader,
    pub(crate) _hold: Arc<Hold>,
}

#[async_trait]
impl Disk for PointDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.start.saturating_add(range.len).min(self.size);
        let mut extents: Vec<Extent> = vec![];
        let range = Run::new(range.start, end.saturating_sub(range.start));
        for (run, held) in self.map.pieces(&self.id, range).await? {
            let is_data = held.is_some_and(|held| held.place().is_some());
            let fill = if is_data { Fill::Data } else { Fill::Zero };
            match extents.last_mut() {
                Some(last) if last.fill == fill => last.run.len += run.len,
                _ if run.len > 0 => extents.push(Extent { run, fill }),
                _ => {}
            }
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.start.checked_add(run.len).is_none_or(|end| end > self.size) {
            let value = format!("{} bytes at {}", run.len, run.start);
            let rule = format!("the disk has {} bytes", self.size);
            return Err(Error::invalid("run", value, &rule, "read inside the disk").with("disk", &self.id));
        }
        let pieces = self.map.pieces(&self.id, run).await?;
        let block = pool.take(run.len as usize).await?;
        let block = self.reader.fill(&self.id, pieces, run.start, block).await?;
        Ok(block.freeze())
    }
}

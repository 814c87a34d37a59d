//! Disks that lie.

use crate::fault::is;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, Disks, Error, Extent, Fill, Pool, Result, Run};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk that does wrong what is wrong now.
#[derive(Debug)]
pub(crate) struct LyingDisk {
    honest: Arc<dyn Disk>,
    reads: AtomicU64,
}

pub(crate) fn lying(disks: Disks) -> Disks {
    let lie = |disk| Arc::new(LyingDisk { honest: disk, reads: AtomicU64::new(0) }) as Arc<dyn Disk>;
    disks.into_iter().map(|(id, disk)| (id, lie(disk))).collect()
}

#[async_trait]
impl Disk for LyingDisk {
    fn size(&self) -> u64 {
        let grown = is("size grows with the reads") && self.reads.load(Ordering::Relaxed) > 0;
        self.honest.size() + if grown { 512 } else { 0 }
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let mut extents = self.honest.extents(range).await?;
        if is("extents leave a gap") && extents.len() > 1 {
            extents.remove(1);
        }
        if is("extents pass the end")
            && let Some(last) = extents.last_mut()
        {
            last.run.len = range.end() - last.run.start;
        }
        if is("data is told as zero") {
            extents.iter_mut().for_each(|e| e.fill = Fill::Zero);
        }
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        if is("a read past the end is cut") {
            let inside = run.intersection(Run::new(0, self.honest.size())).unwrap_or(Run::new(0, 0));
            return self.honest.read(inside, pool).await;
        }
        if is("reads are in memory of their own") {
            return Ok(Bytes::copy_from_slice(&self.honest.read(run, &Pool::new(4 << 20)).await?));
        }
        let bytes = self.honest.read(run, pool).await?;
        if is("a later read differs") && reads > 5 {
            let mut other = bytes.to_vec();
            other[0] ^= 1;
            return Ok(Bytes::from(other));
        }
        Ok(bytes)
    }
}

/// Bytes that hold nothing else up.
#[derive(Debug)]
pub(crate) struct Copied(pub(crate) Vec<u8>);

#[async_trait]
impl Disk for Copied {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let inside = range.intersection(Run::new(0, self.size()));
        Ok(inside.into_iter().map(|run| Extent { run, fill: Fill::Data }).collect())
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        let bytes = self.0.get(run.start as usize..run.end() as usize);
        let bytes = bytes.ok_or_else(|| Error::invalid("run", run.start, "inside the disk", "read less"))?;
        let mut block = pool.take(bytes.len()).await?;
        block.copy_from_slice(bytes);
        Ok(block.freeze())
    }
}

/// All bytes of a disk.
pub(crate) async fn read(disk: &Arc<dyn Disk>) -> Result<Vec<u8>> {
    Ok(disk.read(Run::new(0, disk.size()), &Pool::new(16 << 20)).await?.to_vec())
}

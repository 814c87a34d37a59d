//! A disk in the making: a page blob of its own, until Azure has made a disk of it.

use crate::extents::extents;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use site_recovery::{ChangeSet, Disk, DiskId, DiskMut, Extent, Pool, Result, Run};
use site_recovery_azure_blob::{LARGEST_WRITE, PAGE, PageBlob};
use std::sync::{Mutex, PoisonError};

/// An image that is written, and what was written since it was opened.
#[derive(Debug)]
pub(super) struct WorkImage {
    id: DiskId,
    pages: PageBlob,
    size: u64,
    /// Which sequence number of the blob it is written under.
    sequence: u64,
    written: Mutex<ChangeSet>,
    /// Two writes of parts of one page would undo each other.
    writing: tokio::sync::Mutex<()>,
}

impl WorkImage {
    pub(super) fn new(id: DiskId, pages: PageBlob, size: u64, sequence: u64) -> Self {
        Self { id, pages, size, sequence, written: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }

    pub(super) fn written(&self) -> ChangeSet {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, run: Run) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).add(&self.id, run);
    }

    /// The pages that hold a run: past the disk's end as well, where its last page goes on.
    fn pages_of(run: Run) -> Run {
        let start = run.start / PAGE * PAGE;
        Run::new(start, run.end().next_multiple_of(PAGE) - start)
    }

    async fn put(&self, start: u64, data: &[u8]) -> Result<()> {
        let run = Run::new(start, data.len() as u64);
        let whole = Self::pages_of(run);
        let mut bytes = BytesMut::zeroed(whole.len as usize);
        if whole != run {
            self.pages.read(None, whole, &mut bytes).await?;
        }
        let at = (start - whole.start) as usize;
        bytes[at..at + data.len()].copy_from_slice(data);
        Ok(self.pages.write(whole.start, bytes.freeze(), self.sequence).await?)
    }
}

#[async_trait]
impl Disk for WorkImage {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let Some(range) = range.intersection(Run::new(0, self.size)) else { return Ok(vec![]) };
        Ok(extents(self.pages.ranges(None, range).await?, range))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.size)?;
        let mut block = pool.take(run.len as usize).await?;
        if run.len > 0 {
            self.pages.read(None, run, &mut block).await?;
        }
        Ok(block.freeze())
    }
}

#[async_trait]
impl DiskMut for WorkImage {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        let run = Run::new(start, data.len() as u64);
        run.must_be_inside(self.size)?;
        let _alone = self.writing.lock().await;
        self.note(run);
        for piece in run.pieces(LARGEST_WRITE as u64) {
            let at = (piece.start - start) as usize;
            self.put(piece.start, &data[at..at + piece.len as usize]).await?;
        }
        Ok(())
    }

    async fn zero(&self, run: Run) -> Result<()> {
        run.must_be_inside(self.size)?;
        let _alone = self.writing.lock().await;
        self.note(run);
        let start = run.start.next_multiple_of(PAGE).min(run.end());
        // What lies behind the disk's end is zeros in any case.
        let end =
            if run.end() == self.size { run.end().next_multiple_of(PAGE) } else { run.end() / PAGE * PAGE };
        if start < end {
            self.pages.clear(Run::new(start, end - start), self.sequence).await?;
        }
        for part in [
            Run::new(run.start, start - run.start),
            Run::new(end.max(start), run.end().saturating_sub(end.max(start))),
        ] {
            if part.len > 0 {
                self.put(part.start, &vec![0; part.len as usize]).await?;
            }
        }
        Ok(())
    }

    /// What was acknowledged is durable already.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}

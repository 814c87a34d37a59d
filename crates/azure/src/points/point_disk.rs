//! A disk at a point: a snapshot of its page blob, without the footer.

use super::open::Hold;
use crate::extents::extents;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskId, Error, ErrorKind, Extent, PointId, Pool, Result, Run};
use site_recovery_azure_blob::{Error as BlobError, PageBlob, SnapshotId};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct PointDisk {
    pub(super) id: DiskId,
    pub(super) point: PointId,
    pub(super) size: u64,
    pub(super) pages: PageBlob,
    pub(super) snapshot: SnapshotId,
    pub(super) _hold: Arc<Hold>,
}

impl PointDisk {
    fn failed(&self, error: BlobError) -> Error {
        match error {
            BlobError::Absent { .. } => {
                let message = format!("the snapshot of disk {} of point {} is gone", self.id, self.point);
                Error::new(ErrorKind::Corrupt, message).caused_by(error)
            }
            other => Error::from(other).with("disk", &self.id).with("point", self.point),
        }
    }
}

#[async_trait]
impl Disk for PointDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let Some(range) = range.intersection(Run::new(0, self.size)) else { return Ok(vec![]) };
        let data = self.pages.ranges(Some(&self.snapshot), range).await.map_err(|e| self.failed(e))?;
        Ok(extents(data, range))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.size).map_err(|e| e.with("disk", &self.id))?;
        let mut block = pool.take(run.len as usize).await?;
        if run.len > 0 {
            let read = self.pages.read(Some(&self.snapshot), run, &mut block).await;
            read.map_err(|e| self.failed(e))?;
        }
        Ok(block.freeze())
    }
}

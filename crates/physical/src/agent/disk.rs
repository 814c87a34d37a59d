//! A disk of a capture.

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, Extent, Pool, Result, Run};
use site_recovery_register::{Told, blocking};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(crate) struct CapturedDisk(Arc<Open>);

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    size: u64,
}

impl CapturedDisk {
    /// The first `size` bytes of a snapshot: it may be larger where the disk grew since.
    pub(crate) fn open(path: &Path, size: u64) -> Result<Self> {
        let file = File::open(path).told("open", path)?;
        Ok(Self(Arc::new(Open { file, path: path.to_owned(), size })))
    }
}

#[async_trait]
impl Disk for CapturedDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let disk = Arc::clone(&self.0);
        blocking(move || site_recovery_sparse::extents(&disk.file, range, disk.size).told("map", &disk.path))
            .await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.0.size)?;
        let mut block = pool.take(run.len as usize).await?;
        let disk = Arc::clone(&self.0);
        blocking(move || {
            disk.file.read_exact_at(&mut block, run.start).told("read", &disk.path)?;
            Ok(block.freeze())
        })
        .await
    }
}

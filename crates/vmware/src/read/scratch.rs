//! A disk that was fetched whole: a sparse file without a name, which goes with its last handle, and with this program.

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, Extent, Pool, Result, Run};
use site_recovery_register::{Told, blocking};
use site_recovery_sparse::extents;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that is filled, then read as a disk. What was never written are holes, which read as zeros.
#[derive(Debug)]
pub(crate) struct Scratch {
    file: File,
    /// For people.
    dir: PathBuf,
    size: u64,
}

/// What was fetched, as a disk. Nobody writes to it any more.
#[derive(Debug, Clone)]
pub(crate) struct ScratchDisk(Arc<Scratch>);

impl Scratch {
    /// In a folder; room is taken as it is filled.
    pub(crate) fn new(dir: &Path, size: u64) -> Result<Self> {
        let file = tempfile::tempfile_in(dir).told("make a scratch file in", dir)?;
        file.set_len(size).told("size a scratch file in", dir)?;
        Ok(Self { file, dir: dir.to_owned(), size })
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).told("write to a scratch file in", &self.dir)
    }

    pub(crate) fn into_disk(self) -> ScratchDisk {
        ScratchDisk(Arc::new(self))
    }
}

#[async_trait]
impl Disk for ScratchDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let scratch = Arc::clone(&self.0);
        blocking(move || {
            extents(&scratch.file, range, scratch.size).told("map a scratch file in", &scratch.dir)
        })
        .await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.0.size)?;
        let mut block = pool.take(run.len as usize).await?;
        let scratch = Arc::clone(&self.0);
        blocking(move || {
            scratch.file.read_exact_at(&mut block, run.start).told("read a scratch file in", &scratch.dir)?;
            Ok(block.freeze())
        })
        .await
    }
}

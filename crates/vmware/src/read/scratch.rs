//! A disk that was fetched whole: a sparse file without a name, which goes with its last handle, and with this program.

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use site_recovery::{Disk, Error, Extent, Fill, Pool, Result, Run};
use site_recovery_register::{Told, blocking};
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

    /// The extents of `range`, cut to the disk. What the file system cannot tell is data.
    fn extents(&self, range: Run) -> std::io::Result<Vec<Extent>> {
        let end = range.start.saturating_add(range.len).min(self.size);
        let (mut at, mut all) = (range.start, vec![]);
        let mut add = |start: u64, end: u64, fill: Fill| {
            if end > start {
                all.push(Extent { run: Run::new(start, end - start), fill });
            }
        };
        while at < end {
            let data = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(data) => data.min(end),
                Err(Errno::NXIO) => end,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(e) => return Err(e.into()),
            };
            add(at, data, Fill::Zero);
            let hole = match rustix::fs::seek(&self.file, SeekFrom::Hole(data)) {
                Ok(hole) => hole.min(end),
                Err(Errno::NXIO | Errno::INVAL | Errno::OPNOTSUPP) => end,
                Err(e) => return Err(e.into()),
            };
            add(data, hole, Fill::Data);
            at = hole;
        }
        Ok(all)
    }
}

#[async_trait]
impl Disk for ScratchDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let scratch = Arc::clone(&self.0);
        blocking(move || scratch.extents(range).told("map a scratch file in", &scratch.dir)).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.start.checked_add(run.len).is_none_or(|end| end > self.0.size) {
            let value = format!("{} bytes from {}", run.len, run.start);
            let rule = format!("the disk has {} bytes", self.0.size);
            return Err(Error::invalid("run", value, &rule, "stay inside the disk"));
        }
        let mut block = pool.take(run.len as usize).await?;
        let scratch = Arc::clone(&self.0);
        blocking(move || {
            scratch.file.read_exact_at(&mut block, run.start).told("read a scratch file in", &scratch.dir)?;
            Ok(block.freeze())
        })
        .await
    }
}

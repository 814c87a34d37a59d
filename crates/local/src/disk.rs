//! Disks that are files: those of a capture, and those that the way back lands on.

use crate::handles::Ticket;
use crate::home::Held;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskMut, Extent, Pool, Result, Run};
use site_recovery_register::Told;
use site_recovery_register::blocking;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk file that nobody writes any more.
#[derive(Debug, Clone)]
pub(crate) struct FileDisk(Arc<Open>);

#[derive(Debug)]
struct Open {
    file: File,
    path: PathBuf,
    size: u64,
}

impl FileDisk {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).told("open", path)?;
        let size = file.metadata().told("look at", path)?.len();
        Ok(Self(Arc::new(Open { file, path: path.to_owned(), size })))
    }
}

impl Open {
    fn inside(&self, run: Run) -> Result<()> {
        run.must_be_inside(self.size).map_err(|e| e.with("file", self.path.display()))
    }
}

#[async_trait]
impl Disk for FileDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let disk = Arc::clone(&self.0);
        blocking(move || site_recovery_sparse::extents(&disk.file, range, disk.size).told("map", &disk.path))
            .await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.0.inside(run)?;
        let mut block = pool.take(run.len as usize).await?;
        let disk = Arc::clone(&self.0);
        blocking(move || {
            disk.file.read_exact_at(&mut block, run.start).told("read", &disk.path)?;
            Ok(block.freeze())
        })
        .await
    }
}

/// A disk of an attached machine: ours until its handles are ended.
#[derive(Debug)]
pub(crate) struct LandingDisk {
    disk: FileDisk,
    ticket: Ticket,
}

impl LandingDisk {
    pub(crate) fn open(held: &Held, ticket: Ticket) -> Result<Self> {
        let path = &held.path;
        let file = OpenOptions::new().read(true).write(true).open(path).told("open", path)?;
        let size = file.metadata().told("look at", path)?.len();
        Ok(Self { disk: FileDisk(Arc::new(Open { file, path: path.clone(), size })), ticket })
    }

    /// Does something to the file while nobody can end the handle.
    async fn with(
        &self,
        doing: &'static str,
        f: impl FnOnce(&File) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let (disk, ticket) = (Arc::clone(&self.disk.0), self.ticket.clone());
        blocking(move || {
            let _held = ticket.hold()?;
            f(&disk.file).told(doing, &disk.path)
        })
        .await
    }
}

#[async_trait]
impl Disk for LandingDisk {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        self.with("read", |_| Ok(())).await?;
        self.disk.extents(range).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.with("read", |_| Ok(())).await?;
        self.disk.read(run, pool).await
    }
}

#[async_trait]
impl DiskMut for LandingDisk {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.disk.0.inside(Run::new(start, data.len() as u64))?;
        self.with("write", move |file| file.write_all_at(&data, start)).await
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.disk.0.inside(run)?;
        self.with("zero", move |file| site_recovery_sparse::zero(file, run)).await
    }

    async fn flush(&self) -> Result<()> {
        self.with("flush", File::sync_data).await
    }
}

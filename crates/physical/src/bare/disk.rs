//! A landing disk: a slot that is held alone, until all handles to it are ended.

use super::slot::Slot;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskMut, Extent, Pool, Result, Run};
use site_recovery_register::{Told, blocking, refused};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

/// A slot that nobody else can open. Whoever ends it waits for what is being written.
#[derive(Debug)]
pub(crate) struct Held {
    slot: Slot,
    size: u64,
    file: RwLock<Option<File>>,
}

impl Held {
    pub(crate) fn take(slot: &Slot) -> Result<Arc<Self>> {
        let file = slot.take()?;
        let size = slot.read()?.size;
        Ok(Arc::new(Self { slot: slot.clone(), size, file: RwLock::new(Some(file)) }))
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Whether it still has the size that it had: a plain file that grew is taken anew.
    pub(crate) fn is_as_it_was(&self) -> bool {
        self.slot.read().is_ok_and(|r| r.size == self.size)
    }

    fn with<T>(&self, doing: &str, f: impl FnOnce(&File) -> std::io::Result<T>) -> Result<T> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &*file else {
            return Err(refused("this disk handle has ended: the disks were given back"));
        };
        f(file).told(doing, &self.slot.path)
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.with("flush", File::sync_data)
    }

    /// Ends every handle: from here on nothing is written by any of them, and the slot is free.
    pub(crate) fn end(&self) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn inside(&self, run: Run) -> Result<()> {
        run.must_be_inside(self.size).map_err(|e| e.with("disk", &self.slot.id))
    }
}

/// A handle.
#[derive(Debug)]
pub(crate) struct LandingDisk(pub(crate) Arc<Held>);

impl LandingDisk {
    async fn on_thread<T: Send + 'static>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&File) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let held = Arc::clone(&self.0);
        blocking(move || held.with(doing, f)).await
    }
}

#[async_trait]
impl Disk for LandingDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let size = self.0.size;
        self.on_thread("map", move |file| site_recovery_sparse::extents(file, range, size)).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.0.inside(run)?;
        let mut block = pool.take(run.len as usize).await?;
        let read = move |file: &File| file.read_exact_at(&mut block, run.start).map(|()| block.freeze());
        self.on_thread("read", read).await
    }
}

#[async_trait]
impl DiskMut for LandingDisk {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.0.inside(Run::new(start, data.len() as u64))?;
        self.on_thread("write", move |file| file.write_all_at(&data, start)).await
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.0.inside(run)?;
        self.on_thread("zero", move |file| site_recovery_sparse::zero(file, run)).await
    }

    async fn flush(&self) -> Result<()> {
        self.on_thread("flush", File::sync_data).await
    }
}

//! Disks that are block devices or files here: those of a capture that is attached to the appliance, and those that the way back
//! lands on.

use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskMut, Extent, Pool, Result, Run};
use site_recovery_register::{Told, blocking, durable, refused};
use site_recovery_sparse::{extents, size_of, zero};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A device, until all handles to it are ended. Whoever ends it waits for what is being read or written.
#[derive(Debug)]
pub(crate) struct Device {
    path: PathBuf,
    size: u64,
    file: RwLock<Option<File>>,
    /// Made before the next write, where that has to be known.
    tells: Mutex<Option<PathBuf>>,
}

impl Device {
    /// Opens the first `size` bytes of a device, for reading or for both.
    ///
    /// # Errors
    /// `Conflict` where it is smaller; those of the file system.
    pub(crate) fn open(path: &Path, size: u64, writable: bool) -> Result<Arc<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(writable);
        if writable && std::fs::metadata(path).is_ok_and(|m| m.file_type().is_block_device()) {
            // Nobody else here has it: no file system, no array, no volume group of this host's.
            options.custom_flags(rustix::fs::OFlags::EXCL.bits() as i32);
        }
        let file = options.open(path).told("open", path)?;
        let has = size_of(&file).told("look at", path)?;
        if has < size {
            let message =
                format!("{} has {has} bytes, and the disk {size}: it is another one", path.display());
            return Err(site_recovery_register::conflict(message));
        }
        Ok(Arc::new(Self {
            path: path.to_owned(),
            size,
            file: RwLock::new(Some(file)),
            tells: Mutex::default(),
        }))
    }

    pub(crate) fn is_at(&self, path: &Path, size: u64) -> bool {
        self.path == path && self.size == size
    }

    /// From here on nothing is read or written by any handle.
    pub(crate) fn end(&self) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(crate) fn sync(&self) -> Result<()> {
        self.with("flush", File::sync_data)
    }

    /// The next write makes this file first, durably.
    pub(crate) fn tell_of_writes(&self, marker: PathBuf) {
        *self.tells.lock().unwrap_or_else(PoisonError::into_inner) = Some(marker);
    }

    fn told(&self) -> Result<()> {
        let mut tells = self.tells.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(marker) = &*tells {
            durable::write_bytes(marker, b"written\n")?;
            *tells = None;
        }
        Ok(())
    }

    fn with<T>(&self, doing: &str, f: impl FnOnce(&File) -> std::io::Result<T>) -> Result<T> {
        let file = self.file.read().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = &*file else {
            return Err(refused("this disk handle has ended: the disks were given back"));
        };
        f(file).told(doing, &self.path)
    }

    fn inside(&self, run: Run) -> Result<()> {
        run.must_be_inside(self.size).map_err(|e| e.with("device", self.path.display()))
    }
}

/// A handle.
#[derive(Debug, Clone)]
pub(crate) struct DeviceDisk(pub(crate) Arc<Device>);

impl DeviceDisk {
    async fn on_thread<T: Send + 'static>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&File) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let device = Arc::clone(&self.0);
        blocking(move || device.with(doing, f)).await
    }

    async fn changing(
        &self,
        doing: &'static str,
        f: impl FnOnce(&File) -> std::io::Result<()> + Send + 'static,
    ) -> Result<()> {
        let device = Arc::clone(&self.0);
        blocking(move || {
            device.told()?;
            device.with(doing, f)
        })
        .await
    }
}

#[async_trait]
impl Disk for DeviceDisk {
    fn size(&self) -> u64 {
        self.0.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let size = self.0.size;
        self.on_thread("map", move |file| extents(file, range, size)).await
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        self.0.inside(run)?;
        let mut block = pool.take(run.len as usize).await?;
        let read = move |file: &File| file.read_exact_at(&mut block, run.start).map(|()| block.freeze());
        self.on_thread("read", read).await
    }
}

#[async_trait]
impl DiskMut for DeviceDisk {
    async fn write(&self, start: u64, data: Bytes) -> Result<()> {
        self.0.inside(Run::new(start, data.len() as u64))?;
        self.changing("write", move |file| file.write_all_at(&data, start)).await
    }

    async fn zero(&self, run: Run) -> Result<()> {
        self.0.inside(run)?;
        self.changing("zero", move |file| zero(file, run)).await
    }

    async fn flush(&self) -> Result<()> {
        self.on_thread("flush", File::sync_data).await
    }
}

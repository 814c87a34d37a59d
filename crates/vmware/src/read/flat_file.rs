//! A disk's flat file, by ranges over HTTPS from its datastore.

use super::merged::{Merged, Ranges};
use crate::Inner;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Block, Disk, Error, ErrorKind, Extent, Fill, Pool, Result, Run};
use site_recovery_register::refused;
use site_recovery_vim::{self as vim, DatastoreFile, DatastorePath, FileRefusal, Moref};
use std::fmt;

/// A flat file on a datastore.
pub(crate) struct FlatFile {
    bytes: Merged<DatastoreFile>,
    path: DatastorePath,
    size: u64,
}

impl fmt::Debug for FlatFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlatFile({}, {} bytes)", self.path, self.size)
    }
}

#[async_trait]
impl Ranges for DatastoreFile {
    async fn read(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(DatastoreFile::read(self, start, buffer).await?)
    }
}

#[async_trait]
impl Disk for FlatFile {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let end = range.end().min(self.size);
        let run = Run::new(range.start, end.saturating_sub(range.start));
        Ok(if run.len == 0 { vec![] } else { vec![Extent { run, fill: Fill::Data }] })
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        if run.start.checked_add(run.len).is_none_or(|end| end > self.size) {
            let value = format!("{} bytes from {}", run.len, run.start);
            let rule = format!("the disk has {} bytes", self.size);
            return Err(Error::invalid("run", value, &rule, "stay inside the disk"));
        }
        let block = pool.take(run.len as usize).await?;
        self.bytes.read(run, block).await.map(Block::freeze)
    }
}

impl Inner {
    /// The flat file of a disk, where one byte of it can be read.
    ///
    /// # Errors
    /// `Unsupported` where the host does not give it out, or where it alone is not the disk; those of any read.
    pub(crate) async fn flat_file(&self, datastores: &[Moref], disk: &vim::Disk) -> Result<FlatFile> {
        let descriptor = disk.backing.file.as_ref().expect("looked at before");
        if !disk.backing.parents.is_empty() {
            let message = format!("{descriptor} stands on another file, and is not read over HTTPS");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let of: Vec<Moref> = disk.backing.datastore.iter().chain(datastores).cloned().collect();
        let datacenter = self.datacenter_of(&of).await?.map(|found| found.path).unwrap_or_default();
        let flat =
            descriptor.flat().ok_or_else(|| refused(format!("{descriptor} is no descriptor of a disk")))?;
        let file = self.vim.file(&datacenter, flat);
        match file.read(0, &mut [0]).await {
            Ok(()) => {
                let path = file.path().clone();
                Ok(FlatFile { bytes: Merged::new(file), path, size: disk.capacity })
            }
            Err(vim::Error::File {
                path,
                why: why @ (FileRefusal::Locked(_) | FileRefusal::RangeIgnored | FileRefusal::NotFound),
            }) => {
                let message = format!("{path} cannot be read over HTTPS: {why}");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
            Err(e) => Err(e.into()),
        }
    }
}

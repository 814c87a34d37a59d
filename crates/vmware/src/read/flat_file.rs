//! A disk's flat file, by ranges over HTTPS from its datastore.

use super::merged::{Merged, Ranges};
use crate::discover::datacenter_of;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Block, Disk, Error, ErrorKind, Extent, Fill, Pool, Result, Run};
use site_recovery_vim::{self as vim, DatastoreFile, DatastorePath, FileRefusal, Moref, Vim};
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
        run.must_be_inside(self.size)?;
        let block = pool.take(run.len as usize).await?;
        self.bytes.read(run, block).await.map(Block::freeze)
    }
}

/// The flat file of a disk, where one byte of it can be read.
///
/// # Errors
/// `Unsupported` where the host does not give it out, or where it alone is not the disk; those of any read.
pub(crate) async fn flat_file(vim: &Vim, datastores: &[Moref], disk: &vim::Disk) -> Result<FlatFile> {
    let unsupported = |message: String| Err(Error::new(ErrorKind::Unsupported, message));
    let Some(descriptor) = &disk.backing.file else { return unsupported("it has no file".into()) };
    if !disk.backing.parents.is_empty() {
        return unsupported(format!("{descriptor} stands on another file, and is not read over HTTPS"));
    }
    let Some(flat) = descriptor.flat() else {
        return unsupported(format!("{descriptor} is no descriptor of a disk"));
    };
    let of: Vec<Moref> = disk.backing.datastore.iter().chain(datastores).cloned().collect();
    let datacenter = datacenter_of(vim, &of).await?.map(|found| found.path).unwrap_or_default();
    let file = vim.file(&datacenter, flat);
    match file.read(0, &mut [0]).await {
        Ok(()) => {
            let path = file.path().clone();
            Ok(FlatFile { bytes: Merged::new(file), path, size: disk.capacity })
        }
        Err(vim::Error::File {
            path,
            why: why @ (FileRefusal::Locked(_) | FileRefusal::RangeIgnored | FileRefusal::NotFound),
        }) => unsupported(format!("{path} cannot be read over HTTPS: {why}")),
        Err(e) => Err(e.into()),
    }
}

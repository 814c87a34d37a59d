//! A disk of a snapshot by an NFC lease: the whole of it comes over HTTPS, into a file of ours, before the first byte is read.
//! For a first copy, where nothing better reads a running machine's disk.

use super::scratch::{Scratch, ScratchDisk};
use super::stream_vmdk::StreamVmdk;
use bytes::Bytes;
use futures_util::future::join;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::blocking;
use site_recovery_vim::{Download, Moref, Vim};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces of the stream that wait for the file.
const WAITING: usize = 16;

/// Fetches a disk, by the key of its device in the snapshot, into a file without a name in the folder `scratch`, which needs room
/// for all of the disk's data. The lease has to be ready within the limit; after that a stream that stalls for
/// [`Limits::answer_ms`](site_recovery_vim::Limits::answer_ms) ends it, and nothing else does.
///
/// # Errors
/// `NotFound` for a key that the snapshot does not have, `Conflict` for another capacity, before anything is asked for;
/// `Unsupported` where the lease does not give the disk out; `Corrupt` for a stream that is not whole; those of the lease and of
/// the file.
///
/// # Cancel safety
/// Dropped, it leaves no file, and its lease is aborted in the background.
pub(crate) async fn by_lease(
    vim: &Vim,
    snapshot: &Moref,
    disk: i32,
    capacity: u64,
    scratch: &Path,
    limit: Duration,
) -> Result<ScratchDisk> {
    let devices = vim.snapshot_devices(snapshot).await?;
    let found = devices.disks.iter().find(|d| d.key == disk);
    let found = found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("{snapshot} has no disk with the key {disk}"))
    })?;
    if found.capacity != capacity {
        let message = format!("disk {disk} of {snapshot} has {} bytes, not {capacity}", found.capacity);
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let file = Scratch::new(scratch, capacity)?;
    let lease = vim.export_snapshot(snapshot, limit).await?;
    let device = lease.device_of(&devices, found).ok_or_else(|| {
        let message = format!("the lease on {snapshot} does not give out the disk with the key {disk}");
        Error::new(ErrorKind::Unsupported, message)
    })?;
    let download = lease.fetch(device, most(capacity)).await?;
    let file = fill(download, file, capacity).await?;
    if let Err(error) = lease.complete().await {
        tracing::debug!(%snapshot, %error, "a lease ends by itself; its disk was whole before");
    }
    Ok(file.into_disk())
}

/// No honest stream is longer: what does not compress has the head and the padding of each grain beside it.
fn most(capacity: u64) -> u64 {
    capacity.saturating_add(capacity / 4).saturating_add(16 << 20)
}

async fn fill(mut download: Download<'_>, file: Scratch, capacity: u64) -> Result<Scratch> {
    let (sender, mut pieces) = mpsc::channel::<Bytes>(WAITING);
    let filling = blocking(move || {
        let mut stream = StreamVmdk::new(capacity);
        while let Some(bytes) = pieces.blocking_recv() {
            stream.push(&bytes, &mut |at, bytes| file.write(at, bytes))?;
        }
        stream.finish().map(|()| file)
    });
    let fetching = async move {
        while let Some(bytes) = download.chunk().await? {
            // Whoever fills the file has given up, and says why.
            if sender.send(bytes).await.is_err() {
                break;
            }
        }
        Ok::<(), Error>(())
    };
    let (filled, fetched) = join(filling, fetching).await;
    fetched?;
    filled
}

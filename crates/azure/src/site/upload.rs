//! The second way to a disk, where Azure cannot import it: one that waits for its bytes, which are put through an address that Azure
//! signs. So it is in another region than the account's, and above 8 TiB, which no page blob holds.
//!
//! - What is put is a point, or its prepared copy: each try puts the same bytes, and one that was broken off is begun from the start.
//! - All pages and then the footer go through one address. One that is not taken any more may have taken the bytes with it.
//! - Each disk is put, noted and ended for itself: a small one does not wait for a large one, longer than its address lasts.
//! - The mark says that a disk is whole before its access is ended. One whose access has ended, and of which the mark says nothing,
//!   was ended by somebody else: it is made anew.
//! - Only pages are put. A Put Blob at such an address makes a disk of no use (Azure/azure-storage-azcopy#1582).
//! - Azure ends no access to a disk without a footer (`InvalidVhd`, microsoft/AzureStorageExplorer#8800), and deletes none that is
//!   handed out: one that is given up gets a footer first.

use super::Site;
use super::exported::is_void;
use super::image::WorkImage;
use super::import::missing;
use super::mark::{Held, Made, Mark, Marked};
use super::register::{Look, Turn};
use super::together::Together;
use crate::vhd;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use site_recovery::{
    Disk, DiskId, DiskRole, Disks, Error, ErrorKind, Fill, Machine, Pool, Replica, Result, Run,
};
use site_recovery_azure_arm::{self as arm, Access, DiskState, Pending};
use site_recovery_azure_blob::{Error as BlobError, Image, LARGEST_WRITE, PAGE, Secret};
use site_recovery_record::is_zero;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What a disk is asked for its extents at a time.
const WINDOW: u64 = 64 << 30;
/// Pieces of one disk that are under way at once.
const AT_ONCE: usize = 4;
/// Memory of all disks of a machine together.
const MEMORY: usize = 16 * LARGEST_WRITE;
/// The least that is uploaded, without the footer (azure-docs, disks, `uploadSizeBytes`).
const LEAST: u64 = 20 << 20;
/// How long an address lasts, in seconds: a day, and as long as 10 MiB a second take.
const DAY: u64 = 24 * 60 * 60;
const PACE: u64 = 10 << 20;

/// What a disk of so many bytes has in Azure, without the footer.
pub(super) fn size(bytes: u64) -> u64 {
    vhd::rounded(bytes).max(LEAST)
}

/// Whether a disk waits for its bytes, or for more of them.
pub(super) fn is_open(disk: &arm::Disk) -> bool {
    matches!(disk.state, DiskState::ReadyToUpload | DiskState::ActiveUpload)
}

/// Whether the mark says that this very disk is whole.
pub(super) fn is_noted(disk: &arm::Disk, held: &Held) -> bool {
    held.unique.is_some() && held.unique == disk.unique_id
}

/// Why bytes did not get through an address.
enum Broken {
    /// It is not taken any more.
    Void(BlobError),
    Other(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<BlobError> for Broken {
    fn from(error: BlobError) -> Self {
        if is_void(&error) { Self::Void(error) } else { Self::Other(error.into()) }
    }
}

impl Broken {
    fn told(self) -> Error {
        match self {
            Self::Void(error) => {
                let remedy = "let this host reach the addresses that Azure signs, md-*.blob.*, and try again";
                Error::from(error).with("remedy", remedy)
            }
            Self::Other(error) => error,
        }
    }
}

impl Site {
    /// # Errors
    /// `Invalid` for a guest that is to be prepared on a disk of which there is no image.
    pub(super) fn must_be_preparable(&self, machine: &Machine) -> Result<()> {
        let too_large =
            |disk: &&site_recovery::DiskSpec| disk.role == DiskRole::System && !vhd::fits_a_blob(disk.size);
        let Some(disk) = machine.included().find(too_large).filter(|_| self.preparation.is_some()) else {
            return Ok(());
        };
        let value = format!("{} of {} bytes", disk.id, disk.size);
        let rule =
            "a guest is prepared on an image of the disk that it starts from, a page blob of 8 TiB at most";
        Err(Error::invalid(
            "machine.disks",
            value,
            rule,
            "make it smaller, or open the site without a preparation",
        ))
    }

    /// Puts the bytes of the point into the disks that wait for them, and ends the access to each that is whole.
    pub(super) async fn upload(
        &self,
        together: &Together<'_>,
        from: &Arc<dyn Replica>,
        marked: &mut Marked,
        open: &[(&DiskId, &arm::Disk)],
    ) -> Result<()> {
        if open.is_empty() {
            return Ok(());
        }
        if open.iter().any(|(id, _)| marked.mark.disks.get(*id).is_some_and(|held| held.unique.is_some())) {
            // Until it is put again, nobody takes it for whole.
            self.note(together.op, together.what, marked, |mark, _| {
                for (id, _) in open {
                    mark.disks.entry((*id).clone()).and_modify(|held| held.unique = None);
                }
            })
            .await?;
        }
        let sources = self.sources(together, from, &marked.mark, open).await?;
        let (pool, marked) = (Pool::new(MEMORY), Mutex::new(marked));
        let put = open.iter().zip(sources).map(async |((id, disk), source)| {
            let put = async {
                self.put_disk(together, disk, source.as_ref(), &pool).await?;
                self.end_upload(together, &marked, id, disk).await
            };
            put.await.map_err(|e: Error| e.with("disk", id))
        });
        futures_util::future::join_all(put).await.into_iter().collect()
    }

    /// What is to be put into each disk: its prepared copy, or the point itself.
    async fn sources(
        &self,
        together: &Together<'_>,
        from: &Arc<dyn Replica>,
        mark: &Mark,
        open: &[(&DiskId, &arm::Disk)],
    ) -> Result<Vec<Arc<dyn Disk>>> {
        let (key, what) = (&together.op.key, together.what);
        let held = |id: &DiskId| mark.disks.get(id).ok_or_else(|| missing(what, id));
        let mut disks = Disks::new();
        if open.iter().any(|(id, _)| held(id).is_ok_and(|held| !self.has_image(held.size))) {
            disks = from.open(what.machine.id(), what.point).await?;
        }
        let source = |(id, _): &(&DiskId, &arm::Disk)| -> Result<Arc<dyn Disk>> {
            let size = held(id)?.size;
            if !self.has_image(size) {
                return disks.get(*id).map(Arc::clone).ok_or_else(|| missing(what, id));
            }
            let pages = self.container.pages(&self.names.work(key, id));
            Ok(Arc::new(WorkImage::new((*id).clone(), pages, size, 0)))
        };
        open.iter().map(source).collect()
    }

    /// Where the address is not taken any more, once again from the start through another one.
    async fn put_disk(
        &self,
        together: &Together<'_>,
        disk: &arm::Disk,
        source: &dyn Disk,
        pool: &Pool,
    ) -> Result<()> {
        let mut is_last = false;
        loop {
            let turn = together.step().await?;
            let granted = self.granted(&turn, &disk.name, source.size()).await?;
            drop(turn);
            let image = self.image_at(&granted.done().await?)?;
            match self.put_bytes(&image, &disk.name, source, pool).await {
                Err(Broken::Void(error)) if !is_last => {
                    tracing::warn!(disk = disk.name, %error, "its upload is begun again, through another address");
                    is_last = true;
                }
                put => return put.map_err(Broken::told),
            }
        }
    }

    /// An address that is signed for writing. One that is out already is given again.
    async fn granted(&self, turn: &Turn, name: &str, bytes: u64) -> Result<Pending<Secret>> {
        let seconds = u32::try_from(DAY + bytes / PACE).unwrap_or(u32::MAX);
        self.ask(turn, self.arm.disks(&self.group).grant(name, Access::Write, seconds)).await
    }

    /// What reads as zeros is left out: the disk was made of zeros. The footer comes last.
    async fn put_bytes(
        &self,
        image: &Image,
        name: &str,
        source: &dyn Disk,
        pool: &Pool,
    ) -> std::result::Result<(), Broken> {
        let size = source.size();
        for window in Run::new(0, size).pieces(WINDOW) {
            let extents = source.extents(window).await?;
            let data = extents.into_iter().filter(|extent| extent.fill == Fill::Data);
            let pieces = data.flat_map(|extent| extent.run.aligned(PAGE, size).pieces(LARGEST_WRITE as u64));
            stream::iter(pieces.map(|run| put_piece(image, source, run, pool)))
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
        self.put_footer(image, name, size).await
    }

    async fn put_footer(&self, image: &Image, name: &str, bytes: u64) -> std::result::Result<(), Broken> {
        let end = size(bytes);
        Ok(image.write(end, self.footer(end, name)).await?)
    }

    /// Ends the access to a disk that is whole, once the mark says so of it.
    async fn end_upload(
        &self,
        together: &Together<'_>,
        marked: &Mutex<&mut Marked>,
        id: &DiskId,
        disk: &arm::Disk,
    ) -> Result<()> {
        let turn = together.step().await?;
        let whole = |mark: &mut Mark, _: &mut Made| {
            mark.disks.entry(id.clone()).and_modify(|held| held.unique.clone_from(&disk.unique_id));
        };
        self.note_in(&turn, &mut **marked.lock().await, whole).await?;
        let ended = self.ask(&turn, self.arm.disks(&self.group).revoke(&disk.name)).await?;
        drop(turn);
        self.has_ended(ended, &disk.name).await
    }

    async fn has_ended(&self, ended: Pending<()>, name: &str) -> Result<()> {
        ended.done().await?;
        let disks = self.arm.disks(&self.group);
        self.waited(async || match disks.get(name).await?.map(|disk| disk.state) {
            Some(DiskState::ActiveUpload) => Ok(Look::Busy(format!("disk {name}"))),
            Some(DiskState::ReadyToUpload) => {
                // Its bytes may be gone with the address.
                let message = format!("the address of disk {name} ended before its upload did: try again");
                Err(Error::new(ErrorKind::Unavailable, message))
            }
            Some(_) => Ok(Look::Is(())),
            None => Err(Error::new(ErrorKind::NotFound, format!("disk {name} is gone"))),
        })
        .await
    }

    /// Deletes a disk, one that is being uploaded as well.
    pub(super) async fn delete_disk(&self, turn: &Turn, disk: &arm::Disk, held: &Held) -> Result<()> {
        let disks = self.arm.disks(&self.group);
        if disk.state == DiskState::ActiveUpload {
            let image = self.image_at(&self.granted(turn, &disk.name, held.size).await?.done().await?)?;
            self.put_footer(&image, &disk.name, held.size).await.map_err(Broken::told)?;
            let ended = self.ask(turn, disks.revoke(&disk.name)).await?;
            self.has_ended(ended, &disk.name).await?;
        }
        Ok(self.ask(turn, disks.delete(&disk.name)).await?.done().await?)
    }
}

/// A piece of whole pages, but at the disk's end, where its last page goes on in zeros.
async fn put_piece(
    image: &Image,
    source: &dyn Disk,
    run: Run,
    pool: &Pool,
) -> std::result::Result<(), Broken> {
    let bytes = source.read(run, pool).await?;
    if is_zero(&bytes) {
        return Ok(());
    }
    Ok(image.write(run.start, paged(bytes)).await?)
}

fn paged(bytes: Bytes) -> Bytes {
    let whole = bytes.len().next_multiple_of(PAGE as usize);
    if whole == bytes.len() {
        return bytes;
    }
    let mut padded = BytesMut::from(bytes);
    padded.resize(whole, 0);
    padded.freeze()
}

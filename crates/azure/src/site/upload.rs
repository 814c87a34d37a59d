//! The second way to a disk, where Azure cannot import it: one that waits for its bytes, which are put through an address that Azure
//! signs. So it is in another region than the account's, and above 8 TiB, which no page blob holds.
//!
//! - What is put is a point, or its prepared copy: each try puts the same bytes, and one that was broken off is begun from the start.
//! - All pages and then the footer go through one address. One that is not taken any more may have taken the bytes with it.
//! - The mark says that a disk is whole before its access is ended. One whose access has ended, and of which the mark says nothing,
//!   was ended by somebody else: it is made anew.
//! - Only pages are put. A Put Blob at such an address makes a disk of no use (Azure/azure-storage-azcopy#1582).
//! - Azure ends no access to a disk without a footer (`InvalidVhd`, microsoft/AzureStorageExplorer#8800), and deletes none that is
//!   handed out: one that is given up gets a footer first.

use super::Site;
use super::exported::is_void;
use super::image::WorkImage;
use super::import::missing;
use super::mark::{Held, Marked};
use super::register::{Look, Turn};
use crate::vhd;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use site_recovery::{
    Disk, DiskId, DiskRole, Disks, Error, ErrorKind, Fill, Machine, Op, Pool, Recovery, Replica, Result, Run,
};
use site_recovery_azure_arm::{self as arm, Access, DiskState, Pending};
use site_recovery_azure_blob::{Error as BlobError, Image, PAGE, Secret};
use std::sync::Arc;

/// What one request puts.
const PIECE: u64 = 4 << 20;
/// What a disk is asked for its extents at a time.
const WINDOW: u64 = 64 << 30;
/// Pieces of one disk that are under way at once.
const AT_ONCE: usize = 4;
/// Memory of all disks of a machine together.
const MEMORY: usize = 16 * PIECE as usize;
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

    /// Puts the bytes of the point into the disks that wait for them. Their access stays open.
    pub(super) async fn upload(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
        marked: &mut Marked,
        open: &[(&DiskId, &arm::Disk)],
    ) -> Result<()> {
        if open.is_empty() {
            return Ok(());
        }
        if open.iter().any(|(id, _)| marked.mark.disks.get(*id).is_some_and(|held| held.unique.is_some())) {
            // Until it is put again, nobody takes it for whole.
            self.note(op, what, marked, |mark, _| {
                for (id, _) in open {
                    mark.disks.entry((*id).clone()).and_modify(|held| held.unique = None);
                }
            })
            .await?;
        }
        let held = |id: &DiskId| marked.mark.disks.get(id).ok_or_else(|| missing(what, id));
        let mut disks = Disks::new();
        if open.iter().any(|(id, _)| held(id).is_ok_and(|held| !self.has_image(held.size))) {
            disks = from.open(what.machine.id(), what.point).await?;
        }
        let pool = Pool::new(MEMORY);
        let put = open.iter().map(async |(id, disk)| -> Result<()> {
            let size = held(id)?.size;
            let source: Arc<dyn Disk> = if self.has_image(size) {
                let pages = self.container.pages(&self.names.work(&op.key, id));
                Arc::new(WorkImage::new((*id).clone(), pages, size, 0))
            } else {
                Arc::clone(disks.get(*id).ok_or_else(|| missing(what, id))?)
            };
            self.put_disk(op, what, disk, source.as_ref(), &pool).await.map_err(|e| e.with("disk", id))
        });
        futures_util::future::join_all(put).await.into_iter().collect()
    }

    /// Where the address is not taken any more, once again from the start through another one.
    async fn put_disk(
        &self,
        op: &Op,
        what: &Recovery,
        disk: &arm::Disk,
        source: &dyn Disk,
        pool: &Pool,
    ) -> Result<()> {
        let mut is_last = false;
        loop {
            let turn = self.step(op, what).await?;
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

    fn image_at(&self, address: &Secret) -> Result<Image> {
        let (trust, limits) = &self.images;
        Image::new(address, trust, *limits).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "Azure gave an address that is none").caused_by(e)
        })
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
            let pieces = data.flat_map(|extent| extent.run.aligned(PAGE, size).pieces(PIECE));
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

    /// Ends the access to disks that are whole, and that the mark says so of.
    pub(super) async fn end_uploads(
        &self,
        op: &Op,
        what: &Recovery,
        open: &[(&DiskId, &arm::Disk)],
    ) -> Result<()> {
        let ended = open.iter().map(async |(id, disk)| -> Result<()> {
            let turn = self.step(op, what).await?;
            let ended = self.ask(&turn, self.arm.disks(&self.group).revoke(&disk.name)).await;
            drop(turn);
            let ended = async { self.has_ended(ended?, &disk.name).await }.await;
            ended.map_err(|e| e.with("disk", id))
        });
        futures_util::future::join_all(ended).await.into_iter().collect()
    }

    async fn has_ended(&self, ended: Pending<()>, name: &str) -> Result<()> {
        ended.done().await?;
        let disks = self.arm.disks(&self.group);
        self.waited(async || match disks.get(name).await? {
            Some(disk) if is_open(&disk) => Ok(Look::Busy(format!("disk {name}"))),
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
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    Ok(image.write(run.start, paged(bytes)).await?)
}

fn paged(bytes: Bytes) -> Bytes {
    let whole = bytes.len().next_multiple_of(PAGE as usize);
    if whole == bytes.len() {
        return bytes;
    }
    let mut padded = BytesMut::zeroed(whole);
    padded[..bytes.len()].copy_from_slice(&bytes);
    padded.freeze()
}

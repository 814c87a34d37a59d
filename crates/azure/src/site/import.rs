//! From a point to managed disks: a copy of each image at the service, guest preparation on the copies, and their import, or their
//! [upload](super::upload) where Azure cannot import them.
//!
//! Importing a snapshot of a blob is documented nowhere, and one blob is imported once a minute, so always from a fresh copy.

use super::Site;
use super::claim::is_changing;
use super::image::WorkImage;
use super::mark::{Held, Mark, Marked};
use super::preparation::Images;
use super::together::Together;
use super::upload;
use crate::vhd::{self, FOOTER};
use bytes::Bytes;
use site_recovery::{
    ChangeSet, Disk, DiskId, DiskMut, DiskRole, Disks, Error, ErrorKind, Fill, Firmware, Op, OpKey, OsFamily,
    Pool, Recovery, Replica, Result, Run,
};
use site_recovery_azure_arm::{self as arm, NewDisk, Origin, Provisioning};
use site_recovery_azure_blob::{CopyState, Error as BlobError, PageBlob};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often it is looked at what a copy has become: six hours, a second apart.
const LOOKS: u32 = 6 * 60 * 60;
/// Of disks whose settings name none.
pub(super) const DISK_KIND: &str = "StandardSSD_LRS";
/// How often a copy is asked for where nobody knows whether it was begun.
const ASKS: u32 = 8;
/// What one read of a foreign replica takes.
const PIECE: u64 = 4 << 20;

impl Site {
    /// Makes the disks of the mark from the point. What is there already is taken.
    pub(super) async fn make_disks(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
        marked: &mut Marked,
    ) -> Result<()> {
        let made = self.must_be_made(&marked.mark)?;
        if made.prepared.is_none() {
            if made.tries > 0 {
                // Nobody knows what a preparation that was broken off has written: it begins from the point again.
                let _turn = self.step(op, what).await?;
                self.delete_works(&op.key).await?;
            }
            let copies = self.copies(op, what, from, &marked.mark).await?;
            let prepared = self.prepare(op, what, marked, copies).await?;
            self.note(op, what, marked, |_, made| made.prepared = Some(prepared)).await?;
        }
        let together = Together::new(self, op, what);
        let made = marked.mark.disks.iter().map(async |(id, held)| -> Result<_> {
            let disk = self.made(&together, &marked.mark, id, held).await;
            Ok((id.clone(), disk.map_err(|e| e.with("disk", id))?))
        });
        let made = futures_util::future::join_all(made).await;
        let made = made.into_iter().collect::<Result<BTreeMap<_, _>>>()?;
        let open: Vec<_> = made.iter().filter(|(_, disk)| upload::is_open(disk)).collect();
        self.upload(&together, from, marked, &open).await?;
        self.note(op, what, marked, |mark, _| {
            for (id, disk) in &made {
                if let Some(held) = mark.disks.get_mut(id) {
                    held.unique.clone_from(&disk.unique_id);
                }
            }
        })
        .await?;
        let _turn = self.step(op, what).await?;
        self.delete_works(&op.key).await
    }

    /// Whether Azure makes a disk of an image in the account: it does so in the account's region, and of a page blob.
    pub(super) fn imports(&self, size: u64) -> bool {
        self.is_near && vhd::fits_a_blob(size)
    }

    /// Whether an image of the disk is made in the account: to be imported, or for the guest to be prepared on it.
    pub(super) fn has_image(&self, size: u64) -> bool {
        vhd::fits_a_blob(size) && (self.is_near || self.preparation.is_some())
    }

    /// A copy of each disk of the point that has an image in the account, whole. A copy has the sequence number of what it was made
    /// from.
    async fn copies(
        &self,
        op: &Op,
        what: &Recovery,
        from: &Arc<dyn Replica>,
        mark: &Mark,
    ) -> Result<Vec<Copy>> {
        let own = self.points.as_ref().filter(|points| site_recovery::Role::name(*points) == from.name());
        let work = |id: &DiskId| self.container.pages(&self.names.work(&op.key, id));
        let copied: Vec<_> = mark.disks.iter().filter(|(_, held)| self.has_image(held.size)).collect();
        // Asked for past the turn: nothing is made of a copy but under another look at the register.
        drop(self.step(op, what).await?);
        match own {
            _ if copied.is_empty() => {}
            Some(points) => {
                let (snapshots, _hold) = points.images_of(what.machine.id(), what.point).await?;
                let copying = copied.iter().map(async |(id, _)| -> Result<()> {
                    let at = snapshots.get(*id).ok_or_else(|| missing(what, id))?;
                    self.copied(&work(id), at).await.map_err(|e| e.with("disk", id))
                });
                futures_util::future::join_all(copying).await.into_iter().collect::<Result<()>>()?;
            }
            None => {
                let disks: Disks = from.open(what.machine.id(), what.point).await?;
                for (id, _) in &copied {
                    let disk = disks.get(*id).ok_or_else(|| missing(what, id))?;
                    self.streamed(&work(id), disk, id).await.map_err(|e| e.with("disk", id))?;
                }
            }
        }
        let mut copies = vec![];
        for (id, held) in copied {
            let (id, pages, size) = (id.clone(), work(id), held.size);
            let sequence = sequence_of(&pages).await?;
            copies.push(Copy { id, pages, size, sequence });
        }
        Ok(copies)
    }

    /// Each try writes under a number of its own, so that nothing of an earlier one lands among what this one notes.
    async fn prepare(
        &self,
        op: &Op,
        what: &Recovery,
        marked: &mut Marked,
        copies: Vec<Copy>,
    ) -> Result<ChangeSet> {
        let Some(preparation) = &self.preparation else { return Ok(ChangeSet::new()) };
        self.note(op, what, marked, |_, made| made.tries += 1).await?;
        let tries = self.must_be_made(&marked.mark)?.tries;
        let mut images = vec![];
        for Copy { id, pages, size, sequence } in copies {
            let sequence = sequence + tries;
            pages.raise_sequence(sequence).await?;
            images.push((id.clone(), Arc::new(WorkImage::new(id, pages, size, sequence))));
        }
        let disks: Images =
            images.iter().map(|(id, d)| (id.clone(), Arc::clone(d) as Arc<dyn DiskMut>)).collect();
        preparation.prepare(&what.machine, &disks).await?;
        let written = images.iter().map(|(_, image)| image.written());
        Ok(written.fold(ChangeSet::new(), |all, set| all.union(&set)))
    }

    /// The image of a disk that another kind of replica keeps, through our hands.
    async fn streamed(&self, work: &PageBlob, disk: &Arc<dyn Disk>, id: &DiskId) -> Result<()> {
        let image = vhd::rounded(disk.size());
        match work.create(image + FOOTER, &BTreeMap::new()).await {
            Ok(_) | Err(BlobError::Exists(..)) => {}
            Err(error) => return Err(error.into()),
        }
        let sequence = sequence_of(work).await?;
        let writer = WorkImage::new(id.clone(), work.clone(), disk.size(), sequence);
        let pool = Pool::new(2 * PIECE as usize);
        for extent in disk.extents(Run::new(0, disk.size())).await? {
            for piece in extent.run.pieces(PIECE) {
                match extent.fill {
                    Fill::Data => writer.write(piece.start, disk.read(piece, &pool).await?).await?,
                    Fill::Zero => {}
                }
            }
        }
        Ok(work.write(image, self.footer(image, id.as_str()), sequence).await?)
    }

    /// The footer of an image that we write.
    pub(super) fn footer(&self, size: u64, of: &str) -> Bytes {
        let id = site_recovery_record::hash(of.as_bytes()).to_le_bytes();
        Bytes::copy_from_slice(&vhd::footer(size, id, self.clock.now().0 / 1000))
    }

    /// The disk of the mark as it stands, made if it is not there: imported whole, or open for its upload.
    async fn made(
        &self,
        together: &Together<'_>,
        mark: &Mark,
        id: &DiskId,
        held: &Held,
    ) -> Result<arm::Disk> {
        let (disks, key, what) = (self.arm.disks(&self.group), &together.op.key, together.what);
        if let Some(found) = self.settled_disk(&held.resource).await? {
            self.must_be_made_by(&found.name, &found.tags, key)?;
            let is_its = self.imports(held.size) || upload::is_open(&found) || upload::is_noted(&found, held);
            if found.provisioning == Provisioning::Succeeded && is_its {
                return whole(found, held);
            }
            // Failed, or given up, or its upload was ended by somebody: nothing has it yet.
            let turn = together.step().await?;
            self.delete_disk(&turn, &found, held).await?;
        }
        let spec = what.machine.disk(id).ok_or_else(|| missing(what, id))?;
        let is_system = spec.role == DiskRole::System;
        let settings = what.settings.disks.get(id);
        let new = NewDisk {
            location: self.location.clone(),
            zone: match &what.settings.placement {
                site_recovery::Placement::Zone(zone) => Some(zone.clone()),
                _ => None,
            },
            sku: settings.and_then(|disk| disk.kind.clone()).unwrap_or_else(|| DISK_KIND.into()),
            tags: {
                let mut tags = self.tags(mark, key);
                tags.insert("sr-disk".into(), id.to_string());
                tags
            },
            os_type: is_system.then(|| os_type(what.machine.os)),
            generation: is_system.then(|| generation(what.machine.firmware)),
            from: if self.imports(held.size) {
                let source_uri = self.container.url(&self.names.work(key, id)).to_string();
                Origin::Import { source_uri, storage_account_id: self.account.clone() }
            } else {
                Origin::Upload { bytes: upload::size(held.size) + FOOTER }
            },
        };
        let turn = together.step().await?;
        let put = self.ask(&turn, disks.put(&held.resource, &new)).await;
        drop(turn);
        match put {
            Ok(pending) => whole(pending.done().await?, held),
            // Asked for already, by a call whose answer nobody had.
            Err(error) => match self.settled_disk(&held.resource).await? {
                Some(found) if found.provisioning == Provisioning::Succeeded => {
                    self.must_be_made_by(&found.name, &found.tags, key)?;
                    whole(found, held)
                }
                _ => Err(error),
            },
        }
    }

    /// A disk, once Azure is not busy with it any more.
    pub(super) async fn settled_disk(&self, name: &str) -> Result<Option<arm::Disk>> {
        let disks = self.arm.disks(&self.group);
        let is_busy = |disk: &arm::Disk| is_changing(&disk.provisioning);
        self.settled(&format!("disk {name}"), async || disks.get(name).await, is_busy).await
    }

    /// Copies an image at the service, and waits until it is whole. A copy that was begun is waited for.
    async fn copied(&self, work: &PageBlob, source: &url::Url) -> Result<()> {
        let mut asks = 0;
        for _ in 0..LOOKS {
            let Some(found) = work.properties().await? else {
                asks += 1;
                match work.copy_from(source, None).await {
                    Ok(()) | Err(BlobError::Exists(..)) => {}
                    Err(error) if error.may_have_been_done() && asks < ASKS => self.look_again().await,
                    Err(error) => return Err(error.into()),
                }
                continue;
            };
            match found.copy.map(|copy| copy.state) {
                Some(CopyState::Success) => return Ok(()),
                Some(CopyState::Pending { .. }) => self.look_again().await,
                state => {
                    work.delete_all().await?;
                    let became = match state {
                        Some(CopyState::Failed(why)) => format!("failed, {why}"),
                        Some(_) => "was aborted by somebody".to_owned(),
                        None => "is no copy".to_owned(),
                    };
                    let message =
                        format!("the copy of the point's image {became}: try again, it is made anew");
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
        }
        Err(Error::new(ErrorKind::Busy, "the copy of the point's image goes on without end"))
    }

    /// Deletes the copies of a key.
    pub(super) async fn delete_works(&self, key: &OpKey) -> Result<()> {
        for listed in self.container.list(&self.names.works(key)).await? {
            let work = self.container.pages(&listed.name);
            if let Some(properties) = work.properties().await?
                && let Some(copy) = properties.copy
                && matches!(copy.state, CopyState::Pending { .. })
            {
                work.abort_copy(&copy.id).await?;
            }
            work.delete_all().await?;
        }
        Ok(())
    }
}

/// A copy of a point's disk, and the sequence number that it came with.
struct Copy {
    id: DiskId,
    pages: PageBlob,
    size: u64,
    sequence: u64,
}

/// # Errors
/// `Conflict` for a disk that is smaller than what it was to be made of.
fn whole(disk: arm::Disk, held: &Held) -> Result<arm::Disk> {
    let image = vhd::rounded(held.size);
    if disk.size_bytes >= image {
        return Ok(disk);
    }
    let message = format!("disk {} has {} bytes, and its image {image}", disk.name, disk.size_bytes);
    Err(Error::new(ErrorKind::Conflict, message))
}

async fn sequence_of(work: &PageBlob) -> Result<u64> {
    let gone = || Error::new(ErrorKind::Unavailable, "an image in the making is gone: ask again");
    Ok(work.properties().await?.ok_or_else(gone)?.sequence)
}

pub(super) fn missing(what: &Recovery, disk: &DiskId) -> Error {
    let message = format!("point {} of {} has no disk {disk}", what.point, what.machine.id());
    Error::new(ErrorKind::NotFound, message)
}

pub(super) fn os_type(os: OsFamily) -> arm::OsType {
    if os == OsFamily::Windows { arm::OsType::Windows } else { arm::OsType::Linux }
}

pub(super) fn generation(firmware: Firmware) -> arm::Generation {
    if firmware == Firmware::Bios { arm::Generation::V1 } else { arm::Generation::V2 }
}

//! From a point to managed disks: a copy of each image at the service, guest preparation on the copies, and their import.
//!
//! Importing a snapshot of a blob is documented nowhere, and one blob is imported once a minute, so always from a fresh copy.

use super::Site;
use super::image::WorkImage;
use super::mark::{Held, Mark, Marked};
use super::preparation::Images;
use crate::vhd::{self, FOOTER};
use bytes::Bytes;
use site_recovery::{
    ChangeSet, Disk, DiskId, DiskMut, DiskRole, Disks, Error, ErrorKind, Fill, Firmware, Machine, OpKey,
    OsFamily, Pool, Recovery, Replica, Result, Run,
};
use site_recovery_azure_arm::{self as arm, NewDisk, Origin, Provisioning};
use site_recovery_azure_blob::{CopyState, Error as BlobError, PageBlob};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often it is looked at what a copy, or a disk that another call has asked for, has become: six hours, a second apart.
const LOOKS: u32 = 6 * 60 * 60;
/// What one read of a foreign replica takes.
const PIECE: u64 = 4 << 20;

impl Site {
    /// Makes the disks of the mark from the point. What is there already is taken.
    pub(super) async fn make_disks(
        &self,
        what: &Recovery,
        from: &Arc<dyn Replica>,
        marked: &mut Marked,
    ) -> Result<()> {
        let made = self.must_be_made(&marked.mark)?;
        let key = made.by.clone();
        if made.prepared.is_none() {
            let images = self.copies(what, from, &marked.mark, &key).await?;
            let prepared = self.prepare(&what.machine, &images).await?;
            let mut next = marked.mark.clone();
            if let Some(made) = &mut next.made {
                made.prepared = Some(prepared);
            }
            self.set_mark(marked, next).await?;
        }
        let imported = marked.mark.disks.iter().map(async |(id, held)| -> Result<_> {
            let disk = self.imported(what, &marked.mark, &key, id, held).await;
            Ok((id.clone(), disk.map_err(|e| e.with("disk", id))?))
        });
        let imported = futures_util::future::join_all(imported).await;
        let mut next = marked.mark.clone();
        for imported in imported {
            let (id, disk) = imported?;
            if let Some(held) = next.disks.get_mut(&id) {
                held.unique = disk.unique_id;
            }
        }
        self.set_mark(marked, next).await?;
        self.delete_works(&key).await
    }

    /// A copy of each disk of the point, whole.
    async fn copies(
        &self,
        what: &Recovery,
        from: &Arc<dyn Replica>,
        mark: &Mark,
        key: &OpKey,
    ) -> Result<BTreeMap<DiskId, Arc<WorkImage>>> {
        let own = self.points.as_ref().filter(|points| site_recovery::Role::name(*points) == from.name());
        let work = |id: &DiskId| self.container.pages(&self.names.work(key, id));
        let image = |id: &DiskId, held: &Held| {
            (id.clone(), Arc::new(WorkImage::new(id.clone(), work(id), held.size)))
        };
        match own {
            Some(points) => {
                let (snapshots, _hold) = points.images_of(what.machine.id(), what.point).await?;
                let copied = mark.disks.keys().map(async |id| -> Result<()> {
                    let at = snapshots.get(id).ok_or_else(|| missing(what, id))?;
                    self.copied(&work(id), at).await.map_err(|e| e.with("disk", id))
                });
                futures_util::future::join_all(copied).await.into_iter().collect::<Result<()>>()?;
            }
            None => {
                let disks: Disks = from.open(what.machine.id(), what.point).await?;
                for id in mark.disks.keys() {
                    let disk = disks.get(id).ok_or_else(|| missing(what, id))?;
                    self.streamed(&work(id), disk, id).await.map_err(|e| e.with("disk", id))?;
                }
            }
        }
        Ok(mark.disks.iter().map(|(id, held)| image(id, held)).collect())
    }

    async fn prepare(
        &self,
        machine: &Machine,
        images: &BTreeMap<DiskId, Arc<WorkImage>>,
    ) -> Result<ChangeSet> {
        let Some(preparation) = &self.preparation else { return Ok(ChangeSet::new()) };
        let disks: Images =
            images.iter().map(|(id, d)| (id.clone(), Arc::clone(d) as Arc<dyn DiskMut>)).collect();
        preparation.prepare(machine, &disks).await?;
        let written = images.values().map(|image| image.written());
        Ok(written.fold(ChangeSet::new(), |all, set| all.union(&set)))
    }

    /// The image of a disk that another kind of replica keeps, through our hands.
    async fn streamed(&self, work: &PageBlob, disk: &Arc<dyn Disk>, id: &DiskId) -> Result<()> {
        let image = vhd::rounded(disk.size());
        match work.create(image + FOOTER, &BTreeMap::new()).await {
            Ok(_) | Err(BlobError::Exists(..)) => {}
            Err(error) => return Err(error.into()),
        }
        let writer = WorkImage::new(id.clone(), work.clone(), disk.size());
        let pool = Pool::new(2 * PIECE as usize);
        for extent in disk.extents(Run::new(0, disk.size())).await? {
            for piece in extent.run.pieces(PIECE) {
                match extent.fill {
                    Fill::Data => writer.write(piece.start, disk.read(piece, &pool).await?).await?,
                    Fill::Zero => {}
                }
            }
        }
        let id = site_recovery_record::hash(id.as_str().as_bytes()).to_le_bytes();
        let footer = vhd::footer(image, id, self.clock.now().0 / 1000);
        Ok(work.write(image, Bytes::copy_from_slice(&footer), 0).await?)
    }

    async fn imported(
        &self,
        what: &Recovery,
        mark: &Mark,
        key: &OpKey,
        id: &DiskId,
        held: &Held,
    ) -> Result<arm::Disk> {
        let disks = self.arm.disks(&self.group);
        if let Some(found) = self.settled_disk(&held.resource).await? {
            self.must_be_made_by(&found.name, &found.tags, key)?;
            if found.provisioning != Provisioning::Failed {
                return Ok(found);
            }
            disks.delete(&held.resource).await?.done().await?;
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
            sku: settings.and_then(|disk| disk.kind.clone()).unwrap_or_else(|| "StandardSSD_LRS".into()),
            tags: {
                let mut tags = self.tags(mark, key);
                tags.insert("sr-disk".into(), id.to_string());
                tags
            },
            os_type: is_system.then(|| os_type(what.machine.os)),
            generation: is_system.then(|| generation(what.machine.firmware)),
            from: Origin::Import {
                source_uri: self.container.url(&self.names.work(key, id)).to_string(),
                storage_account_id: self.account.clone(),
            },
        };
        let put = disks.put(&held.resource, &new).await;
        match put {
            Ok(pending) => Ok(pending.done().await?),
            // Asked for already, by a call whose answer nobody had.
            Err(error) => match self.settled_disk(&held.resource).await? {
                Some(found) if found.provisioning == Provisioning::Succeeded => {
                    self.must_be_made_by(&found.name, &found.tags, key)?;
                    Ok(found)
                }
                _ => Err(error.into()),
            },
        }
    }

    /// A disk, once Azure is not busy with it any more.
    pub(super) async fn settled_disk(&self, name: &str) -> Result<Option<arm::Disk>> {
        for _ in 0..LOOKS {
            let Some(disk) = self.arm.disks(&self.group).get(name).await? else { return Ok(None) };
            match disk.provisioning {
                Provisioning::Creating | Provisioning::Updating | Provisioning::Deleting => {
                    self.look_again().await;
                }
                _ => return Ok(Some(disk)),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("Azure is busy with disk {name} without end")))
    }

    /// Copies an image at the service, and waits until it is whole. A copy that was begun is waited for.
    async fn copied(&self, work: &PageBlob, source: &url::Url) -> Result<()> {
        for _ in 0..LOOKS {
            let Some(found) = work.properties().await? else {
                match work.copy_from(source, None).await {
                    Ok(()) | Err(BlobError::Exists(..)) => continue,
                    Err(error) if error.may_have_been_done() => continue,
                    Err(error) => return Err(error.into()),
                }
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

    async fn look_again(&self) {
        self.clock.sleep(self.look_every).await;
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

fn missing(what: &Recovery, disk: &DiskId) -> Error {
    let message = format!("point {} of {} has no disk {disk}", what.point, what.machine.id());
    Error::new(ErrorKind::NotFound, message)
}

pub(super) fn os_type(os: OsFamily) -> arm::OsType {
    if os == OsFamily::Windows { arm::OsType::Windows } else { arm::OsType::Linux }
}

pub(super) fn generation(firmware: Firmware) -> arm::Generation {
    if firmware == Firmware::Bios { arm::Generation::V1 } else { arm::Generation::V2 }
}

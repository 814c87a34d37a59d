//! The bytes of snapshots, behind addresses that Azure signs for a while.

use super::Site;
use super::register::Asker;
use crate::extents::extents;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{Disk, DiskId, Error, ErrorKind, Extent, Pool, Result, Run};
use site_recovery_azure_arm::Access;
use site_recovery_azure_blob::{Error as BlobError, Image, Secret};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// How long an address lasts, in seconds. A disk that is read for longer asks for another.
const LASTS: u32 = 6 * 60 * 60;

/// Addresses that are signed now, by the name of their snapshot. Azure signs those of five snapshots of a disk at most.
#[derive(Default)]
pub(super) struct Exports(Mutex<BTreeMap<String, Slot>>);

/// One call asks for an address, and the others wait for it: Azure refuses two at once.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Export>>>>;

/// One address.
pub(super) struct Export {
    pub(super) image: Image,
    pub(super) address: Secret,
}

// By hand: an address is a key.
impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all().keys()).finish()
    }
}

impl Exports {
    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, snapshot: &str) -> Slot {
        Arc::clone(self.all().entry(snapshot.to_owned()).or_default())
    }
}

impl Site {
    /// The bytes of a snapshot.
    ///
    /// # Errors
    /// `StaleEpoch` where an address has to be asked for, and somebody newer has come.
    pub(super) async fn exported(&self, asker: &Asker, snapshot: &str) -> Result<Arc<Export>> {
        let slot = self.exports.slot(snapshot);
        let mut kept = slot.lock().await;
        if let Some(export) = &*kept {
            return Ok(Arc::clone(export));
        }
        let granted = async {
            let granted = self.arm.snapshots(&self.group).grant(snapshot, Access::Read, LASTS).await;
            granted.map_err(|error| match Error::from(error) {
                busy if busy.kind() == ErrorKind::Busy && busy.fact("remedy").is_none() => {
                    let remedy =
                        "release captures that are open: Azure opens five snapshots of a disk at a time";
                    busy.with("remedy", remedy)
                }
                other => other,
            })
        };
        let address = self.ask(asker, granted).await?.done().await?;
        let image = self.image_at(&address)?;
        let export = Arc::new(Export { image, address });
        *kept = Some(Arc::clone(&export));
        Ok(export)
    }

    /// What is behind an address that Azure has signed.
    pub(super) fn image_at(&self, address: &Secret) -> Result<Image> {
        let (trust, limits) = &self.images;
        Image::new(address, trust, *limits).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "Azure gave an address that is none").caused_by(e)
        })
    }

    /// Makes the address of a snapshot void, whoever has asked for it.
    ///
    /// # Errors
    /// `StaleEpoch` where somebody newer has come, who may be reading by it.
    pub(super) async fn withhold(&self, asker: &Asker, snapshot: &str) -> Result<()> {
        let slot = self.exports.slot(snapshot);
        // One that is being asked for is waited for: it is made void with the rest.
        let mut kept = slot.lock().await;
        *kept = None;
        let snapshots = self.arm.snapshots(&self.group);
        if snapshots.get(snapshot).await?.is_some() {
            self.ask(asker, snapshots.revoke(snapshot)).await?.done().await?;
        }
        self.exports.all().remove(snapshot);
        Ok(())
    }

    /// Forgets an address that is not taken any more.
    pub(super) async fn forget(&self, snapshot: &str, export: &Arc<Export>) {
        let Some(slot) = self.exports.all().get(snapshot).cloned() else { return };
        let mut kept = slot.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, export)) {
            *kept = None;
        }
    }
}

/// A disk of a capture.
#[derive(Debug)]
pub(super) struct CapturedDisk {
    pub(super) site: Arc<Site>,
    /// Who opened it.
    pub(super) asker: Asker,
    pub(super) id: DiskId,
    pub(super) snapshot: String,
    pub(super) size: u64,
}

impl CapturedDisk {
    async fn exported(&self) -> Result<Arc<Export>> {
        self.site.exported(&self.asker, &self.snapshot).await.map_err(|e| self.failed(e))
    }

    fn failed(&self, error: impl Into<Error>) -> Error {
        error.into().with("disk", &self.id).with("snapshot", &self.snapshot)
    }
}

/// Whether another address may help.
pub(super) fn is_void(error: &BlobError) -> bool {
    matches!(error, BlobError::Denied { .. })
}

#[async_trait]
impl Disk for CapturedDisk {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let Some(range) = range.intersection(Run::new(0, self.size)) else { return Ok(vec![]) };
        let mut export = self.exported().await?;
        let data = match export.image.ranges(range).await {
            Err(error) if is_void(&error) => {
                self.site.forget(&self.snapshot, &export).await;
                export = self.exported().await?;
                export.image.ranges(range).await
            }
            answer => answer,
        };
        Ok(extents(data.map_err(|e| self.failed(e))?, range))
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.size).map_err(|e| e.with("disk", &self.id))?;
        let mut block = pool.take(run.len as usize).await?;
        if run.len == 0 {
            return Ok(block.freeze());
        }
        let export = self.exported().await?;
        match export.image.read(run, &mut block).await {
            Err(error) if is_void(&error) => {
                self.site.forget(&self.snapshot, &export).await;
                let export = self.exported().await?;
                export.image.read(run, &mut block).await.map_err(|e| self.failed(e))?;
            }
            answer => answer.map_err(|e| self.failed(e))?,
        }
        Ok(block.freeze())
    }
}

//! A machine that is protected by hand: captured, read, released, and asked what changed.

use crate::support::*;
use site_recovery::*;
use std::sync::Arc;

/// The bytes of every disk, in the machine's order.
pub(crate) type Image = Vec<Vec<u8>>;

pub(crate) struct Protected {
    pub(crate) world: World,
    pub(crate) instance: Instance,
}

/// What a replica would have.
pub(crate) struct Sealed {
    pub(crate) cursor: Cursor,
    pub(crate) image: Image,
}

impl Protected {
    /// A machine of two disks, called web, that runs and is enrolled.
    pub(crate) async fn running_in(world: World) -> Self {
        let instance = world.enrolled("web").await;
        Self { world, instance }
    }

    pub(crate) fn site(&self) -> &site_recovery_qemu::QemuSite {
        &self.world.site
    }

    /// The same machine, with the library started anew.
    pub(crate) async fn reopened(mut self) -> Self {
        self.world.site = self.world.again().await;
        self
    }

    pub(crate) async fn capture(&self, key: &str) -> Result<Capture> {
        self.site().capture(&op(key), std::slice::from_ref(&self.instance), Consistency::Crash).await
    }

    pub(crate) async fn disks(&self, key: &str, capture: &Capture) -> Result<Vec<Arc<dyn Disk>>> {
        let disks = self.site().disks(&op(key), capture, &self.instance.machine).await?;
        let machine = &capture.member(&self.instance.machine)?.machine;
        Ok(machine.included().map(|d| Arc::clone(&disks[&d.id])).collect())
    }

    /// Reads a whole capture.
    pub(crate) async fn image(&self, key: &str, capture: &Capture) -> Result<Image> {
        let mut image = vec![];
        for disk in self.disks(key, capture).await? {
            image.push(whole(&disk).await?);
        }
        Ok(image)
    }

    pub(crate) async fn release(&self, key: &str, capture: &Capture, fate: Fate) -> Result<()> {
        self.site().release(&op(key), capture, &self.instance.machine, fate).await
    }

    pub(crate) fn truth(&self) -> Image {
        (0..2).map(|n| self.world.content("web", n)).collect()
    }

    /// Captures, reads and seals, as a first point.
    pub(crate) async fn seal(&self, key: &str) -> Sealed {
        let capture = self.capture(key).await.unwrap();
        let image = self.image(key, &capture).await.unwrap();
        assert!(image == self.truth(), "{key}: the capture is not what the disks hold");
        self.release(key, &capture, Fate::Sealed).await.unwrap();
        let member = capture.member(&self.instance.machine).unwrap();
        Sealed { cursor: member.cursor.clone().unwrap(), image }
    }

    pub(crate) async fn changes(&self, capture: &Capture, since: &Sealed) -> Changes {
        self.site().changes(capture, &self.instance.machine, &since.cursor).await.unwrap()
    }

    /// The next point, of what changed alone; `None` where tracking was lost.
    pub(crate) async fn seal_delta(&self, key: &str, since: &Sealed) -> Option<Sealed> {
        let capture = self.capture(key).await.unwrap();
        let found = self.image(key, &capture).await.unwrap();
        assert!(found == self.truth(), "{key}: the capture is not what the disks hold");
        let changes = self.changes(&capture, since).await;
        let member = capture.member(&self.instance.machine).unwrap();
        if let Changes::Known(changes) = &changes {
            let mut image = since.image.clone();
            for (spec, (old, new)) in member.machine.included().zip(image.iter_mut().zip(&found)) {
                for run in changes.runs(&spec.id) {
                    let range = run.start as usize..(run.end() as usize).min(new.len());
                    old[range.clone()].copy_from_slice(&new[range]);
                }
            }
            assert!(image == found, "{key}: the delta is too small");
        }
        self.release(key, &capture, Fate::Sealed).await.unwrap();
        let sealed = Sealed { cursor: member.cursor.clone().unwrap(), image: found };
        matches!(changes, Changes::Known(_)).then_some(sealed)
    }

    /// Nothing of any capture is left, and the guest executes, on its own images.
    pub(crate) fn is_as_before(&self) {
        assert_eq!(self.world.captures("web"), 0, "something of a capture is left");
        assert_eq!(self.world.drives("web"), ["d0", "d1"], "a drive is on another node");
        assert!(self.world.is_on("web"), "the guest stands still");
    }
}

/// A whole disk.
pub(crate) async fn whole(disk: &Arc<dyn Disk>) -> Result<Vec<u8>> {
    let (pool, mut bytes) = (Pool::new(4 << 20), vec![]);
    for piece in Run::new(0, disk.size()).pieces(256 * KIB) {
        bytes.extend_from_slice(&disk.read(piece, &pool).await?);
    }
    Ok(bytes)
}

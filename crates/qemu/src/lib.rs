//! QEMU/KVM as a site: machines that run are captured while they run, points start as machines at once, and the way back
//! lands on the old images.
//!
//! [`QemuSite`] is one object for all that a site does: [`Source`](site_recovery::Source),
//! [`Target`](site_recovery::Target) and [`LandingSite`](site_recovery::LandingSite), under one name and with one epoch
//! register. Clones share everything. It runs on the host whose QEMU processes it works with.
//!
//! # The directory
//! ```text
//! site/
//!   web/
//!     machine.json            what the machine is made of; the only file that a person must write
//!     disks/                  its images, qcow2 or raw; renamed to fenced/ while no start may find them
//!     uefi-vars.fd  tpm/      firmware variables and TPM state, where it has them
//!     .site-recovery/         ours: mark, fence, state, captures, scratch
//!   .site-recovery/           ours: epoch registers, what our keys made, sockets and process files
//! ```
//! The least that a description says:
//! ```json
//! { "disks": [{ "id": "root", "file": "root.qcow2" }] }
//! ```
//! `docs/qemu.md` has all of it. The library starts the process itself ([`QemuSite::power_on`], or a permit), or whoever
//! runs the command line that [`QemuSite::command_line`] prints. Machines whose monitor somebody else owns (libvirt,
//! Proxmox) are not served.
//!
//! # How it works
//! - *Capture*: a copy-before-write filter per disk, switched in at one instant, read through `snapshot-access` over NBD;
//!   dirty bitmaps overlap the instant, so that a delta may be too big and never too small.
//! - *Recovery*: an overlay whose backing is the point, served over NBD by this process, and a bitmap before the first
//!   boot. The machine hydrates while it runs.
//! - *Off*: a `qemu-storage-daemon` holds the images of a machine that is off, and with them QEMU's lock on each.
//!
//! # What it promises, and where that ends
//! - A guest is frozen or paused for a limited time, also when this process is killed: a shell watches over it. But for the
//!   end of a merge: killed in that, the guest stands still until the merge is repeated.
//! - A scratch that is full or slow breaks the capture, never the guest (`break-snapshot`).
//! - *Window*: check of the epoch and effect are one act under the locked register, but a command that is in the monitor's
//!   socket when this process is killed may still be carried out.
//! - *Window*: the block of a fence is a rename. Whoever opens an image in `fenced/` by hand gets past it; then `power`
//!   reads `On` for as long as that process writes.
//! - *Window*: a process that hangs while it reads a capture (one that was stopped, say) holds up every change that QEMU
//!   makes to its nodes, and with it the guest. So nothing is changed before all exports have ended; a guest that restarts
//!   itself in that time waits until the reader goes on or ends.
//! - Image locks are of this host, and of others only where the file system carries them.
//! - Persistent bitmaps are stored at a clean close. After a kill or a power cut everything is compared.
#![forbid(unsafe_code)]

mod accelerator;
mod branch;
mod builder;
mod capture;
mod command_line;
mod deadline;
mod description;
mod filter;
mod firmware;
mod freeze;
mod home;
mod hydrate;
mod identity;
mod image;
mod known;
mod landed;
mod landing;
mod launch;
mod layer;
mod making;
mod mark;
mod materialise;
mod merge;
mod network;
mod pause;
mod person;
mod place;
mod point;
mod power;
mod probe;
mod process;
mod program;
mod rules;
mod scratch;
mod sidecars;
mod source;
mod stacks;
mod target;
mod tracking;
mod version;
mod watchdog;

pub use accelerator::{Accelerator, Choice};
pub use builder::{QemuSiteBuilder, Restore};
pub use network::{ISOLATED, Network};
pub use program::Programs;

use async_trait::async_trait;
use builder::Options;
use point::Served;
use site_recovery::{Capability, Clock, MachineId, Op, Result, Role, RoleName};
use site_recovery_register::{Register, act};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the directories that are ours.
const OWN: &str = ".site-recovery";

/// A directory of QEMU machines as a site. See the [crate's documentation](crate) for its layout and its windows.
#[derive(Debug, Clone)]
pub struct QemuSite(Arc<Site>);

#[derive(Debug)]
struct Site {
    name: RoleName,
    root: PathBuf,
    clock: Arc<dyn Clock>,
    register: Register,
    options: Options,
    accelerator: Accelerator,
    capability: Capability,
    /// Points that this process serves, by the place of the machine that stands on them.
    points: Mutex<BTreeMap<PathBuf, Served>>,
}

impl QemuSite {
    /// A site of this name in a directory, which is made where it is missing.
    pub fn builder(name: RoleName, dir: impl Into<PathBuf>) -> QemuSiteBuilder {
        QemuSiteBuilder::new(name, dir.into())
    }

    /// Who executes its guests: what was named, or what the probe found.
    pub fn accelerator(&self) -> Accelerator {
        self.0.accelerator
    }

    /// Runs one act of the site on a thread of its own. What has got its turn is finished even when nobody waits for it any
    /// more; what has not begins nothing.
    async fn act<T: Send + 'static>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&Site) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let site = Arc::clone(&self.0);
        act(move || f(&site)).await.map_err(|e| e.at(&self.0.name, operation))
    }
}

impl Site {
    /// A file or directory of the site that is ours.
    fn own(&self, file: &str) -> PathBuf {
        self.root.join(OWN).join(file)
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Served>> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Role for QemuSite {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        self.0.capability.clone()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("claim", move |site| {
            let _turn = site.register.turn(&op, &machine)?;
            for home in site.homes()? {
                match home.mark() {
                    Ok(Some(mark)) if mark.machine == machine => site.settle_request(&home)?,
                    Ok(_) => {}
                    // A directory that was copied by hand, say, is not the machine, and keeps nobody from claiming it.
                    Err(error) => tracing::warn!(directory = %home.name, %error, "its mark is passed by"),
                }
            }
            Ok(())
        })
        .await
    }
}

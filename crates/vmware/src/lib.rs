//! A site of VMware's, whichever server answers for it: what the adapters for vCenter and for a standalone ESXi host share. An
//! application opens a site by one of those.
//!
//! [`Site`] is one object for all that a site does: [`Source`](site_recovery::Source) and
//! [`LandingSite`](site_recovery::LandingSite), under one name and with one epoch register. Clones share everything.
//!
//! # How it works
//! - *Names*: an instance is called by the machine's instance UUID, which moves and renames leave alone; what people call it is
//!   not unique there.
//! - *Marks* stand in the machine's own configuration; the epoch register in the site's state directory, and again in the
//!   configuration, so that an engine elsewhere meets it.
//! - *Capture*: a snapshot, quiesced where that is wanted and the tools run. It goes with `release`; what has changed is asked of
//!   VMware's change tracking (CBT), which is never more than a hint: whatever looks odd is [`Lost`](site_recovery::Changes::Lost).
//! - *Reading*: a disk of a capture is read by the first means that serves; see [`Means`].
//! - *Landing*: the machine's disks are attached to the [`Appliance`] as well, the machine in which the master target runs, and
//!   written there as block devices. While it runs, the lock that it has on the files keeps the machine from starting.
//! - *Branches* are snapshots of the machine. What stood above one is kept as a side arm of its tree.
//!
//! # How far change tracking is believed
//! A delta is told where the server tells it, page by page, in an answer that adds up, and where none of these speaks against it:
//! - the UUID of a disk's tracking, its size or the set of disks is another than at the cursor;
//! - the machine does not come from the cursor's capture any more, which is noted in its configuration and goes back with it when
//!   somebody reverts it; its snapshots were merged by us, or its disks landed on;
//! - another capture stood when the newer one was taken: the older snapshot has to go first.
//!
//! What is in use on a disk at all is believed only where we switched tracking on ourselves, on VMFS, while the machine had no
//! snapshot and the disk stood on no other file; and never where it is the whole disk, or nothing. Then a first copy reads that
//! alone. All else is data, of block devices and of flat files.
//!
//! # What keeps a machine off
//! | | reads as |
//! |---|---|
//! | its disks are attached to the appliance, and that runs | `Blocked` |
//! | else | `Tells`: the newest start that the server remembers. Our own are counted out |
//!
//! Beside that a fence takes the machine out of its host's autostart, and leaves a mark that says who fenced it and how it is lifted.
//!
//! # What it promises, and where that ends
//! - Check of the epoch and effect are one act under the machine's locked register, on this host. *Window*: an engine on another
//!   host meets the epoch in the machine's configuration; what it checked before ours was written may still happen.
//! - *Window*: a host without vCenter forgets its events when its agent starts anew. A start between two such moments, seen from a
//!   fence before the first, is not told.
//! - Reverting the machine to a snapshot of somebody's takes our marks back with it.
//! - *Window*: that a host crashed, or lost what it had tracked, is known by the new UUID which VMware gives to the tracking then; a
//!   host that keeps the old one is believed. A comparison of everything now and then finds out.
#![forbid(unsafe_code)]

mod appliance;
mod attach;
mod branch;
mod builder;
mod capture;
mod carry_out;
mod changes;
mod describe;
mod device;
mod discover;
mod estate;
mod fence;
mod handles;
mod landing;
mod making;
mod names;
mod notes;
mod power;
mod read;
mod readiness;
mod rules;
mod snapshots;
mod source;
mod strays;
mod tracking;
#[cfg(test)]
#[path = "../../https/tests/support/trust.rs"]
mod trust;
mod unfinished;
mod used;
mod vm;

pub use appliance::{Appliance, AttachedDisk, BlockDevices, DeviceResolver};
pub use builder::{Builder, Patience};
pub use estate::Estate;
pub use read::{Means, Vddk};
pub use readiness::{On, RIGHTS, Right, Way};

use async_trait::async_trait;
use device::Device;
use site_recovery::{
    Capability, Clock, DiskId, ErrorKind, Finding, Instance, MachineId, Op, Result, Role, RoleName,
    SystemClock,
};
use site_recovery_register::{Register, act};
use site_recovery_vim::{Settings, Vim};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The machines of a vCenter or of one host as a site. See the [crate's documentation](crate) for its windows.
#[derive(Debug, Clone)]
pub struct Site(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: RoleName,
    vim: Vim,
    estate: Arc<dyn Estate>,
    state: PathBuf,
    register: Register,
    clock: Arc<dyn Clock>,
    appliance: Option<Appliance>,
    vddk: Option<Vddk>,
    /// Where leases bring disks.
    scratch: Option<PathBuf>,
    patience: Patience,
    capability: Capability,
    /// Landing disks that were given out, by machine and disk.
    handles: Mutex<BTreeMap<(String, DiskId), Arc<Device>>>,
    /// By what disks of captures were read last, by machine and disk.
    means: Mutex<BTreeMap<(String, DiskId), Means>>,
    /// One change of the appliance at a time.
    slots: tokio::sync::Mutex<()>,
}

impl Site {
    /// The connection, for what the site itself does not do.
    pub fn vim(&self) -> &Vim {
        &self.0.vim
    }

    /// What stands in the way of the whole circle at this server, whatever machine is to go round. Reads alone.
    ///
    /// # Errors
    /// Those of the server's that are no finding: it does not answer, its session ended.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        self.0.look().whole().await.map_err(|e| e.at(&self.0.name, "check"))
    }

    /// By what the disks of an instance were read last in this process, as the probe chose; nothing for those that were not read
    /// yet.
    pub fn means(&self, instance: &Instance) -> BTreeMap<DiskId, Means> {
        let means = self.0.means.lock().unwrap_or_else(PoisonError::into_inner);
        let of = means.iter().filter(|((name, _), _)| *name == instance.name);
        of.map(|((_, disk), means)| (disk.clone(), *means)).collect()
    }

    /// Runs one act on a thread of its own. What has got its turn is finished even when nobody waits for it any more.
    async fn act<T: Send + 'static>(
        &self,
        operation: &'static str,
        f: impl AsyncFnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        let runtime = tokio::runtime::Handle::current();
        act(move || runtime.block_on(f(&inner))).await.map_err(|e| e.at(&self.0.name, operation))
    }
}

/// As [`Site::check`], where no site is open: connects, looks, and logs out; nothing is written, at the server or here. `appliance` is
/// the instance UUID of the machine in which a site would run.
///
/// # Errors
/// Those of the connection; those of [`Site::check`].
pub async fn check(
    settings: &Settings,
    estate: &dyn Estate,
    appliance: Option<&str>,
) -> Result<Vec<Finding>> {
    let vim = Vim::connect(settings, Arc::new(SystemClock)).await?;
    let appliance = appliance.map(str::to_ascii_lowercase);
    let look = readiness::Look { vim: &vim, estate, appliance: appliance.as_deref(), means: &[] };
    let found = look.whole().await;
    // Its session ends by itself, where nobody can end it.
    let _ = vim.log_out().await;
    found
}

impl Inner {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<(String, DiskId), Arc<Device>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Role for Site {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        self.0.capability.clone()
    }

    /// In the site's own register, and in the configuration of the machine where that can be reached: this works while the
    /// server is silent.
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("claim", async move |site| {
            let _turn = site.register.turn(&op, &machine)?;
            let silent = |e: site_recovery::Error| match e.kind() {
                ErrorKind::Unavailable | ErrorKind::NotFound => {
                    tracing::warn!(%machine, error = %e, "claimed in the site's own register alone");
                    Ok(())
                }
                _ => Err(e),
            };
            let instances = match site.instances_of(&machine).await {
                Err(e) => return silent(e),
                found => found?,
            };
            for instance in instances {
                let told = async {
                    let mut vm = site.vm(&instance).await?;
                    site.pass(&op, &mut vm).await?;
                    site.settle_request(&op, &mut vm).await
                };
                told.await.or_else(silent)?;
            }
            Ok(())
        })
        .await
    }
}

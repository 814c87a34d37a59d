//! A directory as a site: machine descriptions and raw sparse disk files. The default to try, and the reference adapter.
//!
//! [`LocalSite`] is one object for all that a site does: [`Source`](site_recovery::Source),
//! [`Target`](site_recovery::Target) and [`LandingSite`](site_recovery::LandingSite), under one name and with one epoch
//! register. Clones share everything.
//!
//! # The directory
//! ```text
//! site/
//!   web/
//!     machine.json            what the machine is made of; the only file that a person must write
//!     root.raw  data.raw      its disks: raw, sparse
//!     .site-recovery/         ours: mark, power.json, fence.json, landing, captures, hash tables, branch
//!   .site-recovery/           ours: epoch registers, what our keys made, captures, machines in the making
//! ```
//! A directory is a machine when it has a `machine.json` or our mark. The least that a description says:
//! ```json
//! { "disks": [{ "id": "root", "file": "root.raw" }] }
//! ```
//! and the most:
//! ```json
//! {
//!   "name": "web", "cpus": 2, "memory": 2147483648, "firmware": "uefi", "os": "linux",
//!   "disks": [{ "id": "root", "file": "root.raw", "role": "system", "included": true }],
//!   "nics": [{ "id": "n0", "mac": "52:54:00:12:34:56", "network": "lan", "addresses": ["10.0.0.7"] }],
//!   "sidecars": [{ "name": "uefi-vars", "file": "vars.bin" }],
//!   "commands": {
//!     "start": { "run": ["/usr/local/bin/vm", "start", "web"], "seconds": 60 },
//!     "stop": { "run": ["/usr/local/bin/vm", "shutdown", "web"] },
//!     "kill": { "run": ["/usr/local/bin/vm", "destroy", "web"] },
//!     "is_running": { "run": ["/usr/local/bin/vm", "is-running", "web"] },
//!     "freeze": { "run": ["/usr/local/bin/vm", "freeze", "web"], "seconds": 10 },
//!     "thaw": { "run": ["/usr/local/bin/vm", "thaw", "web"] },
//!     "freezes_applications": false
//!   }
//! }
//! ```
//! Commands are run without a shell, in the machine's directory, with `SITE_RECOVERY_MACHINE` (its name) and, where it
//! applies, `SITE_RECOVERY_NETWORK` and `SITE_RECOVERY_GRACE` (seconds) set. `is_running` exits with 0 for yes and 1 for
//! no. A machine is frozen for at most the `seconds` of `freeze`.
//!
//! # Power
//! A machine runs when its `is_running` command says so or, without one, when `power.json` says `"state": "on"`. Whoever
//! turns it on by hand also raises `starts` in that file, as [`LocalSite::switch_on`] does.
//!
//! # What it promises, and where that ends
//! - Check of the epoch and effect are one act, under the locked register; `claim` waits for an effect that has begun,
//!   at most for the limits of its commands. A `materialise` lets the register go between two batches.
//! - *Window*: the block of a fence is a file. `switch_on` and this library honour it; a person who edits `power.json` or
//!   runs the disks by hand does not. Then `power` reads `On`, and the stamp changes if `starts` was raised.
//! - *Window*: a capture is one instant over all disks of all members for writers that hold the machine's
//!   `.site-recovery/write.lock` (`flock`) while they write, as [`LocalSite::write_disk`] does, and for machines whose
//!   `freeze` command stops their writes. A writer that does neither may be caught in the middle of a write.
//! - Bytes of a capture are shared blocks where the file system can (`FICLONE`: XFS, Btrfs), else a copy of the data
//!   that is taken while writers wait.
//! - The register stands in the site's directory: who restores all of that from a backup restores the register too.
#![forbid(unsafe_code)]

mod branch;
mod capture;
mod command;
mod copies;
mod description;
mod disk;
mod fields;
mod guest;
mod handles;
mod home;
mod landed;
mod landing;
mod making;
mod materialise;
mod power;
mod rules;
mod source;
mod tables;
mod target;
mod tracking;

use async_trait::async_trait;
use site_recovery::{Capability, Clock, MachineId, Op, Result, Role, RoleName};
use site_recovery_register::{Register, Told, act, durable, open_state};
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the directories that are ours.
const OWN: &str = ".site-recovery";

/// A directory as a site. See the [crate's documentation](crate) for its layout and its windows.
#[derive(Debug, Clone)]
pub struct LocalSite(Arc<Site>);

#[derive(Debug)]
struct Site {
    name: RoleName,
    root: PathBuf,
    clock: Arc<dyn Clock>,
    register: Register,
    capability: Capability,
}

impl LocalSite {
    /// Opens a directory as the site `name`, and makes it where it is missing. Reads and writes a few small files; calls
    /// that wait for commands need a tokio runtime with I/O enabled.
    ///
    /// Whether it freezes is decided now, by the descriptions that stand there.
    ///
    /// # Errors
    /// `Conflict` when the directory is the site of another name; `Unsupported` when a newer version wrote it; `Denied`,
    /// `Unavailable` when it cannot be used.
    pub fn open(name: RoleName, dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self> {
        let root = dir.into();
        let opened = Site::opened(name.clone(), root, clock);
        opened.map(|site| Self(Arc::new(site))).map_err(|e| e.at(&name, "open"))
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
    fn opened(name: RoleName, root: PathBuf, clock: Arc<dyn Clock>) -> Result<Self> {
        durable::make_dir(&root.join(OWN))?;
        let root = root.canonicalize().told("look at", &root)?;
        let register = Register::at(root.join(OWN).join("epochs"));
        let mut site = Self { name, root, clock, register, capability: Capability::default() };
        open_state(&site.root.join(OWN), &site.name)?;
        for leftover in durable::list(&site.own("removing"))? {
            durable::remove_tree(&leftover)?;
        }
        let known = site.homes()?.into_iter().filter_map(|h| h.description().ok());
        for commands in known.map(|d| d.commands) {
            site.capability.freezes |= commands.freeze.is_some();
            site.capability.quiesces_applications |=
                commands.freeze.is_some() && commands.freezes_applications;
        }
        Ok(site)
    }

    /// A file or directory of the site that is ours.
    fn own(&self, file: &str) -> PathBuf {
        self.root.join(OWN).join(file)
    }
}

#[async_trait]
impl Role for LocalSite {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        self.0.capability.clone()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("claim", move |site| site.register.turn(&op, &machine).map(drop)).await
    }
}

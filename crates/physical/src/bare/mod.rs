//! Back to bare disks: block devices, or plain files in their stead, as a [`LandingSite`](site_recovery::LandingSite).
//!
//! A [`BareServer`] is a name and its slots: where its disks are, and a stable id of each. The server was started from a
//! rescue system ([`Rescue`]), or its disks are reached past it ([`Switched`]). Hardware cannot be made: a machine lands on
//! a server that is there, or, where a [room](Builder::room) is given, on plain files that are made in it.
//!
//! # Settings
//! Besides core's own; any other key of `settings.site` is refused.
//!
//! | setting | says |
//! |---|---|
//! | `disks.<disk>.name` | the id of the slot that this disk lands on |
//! | `site.match` | how all others find theirs: `id` (the slot's id is the disk's; the default), `size` (the smallest that is large enough) |
//! | `site.server` | the server that takes a machine that has none here |
//! | `site.erase` | `yes`: what is on that server's disks may go |
//! | `site.sector` | bytes of a sector that the system was made for: `512` (the default) or `4096` |
//!
//! # What it promises, and where that ends
//! - A slot is opened alone: a disk that is mounted, belongs to a volume, or that another process lands on is refused by
//!   name, and nobody mounts one while something lands. Handles end with `detach`, `start`, or the process.
//! - Durable is what `flush` says, by `fdatasync`: not what the process knew when it was killed.
//! - A disk is never smaller than the machine's, and may be larger: the rest is not touched.
//! - What lands is told who it is before it starts, where it is said where it is [installed](Installed): the boot guard's mark
//!   and what its agent shows. Nothing else of its file systems is written.
//! - It arms with no cursor: the restored system's first start comes before its tracking. The next cycle compares.
//! - No branches: what was rolled is rolled, and an undo goes by the master target's log.
//! - *Hardware is never removed*: `remove` of a server is `Refused`; that a machine has no more business there is said by the
//!   operator, who retires the instance. Files that were made in the room go.
//! - *Window*: whoever starts a server past us between our look and the controller's act is counted as ours.
//! - *Alone*, the state directory has to outlive the rescue system: a small disk of its own, or a share. It is the one of the
//!   site's [`Source`](site_recovery::Source), where both are one process. Below a [keeper](crate::site::PhysicalSite::returning)
//!   it need not: what counts after the rescue system is the keeper's, and one that starts anew is attached to anew.

mod attach;
mod detached;
mod disk;
mod installed;
mod landed;
mod landing;
mod matching;
mod program;
mod rescued;
mod slot;
mod starter;
mod survey;

pub use installed::{Installed, Shown};
pub use rescued::Rescued;
pub use slot::Slot;
pub use starter::{Landing, Rescue, Starter, Switched};

use crate::site::home::plain;
use async_trait::async_trait;
use installed::Tells;
use landed::AllHeld;
use serde::{Deserialize, Serialize};
use site_recovery::{Capability, Clock, Error, Firmware, MachineId, Op, Result, Role, RoleName};
use site_recovery_register::{Register, act, open_state};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A server without a system that counts.
#[derive(Debug)]
pub struct BareServer {
    /// Its name at the site.
    pub name: String,
    /// Where its disks are, the one it starts from first.
    pub slots: Vec<Slot>,
    /// How it starts systems, where that is known.
    pub firmware: Option<Firmware>,
    /// Who starts it.
    pub starter: Arc<dyn Starter>,
}

/// What a configuration says of a bare server; who starts it is said beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// Its name at the site.
    pub name: String,
    /// Where its disks are, the one it starts from first.
    pub slots: Vec<Slot>,
    /// How it starts systems; what this system was started by, where nothing is said.
    #[serde(default)]
    pub firmware: Option<Firmware>,
}

impl Described {
    /// The server that this program runs on, started from a rescue system.
    pub fn in_rescue(self, starter: Rescue) -> BareServer {
        let here = match std::path::Path::new("/sys/firmware/efi").exists() {
            true => Firmware::Uefi { secure_boot: false },
            false => Firmware::Bios,
        };
        let (firmware, starter) = (self.firmware.or(Some(here)), Arc::new(starter));
        BareServer { name: self.name, slots: self.slots, firmware, starter }
    }
}

/// Bare disks as a landing site. Clones share everything.
#[derive(Debug, Clone)]
pub struct BareDisks(Arc<Site>);

/// Makes a [`BareDisks`].
#[derive(Debug)]
pub struct Builder {
    name: RoleName,
    state: PathBuf,
    clock: Arc<dyn Clock>,
    servers: Vec<BareServer>,
    tells: Vec<(String, Tells)>,
    room: Option<Room>,
}

/// Where plain files are made, and who runs what lands on them.
#[derive(Debug)]
struct Room {
    dir: PathBuf,
    starter: Option<Arc<dyn Starter>>,
}

#[derive(Debug)]
struct Site {
    name: RoleName,
    state: PathBuf,
    clock: Arc<dyn Clock>,
    register: Register,
    servers: BTreeMap<String, BareServer>,
    /// What restored systems are told, by server.
    tells: BTreeMap<String, Tells>,
    room: Option<Room>,
    /// Those that are held now.
    held: Mutex<AllHeld>,
}

impl BareDisks {
    /// The landing site `name`, whose register and marks are kept in `state`.
    pub fn builder(name: RoleName, state: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Builder {
        Builder { name, state: state.into(), clock, servers: vec![], tells: vec![], room: None }
    }

    /// Runs one act on a thread of its own. What has got its turn is finished even when nobody waits for it any more.
    async fn act<T: Send + 'static>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&Site) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let site = Arc::clone(&self.0);
        act(move || f(&site)).await.map_err(|e| e.at(&self.0.name, operation))
    }
}

impl Builder {
    /// One more server.
    #[must_use]
    pub fn server(mut self, server: BareServer) -> Self {
        self.servers.push(server);
        self
    }

    /// Says where the system that lands on this server is installed: it is told who it is before it starts, and its agent gets
    /// what is `shown`.
    #[must_use]
    pub fn installed(
        mut self,
        server: impl Into<String>,
        installed: Installed,
        shown: Option<Arc<dyn Shown>>,
    ) -> Self {
        self.tells.push((server.into(), Tells { installed, shown }));
        self
    }

    /// A directory in which plain files are made as disks: for machines that have no server here, and for disks that a
    /// server has no slot for. Without a starter what stands there cannot be started.
    #[must_use]
    pub fn room(mut self, dir: impl Into<PathBuf>, starter: Option<Arc<dyn Starter>>) -> Self {
        self.room = Some(Room { dir: dir.into(), starter });
        self
    }

    /// Opens it. Touches no disk.
    ///
    /// # Errors
    /// `Invalid`, naming the field: no server and no room, a server without slots or of the name of another, two slots of
    /// one id or path, a system that is [installed](Self::installed) on no server, or in no way; `Conflict` when the state directory is another site's; those of the file system.
    pub fn open(self) -> Result<BareDisks> {
        let (name, built) = (self.name.clone(), self.opened());
        built.map(|site| BareDisks(Arc::new(site))).map_err(|e| e.at(&name, "open"))
    }

    fn opened(self) -> Result<Site> {
        let Self { name, state, clock, servers, tells, room } = self;
        if servers.is_empty() && room.is_none() {
            let rule = "something lands on a server, or in a room";
            return Err(Error::invalid("servers", "empty", rule, "name a server with its disks"));
        }
        let mut by_name = BTreeMap::new();
        let mut paths = vec![];
        for server in servers {
            plain(&server.name)?;
            if server.slots.is_empty() {
                return Err(Error::invalid("slots", "empty", "a server has a disk", "name its disks")
                    .with("server", &server.name));
            }
            for (at, slot) in server.slots.iter().enumerate() {
                if server.slots[..at].iter().any(|s| s.id == slot.id) || slot.id.is_empty() {
                    let rule = "slots of a server have ids of their own";
                    return Err(Error::invalid(
                        "slot.id",
                        format!("{:?}", slot.id),
                        rule,
                        "name each by its serial",
                    ));
                }
                // By what it leads to: `/dev/disk/by-id` has several names for one disk.
                let path = slot.path.canonicalize().unwrap_or_else(|_| slot.path.clone());
                if paths.contains(&path) {
                    let rule = "a disk is one slot";
                    return Err(Error::invalid(
                        "slot.path",
                        slot.path.display(),
                        rule,
                        "name each disk once",
                    ));
                }
                paths.push(path);
            }
            if let Some(twice) = by_name.insert(server.name.clone(), server) {
                return Err(Error::invalid(
                    "server",
                    twice.name,
                    "servers have names of their own",
                    "rename one",
                ));
            }
        }
        for (server, tells) in &tells {
            tells.installed.check()?;
            if !by_name.contains_key(server) {
                let rule = "a system is installed on a server that lands something";
                return Err(Error::invalid("installed.server", server, rule, "name one of the servers"));
            }
        }
        let tells = tells.into_iter().collect();
        open_state(&state, &name)?;
        let register = Register::at(state.join("epochs"));
        let held = Mutex::default();
        Ok(Site { name, state, clock, register, servers: by_name, tells, room, held })
    }
}

#[async_trait]
impl Role for BareDisks {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("claim", move |site| site.register.turn(&op, &machine).map(drop)).await
    }
}

/// Of all ways to disks of hardware, whoever answers for them.
pub(crate) fn capability() -> Capability {
    Capability { tracks: false, groups: false, drills: false, branches: false, ..Capability::default() }
}

//! The mobility agent: a process in the installed system of a Linux server, as a `Source` for that one server.
//!
//! # Identity
//! `enrol` writes a mark into the agent's directory, bound to the board and the disks. On other hardware, where a copy of
//! the disks was started, the mark is void: the agent serves nothing until it is enrolled there. [`elsewhere`] tells it to
//! those who ask before the agent runs.
//!
//! # What it leaves to others
//! The agent answers, so the server runs: `power` is `On`. Whether it is off, and keeping it off, is asked of whoever can
//! switch it ([`power`](site_recovery::Source::power) of the site): `fence` and `unfence` are `Unsupported`.
//!
//! # Windows
//! - Check of the epoch and effect are one act under the locked register, but for a scan: it only reads, and is done
//!   before the act that needs it.
//! - Writers that can be held neither by a freeze nor by the means of the snapshot are watched by the kernel's counters. A
//!   capture of several disks is one instant where nothing was written meanwhile, else `PerDisk`, with the reason.

mod capture;
mod disk;
mod elsewhere;
mod instant;
mod mark;
mod scan;
mod settings;
mod source;

pub use elsewhere::elsewhere;
pub use settings::Settings;

use crate::freeze::Freezer;
use crate::inventory::Server;
use crate::tracking::{Pace, Tracking};
use async_trait::async_trait;
use mark::{Known, Mark};
use site_recovery::{
    Capability, Clock, Error, Finding, Instance, MachineId, Op, Result, Role, RoleName, Severity,
};
use site_recovery_register::{Register, act, durable, not_found};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Version of everything that an agent keeps.
const FORMAT: u32 = 1;

/// Looks at the server: its disks, adapters and system, as they are now.
#[async_trait]
pub trait Look: Debug + Send + Sync {
    /// Looks.
    ///
    /// # Errors
    /// `Unavailable`, naming what cannot be read: nothing is left out in silence.
    async fn look(&self) -> Result<Server>;
}

/// The agent of one server. Clones share everything.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Handle>);

/// The last handle of an agent ends its scans.
#[derive(Debug)]
struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    look: Arc<dyn Look>,
    clock: Arc<dyn Clock>,
    register: Register,
    pace: Pace,
    tracking: Tracking,
    tracers: Mutex<scan::Tracers>,
    board: Option<String>,
}

impl Agent {
    /// Opens the agent's directory, and makes it where it is missing. Reads and writes a few small files,
    /// and lets go what a killed agent left frozen. Its calls need a tokio runtime.
    ///
    /// # Errors
    /// `Unsupported` where a newer version wrote the directory; `Invalid` for settings that cannot hold.
    pub fn open(settings: Settings, look: Arc<dyn Look>, clock: Arc<dyn Clock>) -> Result<Self> {
        if settings.name.is_empty() {
            return Err(Error::invalid("name", "empty", "a server has a name", "name it"));
        }
        if settings.freeze.is_zero() {
            return Err(Error::invalid(
                "freeze",
                0,
                "file systems are frozen for a while",
                "give it seconds",
            ));
        }
        if let Some(percent) = settings.cpu_percent.filter(|p| !(1..=100).contains(p)) {
            let rule = "a share of one processor is 1 to 100 percent";
            return Err(Error::invalid("cpu_percent", percent, rule, "choose one, or leave it out"));
        }
        durable::make_dir(&settings.state)?;
        let board = settings.board_id();
        let pace = Pace::limited(settings.bytes_per_second, settings.cpu_percent);
        let inner = Inner {
            register: Register::at(settings.state.join("epochs")),
            tracking: Tracking::at(settings.state.join("tracking"), pace.clone())
                .whole_every(settings.whole_every),
            pace,
            tracers: Mutex::default(),
            settings,
            look,
            clock,
            board,
        };
        inner.let_go_of_leftovers()?;
        inner.mark()?;
        Ok(Self(Arc::new(Handle(Arc::new(inner)))))
    }

    /// What stands in the way of captures: disks that are gone, replaced, grown or that nothing can capture, and which
    /// means serve each disk.
    ///
    /// # Errors
    /// Those of the look at the server.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        let server = self.look("check").await?;
        self.act("check", move |inner| inner.findings(&inner.known(server)?)).await
    }

    /// Bytes of disks that were read for tracking since the agent was opened.
    pub fn scanned(&self) -> u64 {
        self.inner().pace.bytes_read()
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.0.0
    }

    async fn look(&self, operation: &'static str) -> Result<Server> {
        self.inner().look.look().await.map_err(|e| e.at(&self.inner().settings.site, operation))
    }

    async fn act<T: Send + 'static>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(self.inner());
        act(move || f(&inner)).await.map_err(|e| e.at(&self.inner().settings.site, operation))
    }
}

impl Inner {
    fn own(&self, file: &str) -> PathBuf {
        self.settings.state.join(file)
    }

    fn mark(&self) -> Result<Option<Mark>> {
        Mark::read(&self.own("mark.json"))
    }

    fn known(&self, server: Server) -> Result<Known> {
        Ok(Known::new(server, self.mark()?, self.board.as_deref()))
    }

    /// Whether an instance is this server.
    fn must_be_us(&self, instance: &Instance) -> Result<()> {
        if instance.site == self.settings.site && instance.name == self.settings.name {
            return Ok(());
        }
        let message = format!(
            "{} of {} is not this server, which is {}",
            instance.name, instance.site, self.settings.name
        );
        Err(not_found(message))
    }

    fn findings(&self, known: &Known) -> Result<Vec<Finding>> {
        let mut all = vec![];
        let marked = match known.marked() {
            Ok(mark) => mark,
            Err(e) => {
                let (code, severity) = match known.foreign {
                    true => ("agent.hardware", Severity::Critical),
                    false => ("agent.enrolled", Severity::Info),
                };
                all.push(Finding::new(code, severity, e.message(), "protect the server"));
                return Ok(all);
            }
        };
        if !Freezer::is_there() {
            let cause = "fsfreeze, timeout or cat is absent: file systems cannot be frozen";
            all.push(Finding::new(
                "freeze.absent",
                Severity::Critical,
                cause,
                "install util-linux and coreutils",
            ));
        }
        for (hardware, disk) in &marked.disks {
            let Some(found) = known.server.disks.iter().find(|d| &d.id == hardware) else {
                let cause = format!("disk {} ({hardware}) is removed or replaced", disk.id);
                all.push(Finding::new(
                    "disk.gone",
                    Severity::Critical,
                    cause,
                    "put it back, or enrol the server again",
                ));
                continue;
            };
            if found.size != disk.size {
                let cause = format!("disk {} has {} bytes and had {}", disk.id, found.size, disk.size);
                let severity = if found.size < disk.size { Severity::Critical } else { Severity::Warning };
                all.push(Finding::new(
                    "disk.size",
                    severity,
                    cause,
                    "the next copy compares; enrol the server again",
                ));
            }
            if !disk.included {
                continue;
            }
            match self.means_of(found, "probe") {
                Ok((means, _)) => {
                    let tracked = self.tracked_by(found);
                    let cause =
                        format!("disk {}: snapshots by {}, tracked by {tracked}", disk.id, means.name());
                    all.push(Finding::new("disk.means", Severity::Info, cause, "nothing has to be done"));
                }
                Err(e) => {
                    let remedy = "make a means available, or leave the disk out";
                    all.push(Finding::new("disk.snapshot", Severity::Critical, e.to_string(), remedy));
                }
            }
        }
        for added in known.server.disks.iter().filter(|d| !marked.disks.contains_key(&d.id)) {
            let cause = format!("disk {} ({}) was added", added.id, added.device.display());
            all.push(Finding::new(
                "disk.added",
                Severity::Warning,
                cause,
                "enrol the server again to include it",
            ));
        }
        Ok(all)
    }

    /// Forgets everything that was kept of a machine, but for the register.
    fn dismiss(&self) -> Result<()> {
        self.sweep(&[])?;
        self.stop_tracers();
        self.tracking.dismiss()?;
        durable::remove_file(&self.own("mark.json"))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.pace.stop();
    }
}

#[async_trait]
impl Role for Agent {
    fn name(&self) -> RoleName {
        self.inner().settings.site.clone()
    }

    fn capability(&self) -> Capability {
        self.inner().settings.capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("claim", move |inner| inner.register.turn(&op, &machine).map(drop)).await
    }
}

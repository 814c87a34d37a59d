//! What the restored system is told before it starts: who it is now, and what its agent shows to others.
//!
//! What lands on a server brings the notes of its own past: the boot guard's mark of an older promotion, with which it would
//! stay off the network, and a certificate that has expired meanwhile. So once the disks are the server's own again, and before
//! anything starts it, its file system is mounted unseen, two notes are replaced in there, and it is taken down. Nothing
//! else is written; that it is mounted replays its journal, as its own start would.

use super::detached::Detached;
use super::program;
use super::starter::Landing;
use crate::guard;
use crate::inventory::{Blocks, Root};
use crate::power::Command;
use crate::site::home::wait;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Error, ErrorKind, ErrorStatus, Finding, Result, Severity};
use site_recovery_register::{Told, refused};
use std::fmt::Debug;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a device is looked for, or looked at until it is free, and how long between.
const LOOKS: u32 = 50;
const BETWEEN: Duration = Duration::from_millis(100);

/// Where the restored system's agent keeps its state, once it has landed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// The block device with the file system that has it: a partition or a volume of the disks that were landed on.
    pub device: PathBuf,
    /// `service.state` of the restored system's agent, below that file system's root and without links.
    #[serde(default = "state")]
    pub state: PathBuf,
    /// The kind of that file system.
    #[serde(default = "kind")]
    pub kind: String,
    /// What makes the device be there: a volume group that is activated, an array that is assembled.
    #[serde(default)]
    pub activate: Option<Command>,
    /// What undoes that; run also where something failed.
    #[serde(default)]
    pub deactivate: Option<Command>,
}

fn state() -> PathBuf {
    "/var/lib/site-recovery/agent".into()
}

fn kind() -> String {
    "ext4".into()
}

/// What the restored system's agent shows to others, as the rescue system's has it.
pub trait Shown: Debug + Send + Sync {
    /// Puts it into the directory of the restored agent's credentials, durably, and the same at a repeat. Blocks.
    ///
    /// # Errors
    /// Those of the file system; never with a secret in them.
    fn put(&self, credentials: &Path) -> Result<()>;

    /// What is in the way of that, by now.
    fn findings(&self) -> Vec<Finding> {
        vec![]
    }
}

/// What is told, and by whom.
#[derive(Debug)]
pub(crate) struct Tells {
    pub(crate) installed: Installed,
    pub(crate) shown: Option<Arc<dyn Shown>>,
}

impl Installed {
    /// The usual state, on an ext4 on this device.
    pub fn on(device: impl Into<PathBuf>) -> Self {
        Self { device: device.into(), state: state(), kind: kind(), activate: None, deactivate: None }
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        if !self.device.is_absolute() {
            let (value, rule) = (self.device.display(), "it is the path of a block device");
            return Err(Error::invalid("installed.device", value, rule, "write /dev/disk/by-id/…"));
        }
        let mut parts = self.state.components();
        let plain = parts.next() == Some(Component::RootDir) && parts.clone().next().is_some();
        if !plain || !parts.all(|part| matches!(part, Component::Normal(_))) {
            let (value, rule) = (self.state.display(), "it is an absolute path to a directory, without `..`");
            return Err(Error::invalid("installed.state", value, rule, "name the state of that agent"));
        }
        if self.kind.is_empty() || !self.kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let rule = "it is the kernel's name of a kind of file system";
            return Err(Error::invalid(
                "installed.kind",
                format!("{:?}", self.kind),
                rule,
                "write ext4, xfs",
            ));
        }
        for (field, command) in
            [("installed.activate", &self.activate), ("installed.deactivate", &self.deactivate)]
        {
            command.as_ref().map_or(Ok(()), |command| command.check(field))?;
        }
        Ok(())
    }
}

impl Tells {
    /// Tells it, durably. A repeat says the same. Where no agent's state is there, nothing is written.
    ///
    /// # Errors
    /// Whatever failed; nothing is mounted then. Never `Unavailable`, which after `start` means that the system may run.
    pub(crate) fn tell(&self, landing: &Landing, mark: &guard::Mark, clock: &dyn Clock) -> Result<()> {
        let Installed { activate, deactivate, device, .. } = &self.installed;
        let run = |command: &Option<Command>, what: &str| match command {
            Some(command) => wait(program::run(command, &landing.server, what)),
            None => Ok(()),
        };
        let told = run(activate, "the restored system's device was not activated")
            .and_then(|()| self.write(landing, mark, clock));
        let undone = run(deactivate, "the restored system's device was not deactivated");
        told.and(undone).map_err(|e| match e.kind() {
            ErrorKind::Unavailable => refused(format!("what is on {} was not told", device.display()))
                .status(ErrorStatus::Temporary)
                .caused_by(e),
            _ => e,
        })
    }

    fn write(&self, landing: &Landing, mark: &guard::Mark, clock: &dyn Clock) -> Result<()> {
        let Installed { device, state, kind, .. } = &self.installed;
        must_have_landed(device, landing, clock)?;
        // Whoever looks what is on a new partition may have it for a moment.
        if !becomes_free(device, clock)? {
            let message = format!("{} is in use: unmount it, and ask again", device.display());
            return Err(Error::new(ErrorKind::Busy, message).with("field", "installed.device"));
        }
        let mounted = Detached::mount(device, kind)?;
        let written = self.write_into(&mounted, state, mark);
        drop(mounted);
        // The kernel is done with it when nobody has its handle, a program that is just being started among them.
        if becomes_free(device, clock)? {
            return written;
        }
        let message =
            format!("{} is still mounted, and must not be when its own system starts", device.display());
        Err(written.err().unwrap_or_else(|| Error::new(ErrorKind::Busy, message)))
    }

    fn write_into(&self, mounted: &Detached, state: &Path, mark: &guard::Mark) -> Result<()> {
        let state = match mounted.dir(state)? {
            Some(dir) => dir.dir("agent")?.map(|agent| (dir, agent)),
            None => None,
        };
        let Some((state, agent)) = state else {
            let Installed { device, state, .. } = &self.installed;
            let (device, state) = (device.display(), state.display());
            tracing::warn!("no agent's state is in {state} of {device}: the restored system is told nothing");
            return Ok(());
        };
        mark.write(&agent.path().join(guard::Mark::FILE))?;
        if let Some(shown) = &self.shown {
            shown.put(&state.made("credentials")?.path())?;
        }
        state.sync_all()
    }
}

/// What a survey says where nothing is told.
pub(crate) fn untold(server: &str) -> Finding {
    Finding::new(
        "landing.installed",
        Severity::Info,
        format!(
            "{server}'s restored system is not told who it is: its boot guard, if it has one, asks with a mark of the past and \
             keeps it off the network, and its agent's certificate may have expired"
        ),
        "say in [receive.installed] where its agent's state is; or lift the guard at its first start, and let its agent join anew",
    )
}

/// That the device is there, and lies on disks that were landed on: no other disk of the rescue system is touched.
fn must_have_landed(device: &Path, landing: &Landing, clock: &dyn Clock) -> Result<()> {
    // The kernel has just read the partitions, and links to them are made after that.
    for _ in 0..LOOKS {
        if device.exists() {
            break;
        }
        wait(clock.sleep(BETWEEN));
    }
    let number = |path: &Path| -> Option<String> {
        let about = path.metadata().ok().filter(|about| about.file_type().is_block_device())?;
        Some(format!("{}:{}", rustix::fs::major(about.rdev()), rustix::fs::minor(about.rdev())))
    };
    let blocks = Blocks::read(&Root::of("/".into()))?;
    let block = |path: &Path| number(path).and_then(|number| blocks.numbered(&number));
    let below = block(device).map(|block| blocks.below(&block.name)).unwrap_or_default();
    if landing.disks.iter().filter_map(|disk| block(disk)).any(|disk| below.contains(&disk.name)) {
        return Ok(());
    }
    let rule = "it is a partition or a volume of the disks that were landed on";
    let remedy = "name the one with the restored system's state, and what activates it";
    Err(Error::invalid("installed.device", device.display(), rule, remedy))
}

/// Whether nobody has it mounted, or made a volume of it, by now or within a few seconds.
fn becomes_free(device: &Path, clock: &dyn Clock) -> Result<bool> {
    let mut options = std::fs::File::options();
    options.read(true).custom_flags(rustix::fs::OFlags::EXCL.bits() as i32);
    for _ in 0..LOOKS {
        match options.open(device) {
            Err(e) if e.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => wait(clock.sleep(BETWEEN)),
            opened => return opened.map(|_| true).told("open", device),
        }
    }
    Ok(false)
}

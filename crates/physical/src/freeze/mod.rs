//! One instant over all disks of a server: its file systems frozen for a strictly bounded time.
//!
//! Every mounted file system is frozen by a process of its own, all at once, which thaws it when it is told to, when the
//! agent dies, or when the limit is over, whichever is first: the agent can hang or be killed, and nothing stays frozen.
//! Mapped devices that a means of snapshots suspends come after them. What the processes need is read only; none writes.
//!
//! # The window
//! Between the moment when all are frozen and the thaw nothing may be written to any file system of the server: not a
//! record, not a log line, not a file that is made. Whatever the window needs is opened, made and written before it, and
//! what it found is written down after it. Where the agent's own state lies on a frozen file system, a write would wait
//! for a thaw that waits for it, until the limit.
//!
//! # What is told
//! Frozen until the end, and nothing written to a disk meanwhile: `FileSystem`; with hooks that all succeeded before,
//! `Application`. File systems that cannot be frozen (`vfat` and its like) are synced before, and count as still when
//! nothing was written to their disk in the window. Anything less is told with its reason.

mod command;
mod deadline;
mod holder;
mod programs;
mod quiet;

pub use command::Hook;
pub(crate) use command::{is_there, path};
use deadline::Deadline;
pub use holder::Held;
pub use programs::{Installed, Programs};
pub(crate) use quiet::{Count, Counter};

use crate::inventory::{FileSystem, ServerDisk};
use holder::Holder;
use serde::{Deserialize, Serialize};
use site_recovery::Result;
use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

/// File systems that the kernel does not freeze.
const CANNOT: [&str; 4] = ["exfat", "msdos", "umsdos", "vfat"];
/// How long a thaw is waited for beyond the limit; it goes on without us.
const SLACK: Duration = Duration::from_secs(30);

/// The operator's hooks around a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hooks {
    /// Run in this order before file systems are frozen; when all succeed, applications are quiet.
    pub before: Vec<Hook>,
    /// Run in this order after they are thawed, whenever one of `before` was started.
    pub after: Vec<Hook>,
}

/// How file systems are frozen.
#[derive(Debug, Clone)]
pub struct Freezer {
    limit: Duration,
    launcher: Vec<String>,
}

/// Everything is still. Dropped, all is let go.
#[derive(Debug)]
pub struct Frozen {
    holders: Vec<Holder>,
    limit: Duration,
}

impl Freezer {
    /// Nothing is frozen for longer than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { limit, launcher: vec![] }
    }

    /// Words before the processes that freeze: `nsenter --mount=…` where the agent lives in a mount namespace of its own.
    #[must_use]
    pub fn launched_by(mut self, words: Vec<String>) -> Self {
        self.launcher = words;
        self
    }

    /// Whether the programs are there that it takes.
    pub fn is_there() -> bool {
        ["fsfreeze", "timeout", "cat"].into_iter().all(is_there)
    }

    /// Freezes all mounted file systems of these disks at once. Blocks, at most for the limit.
    ///
    /// # Errors
    /// `Unavailable`, naming the first that cannot be frozen or was not in time; then nothing stays frozen.
    pub fn freeze<'a>(&self, disks: impl IntoIterator<Item = &'a ServerDisk>) -> Result<Frozen> {
        self.hold(mounted(disks))
    }

    /// Holds what is named still: file systems all at once, then the devices below them. Blocks, at most for the limit.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub fn hold(&self, what: impl IntoIterator<Item = Held>) -> Result<Frozen> {
        let until = Deadline::after(self.limit);
        let mut frozen = Frozen { holders: vec![], limit: self.limit };
        // A file system on a device that is suspended already could not be frozen any more.
        let (devices, file_systems): (Vec<_>, Vec<_>) =
            what.into_iter().partition(|held| matches!(held, Held::Device(_)));
        for what in [file_systems, devices] {
            let from = frozen.holders.len();
            for what in what {
                frozen.holders.push(Holder::start(&self.launcher, what, self.limit)?);
            }
            frozen.holders[from..].iter_mut().try_for_each(|h| h.is_held(until))?;
        }
        Ok(frozen)
    }
}

impl Frozen {
    /// How many are held.
    pub fn count(&self) -> usize {
        self.holders.len()
    }

    /// Lets all go at once, and says whether every one was held until now. Blocks until they are thawed.
    pub fn thaw(mut self) -> bool {
        self.holders.iter_mut().for_each(Holder::let_go);
        let until = Deadline::after(self.limit + SLACK);
        let held: Vec<bool> = self.holders.drain(..).map(|h| h.was_held(until)).collect();
        held.into_iter().all(|h| h)
    }
}

/// What can be frozen of these disks, each device once. What can only be synced is synced.
pub(crate) fn mounted<'a>(disks: impl IntoIterator<Item = &'a ServerDisk>) -> Vec<Held> {
    let (mut devices, mut held) = (BTreeSet::new(), vec![]);
    for FileSystem { device, mounted, kind } in disks.into_iter().flat_map(|d| &d.file_systems) {
        if !devices.insert(device) {
            continue;
        }
        if !CANNOT.contains(&kind.as_str()) {
            held.push(Held::FileSystem(mounted.to_string_lossy().into_owned()));
        } else if let Ok(dir) = File::open(mounted) {
            let _else_its_disk_is_seen_to_be_written = rustix::fs::syncfs(&dir);
        }
    }
    held
}

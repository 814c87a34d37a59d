//! Tracking of the included disks: tracers that run, and scans of captures.

use super::{Inner, capture::Intent};
use crate::freeze::path;
use crate::tracking::{self, Hint};
use site_recovery::{DiskId, OpKey, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::PoisonError;

/// Means that run, by the disk's id in hardware.
pub(crate) type Tracers = BTreeMap<String, Box<dyn tracking::Means>>;

impl Inner {
    /// By what a disk is tracked.
    pub(crate) fn tracked_by(&self, _device: &Path) -> &'static str {
        "hashes"
    }

    pub(crate) fn stop_tracers(&self) {
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What the tracers say at the instant.
    pub(crate) fn hints(&self, disks: &[(DiskId, String)]) -> BTreeMap<DiskId, Hint> {
        let mut tracers = self.tracers.lock().unwrap_or_else(PoisonError::into_inner);
        let hint = |(id, hardware): &(DiskId, String)| Some((id.clone(), tracers.get_mut(hardware)?.cut()));
        disks.iter().filter_map(hint).collect()
    }

    /// Brings tracking to a capture, and to those before it that still live, in their order.
    pub(crate) fn scan_up_to(&self, key: &OpKey) -> Result<()> {
        let Some(last) = self.intent(key)? else { return Ok(()) };
        let mut before: Vec<Intent> = self.intents()?;
        before.retain(|i| i.cut.is_of_line_of(&last.cut) && i.cut <= last.cut && self.is_whole(&i.key));
        before.sort_by(|a, b| a.cut.cmp(&b.cut));
        self.with_low_priority(|| {
            for intent in &before {
                let scanned = self.paths(intent).and_then(|disks| self.tracking.scan(&intent.cut, &disks));
                // One before it that is lost only makes this one's changes larger.
                if intent.key == *key {
                    scanned?;
                }
            }
            Ok(())
        })
    }

    fn paths(&self, intent: &Intent) -> Result<BTreeMap<DiskId, PathBuf>> {
        intent.disks.iter().map(|d| Ok((d.id.clone(), self.path_of(d)?))).collect()
    }

    /// Runs on a thread of its own, behind everything else that the server does.
    fn with_low_priority<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let nice = self.settings.nice.clamp(0, 19);
        let run = move || {
            if nice > 0 {
                // On Linux, of this thread alone.
                let _as_it_is = rustix::process::setpriority_process(None, nice);
                read_when_idle();
            }
            f()
        };
        match std::thread::scope(|scope| scope.spawn(run).join()) {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The idle class of the I/O scheduler, where there is a program that sets it.
fn read_when_idle() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut ionice = Command::new("ionice");
    ionice.args(["-c", "3", "-p", &thread]).env("PATH", path());
    let _as_it_is = ionice.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

//! Tracking of the included disks: tracers that run, and scans of captures.

use super::{Inner, capture::Intent};
use crate::freeze::path;
use crate::inventory::ServerDisk;
use crate::tracking::era::Era;
use crate::tracking::trace::{self, Trace};
use crate::tracking::{self, Hint, Written};
use site_recovery::{DiskId, Error, ErrorKind, OpKey, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, MutexGuard, PoisonError};

/// Means that run, by the disk's id in hardware.
pub(crate) type Tracers = BTreeMap<String, Tracer>;

/// What tells the writes to one disk, or why nothing does.
#[derive(Debug)]
pub(crate) struct Tracer {
    device: PathBuf,
    size: u64,
    means: std::result::Result<Box<dyn tracking::Means>, String>,
}

impl Inner {
    /// By what a disk is tracked.
    pub(crate) fn tracked_by(&self, disk: &ServerDisk) -> String {
        self.begin_tracing([disk]);
        match self.lock_tracers().get(&disk.id).map(|t| &t.means) {
            Some(Ok(means)) => means.name().into(),
            Some(Err(why)) => format!("hashes ({why})"),
            None => "hashes".into(),
        }
    }

    /// Starts what is not traced yet, or is another disk by now. A tracer that cannot be started is no error: the scan
    /// reads everything.
    pub(crate) fn begin_tracing<'a>(&self, disks: impl IntoIterator<Item = &'a ServerDisk>) {
        let mut tracers = self.lock_tracers();
        for disk in disks {
            let is_it = |t: &Tracer| t.means.is_ok() && (&t.device, t.size) == (&disk.device, disk.size);
            if tracers.get(&disk.id).is_some_and(is_it) {
                continue;
            }
            // Before a new one takes its name.
            tracers.remove(&disk.id);
            let name = trace::name_of(&self.settings.state, &disk.id);
            let means = match self.means_to_track(disk, &name) {
                Ok(means) if means.size() == disk.size => Ok(means),
                Ok(means) => Err(format!("it has {} bytes, and {} were told", means.size(), disk.size)),
                Err(e) => Err(e.to_string()),
            };
            tracers.insert(disk.id.clone(), Tracer { device: disk.device.clone(), size: disk.size, means });
        }
    }

    fn means_to_track(&self, disk: &ServerDisk, name: &str) -> Result<Box<dyn tracking::Means>> {
        let era = self.settings.stacks.iter().find(|s| s.disk == disk.id).and_then(|s| s.era.as_deref());
        match era {
            Some(era) => Ok(Box::new(Era::over(era, Arc::clone(&self.settings.programs))?)),
            None if self.settings.trace => Ok(Box::new(Trace::start(&disk.device, name)?)),
            None => Err(Error::new(ErrorKind::Unsupported, "tracing is switched off")),
        }
    }

    pub(crate) fn stop_tracers(&self) {
        self.lock_tracers().clear();
    }

    pub(crate) fn lock_tracers(&self) -> MutexGuard<'_, Tracers> {
        self.tracers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings tracking to a capture, and to those before it that still live, in their order.
    pub(crate) fn scan_up_to(&self, key: &OpKey) -> Result<()> {
        let Some(last) = self.intent(key)? else { return Ok(()) };
        let mut before: Vec<Intent> = self.intents()?;
        before.retain(|i| i.cut.is_of_line_of(&last.cut) && i.cut <= last.cut && self.is_whole(&i.key));
        before.sort_by(|a, b| a.cut.cmp(&b.cut));
        let hardware = self.tracking.hardware(&last.cut)?;
        let since = |disk: &DiskId, mark: &str| {
            let mut tracers = self.lock_tracers();
            match hardware.get(disk).and_then(|h| tracers.get_mut(h)).map(|t| &mut t.means) {
                Some(Ok(means)) => means.since(mark),
                _ => Hint::Anything("nothing tracks the disk".into()),
            }
        };
        self.with_low_priority(|| {
            for intent in &before {
                let scanned =
                    self.paths(intent).and_then(|disks| self.tracking.scan(&intent.cut, &disks, &since));
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

/// What the tracers say at the instant.
pub(crate) fn written(tracers: &mut Tracers, disks: &[(DiskId, String)]) -> BTreeMap<DiskId, Written> {
    let mut all = BTreeMap::new();
    for (id, hardware) in disks {
        if let Some(Tracer { means: Ok(means), .. }) = tracers.get_mut(hardware) {
            all.insert(id.clone(), means.cut());
        }
    }
    all
}

/// The idle class of the I/O scheduler, where there is a program that sets it.
fn read_when_idle() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut ionice = Command::new("ionice");
    ionice.args(["-c", "3", "-p", &thread]).env("PATH", path());
    let _as_it_is = ionice.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

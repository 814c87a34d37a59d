//! The instant: everything still, all snapshots, and on.

use super::scan::written;
use super::{Inner, Mark};
use crate::freeze::{Count, Counter, Freezer, Held, mounted};
use crate::inventory::ServerDisk;
use crate::snapshot::{Means, Prepared};
use crate::tracking::Written;
use serde::{Deserialize, Serialize};
use site_recovery::{Consistency, DiskId, Error, ErrorKind, OpKey, Result, Timestamp};
use site_recovery_register::durable;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// What may be frozen by us, for an agent after this one.
const FROZEN: &str = "frozen.json";
/// How often the instant is tried while somebody writes past what can be held.
const TRIES: u32 = 3;

/// `frozen.json`. Where it lies on a disk that is captured, every capture has it: nothing stays frozen over a start.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    start: String,
    held: BTreeSet<Held>,
}

/// The present start of this system.
fn this_start() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A disk whose snapshot is ready to be taken.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) id: DiskId,
    pub(crate) disk: &'a ServerDisk,
    pub(crate) means: Arc<dyn Means>,
    pub(crate) snapshot: Box<dyn Prepared>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Instant {
    pub(crate) taken: Timestamp,
    pub(crate) consistency: Consistency,
    pub(crate) reason: Option<String>,
    pub(crate) written: BTreeMap<DiskId, Written>,
    /// No write was under way at it.
    pub(crate) held: bool,
}

/// What one window showed.
struct Window {
    taken: Timestamp,
    written: BTreeMap<DiskId, Written>,
    /// Something was held, and stayed so until the end.
    frozen: std::result::Result<(), String>,
    /// Disks that may have been written meanwhile.
    restless: Vec<DiskId>,
}

impl Inner {
    pub(crate) fn instant(
        &self,
        disks: &mut [Planned<'_>],
        want: Consistency,
        mark: &Mark,
        key: &OpKey,
    ) -> Result<Instant> {
        self.must_not_freeze_what_it_writes_to(disks)?;
        let hooks = &self.settings.hooks;
        let environment =
            [("SITE_RECOVERY_MACHINE", mark.machine.as_str()), ("SITE_RECOVERY_CAPTURE", key.as_str())];
        let asks = want == Consistency::Application && !hooks.before.is_empty();
        let mut quiet = Err("no hooks are set, so nobody asked the applications".to_owned());
        if asks {
            let ran = hooks.before.iter().try_for_each(|h| h.run(&environment));
            quiet = ran.map_err(|e| e.to_string());
        }
        let instant = self.tries(disks, want, quiet);
        if asks {
            for hook in &hooks.after {
                if let Err(error) = hook.run(&environment) {
                    tracing::error!(%error, "a hook after a capture failed: applications may still be held");
                }
            }
        }
        instant
    }

    fn tries(
        &self,
        disks: &mut [Planned<'_>],
        want: Consistency,
        quiet: std::result::Result<(), String>,
    ) -> Result<Instant> {
        // A means that holds its disk is right only while it does.
        let by_means = disks.iter().any(|d| !d.means.holds(d.disk).is_empty());
        let freeze = want >= Consistency::FileSystem || disks.len() > 1 || by_means;
        if freeze {
            let held: BTreeSet<Held> = disks.iter().flat_map(held_of).collect();
            durable::write(&self.own(FROZEN), &Left { start: this_start(), held })?;
        }
        let instant = self.best_of_tries(disks, want, freeze, quiet);
        // Nothing is held any more: each window ends with its thaw.
        durable::remove_file(&self.own(FROZEN))?;
        instant
    }

    /// Lets go what an agent before this one may have left frozen, if whoever watched over it was killed with it.
    ///
    /// # Errors
    /// `Unavailable` where it cannot be let go.
    pub(crate) fn let_go_of_leftovers(&self) -> Result<()> {
        let left: Option<Left> = durable::read(&self.own(FROZEN))?;
        for held in left.filter(|left| left.start == this_start()).into_iter().flat_map(|left| left.held) {
            held.let_go()?;
        }
        durable::remove_file(&self.own(FROZEN))
    }

    fn best_of_tries(
        &self,
        disks: &mut [Planned<'_>],
        want: Consistency,
        freeze: bool,
        quiet: std::result::Result<(), String>,
    ) -> Result<Instant> {
        let mut window = self.window(disks, freeze)?;
        for _ in 1..TRIES {
            if window.restless.is_empty() || !freeze {
                break;
            }
            disks.iter_mut().try_for_each(|d| d.snapshot.again())?;
            let mut again = self.window(disks, freeze)?;
            for (disk, written) in window.written {
                // A later mark stands for itself: it is asked since the cut before, not since this try.
                if let (Written::Told(hint), Some(Written::Told(later))) =
                    (written, again.written.get_mut(&disk))
                {
                    *later = hint.and(later);
                }
            }
            window = again;
        }
        let Window { taken, written, frozen, restless } = window;
        let held = frozen.is_ok() && restless.is_empty();
        let (consistency, reason) = reached(want, disks.len(), quiet, &frozen, &restless);
        Ok(Instant { taken, consistency, reason, written, held })
    }

    /// From the freeze to the thaw. What is called in between writes to no file system, and says nothing to any log.
    fn window(&self, disks: &mut [Planned<'_>], freeze: bool) -> Result<Window> {
        let counters = disks.iter().map(|d| Counter::of(&d.disk.device)).collect::<Result<Vec<_>>>()?;
        let ids: Vec<_> = disks.iter().map(|d| (d.id.clone(), d.disk.id.clone())).collect();
        let freezer = Freezer::new(self.settings.freeze).launched_by(self.settings.launcher.clone());
        // Before anything is held: a scan may be asking one of them.
        let mut tracers = self.lock_tracers();
        let mut frozen = Err("nothing was asked to be frozen".to_owned());
        if freeze {
            let what: BTreeSet<Held> = disks.iter().flat_map(held_of).collect();
            frozen = match freezer.hold(what) {
                Ok(frozen) if frozen.count() == 0 => Err("no file system of the disks is mounted".into()),
                Ok(frozen) => Ok(frozen),
                Err(e) => Err(e.to_string()),
            };
        }
        let taken = self.clock.now();
        let before = counts(&counters);
        let written = written(&mut tracers, &ids);
        let took = disks.iter_mut().try_for_each(|d| d.snapshot.take());
        let after = counts(&counters);
        let frozen = frozen.and_then(|f| match f.thaw() {
            true => Ok(()),
            false => Err(format!(
                "the limit of {:?} was over before all snapshots were taken",
                self.settings.freeze
            )),
        });
        drop(tracers);
        took?;
        let mut restless = vec![];
        for (disk, (before, after)) in disks.iter().zip(before.into_iter().zip(after)) {
            let by_means = frozen.is_ok() && !disk.means.holds(disk.disk).is_empty();
            let still = matches!((before, after), (Some(b), Some(a)) if b.nothing_until(&a));
            if !by_means && !still {
                restless.push(disk.id.clone());
            }
        }
        Ok(Window { taken, written, frozen, restless })
    }

    /// A snapshot that is written to a file system which is frozen for it would wait for itself.
    fn must_not_freeze_what_it_writes_to(&self, disks: &[Planned<'_>]) -> Result<()> {
        let mut frozen = BTreeMap::new();
        for file_system in disks.iter().flat_map(|d| &d.disk.file_systems) {
            if let Ok(meta) = std::fs::metadata(&file_system.mounted) {
                frozen.insert(meta.dev(), &file_system.mounted);
            }
        }
        for disk in disks {
            for dir in disk.means.writes_to(disk.disk)? {
                let device = std::fs::metadata(&dir).ok().map(|m| m.dev());
                if let Some(mounted) = device.and_then(|d| frozen.get(&d)) {
                    let message = format!(
                        "snapshots of disk {} lie in {}, on a file system that is frozen for them: capture one of the two",
                        disk.id,
                        mounted.display()
                    );
                    return Err(Error::new(ErrorKind::Unsupported, message).with("disk", &disk.id));
                }
            }
        }
        Ok(())
    }
}

/// What its means holds, and the file systems that lie further up. The kernel freezes one that is mounted from a device
/// which is suspended, and none above that, on partitions or volumes.
fn held_of(disk: &Planned<'_>) -> Vec<Held> {
    let by_means = disk.means.holds(disk.disk);
    let mut disk = disk.disk.clone();
    disk.file_systems.retain(|f| !by_means.iter().any(|held| held.is_device(&f.device)));
    mounted([&disk]).into_iter().chain(by_means).collect()
}

fn counts(counters: &[Option<Counter>]) -> Vec<Option<Count>> {
    counters.iter().map(|c| c.as_ref().and_then(|c| c.read().ok())).collect()
}

/// What may be said of a capture, and why it is less than was wanted.
fn reached(
    want: Consistency,
    disks: usize,
    quiet: std::result::Result<(), String>,
    frozen: &std::result::Result<(), String>,
    written: &[DiskId],
) -> (Consistency, Option<String>) {
    let written: Vec<&str> = written.iter().map(DiskId::as_str).collect();
    let still = match (frozen, written.is_empty()) {
        (Err(why), _) => Err(why.clone()),
        (Ok(()), false) => Err(format!("disk {} was written while all was frozen", written.join(", "))),
        (Ok(()), true) => Ok(()),
    };
    let (found, reason) = match (still, quiet) {
        (Ok(()), Ok(())) => (Consistency::Application, None),
        (Ok(()), Err(why)) => (Consistency::FileSystem, Some(why)),
        (Err(why), _) if disks == 1 || written.is_empty() => (Consistency::Crash, Some(why)),
        (Err(why), _) => {
            let why = format!("{why}; disk {} was written between the snapshots", written.join(", "));
            (Consistency::PerDisk, Some(why))
        }
    };
    (found.min(want), reason.filter(|_| found < want))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn src_5_less_than_wanted_comes_with_a_reason_and_more_is_never_told() {
        use Consistency::*;
        let (ok, no) = (Ok(()), Err::<(), String>("no".into()));
        let disk = [DiskId::from("d")];
        let cases = [
            (Application, 2, &ok, &ok, &[][..], Application),
            (Application, 2, &no, &ok, &[], FileSystem),
            (FileSystem, 2, &no, &ok, &[], FileSystem),
            (Crash, 2, &ok, &ok, &[], Crash),
            (FileSystem, 2, &ok, &no, &[], Crash),
            (FileSystem, 2, &ok, &no, &disk, PerDisk),
            (Crash, 2, &ok, &ok, &disk, PerDisk),
            (Crash, 1, &ok, &no, &disk, Crash),
            (Application, 1, &ok, &ok, &disk, Crash),
        ];
        for (want, disks, quiet, frozen, written, expected) in cases {
            let (found, reason) = reached(want, disks, quiet.clone(), frozen, written);
            assert_eq!(found, expected, "{want:?} of {disks}: {quiet:?} {frozen:?} {written:?}");
            assert_eq!(reason.is_some(), found < want, "{want:?}: {reason:?}");
        }
    }
}

//! What runs on the machine: a log that is written round and round over both disks.
//!
//! Entry `n` goes to slot `n % slots`. So a point that is one instant of both disks holds exactly the newest entry of
//! every slot up to some last one: a hole, a torn block or an entry from later would show.

use serde::{Deserialize, Serialize};
use site_recovery::{Clock, SystemClock, Timestamp};
use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of an entry.
pub(crate) const BLOCK: usize = 4096;
/// How long the guest thinks between two entries.
const PAUSE: Duration = Duration::from_millis(2);

/// Where the entries go: disk file and offset of each slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Log {
    pub(crate) slots: Vec<(String, u64)>,
}

/// The last entry of a log: its number, 0 for none, and when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) number: u64,
    pub(crate) at: Timestamp,
}

impl Log {
    /// The last entry on the disks in `dir`.
    ///
    /// # Errors
    /// When the disks do not hold all entries up to that one, each as it was written.
    pub(crate) fn last(&self, dir: &Path) -> Result<Last> {
        let slots = self.slots.len() as u64;
        let mut found = vec![];
        for (file, offset) in &self.slots {
            let mut block = [0; BLOCK];
            File::open(dir.join(file))?.read_exact_at(&mut block, *offset)?;
            let (number, at) = (word(&block, 0), word(&block, 1));
            let whole = number > 0 && block[..] == entry(number, at)[..];
            found.push(if whole { (number, at) } else { (0, 0) });
        }
        let (last, at) = found.iter().copied().max().unwrap_or((0, 0));
        for (slot, (number, _)) in found.iter().enumerate() {
            let behind = (last % slots + slots - slot as u64) % slots;
            let expected = last.saturating_sub(behind);
            if *number != expected {
                let message = format!("slot {slot} has entry {number}, and not {expected} of {last}");
                return Err(Error::other(message));
            }
        }
        Ok(Last { number: last, at: Timestamp(at) })
    }

    fn write(&self, dir: &Path, number: u64) -> Result<()> {
        let (file, offset) = &self.slots[(number % self.slots.len() as u64) as usize];
        let disk = OpenOptions::new().write(true).open(dir.join(file))?;
        disk.write_all_at(&entry(number, SystemClock.now().0), *offset)
    }
}

/// A guest that writes until its machine is off, or until it is asked to stop.
#[derive(Debug)]
pub(crate) struct Guest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Guest {
    /// Starts on the machine in `dir`, after the last entry that its disks have. `written` counts.
    pub(crate) fn start(dir: PathBuf, log: Log, written: Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut number = log.last(&dir)?.number;
            let lock = dir.join(".site-recovery/write.lock");
            let lock = OpenOptions::new().create(true).append(true).open(lock)?;
            while !asked.load(Ordering::SeqCst) {
                // As `site_recovery_local` asks of writers: a capture waits for this write, or has none of it.
                lock.lock()?;
                if !is_on(&dir)? {
                    break;
                }
                number += 1;
                log.write(&dir, number)?;
                lock.unlock()?;
                written.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
        Self { stop, thread }
    }

    /// Waits until it has written its last.
    ///
    /// # Errors
    /// When it could not write while its machine ran.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| Error::other("the guest panicked"))?
    }
}

/// Whether the machine in `dir` is turned on.
pub(crate) fn is_on(dir: &Path) -> Result<bool> {
    let text = std::fs::read(dir.join(".site-recovery/power.json"))?;
    let power: serde_json::Value = serde_json::from_slice(&text)?;
    Ok(power["state"] == "on")
}

fn entry(number: u64, at: u64) -> Vec<u8> {
    // Noise that does not compress, so that the bytes that cross are worth telling.
    let noise = (2..BLOCK as u64 / 8).map(|i| {
        let mixed = (number << 9 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    });
    [number, at].into_iter().chain(noise).flat_map(u64::to_le_bytes).collect()
}

fn word(block: &[u8; BLOCK], index: usize) -> u64 {
    let bytes = block[index * 8..index * 8 + 8].try_into();
    u64::from_le_bytes(bytes.expect("eight bytes"))
}

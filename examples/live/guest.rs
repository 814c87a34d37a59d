//! A guest, as its console tells: what it has said is durable is known here at any moment.

use site_recovery::{Clock, Error, ErrorKind, Result, SystemClock};
use site_recovery_guest::{Console, Inspected};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than a guest takes to boot under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(20);

/// A guest's console, from one of its boots on.
#[derive(Debug, Clone)]
pub struct Guest {
    console: Console,
    /// Lines of the boots before.
    before: usize,
}

impl Guest {
    /// The guest that writes to this console.
    pub fn of(console: PathBuf) -> Self {
        Self { console: Console::new(console), before: 0 }
    }

    /// The same, from what it says next.
    #[must_use]
    pub fn from_here(mut self) -> Self {
        self.before = self.console.lines().len();
        self
    }

    /// All whole lines.
    pub fn lines(&self) -> Vec<String> {
        self.console.lines().into_iter().skip(self.before).collect()
    }

    /// How many records it has said are durable.
    pub fn acknowledged(&self) -> u64 {
        let number = |l: &String| l.strip_prefix("ACK ")?.parse::<u64>().ok();
        self.lines().iter().rev().find_map(number).map_or(0, |n| n + 1)
    }

    /// How many records it found when it started its writer.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn resumed(&self) -> Result<u64> {
        let resume = |l: &String| l.strip_prefix("RESUME ")?.parse().ok();
        self.wait_for("the writer", |lines| lines.iter().find_map(resume)).await
    }

    /// Waits until it has written so many more records than it has now, and says how many there are.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn writes(&self, more: u64) -> Result<u64> {
        let goal = self.acknowledged() + more;
        self.wait_for("records", |_| Some(self.acknowledged()).filter(|n| *n >= goal)).await
    }

    /// Waits for something on the console.
    ///
    /// # Errors
    /// `Unavailable`, with the console's last lines, when it does not come in time.
    pub async fn wait_for<T>(&self, what: &str, found: impl Fn(&[String]) -> Option<T>) -> Result<T> {
        let began = SystemClock.now();
        loop {
            let lines = self.lines();
            if let Some(found) = found(&lines) {
                return Ok(found);
            }
            if SystemClock.now().since(began) > PATIENCE {
                let last = lines.len().saturating_sub(8);
                let at = self.console.path().display();
                let message = format!("{what} did not come on {at}: {:?}", &lines[last..]);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            SystemClock.sleep(LOOK).await;
        }
    }
}

/// Looks at a raw copy of a guest's disk.
///
/// # Errors
/// `Corrupt` when a record is not what was written, or the file system is not whole after its journal's replay.
pub async fn inspect(disk: &Path) -> Result<Inspected> {
    let disk = disk.to_owned();
    let looked = tokio::task::spawn_blocking(move || site_recovery_guest::inspect(&disk)).await;
    let looked = looked.map_err(|e| Error::new(ErrorKind::Cancelled, e.to_string()))?;
    let found = looked.map_err(|e| Error::new(ErrorKind::Corrupt, e))?;
    if !found.replay_clean {
        return Err(Error::new(ErrorKind::Corrupt, "e2fsck finds something to complain of"));
    }
    Ok(found)
}

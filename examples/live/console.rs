//! A guest's console, as its file on the host: what the guest has said is durable is known here at any moment.

use site_recovery::{Clock, Error, ErrorKind, Result, SystemClock};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than a guest takes to boot under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
const LOOK: Duration = Duration::from_millis(20);

/// The file that a guest's first serial port is kept in, over all of its boots.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
    /// What stood there before the boot that is looked at.
    from: usize,
}

impl Console {
    /// From its first line on.
    pub fn of(path: PathBuf) -> Self {
        Self { path, from: 0 }
    }

    /// The same, from what comes next.
    #[must_use]
    pub fn from_here(mut self) -> Self {
        self.from = fs::metadata(&self.path).map_or(0, |m| m.len() as usize);
        self
    }

    /// All whole lines.
    pub fn lines(&self) -> Vec<String> {
        let bytes = fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(self.from..).unwrap_or_default()).into_owned();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|l| l.trim_end().to_owned()).collect()
    }

    /// How many records the guest has said are durable.
    pub fn acknowledged(&self) -> u64 {
        let number = |l: &String| l.strip_prefix("ACK ")?.parse::<u64>().ok();
        self.lines().iter().rev().find_map(number).map_or(0, |n| n + 1)
    }

    /// How many records the guest found when it started its writer.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn resumed(&self) -> Result<u64> {
        self.wait_for("the writer", |lines| lines.iter().find_map(|l| l.strip_prefix("RESUME ")?.parse().ok())).await
    }

    /// Waits until the guest has written so many more records than it has now.
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
                let message = format!("{what} did not come on {}: {:?}", self.path.display(), &lines[last..]);
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            SystemClock.sleep(LOOK).await;
        }
    }
}

//! An engine that dies by SIGKILL while it writes its journal, and is started again.

use crate::Options;
use async_trait::async_trait;
use rustix::process::{Signal, getpid, kill_process};
use site_recovery::{Append, Error, ErrorKind, Journal, Random, Result, SystemRandom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::process::Command;

/// How often `--crash` kills, and within how many journal writes of a start.
const KILLS: usize = 4;
const WITHIN: u64 = 40;

/// Starts engines in processes of their own until one comes to the end.
///
/// # Errors
/// When one ends in another way than by the signal that was asked for, or when none was killed.
pub(crate) async fn supervise(options: &Options, work: &Path) -> Result<()> {
    let kills: Vec<u64> = match &options.kill_at[..] {
        [] => (0..KILLS).map(|_| 1 + SystemRandom.bits() % WITHIN).collect(),
        told => told.to_vec(),
    };
    let again = kills.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
    println!("kill -9 at journal writes {again}, each counted from a start; again by --kill-at {again}");
    let program = std::env::current_exe().map_err(unusable)?;
    for (number, at) in kills.iter().copied().map(Some).chain([None]).enumerate() {
        let status = Command::new(&program).args(options.for_engine(work, at)).status().await;
        let status = status.map_err(unusable)?;
        match (at, status.signal()) {
            (Some(at), Some(9)) => println!("*** killed at journal write {at}; started again ***"),
            _ if status.success() && number > 0 => {
                println!("killed {number} times, and the proofs hold");
                return Ok(());
            }
            _ if status.success() => break,
            _ => return Err(Error::new(ErrorKind::Corrupt, format!("the engine ended: {status}"))),
        }
    }
    Err(Error::new(ErrorKind::NotFound, "the engine was never killed: it made fewer journal writes"))
}

fn unusable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "this program cannot start itself").caused_by(error)
}

/// A journal whose Nth write is the process's last act: an odd one never lands, an even one does and nobody hears of it.
#[derive(Debug)]
pub(crate) struct DeadlyJournal {
    inner: Arc<dyn Journal>,
    die_at: Option<u64>,
    writes: AtomicU64,
}

impl DeadlyJournal {
    /// Over a real one; with no `die_at` it only counts.
    pub(crate) fn new(inner: Arc<dyn Journal>, die_at: Option<u64>) -> Self {
        Self { inner, die_at, writes: AtomicU64::new(0) }
    }

    /// How many there were.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Journal for DeadlyJournal {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.inner.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.inner.load(subject).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        let number = 1 + self.writes.fetch_add(1, Ordering::SeqCst);
        let dies = self.die_at == Some(number);
        if dies && number % 2 == 1 {
            die();
        }
        let written = self.inner.append(all).await;
        if dies {
            die();
        }
        written
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.inner.fold(subject, expect, snapshot).await
    }
}

fn die() {
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
}

//! The newest points of many machines: only their ledgers are read, and nothing of them is remembered.

use crate::Points;
use crate::catalogue::Kept;
use crate::folder::{Folder, ledger_name, numbered};
use crate::ledger::Ledger;
use futures_util::stream::{self, StreamExt};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use site_recovery::{MachineId, Point, Result};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

/// Machines that a store is asked about at once.
const AT_ONCE: usize = 64;
/// Of a directory, so many machines are looked at by one thread at least.
const FEW: usize = 64;
/// Most ledgers are shorter.
const LEDGER: usize = 16 << 10;

impl Points {
    /// In the machines' order.
    pub(crate) async fn newest_of(&self, machines: &[MachineId]) -> Vec<Result<Option<Point>>> {
        let folders: Vec<Result<Folder>> = machines.iter().map(|machine| self.folder_of(machine)).collect();
        let here = match &self.here {
            Some(_) => look(&folders).await,
            None => vec![],
        };
        let here = here.into_iter().chain(std::iter::repeat_with(|| None));
        let told = folders.into_iter().zip(here).map(async |(folder, here)| match (folder, here) {
            (Ok(_), Some(newest)) => newest,
            (Ok(folder), None) => ask(&folder).await,
            (Err(error), _) => Err(error),
        });
        let told = stream::iter(told).buffered(AT_ONCE);
        told.map(|newest| Ok(newest?.as_ref().map(Kept::point))).collect().await
    }
}

type Newest = Result<Option<Kept>>;

async fn ask(folder: &Folder) -> Newest {
    loop {
        match folder.newest_ledger().await? {
            (0, _) => return Ok(None),
            (number, Some(bytes)) => return told(number, &bytes),
            // It was listed and is trimmed since: there is a newer one.
            (_, None) => {}
        }
    }
}

fn told(number: u64, bytes: &[u8]) -> Newest {
    Ledger::newest(number, bytes).map_err(|e| e.with("ledger", number))
}

/// In the directory that the store is, on all processors; none where it is not read just so.
async fn look(folders: &[Result<Folder>]) -> Vec<Option<Newest>> {
    let ledgers = |folder: &Result<Folder>| folder.as_ref().ok()?.ledgers_here();
    let ledgers: Vec<Option<PathBuf>> = folders.iter().map(ledgers).collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = ledgers.len().div_ceil(processors).max(FEW);
    let parts = ledgers.chunks(share).map(<[_]>::to_vec);
    let threads: Vec<_> = parts.map(|part| tokio::task::spawn_blocking(move || look_at(&part))).collect();
    let mut seen = Vec::with_capacity(ledgers.len());
    for thread in threads {
        let Ok(part) = thread.await else { return seen };
        seen.extend(part);
    }
    seen
}

fn look_at(ledgers: &[Option<PathBuf>]) -> Vec<Option<Newest>> {
    let mut room = vec![0; LEDGER];
    let look = |ledgers: &Option<PathBuf>| {
        let (number, bytes) = newest_ledger(ledgers.as_ref()?, &mut room)?;
        Some(told(number, bytes))
    };
    ledgers.iter().map(look).collect()
}

/// The newest ledger of a directory, in one go and by few calls; none where it is not read just so.
fn newest_ledger<'room>(ledgers: &Path, room: &'room mut Vec<u8>) -> Option<(u64, &'room [u8])> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(ledgers, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
    let (mut listed, mut newest) = ([MaybeUninit::uninit(); 4096], None);
    let mut names = RawDir::new(&dir, &mut listed);
    while let Some(entry) = names.next() {
        newest = newest.max(entry.ok()?.file_name().to_str().ok().and_then(numbered));
    }
    let newest = newest?;
    let ledger = rustix::fs::openat(&dir, ledger_name(newest), flags, Mode::empty()).ok()?;
    let mut len = 0;
    loop {
        if len == room.len() {
            room.resize(2 * len, 0);
        }
        match rustix::io::read(&ledger, &mut room[len..]).ok()? {
            0 => break,
            read => len += read,
        }
    }
    // One that was made while we looked may not have been listed.
    let next = rustix::fs::statat(&dir, ledger_name(newest + 1), AtFlags::empty());
    (next.err() == Some(Errno::NOENT)).then(|| (newest, &room[..len]))
}

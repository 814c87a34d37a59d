//! The newest points of many machines: only their ledgers are read, and nothing of them is remembered.

use crate::Points;
use crate::catalogue::Kept;
use crate::folder::{Folder, LEDGERS, folder_name, ledger_name, numbered};
use crate::ledger::Ledger;
use futures_util::stream::{self, StreamExt};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use site_recovery::{MachineId, Point, Result};
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;

/// Machines that a store is asked about at once.
const AT_ONCE: usize = 64;
/// Of a directory, so many machines are looked at by one thread at least.
const FEW: usize = 64;
/// Ledgers of young machines are shorter.
const LEDGER: usize = 16 << 10;

impl Points {
    /// In the machines' order.
    pub(crate) async fn newest_of(&self, machines: &[MachineId]) -> Vec<Result<Option<Point>>> {
        let here = match &self.here {
            Some(here) => look(here, machines).await,
            None => vec![],
        };
        let here = here.into_iter().chain(std::iter::repeat_with(|| None));
        let mut told = vec![];
        for (machine, here) in machines.iter().zip(here) {
            told.push(async move {
                let newest = match here {
                    Some(newest) => newest,
                    None => ask(&self.folder_of(machine)?).await?,
                };
                Ok(newest.as_ref().map(Kept::point))
            });
        }
        stream::iter(told).buffered(AT_ONCE).collect().await
    }
}

async fn ask(folder: &Folder) -> Result<Option<Kept>> {
    loop {
        match folder.newest_ledger().await? {
            (0, _) => return Ok(None),
            (number, Some(bytes)) => {
                return Ledger::newest(number, &bytes).map_err(|e| e.with("ledger", number));
            }
            // It was listed and is trimmed since: there is a newer one.
            (_, None) => {}
        }
    }
}

/// In the directory that the store is, on all processors; none where it is not read just so.
async fn look(here: &Arc<Path>, machines: &[MachineId]) -> Vec<Option<Option<Kept>>> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = machines.len().div_ceil(processors).max(FEW);
    let part = |machines: &[MachineId]| {
        let (here, machines) = (Arc::clone(here), machines.to_vec());
        tokio::task::spawn_blocking(move || look_at(&here, &machines))
    };
    let threads: Vec<_> = machines.chunks(share).map(part).collect();
    let mut seen = Vec::with_capacity(machines.len());
    for thread in threads {
        let Ok(part) = thread.await else { return seen };
        seen.extend(part);
    }
    seen
}

fn look_at(here: &Path, machines: &[MachineId]) -> Vec<Option<Option<Kept>>> {
    let mut room = vec![0; LEDGER];
    let look = |machine: &MachineId| {
        let folder = Some(folder_name(machine)).filter(|name| !name.is_empty())?;
        let (number, bytes) = newest_ledger(&here.join(folder).join(LEDGERS), &mut room)?;
        Ledger::newest(number, bytes).ok()
    };
    machines.iter().map(look).collect()
}

/// The newest ledger of a directory, in one go and by few calls; none where it is not read just so. Blocks.
pub(crate) fn newest_ledger<'room>(ledgers: &Path, room: &'room mut Vec<u8>) -> Option<(u64, &'room [u8])> {
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
            room.resize((2 * len).max(LEDGER), 0);
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

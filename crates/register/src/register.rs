//! The epoch register of a site: one locked file per machine, shared by all roles of the site.

use crate::act::must_be_waited_for;
use crate::durable;
use crate::told::Told;
use serde::{Deserialize, Serialize};
use site_recovery::{Epoch, Error, ErrorKind, MachineId, Op, OpKey, Result};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// The register, in a directory of its own.
#[derive(Debug, Clone)]
pub struct Register {
    dir: PathBuf,
}

/// Leave to change one machine's world. Whoever holds it has passed the register, and nobody else passes until it is
/// dropped, here or in another process: check and effect are one act.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    machine: MachineId,
    epoch: Epoch,
}

impl Register {
    /// The register in this directory, which is made where it is missing, by the first turn.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Waits for the machine's turn, compares, raises, and holds it. Blocks.
    ///
    /// # Errors
    /// `StaleEpoch` for an epoch that does not pass; `Cancelled` inside an [`act`](crate::act()) that nobody waits for any
    /// more; those of the file system.
    pub fn turn(&self, op: &Op, machine: &MachineId) -> Result<Turn> {
        let path = self.dir.join(format!("{}.json", OpKey::from(machine.as_str()).to_name()));
        let lock = locked(&path.with_extension("lock"))?;
        must_be_waited_for()?;
        let record: Option<Record> = durable::read(&path)?;
        let held = record.map(|r| r.epoch);
        if !op.epoch.passes(held.as_ref()) {
            let (asked, held) = (&op.epoch, held.expect("every epoch passes an empty register"));
            let message = format!(
                "epoch {} of {} does not pass: {machine} is held by {} at epoch {}",
                asked.number, asked.owner, held.owner, held.number
            );
            return Err(Error::new(ErrorKind::StaleEpoch, message));
        }
        if held.as_ref() != Some(&op.epoch) {
            durable::write(&path, &Record { machine: machine.clone(), epoch: op.epoch.clone() })?;
        }
        Ok(Turn { _lock: lock })
    }

    /// Turns of several machines, in one order for everybody, so that no two callers wait for each other.
    ///
    /// # Errors
    /// As [`turn`](Self::turn).
    pub fn turns(&self, op: &Op, machines: &[&MachineId]) -> Result<Vec<Turn>> {
        let sorted: BTreeSet<_> = machines.iter().copied().collect();
        sorted.into_iter().map(|m| self.turn(op, m)).collect()
    }
}

/// A lock file, locked for this handle alone; made where it is missing. Blocks.
///
/// # Errors
/// Those of the file system.
pub fn locked(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    file.lock().told("lock", path)?;
    Ok(file)
}

/// A lock file, open and not locked; made where it is missing.
///
/// # Errors
/// Those of the file system.
pub fn lock_file(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        durable::make_dir(parent)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).told("open", path)
}

//! The epoch register of the site: one locked file per machine, shared by all roles of the site.
//!
//! It stands beside the machines, not inside them, so that it outlives each directory and is not rewound with one.

use crate::Site;
use crate::durable;
use crate::error::Told;
use serde::{Deserialize, Serialize};
use site_recovery::{Epoch, Error, ErrorKind, MachineId, Op, OpKey, Result};
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Weak;

/// Leave to change one machine's world. Whoever holds it has passed the register, and nobody else passes until it is
/// dropped, here or in another process: check and effect are one act.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Register {
    machine: MachineId,
    epoch: Epoch,
}

thread_local! {
    /// Who waits for the act that runs on this thread; nobody in particular for acts that are not dropped.
    static CALLER: RefCell<Option<Weak<()>>> = const { RefCell::new(None) };
}

/// Runs an act on behalf of a caller, who may be gone before its turn comes.
pub(crate) fn for_caller<T>(caller: Weak<()>, act: impl FnOnce() -> T) -> T {
    CALLER.set(Some(caller));
    let done = act();
    CALLER.set(None);
    done
}

/// A call that was dropped while it waited must not strike after a later one.
fn must_be_waited_for() -> Result<()> {
    match CALLER.with_borrow(|caller| caller.as_ref().is_some_and(|c| c.strong_count() == 0)) {
        true => {
            Err(Error::new(ErrorKind::Cancelled, "nobody waits for this call any more: it begins nothing"))
        }
        false => Ok(()),
    }
}

impl Site {
    /// Waits for the machine's register, compares, raises, and holds it.
    pub(crate) fn turn(&self, op: &Op, machine: &MachineId) -> Result<Turn> {
        let path = self.own("epochs").join(format!("{}.json", plain(machine.as_str())));
        let lock = locked(&path.with_extension("lock"))?;
        must_be_waited_for()?;
        let register: Option<Register> = durable::read(&path)?;
        let held = register.map(|r| r.epoch);
        if !op.epoch.passes(held.as_ref()) {
            let (asked, held) = (&op.epoch, held.expect("every epoch passes an empty register"));
            let message = format!(
                "epoch {} of {} does not pass: {machine} is held by {} at epoch {}",
                asked.number, asked.owner, held.owner, held.number
            );
            return Err(Error::new(ErrorKind::StaleEpoch, message));
        }
        if held.as_ref() != Some(&op.epoch) {
            durable::write(&path, &Register { machine: machine.clone(), epoch: op.epoch.clone() })?;
        }
        Ok(Turn { _lock: lock })
    }

    /// Turns of several machines, in one order for everybody, so that no two callers wait for each other.
    pub(crate) fn turns(&self, op: &Op, machines: &[&MachineId]) -> Result<Vec<Turn>> {
        let sorted: std::collections::BTreeSet<_> = machines.iter().copied().collect();
        sorted.into_iter().map(|m| self.turn(op, m)).collect()
    }
}

/// A lock file, locked for this handle alone; made where it is missing.
pub(crate) fn locked(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    file.lock().told("lock", path)?;
    Ok(file)
}

/// A lock file, open and not locked; made where it is missing.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        durable::make_dir(parent)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).told("open", path)
}

/// Any text as the name of a file: different for different texts.
pub(crate) fn plain(text: &str) -> String {
    OpKey::from(text).to_name()
}

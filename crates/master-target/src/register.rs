//! What of one machine outlives its timeline: the epoch register, the phase record, and keys that were taken back.

use crate::folder::Folder;
use site_recovery::{Epoch, Error, ErrorKind, Op, OpKey, PhaseRecord, Result};

const REGISTER: &str = "register";
const PHASE: &str = "phase";
const WITHDRAWN: &str = "withdrawn";

/// Lets a call of this authority through, and raises the register to it.
pub(crate) fn pass(folder: &Folder, op: &Op) -> Result<()> {
    let register = folder.read::<Epoch>(REGISTER)?.map(|(_, epoch)| epoch);
    if !op.epoch.passes(register.as_ref()) {
        let held = register.expect("an empty register lets everybody pass");
        let message = format!("epoch {} of {} holds this machine", held.number, held.owner);
        return Err(Error::new(ErrorKind::StaleEpoch, message).with("epoch", op.epoch.number));
    }
    if register.as_ref() == Some(&op.epoch) {
        return Ok(());
    }
    folder.write(REGISTER, op.epoch.number, &op.epoch)
}

/// Keeps a phase record, unless a higher one is there.
pub(crate) fn remember(folder: &Folder, record: &PhaseRecord) -> Result<()> {
    if let Some(held) = recall(folder)?
        && held.order() > record.order()
    {
        let (epoch, revision) = held.order();
        let message =
            format!("the record of epoch {epoch}, revision {revision} is newer; read it with `recall`");
        return Err(Error::new(ErrorKind::Refused, message));
    }
    folder.write(PHASE, record.order().1, record)
}

/// The phase record.
pub(crate) fn recall(folder: &Folder) -> Result<Option<PhaseRecord>> {
    Ok(folder.read(PHASE)?.map(|(_, record)| record))
}

/// From now on this key can make nothing any more.
pub(crate) fn withdraw(folder: &Folder, key: OpKey) -> Result<()> {
    let mut keys = withdrawn(folder)?;
    if keys.contains(&key) {
        return Ok(());
    }
    keys.push(key);
    folder.write(WITHDRAWN, keys.len() as u64, &keys)
}

/// Keys that can make nothing any more.
pub(crate) fn withdrawn(folder: &Folder) -> Result<Vec<OpKey>> {
    Ok(folder.read(WITHDRAWN)?.map_or_else(Vec::new, |(_, keys)| keys))
}

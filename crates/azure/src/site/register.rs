//! Who may change a machine's world here: one document per machine, raised by compare-and-set.
//!
//! Storage checks and Resource Manager acts, so that check and effect are apart. Within this process they are one act by the turn
//! of the machine. Between two processes there is a window: from the read of the register to the moment that Resource Manager
//! accepts the request.

use super::Site;
use crate::document;
use serde::{Deserialize, Serialize};
use site_recovery::{Epoch, Error, ErrorKind, MachineId, Op, Result};
use site_recovery_azure_blob::Error as BlobError;
use std::sync::{Arc, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// How often a register that others raise at the same moment is read again.
const TRIES: usize = 8;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Register {
    format: u32,
    epoch: Epoch,
}

/// While it lives, no other call of this process changes the machine's world.
#[derive(Debug)]
pub(crate) struct Turn(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<()>);

impl Site {
    /// Waits for its turn, and raises the register.
    ///
    /// # Errors
    /// `StaleEpoch`.
    pub(crate) async fn turn(&self, op: &Op, machine: &MachineId) -> Result<Turn> {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(machine.clone()).or_default())
        };
        let turn = Turn(lock.lock_owned().await);
        self.raise(op, machine).await?;
        Ok(turn)
    }

    async fn raise(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let name = self.names.register(machine);
        let document = self.container.document(&name);
        let bytes = document::encode(&Register { format: 1, epoch: op.epoch.clone() })?;
        for _ in 0..TRIES {
            let raised = match document.read().await? {
                None => document.create(bytes.clone()).await,
                Some((found, etag)) => {
                    let held: Register = document::decode(&found).map_err(|e| e.with("document", &name))?;
                    if !op.epoch.passes(Some(&held.epoch)) {
                        let message = format!("{machine} is held by another engine");
                        let held = format!("{} of {}", held.epoch.number, held.epoch.owner);
                        return Err(Error::new(ErrorKind::StaleEpoch, message).with("register", held));
                    }
                    if held.epoch == op.epoch {
                        return Ok(());
                    }
                    document.replace(bytes.clone(), &etag).await
                }
            };
            match raised {
                Ok(_) => return Ok(()),
                // Read again: it may be ours, or a higher one.
                Err(BlobError::Exists { .. } | BlobError::Changed { .. }) => {}
                Err(error) if error.may_have_been_done() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("others raise the register of {machine} at the same moment")))
    }
}

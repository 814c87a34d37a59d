//! Who may change a machine's world here: one document per machine, raised by compare-and-set.
//!
//! Storage checks and Resource Manager acts, so that check and effect are apart. Within this process a machine's turn makes them
//! one act. Between processes there is a window, from the look at the register to the moment that Resource Manager accepts the
//! request, and it has an end: [`Site::ask`] looks at the register again right before each request that changes something, and
//! gives the request up when the window is over. `claim` raises the register, waits for a tenth longer, and then until Azure is busy
//! with nothing of the machine any more. What Azure accepts after its sender gave it up, or of a sender that stood still between
//! two instructions for longer than that, is not covered: whoever looks next finds it.

use super::Site;
use super::claim::LONGEST;
use crate::document;
use futures_util::future::Either;
use serde::{Deserialize, Serialize};
use site_recovery::{Epoch, Error, ErrorKind, MachineId, Op, Result};
use site_recovery_azure_blob::{Error as BlobError, Etag};
use std::ops::Deref;
use std::sync::{Arc, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// How often a register that others raise at the same moment is read again.
const TRIES: usize = 8;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Register {
    format: u32,
    epoch: Epoch,
    /// Whether nothing that an older epoch asked for can be on its way any more.
    pub(super) alone: bool,
}

/// Under which key and epoch the world of a machine is changed.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(super) op: Op,
    pub(super) machine: MachineId,
}

/// While it lives, no other call of this process changes the machine's world.
#[derive(Debug)]
pub(crate) struct Turn {
    #[expect(dead_code, reason = "held, not read")]
    alone: OwnedMutexGuard<()>,
    asker: Asker,
}

impl Deref for Turn {
    type Target = Asker;

    fn deref(&self) -> &Asker {
        &self.asker
    }
}

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
        let asker = Asker { op: op.clone(), machine: machine.clone() };
        let turn = Turn { alone: lock.lock_owned().await, asker };
        self.raise(&turn).await?;
        Ok(turn)
    }

    /// Asks Resource Manager for a change, unless somebody newer has come. From the look at the register until the request is
    /// accepted it takes no longer than the window; the change itself may.
    ///
    /// # Errors
    /// `StaleEpoch`; `Unavailable` where the window is over: the change may have been asked for.
    pub(crate) async fn ask<T, E: Into<Error>>(
        &self,
        asker: &Asker,
        request: impl Future<Output = std::result::Result<T, E>>,
    ) -> Result<T> {
        let late = self.clock.sleep(self.window);
        let asked = std::pin::pin!(async {
            self.raise(asker).await?;
            request.await.map_err(Into::into)
        });
        // Lateness is looked at first: a process that stood still gives up before it sends.
        match futures_util::future::select(late, asked).await {
            Either::Left(_) => {
                let message = format!("Resource Manager has not accepted it within {:?}", self.window);
                Err(Error::new(ErrorKind::Unavailable, message).with("outcome", "unknown"))
            }
            Either::Right((asked, _)) => asked,
        }
    }

    /// The register as it is under the asker's epoch.
    pub(super) async fn raise(&self, asker: &Asker) -> Result<(Register, Etag)> {
        let Asker { op, machine } = asker;
        let name = self.names.register(machine);
        let document = self.container.document(&name);
        for _ in 0..TRIES {
            // Before the first one there was nobody.
            let mut next = Register { format: 1, epoch: op.epoch.clone(), alone: true };
            let raised = match document.read().await? {
                None => document.create(document::encode(&next)?).await,
                Some((found, etag)) => {
                    let held: Register = document::decode(&found).map_err(|e| e.with("document", &name))?;
                    if !op.epoch.passes(Some(&held.epoch)) {
                        let message = format!("{machine} is held by another engine");
                        let held = format!("{} of {}", held.epoch.number, held.epoch.owner);
                        return Err(Error::new(ErrorKind::StaleEpoch, message).with("register", held));
                    }
                    if held.epoch == op.epoch {
                        return Ok((held, etag));
                    }
                    next.alone = false;
                    document.replace(document::encode(&next)?, &etag).await
                }
            };
            match raised {
                Ok(etag) => return Ok((next, etag)),
                // Read again: it may be ours, or a higher one.
                Err(BlobError::Exists { .. } | BlobError::Changed { .. }) => {}
                Err(error) if error.may_have_been_done() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(ErrorKind::Busy, format!("others raise the register of {machine} at the same moment")))
    }

    /// Notes that nothing of an older epoch is on its way. Somebody who raised the register since is told by the next look at it.
    pub(super) async fn note_alone(&self, turn: &Turn, held: (Register, Etag)) -> Result<()> {
        let (register, etag) = held;
        let bytes = document::encode(&Register { alone: true, ..register })?;
        match self.container.document(&self.names.register(&turn.machine)).replace(bytes, &etag).await {
            Err(BlobError::Changed { .. }) => self.raise(turn).await.map(drop),
            Err(error) if error.may_have_been_done() => self.raise(turn).await.map(drop),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Waits for something that Azure is busy with, until it is over: what is looked for is then told.
    ///
    /// # Errors
    /// `Busy` after an hour, with what it was busy with last.
    pub(super) async fn waited<T, F>(&self, mut look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Look<T>>>,
    {
        let began = self.clock.now();
        loop {
            match look().await? {
                Look::Is(told) => return Ok(told),
                Look::Busy(what) if self.clock.now().since(began) > LONGEST => {
                    let message = format!("Azure has been busy with {what} for {LONGEST:?}: try again");
                    return Err(Error::new(ErrorKind::Busy, message));
                }
                Look::Busy(_) => self.look_again().await,
            }
        }
    }

    /// What is there, once Azure is not busy with it any more; nothing where it is not there.
    ///
    /// # Errors
    /// As [`waited`](Self::waited).
    pub(super) async fn settled<T, E, F>(
        &self,
        what: &str,
        mut get: impl FnMut() -> F,
        is_busy: impl Fn(&T) -> bool,
    ) -> Result<Option<T>>
    where
        E: Into<Error>,
        F: Future<Output = std::result::Result<Option<T>, E>>,
    {
        let look = || {
            let (found, is_busy) = (get(), &is_busy);
            async move {
                let found = found.await.map_err(Into::into)?;
                let is_busy = found.as_ref().is_some_and(is_busy);
                Ok(if is_busy { Look::Busy(what.to_owned()) } else { Look::Is(found) })
            }
        };
        self.waited(look).await
    }

    pub(super) async fn look_again(&self) {
        self.clock.sleep(self.look_every).await;
    }
}

/// One look at what Azure does.
pub(super) enum Look<T> {
    Is(T),
    /// With what.
    Busy(String),
}

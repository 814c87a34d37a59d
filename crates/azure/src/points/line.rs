//! One machine's state as it stands now, while it is this call's turn, and how it moves on.

use super::names::Names;
use super::state::{Owed, State, Timeline};
use super::{Inner, reports};
use site_recovery::{Error, ErrorKind, MachineId, Result};
use site_recovery_azure_blob::{Error as BlobError, Etag};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) store: Arc<Inner>,
    pub(crate) names: Names,
    pub(crate) state: State,
    /// None before the first.
    etag: Option<Etag>,
    _turn: OwnedMutexGuard<()>,
}

impl Line {
    /// Waits for its turn among the calls of this process, and reads the state.
    pub(crate) async fn enter(store: &Arc<Inner>, machine: &MachineId) -> Result<Self> {
        let turn = store.turn(machine).lock_owned().await;
        let names = Names::of(machine);
        let found = store.container.document(&names.state()).read().await?;
        let (state, etag) = match found {
            Some((bytes, etag)) => {
                let state = State::decode(machine, &bytes);
                (state.map_err(|e| e.with("document", names.state()))?, Some(etag))
            }
            None => (State::new(machine.clone()), None),
        };
        Ok(Self { store: Arc::clone(store), names, state, etag, _turn: turn })
    }

    /// Makes `next` true, unless somebody else was faster, and closes the sessions before its own.
    ///
    /// # Errors
    /// `Busy` when another process changed the state at the same moment: nothing was changed.
    pub(crate) async fn commit(&mut self, mut next: State) -> Result<()> {
        if next == self.state && self.etag.is_some() {
            return Ok(());
        }
        next.number = self.state.number + 1;
        let bytes = next.encode()?;
        let document = self.store.container.document(&self.names.state());
        let put = match &self.etag {
            None => document.create(bytes.clone()).await,
            Some(etag) => document.replace(bytes.clone(), etag).await,
        };
        let etag = match put {
            Ok(etag) => etag,
            Err(error) if is_doubtful(&error) => match document.read().await? {
                Some((found, etag)) if found == bytes => etag,
                _ if error.may_have_been_done() => return Err(error.into()),
                _ => {
                    let message = "another process changed the timeline at the same moment: try again";
                    return Err(Error::new(ErrorKind::Busy, message));
                }
            },
            Err(error) => return Err(error.into()),
        };
        let opened = next.session > self.state.session;
        (self.state, self.etag) = (next, Some(etag));
        if opened {
            self.close_earlier().await?;
        }
        Ok(())
    }

    /// Afterwards no page of an earlier session can land.
    pub(crate) async fn close_earlier(&self) -> Result<()> {
        self.store.forget_session(&self.state.machine);
        let Some(timeline) = &self.state.timeline else { return Ok(()) };
        let session = self.state.session;
        let raised = timeline
            .disks
            .values()
            .map(async |disk| self.store.container.pages(&disk.blob).raise_sequence(session).await);
        for raised in futures_util::future::join_all(raised).await {
            raised.map_err(reports)?;
        }
        Ok(())
    }

    pub(crate) fn timeline(&self) -> Result<&Timeline> {
        self.state.timeline()
    }

    /// Deletes what nothing refers to. What cannot be deleted now stays owed; why it cannot is returned.
    pub(crate) async fn collect(&mut self) -> Option<Error> {
        let mut next = self.state.clone();
        let (mut left, mut why) = (vec![], None);
        for owed in std::mem::take(&mut next.owed) {
            if let Err(error) = self.delete(&owed).await {
                tracing::warn!(%error, ?owed, "it is deleted later");
                left.push(owed);
                why.get_or_insert(error);
            }
        }
        next.owed = left;
        if next.owed != self.state.owed
            && let Err(error) = self.commit(next).await
        {
            tracing::debug!(%error, "what was deleted is looked for once more");
        }
        why
    }

    async fn delete(&self, owed: &Owed) -> Result<()> {
        let container = &self.store.container;
        match owed {
            Owed::Snapshot { blob, snapshot } => container.pages(blob).delete(Some(snapshot)).await?,
            Owed::Blob { blob } => container.pages(blob).delete_all().await?,
            Owed::Document { name } => container.document(name).delete().await?,
            Owed::Notes { session } => {
                for note in container.list(&self.names.notes(*session)).await? {
                    container.document(&note.name).delete().await?;
                }
            }
        }
        Ok(())
    }
}

/// It may have happened, by this call or by its first sending.
fn is_doubtful(error: &BlobError) -> bool {
    matches!(error, BlobError::Exists { .. } | BlobError::Changed { .. }) || error.may_have_been_done()
}

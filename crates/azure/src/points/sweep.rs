//! What was made for a state that never came: calls that fail in their middle leave it behind, and so does a process that ends.
//!
//! It is known by its name, or as a snapshot by its session. Notes are not looked at: they go with their session.

use super::Inner;
use super::line::Line;
use super::names::Names;
use super::seal::SESSION;
use site_recovery::{MachineId, Result};
use std::collections::BTreeSet;
use std::sync::PoisonError;

impl Inner {
    /// Whether something may be left; `unknown` where nobody has looked yet.
    fn is_littered(&self, machine: &MachineId, unknown: bool) -> bool {
        let littered = self.littered.lock().unwrap_or_else(PoisonError::into_inner);
        littered.get(machine).copied().unwrap_or(unknown)
    }

    pub(super) fn litter(&self, machine: &MachineId, is: bool) {
        self.littered.lock().unwrap_or_else(PoisonError::into_inner).insert(machine.clone(), is);
    }
}

/// When it is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sweep {
    /// After a call of this process that failed.
    Failed,
    /// Also the first time in this process, for what one before it has left.
    First,
}

impl Line {
    /// Deletes it. What cannot be deleted now is so later.
    pub(super) async fn sweep(&self, when: Sweep) {
        let machine = &self.state.machine;
        if !self.store.is_littered(machine, when == Sweep::First) {
            return;
        }
        match self.swept().await {
            Ok(()) => self.store.litter(machine, false),
            Err(error) => tracing::warn!(%error, %machine, "what failed calls left behind is deleted later"),
        }
    }

    async fn swept(&self) -> Result<()> {
        let Ok(timeline) = self.timeline() else { return Ok(()) };
        let points = || timeline.points.iter().flat_map(|kept| kept.snapshots.values());
        let snapshots: BTreeSet<_> = points().map(|at| (at.blob.as_str(), &at.snapshot)).collect();
        let blobs = timeline.disks.values().map(|disk| &disk.blob).chain(points().map(|at| &at.blob));
        let documents = timeline.points.iter().flat_map(|kept| kept.inherits.iter().chain([&kept.document]));
        let mut named: BTreeSet<_> = blobs.chain(documents).map(String::as_str).collect();
        named.extend(timeline.plans());
        // A seal of the session that is open may be about to name its own.
        let closed = timeline.open.as_ref().map_or(self.state.session, |open| open.session - 1);
        for folder in self.names.by_state() {
            for listed in self.store.container.list(&folder).await? {
                let name = listed.name.as_str();
                let pages = self.store.container.pages(name);
                let Some(snapshot) = &listed.snapshot else {
                    if !named.contains(name) && Names::state_of(name).is_some_and(|n| n <= self.state.number)
                    {
                        pages.delete_all().await?;
                    }
                    continue;
                };
                let session = listed.metadata.get(SESSION).and_then(|session| session.parse().ok());
                if !snapshots.contains(&(name, snapshot))
                    && session.is_some_and(|session: u64| session <= closed)
                {
                    pages.delete(Some(snapshot)).await?;
                }
            }
        }
        Ok(())
    }
}

//! One machine's ledger as this process knows it, and how it moves on.

use crate::folder::Folder;
use crate::ledger::{Garbage, Ledger, Timeline};
use crate::working_copy::WorkingCopy;
use site_recovery::{Error, ErrorKind, MachineId, Result};
use std::collections::HashSet;

/// Ledgers that are kept behind the newest: a writer that fell further behind than this notices.
const KEPT: u64 = 16;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) folder: Folder,
    /// Of the ledger; 0 before the first.
    pub(crate) number: u64,
    pub(crate) ledger: Ledger,
    pub(crate) working: WorkingCopy,
    /// The oldest ledger that is there, where it is known.
    oldest: Option<u64>,
    /// Objects were attached for a ledger that may not have been made.
    unsettled: bool,
    /// Whether there may be objects that no ledger names.
    pub(crate) suspect: bool,
    /// Where in the ledger's garbage the next look for what can be deleted begins.
    pub(crate) collected: usize,
    /// Of the ledger's garbage, this is deleted.
    pub(crate) deleted: HashSet<Garbage>,
}

impl Line {
    pub(crate) fn new(folder: Folder, machine: MachineId) -> Self {
        let (ledger, working) = (Ledger::new(machine), WorkingCopy::default());
        Self {
            folder,
            number: 0,
            ledger,
            working,
            oldest: None,
            unsettled: false,
            suspect: true,
            collected: 0,
            deleted: HashSet::new(),
        }
    }

    /// Reads the newest ledger, whoever wrote it.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        self.suspect |= self.unsettled;
        self.unsettled = false;
        if self.number > 0 && self.folder.is_newest(self.number).await? {
            return Ok(());
        }
        loop {
            let (newest, bytes) = self.folder.newest_ledger().await?;
            if newest == self.number {
                return Ok(());
            }
            if newest < self.number {
                let message = format!("ledger {} of {} is gone", self.number, self.ledger.machine);
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
            // A ledger that is listed may have been trimmed since: then there is a newer one.
            if let Some(bytes) = bytes {
                let ledger = Ledger::decode(newest, &bytes).map_err(|e| e.with("ledger", newest))?;
                (self.number, self.ledger) = (newest, ledger);
                return Ok(());
            }
        }
    }

    /// The number that the next ledger will have.
    pub(crate) fn next(&self) -> u64 {
        self.number + 1
    }

    /// Makes `next` true, unless somebody else was faster.
    ///
    /// # Errors
    /// `Busy` when another process changed the timeline at the same moment: nothing was changed.
    pub(crate) async fn commit(&mut self, mut next: Ledger) -> Result<()> {
        if next == self.ledger && self.number > 0 {
            return Ok(());
        }
        next.garbage.retain(|garbage| !self.deleted.contains(garbage));
        // Plans and seeds that it names no more.
        let named = next.timeline.as_ref().map(Timeline::noted).unwrap_or_default();
        let before = self.ledger.timeline.as_ref().map(Timeline::noted).unwrap_or_default();
        let dropped = before.into_iter().filter(|page| !named.contains(page)).map(Garbage::Attached);
        next.garbage.extend(dropped);
        let number = self.next();
        next.number = number;
        let bytes = next.encode()?;
        self.unsettled = true;
        if !self.folder.create_ledger(number, bytes.clone()).await?
            && self.folder.get_ledger(number).await?.as_ref() != Some(&bytes)
        {
            let message = "another process changed the timeline at the same moment: try again";
            return Err(Error::new(ErrorKind::Busy, message));
        }
        (self.number, self.ledger, self.unsettled) = (number, next, false);
        self.deleted.clear();
        self.trim().await
    }

    /// The number of the next ledger, to attach objects by, which are left over unless it is made.
    pub(crate) fn attaching(&mut self) -> u64 {
        self.unsettled = true;
        self.next()
    }

    /// Deletes ledgers that are far behind. One that was created although the one before it is gone was created in the
    /// place of a trimmed one, by a writer that slept meanwhile: it changed nothing.
    async fn trim(&mut self) -> Result<()> {
        if self.number > 1 && !self.folder.has_ledger(self.number - 1).await? {
            // Nobody may take it for the newest.
            self.folder.delete_ledger(self.number).await?;
            self.number = 0;
            let message = "the timeline moved on far while this call slept: repeat it";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let mut oldest = match self.oldest {
            Some(oldest) => oldest,
            None => self.folder.list_ledgers().await?.into_iter().min().unwrap_or(self.number),
        };
        while oldest + KEPT <= self.number {
            // In order, and not past one that stays: where one is there and the next is not, it is the newest.
            if let Err(error) = self.folder.delete_ledger(oldest).await {
                tracing::debug!(%error, oldest, "old ledgers stay for now");
                break;
            }
            oldest += 1;
        }
        self.oldest = Some(oldest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Cache;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use site_recovery::{Epoch, Op};
    use std::sync::Arc;

    fn raised(line: &Line, number: u64) -> Ledger {
        let op = Op { key: "k".into(), epoch: Epoch { number, owner: "e".into() } };
        line.ledger.admit(&op).expect("higher")
    }

    #[tokio::test]
    async fn o3_a_writer_that_slept_changes_nothing() {
        for (meanwhile, kind) in
            [(1, ErrorKind::Busy), (3, ErrorKind::Busy), (KEPT + 5, ErrorKind::Unavailable)]
        {
            let store = Arc::new(InMemory::new());
            let line = || {
                Line::new(Folder::new(Arc::clone(&store) as _, Path::from("web"), Cache::new()), "web".into())
            };
            let (mut sleeper, mut other) = (line(), line());
            sleeper.commit(raised(&sleeper, 1)).await.expect("first");
            let late = raised(&sleeper, 1000);
            other.refresh().await.expect("read");
            for number in 0..meanwhile {
                other.commit(raised(&other, number + 2)).await.expect("alone");
            }
            assert_eq!(sleeper.commit(late).await.expect_err("late").kind(), kind);
            let mut fresh = line();
            fresh.refresh().await.expect("read");
            assert_eq!((fresh.number, &fresh.ledger), (other.number, &other.ledger));
            other.commit(raised(&other, meanwhile + 2)).await.expect("goes on");
            sleeper.refresh().await.expect("read");
            assert_eq!(sleeper.ledger, other.ledger);
        }
    }

    #[tokio::test]
    async fn o3_a_ledger_that_is_created_far_too_late_misleads_nobody() {
        let store = Arc::new(InMemory::new());
        let folder = || Folder::new(Arc::clone(&store) as _, Path::from("web"), Cache::new());
        let line = || Line::new(folder(), "web".into());
        let (mut idle, mut other) = (line(), line());
        for number in 1..=2 {
            idle.commit(raised(&idle, number)).await.expect("alone");
        }
        let late = idle.ledger.encode().expect("JSON");
        other.refresh().await.expect("read");
        for number in 3..KEPT + 9 {
            other.commit(raised(&other, number)).await.expect("alone");
        }
        // A put that was on its way since then, and that nobody waits for any more.
        assert!(folder().create_ledger(2, late).await.expect("created"), "it was trimmed");
        idle.refresh().await.expect("read");
        assert_eq!((idle.number, &idle.ledger), (other.number, &other.ledger));
    }
}

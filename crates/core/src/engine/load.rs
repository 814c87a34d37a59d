//! All units of a journal, into memory: thousands of them are read while the journal looks for more.

use super::shared::{Shared, Slot};
use crate::state::Phase;
use crate::{Error, ErrorKind, LastEntry, Result, Unit};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

const UNITS: &str = "unit/";
/// Units that are asked of the journal at once: more are read by other threads meanwhile.
const PAGE: usize = 500;
/// Pages that wait to be read: what is read at once takes its memory anew.
const WAITING: usize = 2;

/// Reads all units.
///
/// # Errors
/// Those of the journal; `Corrupt` or `Unsupported`, naming the subject that cannot be read.
pub(super) async fn load(shared: &Arc<Shared>) -> Result<()> {
    let mut page = shared.journal.last_entries(UNITS, "", PAGE).await?;
    let slots = if page.len() < PAGE {
        read(page)?
    } else {
        let readers = Readers::start();
        while let Some(last) = page.last() {
            let after = last.subject.clone();
            readers.give(page).await;
            page = shared.journal.last_entries(UNITS, &after, PAGE).await?;
            if page.first().is_some_and(|first| first.subject <= after) {
                let message = format!("the journal tells what comes up to {after} again (JRN-6)");
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
        }
        readers.finish()?
    };
    shared.fill(slots);
    Ok(())
}

/// The units of a page, without those that are protected no more.
fn read(page: Vec<LastEntry>) -> Result<Vec<Arc<Slot>>> {
    let mut slots = Vec::with_capacity(page.len());
    for last in page {
        let unit = Unit::from_bytes(&last.subject, &last.entry)?;
        if unit.run.is_some() || unit.members.iter().any(|i| i.state.phase != Phase::Unprotected) {
            let audits = unit.trail.0;
            slots.push(Slot::new(unit, (last.count, audits)));
        }
    }
    Ok(slots)
}

/// Threads that read pages while the journal looks for more. They end with the pages.
struct Readers {
    pages: mpsc::Sender<Vec<LastEntry>>,
    threads: Vec<JoinHandle<Result<Vec<Arc<Slot>>>>>,
}

impl Readers {
    /// As many as there are processors.
    fn start() -> Self {
        let (pages, queue) = mpsc::channel(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        let thread = |_| {
            let queue = Arc::clone(&queue);
            let next = move || queue.lock().expect("no panic under this lock").blocking_recv();
            std::thread::spawn(move || {
                let mut all = vec![];
                while let Some(page) = next() {
                    all.extend(read(page)?);
                }
                Ok(all)
            })
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { pages, threads: (0..processors).map(thread).collect() }
    }

    /// Where all have ended by an error, nobody hears: [`finish`](Self::finish) says why.
    async fn give(&self, page: Vec<LastEntry>) {
        let _ = self.pages.send(page).await;
    }

    /// Blocks for as long as the last pages take.
    fn finish(self) -> Result<Vec<Arc<Slot>>> {
        drop(self.pages);
        let mut all = vec![];
        for thread in self.threads {
            all.extend(thread.join().expect("reading does not panic")?);
        }
        Ok(all)
    }
}

//! What happened when, and how old the newest point was all the time: for the table and the picture.

use site_recovery::{Clock, Consistency, ItemHandle, SystemClock, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the age of the newest point is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A moment that a person would mark on the time line.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) at: Timestamp,
    pub(crate) what: String,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Age of the newest point, at each look where there was one.
    pub(crate) rpo: Vec<(Timestamp, Duration)>,
    pub(crate) points: Vec<(Timestamp, Consistency)>,
    pub(crate) marks: Vec<Mark>,
}

/// Looks at one machine until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) began: Timestamp,
    seen: Arc<Mutex<Seen>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self { began: SystemClock.now(), seen: Arc::default(), task: None }
    }

    #[allow(clippy::disallowed_methods, reason = "a task that belongs to this program alone")]
    pub(crate) fn follow(&mut self, item: ItemHandle) {
        let seen = Arc::clone(&self.seen);
        let looking = tokio::spawn(async move {
            loop {
                // While the machine moves from one side to the other there may be nobody to ask.
                if let Ok(points) = item.points().await
                    && let Some(newest) = points.last()
                {
                    let now = SystemClock.now();
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.rpo.push((now, now.since(newest.taken)));
                    for point in &points {
                        if !seen.points.iter().any(|(taken, _)| *taken == point.taken) {
                            seen.points.push((point.taken, point.consistency));
                        }
                    }
                }
                SystemClock.sleep(LOOK).await;
            }
        });
        if let Some(before) = self.task.replace(looking) {
            before.abort();
        }
    }

    pub(crate) fn mark(&self, what: impl Into<String>) {
        let mark = Mark { at: SystemClock.now(), what: what.into() };
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).marks.push(mark);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

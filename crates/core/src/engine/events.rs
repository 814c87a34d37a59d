//! What happened, as it happens: a stream that says when it lagged, and replays from a position.

use crate::{Event, Finding, JobId, MachineId, Point, PointId, Timestamp, UnitId};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// How many notices are kept for replay.
pub const KEPT_NOTICES: usize = 8192;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Its number in this engine's life, from 0, without gaps.
    pub position: u64,
    /// When.
    pub at: Timestamp,
    /// In which unit.
    pub unit: UnitId,
    /// To which machine, where it is one's own.
    pub machine: Option<MachineId>,
    /// What.
    pub kind: NoticeKind,
}

/// What kind of thing.
#[derive(Debug, Clone, PartialEq)]
pub enum NoticeKind {
    /// The item changed; journalled before it was told.
    Changed(Box<Event>),
    /// A point was sealed.
    Sealed {
        /// The point.
        point: Point,
        /// Bytes that had changed.
        changed: u64,
        /// Bytes that crossed.
        shipped: u64,
    },
    /// A cycle did not seal.
    CycleFailed {
        /// Why.
        reason: String,
    },
    /// Points were dropped.
    Pruned {
        /// How many.
        points: usize,
    },
    /// A pin was taken away by the engine: newer ones of its kind are kept instead.
    Unpinned {
        /// The point; what else pins it stays.
        point: PointId,
        /// The reason it was pinned for.
        why: String,
    },
    /// A step of a job began or ended.
    Job {
        /// Which job.
        job: JobId,
        /// What.
        what: String,
    },
    /// Health found something.
    Alert(Finding),
}

/// What a reader gets next.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// The next notice.
    Notice(Arc<Notice>),
    /// The reader was too slow: so many were dropped. The next delivery is the oldest that is kept.
    Lagged {
        /// How many.
        missed: u64,
    },
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Bus(Arc<Ring>);

#[derive(Debug, Default)]
struct Ring {
    kept: Mutex<(u64, VecDeque<Arc<Notice>>)>,
    arrived: Notify,
}

impl Bus {
    pub(crate) fn publish(
        &self,
        at: Timestamp,
        unit: &UnitId,
        machine: Option<&MachineId>,
        kind: NoticeKind,
    ) {
        let mut kept = self.0.kept.lock().expect("no panic under this lock");
        let position = kept.0;
        kept.0 += 1;
        if kept.1.len() == KEPT_NOTICES {
            kept.1.pop_front();
        }
        kept.1.push_back(Arc::new(Notice {
            position,
            at,
            unit: unit.clone(),
            machine: machine.cloned(),
            kind,
        }));
        drop(kept);
        self.0.arrived.notify_waiters();
    }

    pub(crate) fn read_from(&self, position: u64) -> Events {
        Events { ring: Arc::clone(&self.0), position }
    }

    pub(crate) fn next_position(&self) -> u64 {
        self.0.kept.lock().expect("no panic under this lock").0
    }
}

/// A reader of notices.
#[derive(Debug, Clone)]
pub struct Events {
    ring: Arc<Ring>,
    position: u64,
}

impl Events {
    /// The position of the next delivery; give it to [`Vault::events_from`](crate::Vault::events_from) to go on later.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next delivery that is there already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let kept = self.ring.kept.lock().expect("no panic under this lock");
        let oldest = kept.0 - kept.1.len() as u64;
        if self.position < oldest {
            let missed = oldest - self.position;
            self.position = oldest;
            return Some(Delivery::Lagged { missed });
        }
        let notice = Arc::clone(kept.1.get((self.position - oldest) as usize)?);
        self.position += 1;
        Some(Delivery::Notice(notice))
    }

    /// Waits for the next delivery.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Delivery {
        loop {
            let ring = Arc::clone(&self.ring);
            let arrived = ring.arrived.notified();
            if let Some(delivery) = self.try_next() {
                return delivery;
            }
            arrived.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_told_and_a_position_replays() {
        let bus = Bus::default();
        let mut events = bus.read_from(0);
        let unit = UnitId::from("u");
        let fail = |reason: &str| NoticeKind::CycleFailed { reason: reason.into() };
        for i in 0..KEPT_NOTICES as u64 + 5 {
            bus.publish(Timestamp(i), &unit, None, fail("x"));
        }
        assert_eq!(events.next().await, Delivery::Lagged { missed: 5 });
        let Delivery::Notice(first) = events.next().await else { panic!("a notice") };
        assert_eq!(first.position, 5);
        let mut again = bus.read_from(first.position);
        assert_eq!(again.next().await, Delivery::Notice(first));
        let mut live = bus.read_from(bus.next_position());
        assert!(live.try_next().is_none());
        bus.publish(Timestamp(1), &unit, None, fail("new"));
        assert!(matches!(live.next().await, Delivery::Notice(n) if n.kind == fail("new")));
    }
}

//! How much a failover loses at most.

use crate::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// From what a loss is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LossBasis {
    /// The old side was proven off, and what it wrote last was shipped after that: nothing is lost.
    ShippedAfterFence,
    /// Everything written between the point and the moment the old side was proven off, or now if it was not.
    AgeOfPoint,
}

/// What a failover to a point loses at most. Clock skew and silence go to the unsafe side: it may be less, never more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataLoss {
    /// At most the writes of this long.
    pub at_most: Duration,
    /// The instant of the point.
    pub from: Timestamp,
    /// The last moment at which the old side may have written.
    pub to: Timestamp,
    /// From what it is known.
    pub basis: LossBasis,
}

impl DataLoss {
    /// Nothing.
    pub fn none(at: Timestamp) -> Self {
        Self { at_most: Duration::ZERO, from: at, to: at, basis: LossBasis::ShippedAfterFence }
    }

    /// All since the point. A point from the future, by a skewed clock, says nothing: then the loss is unbounded.
    pub fn since(point: Timestamp, until: Timestamp) -> Self {
        let at_most = if point > until { Duration::MAX } else { until.since(point) };
        Self { at_most, from: point, to: until, basis: LossBasis::AgeOfPoint }
    }
}

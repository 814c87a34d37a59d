//! Replication policies.

use super::Span;
use schemars::JsonSchema;
use serde::Deserialize;
use site_recovery::{Policy, Retention};

/// A replication policy. What is left out is as Azure has it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PolicySettings {
    /// A crash-consistent point this often; `5m` otherwise.
    interval: Option<Span>,
    /// An application-consistent point this often; never otherwise.
    application_consistent: Option<Span>,
    /// Health warns when the newest point is older; `1h` otherwise, or the interval where that is longer.
    rpo_threshold: Option<Span>,
    /// Which points are kept; `{ days = 1 }` otherwise.
    retention: Option<Kept>,
    /// The newest point is booted in isolation this often, to prove that it boots; never otherwise.
    verify_every: Option<Span>,
}

/// Which points are kept.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kept {
    /// Azure's grid over so many days, 0 to 15: all of the last two hours, then one an hour, and ever fewer.
    Days(u8),
    /// Every point for so long.
    All(Span),
}

impl PolicySettings {
    /// As the library takes it; it judges the bounds.
    pub(crate) fn policy(&self) -> Policy {
        let usual = Policy::default();
        let interval = self.interval.map_or(usual.interval, |span| span.0);
        Policy {
            interval,
            application_consistent: self.application_consistent.map(|span| span.0),
            rpo_threshold: self.rpo_threshold.map_or(usual.rpo_threshold.max(interval), |span| span.0),
            retention: match self.retention {
                Some(Kept::Days(days)) => Retention::Grid { days },
                Some(Kept::All(span)) => Retention::KeepAll { span: span.0 },
                None => usual.retention,
            },
            verify_every: self.verify_every.map(|span| span.0),
            alarm: usual.alarm,
        }
    }
}

//! How often, how long, and when to worry.

use crate::{AlarmRule, Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Which points are kept.
///
/// The age of a point is the time of the cycles since, up to the newest point. A cycle counts for as long as cycles around
/// it take, or less: a clock that jumps and a source that is dead for a month drop nothing. A jump too short to be told
/// from a slot of the grid can move a point into the next slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retention {
    /// Azure's grid (documented in its common questions on VMware disaster recovery): all of the last 2 hours; up to
    /// one day one an hour; up to 7 days one per 2 hours; up to 15 days one per 4 hours. 0 keeps only the latest.
    Grid {
        /// 0 to 15.
        days: u8,
    },
    /// Every point for this long.
    KeepAll {
        /// How long.
        span: Duration,
    },
}

/// A replication policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// A crash-consistent point this often; Azure: 5 minutes.
    pub interval: Duration,
    /// An application-consistent point this often, where wanted; Azure 2018: 60 minutes.
    pub application_consistent: Option<Duration>,
    /// Health warns when the newest point is older; Azure: 60 minutes. Changes nothing in replication.
    pub rpo_threshold: Duration,
    /// Which points are kept.
    pub retention: Retention,
    /// When a change rate is alarming; `None`: never. An alarm pins the point before it, told by health and events, and
    /// changes nothing else. At most [`AlarmRule::MOST_PINS`] such pins are kept, the newest.
    #[serde(default = "by_default", skip_serializing_if = "is_default")]
    pub alarm: Option<AlarmRule>,
    /// The newest point is booted in isolation this often and looked at by the vault's
    /// [`Validation`](crate::Validation); `None`: only when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_every: Option<Duration>,
}

fn by_default() -> Option<AlarmRule> {
    Some(AlarmRule::default())
}

fn is_default(alarm: &Option<AlarmRule>) -> bool {
    *alarm == by_default()
}

impl Default for Policy {
    /// Azure's numbers: 5 min, 60 min, 60 min, one day.
    fn default() -> Self {
        Self {
            interval: 5 * MINUTE,
            application_consistent: Some(HOUR),
            rpo_threshold: HOUR,
            retention: Retention::Grid { days: 1 },
            alarm: by_default(),
            verify_every: None,
        }
    }
}

impl Policy {
    /// A point this often, one day of them.
    pub fn every(interval: Duration) -> Self {
        Self { interval, application_consistent: None, ..Self::default() }
    }

    /// With this retention.
    #[must_use]
    pub fn keep(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// With a boot proof of the newest point this often.
    #[must_use]
    pub fn verify_every(mut self, every: Duration) -> Self {
        self.verify_every = Some(every);
        self
    }

    /// The policy of the way back. It belongs to every item, is chosen by itself and cannot be edited; Azure: RPO
    /// threshold 15 minutes, 24 hours of points, application-consistent points every 60 minutes. A shorter interval and
    /// the alarm are those of the item's own policy. Points of the way back are not proven: drills run on the recovery side.
    pub fn failback() -> Self {
        Self {
            interval: 5 * MINUTE,
            application_consistent: Some(HOUR),
            rpo_threshold: 15 * MINUTE,
            retention: Retention::KeepAll { span: DAY },
            alarm: by_default(),
            verify_every: None,
        }
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field: an interval under 1 s or over 24 h, retention over 15
    /// days, application-consistent points more often than the interval or less often than retention, boot
    /// proofs more often than the interval or less often than every 30 days, an alarm's rule out of its bounds.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, value: String, rule: &str| {
            Err(Error::invalid(field, value, rule, "choose a value within it"))
        };
        if self.interval < Duration::from_secs(1) || self.interval > DAY {
            return bad("policy.interval", format!("{:?}", self.interval), "1 second to 24 hours");
        }
        let kept = match self.retention {
            Retention::Grid { days } if days > 15 => {
                return bad("policy.retention.days", days.to_string(), "0 to 15 days");
            }
            Retention::Grid { days } => DAY * u32::from(days),
            Retention::KeepAll { span } if span > 30 * DAY => {
                return bad("policy.retention.span", format!("{span:?}"), "at most 30 days");
            }
            Retention::KeepAll { span } => span,
        };
        if let Some(every) = self.application_consistent {
            if every < self.interval {
                return bad(
                    "policy.application_consistent",
                    format!("{every:?}"),
                    "not more often than the interval",
                );
            }
            if every > kept.max(self.interval) {
                return bad(
                    "policy.application_consistent",
                    format!("{every:?}"),
                    "more often than retention drops points",
                );
            }
        }
        if self.rpo_threshold < self.interval {
            return bad(
                "policy.rpo_threshold",
                format!("{:?}", self.rpo_threshold),
                "not shorter than the interval",
            );
        }
        if let Some(every) = self.verify_every.filter(|every| *every < self.interval || *every > 30 * DAY) {
            let rule = "not more often than the interval, and at least every 30 days";
            return bad("policy.verify_every", format!("{every:?}"), rule);
        }
        self.alarm.as_ref().map_or(Ok(()), AlarmRule::validate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_numbers_hold_and_bounds_are_named() {
        Policy::default().validate().expect("the default is valid");
        Policy::failback().validate().expect("the failback policy is valid");
        assert_eq!(Policy::failback().rpo_threshold, Duration::from_secs(900));
        let error = Policy::default().keep(Retention::Grid { days: 16 }).validate().expect_err("16 days");
        assert_eq!(error.fact("field"), Some("policy.retention.days"));
        assert!(Policy::every(Duration::from_millis(10)).validate().is_err());
        Policy::every(Duration::from_secs(2)).validate().expect("seconds are fine");
        for every in [299, 31 * 86_400] {
            let error =
                Policy::default().verify_every(Duration::from_secs(every)).validate().expect_err("bounds");
            assert_eq!(error.fact("field"), Some("policy.verify_every"));
        }
        Policy::default().verify_every(5 * MINUTE).validate().expect("as often as the interval");
    }
}

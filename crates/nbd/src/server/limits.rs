//! Bounds on what peers can take.

use crate::fault::Result;
use site_recovery::Error;
use std::time::Duration;

/// Bounds on what peers can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; one more is closed at once. 1 to 4096.
    pub connections: usize,
    /// Bytes of disk contents in flight per connection. 4 MiB to 1 GiB.
    pub memory: usize,
    /// Requests in flight per connection. 1 to 4096.
    pub requests: usize,
    /// From the connection to the first request; at most a day.
    pub handshake: Duration,
    /// Without a request and without one in flight; at most a year. A machine that runs from an export may be silent for
    /// long.
    pub idle: Duration,
    /// In the middle of a request or of an answer; at most a day.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            memory: 16 << 20,
            requests: 64,
            handshake: Duration::from_secs(10),
            idle: DAY,
            stall: Duration::from_secs(60),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Limits {
    pub(super) fn check(&self) -> Result<()> {
        const REMEDY: &str = "choose another number, or keep that of Limits::default";
        let numbers = [
            ("connections", self.connections, 1, 4096),
            ("memory", self.memory, 4 << 20, 1 << 30),
            ("requests", self.requests, 1, 4096),
        ];
        for (field, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(Error::invalid(field, value, &format!("it is {least} to {most}"), REMEDY));
            }
        }
        let spans = [
            ("handshake", self.handshake, DAY, "a day"),
            ("idle", self.idle, DAY * 365, "a year"),
            ("stall", self.stall, DAY, "a day"),
        ];
        for (field, value, most, words) in spans {
            if value.is_zero() || value > most {
                let rule = format!("it is more than nothing and at most {words}");
                return Err(Error::invalid(field, format!("{value:?}"), &rule, REMEDY));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_out_of_bounds_is_refused_by_name() {
        let fine = Limits::default();
        let most = Limits { connections: 4096, memory: 1 << 30, requests: 4096, idle: DAY * 365, ..fine };
        for accepted in [fine, most] {
            accepted.check().expect("within bounds");
        }
        let cases = [
            ("connections", Limits { connections: 0, ..fine }),
            ("connections", Limits { connections: 4097, ..fine }),
            ("memory", Limits { memory: (4 << 20) - 1, ..fine }),
            ("memory", Limits { memory: usize::MAX, ..fine }),
            ("requests", Limits { requests: 0, ..fine }),
            ("requests", Limits { requests: usize::MAX, ..fine }),
            ("handshake", Limits { handshake: Duration::ZERO, ..fine }),
            ("handshake", Limits { handshake: DAY * 2, ..fine }),
            ("idle", Limits { idle: Duration::ZERO, ..fine }),
            ("idle", Limits { idle: Duration::MAX, ..fine }),
            ("stall", Limits { stall: Duration::ZERO, ..fine }),
            ("stall", Limits { stall: Duration::MAX, ..fine }),
        ];
        for (field, limits) in cases {
            let error = limits.check().expect_err(field);
            assert_eq!(error.fact("field"), Some(field), "{error}");
            let said = error.message();
            assert!(said.starts_with(&format!("{field} is ")) && said.contains("it is "), "{said}");
            assert!(said.contains("Limits::default"), "{said}");
        }
    }
}

//! Bounds on what peers can take.

use crate::fault::Result;
use site_recovery::Error;
use std::time::Duration;

/// Bounds on what peers can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the server: clients that have shown their certificate. One more is told `Busy`. 1 to 4096.
    pub connections: usize,
    /// Of the server: peers that have shown no certificate yet. One more, and the oldest is hung up on. 1 to 4096.
    pub strangers: usize,
    /// Of a connection: bytes of requests that are not answered yet, and so the longest of them. As much again is for reads
    /// of opened points; other answers come besides. 1 MiB to 1 GiB.
    pub connection_bytes: usize,
    /// Of a connection: requests that are not answered yet. 1 to 4096.
    pub connection_requests: usize,
    /// Of a connection: points that are open. One more is told `Busy`. 1 to 65536.
    pub connection_points: usize,
    /// From the connection to the welcome.
    pub handshake: Duration,
    /// Without a request and without a point open. A client that is hung up on comes back with its next call.
    pub idle: Duration,
    /// Without any progress while something is to come or to go; peers that are there say so three times as often.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            strangers: 64,
            connection_bytes: 64 << 20,
            connection_requests: 64,
            connection_points: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_secs(10 * 60),
            stall: Duration::from_secs(30),
        }
    }
}

impl Limits {
    pub(super) fn check(&self) -> Result<()> {
        const REMEDY: &str = "choose another number, or keep that of Limits::default";
        let numbers = [
            ("connections", self.connections, 1, 4096),
            ("strangers", self.strangers, 1, 4096),
            ("connection_bytes", self.connection_bytes, 1 << 20, 1 << 30),
            ("connection_requests", self.connection_requests, 1, 4096),
            ("connection_points", self.connection_points, 1, 65_536),
        ];
        for (field, value, least, most) in numbers {
            if !(least..=most).contains(&value) {
                return Err(Error::invalid(field, value, &format!("it is {least} to {most}"), REMEDY));
            }
        }
        let day = Duration::from_secs(24 * 60 * 60);
        for (field, value) in [("handshake", self.handshake), ("idle", self.idle), ("stall", self.stall)] {
            if value.is_zero() || value > day {
                let rule = "it is more than nothing and at most a day";
                return Err(Error::invalid(field, format!("{value:?}"), rule, REMEDY));
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
        assert!(fine.check().is_ok());
        let cases = [
            ("connections", Limits { connections: 4097, ..fine }),
            ("strangers", Limits { strangers: 0, ..fine }),
            ("connection_bytes", Limits { connection_bytes: (1 << 20) - 1, ..fine }),
            ("connection_requests", Limits { connection_requests: 0, ..fine }),
            ("connection_points", Limits { connection_points: 0, ..fine }),
            ("connection_points", Limits { connection_points: usize::MAX, ..fine }),
            ("handshake", Limits { handshake: Duration::ZERO, ..fine }),
            ("idle", Limits { idle: Duration::MAX, ..fine }),
            ("stall", Limits { stall: Duration::ZERO, ..fine }),
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

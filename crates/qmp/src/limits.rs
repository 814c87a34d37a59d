//! What a peer is given in time and memory.

use std::time::Duration;

/// How long to wait for a peer, and how much to take from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For the connection and the first words: a monitor's greeting, an agent's answer that it is there. 2 s.
    pub greeting: Duration,
    /// For the answer to a command, from before it is sent. 10 s.
    pub answer: Duration,
    /// The most bytes of one line, its end left out. 16 MiB.
    pub line: usize,
    /// The most events that are kept unread; then the oldest is dropped. 1024.
    pub events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(2),
            answer: Duration::from_secs(10),
            line: 16 << 20,
            events: 1024,
        }
    }
}

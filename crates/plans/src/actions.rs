//! What runs programs and tries ports for a plan: a port, so that a test needs neither.

use async_trait::async_trait;
use site_recovery::Result;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Mutex;

/// A program to run: argv, environment, and what it reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub program: Vec<String>,
    /// Its environment, besides `PATH`.
    pub environment: BTreeMap<String, String>,
    /// What it reads on its standard input: JSON.
    pub input: Vec<u8>,
}

/// Bytes that are kept of a program's output: the last ones.
pub const KEPT_OUTPUT: usize = 4096;

/// The end of what a program wrote, on both streams. Kept also where the program is killed.
#[derive(Debug, Default)]
pub struct Output(Mutex<VecDeque<u8>>);

impl Output {
    /// More of it; the oldest goes.
    pub fn write(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().expect("no panic under this lock");
        kept.extend(&bytes[bytes.len().saturating_sub(KEPT_OUTPUT)..]);
        let most = kept.len().saturating_sub(KEPT_OUTPUT);
        kept.drain(..most);
    }

    /// As text; what is none is replaced.
    pub fn text(&self) -> String {
        let kept = self.0.lock().expect("no panic under this lock");
        let bytes: Vec<u8> = kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Runs programs and tries ports.
///
/// # Cancel safety
/// Both futures are dropped at the action's limit, and when the run is cancelled: a program ends with its future, with all
/// that it started.
#[async_trait]
pub trait Actions: Debug + Send + Sync {
    /// Runs a program to its end, and gives its exit code; none where a signal ended it.
    ///
    /// # Errors
    /// It could not be started.
    async fn run(&self, command: &Command, output: &Output) -> Result<Option<i32>>;

    /// Opens one connection to a port and closes it.
    ///
    /// # Errors
    /// Nobody takes it.
    async fn connect(&self, host: &str, port: u16) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_kept() {
        let output = Output::default();
        output.write(b"first ");
        output.write(&[b'x'; KEPT_OUTPUT * 2]);
        output.write(b"last");
        let text = output.text();
        assert_eq!(text.len(), KEPT_OUTPUT);
        assert!(text.ends_with("xlast") && !text.contains("first"));
    }
}

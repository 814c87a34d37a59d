//! Two small clients over Unix sockets: of QEMU's monitor (QMP), which `qemu-storage-daemon` speaks too, and of the QEMU
//! guest agent.
//!
//! - [`Monitor`] sends commands, one by one or [several at once](Monitor::call_each), and keeps the events in between.
//! - [`Agent`] asks the guest: to freeze its file systems, to thaw them, to shut down.
//!
//! ```no_run
//! # fn main() -> Result<(), site_recovery_qmp::Error> {
//! use serde_json::{Value, json};
//! use site_recovery_qmp::{Agent, Limits, Monitor};
//! use std::path::Path;
//! use std::time::Duration;
//!
//! let mut monitor = Monitor::connect(Path::new("/run/web/qmp.sock"), Limits::default())?;
//! println!("QEMU {}", monitor.version());
//! let mut agent = Agent::connect(Path::new("/run/web/agent.sock"), Limits::default())?;
//!
//! agent.freeze(Duration::from_secs(10))?;
//! let paused = monitor.call_each(&[("stop", Value::Null), ("cont", Value::Null)]);
//! agent.thaw()?; // whatever became of the rest
//! for answer in paused? {
//!     answer.expect("QEMU stops and goes on");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Blocking
//! Every call holds its thread until its end or its limit: from async code, call it in `spawn_blocking`. A call cannot be
//! cut short from outside. One that ran out of time ([`Error::Silent`]) may have been done or may yet be: look before it is
//! repeated. Its late answer is never taken for another's: the monitor's answers are told apart by number, and the agent is
//! brought back in step before the next call.
//!
//! # What is newer than this crate
//! does not break it: unknown fields, events, messages and capabilities are passed by, and commands and answers are plain
//! JSON.
//!
//! # A peer's garbage
//! is a named error, and costs a bounded memory: [`Limits::line`], and a bound on how many values one line holds. A guest
//! is not trusted with more than its own answers.
//!
//! # Who may connect
//! Whoever may write to the socket, and who commands the monitor owns the machine and reads what its QEMU may read: keep
//! the socket in a directory of its owner. No error and no `Debug` shows arguments; what a peer says in
//! [`Refusal::description`] is its own.
#![forbid(unsafe_code)]

mod agent;
mod deadline;
mod error;
#[cfg(test)]
mod fuzz;
mod limits;
mod lines;
mod message;
mod monitor;
mod wire;

pub use agent::Agent;
pub use error::{Error, Refusal};
pub use limits::Limits;
pub use message::{Event, Version};
pub use monitor::Monitor;

//! Processes of a machine: found by their own process file, held by a descriptor, ended by it.

use crate::deadline::within;
use crate::program::run;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How long a process may take to prepare itself.
const START: Duration = Duration::from_secs(60);
/// How often a process that should end is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A process that lives. Its number cannot pass to another one while this is held.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: OwnedFd,
}

impl Process {
    /// The process that wrote this file and whose command line names it, if it lives.
    ///
    /// # Errors
    /// Those of the file system, but for a file that is not there.
    pub(crate) fn of(pid_file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(pid_file) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.told("read", pid_file)?,
        };
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return Ok(None) };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(None) };
        let process = Self { pid, handle };
        Ok((process.is_named(pid_file) && !process.is_over()).then_some(process))
    }

    fn is_named(&self, pid_file: &Path) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid.as_raw_nonzero())).unwrap_or_default();
        let wanted = pid_file.as_os_str().as_encoded_bytes();
        line.windows(wanted.len()).any(|w| w == wanted)
    }

    /// Whether it has ended with all its threads, also where nobody has collected it: its files and its locks are let go.
    pub(crate) fn is_over(&self) -> bool {
        let mut polled = [PollFd::new(&self.handle, PollFlags::IN)];
        // What cannot be asked now is taken to live.
        poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ended| ended > 0)
    }

    /// Waits for its end. Says whether it came.
    pub(crate) fn ended_within(&self, limit: Duration) -> bool {
        within(limit, LOOK, || Ok::<_, std::convert::Infallible>(self.is_over())).unwrap_or(false)
    }

    /// Ends it at once, and waits for that.
    ///
    /// # Errors
    /// `Unavailable` when it is still there: the kernel holds it.
    pub(crate) fn kill(&self, limit: Duration) -> Result<()> {
        let _gone_already = pidfd_send_signal(&self.handle, Signal::KILL);
        if self.ended_within(limit) {
            return Ok(());
        }
        let message = format!("process {} was killed and does not end", self.pid.as_raw_nonzero());
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

/// Starts a process that goes on without us, and returns when it is ready.
///
/// # Errors
/// `Unavailable`, with what the program complained about.
pub(crate) fn detach(program: &Path, arguments: &[String]) -> Result<()> {
    run(program, arguments, START).map(drop)
}

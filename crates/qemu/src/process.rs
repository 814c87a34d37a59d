//! Processes of a machine: found by their own process file, held by a descriptor, ended by it.

use crate::deadline::within;
use crate::program::run;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use std::ffi::OsStr;
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
        if line.is_empty() {
            // It is about to end, and may still have its files; or the number is a kernel thread's now.
            return !self.is_of_the_kernel();
        }
        let wanted = pid_file.as_os_str().as_encoded_bytes();
        line.windows(wanted.len()).any(|w| w == wanted)
    }

    /// By the flag `PF_KTHREAD`, in the ninth field. Source: proc_pid_stat(5), Linux `include/linux/sched.h`.
    fn is_of_the_kernel(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_nonzero()));
        // The name before them may hold anything, so the fields are sought from the end.
        let flags =
            stat.as_deref().ok().and_then(|s| s.rsplit_once(") ")?.1.split(' ').nth(6)?.parse::<u64>().ok());
        flags.is_none_or(|flags| flags & 0x0020_0000 != 0)
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

/// Starts a process that goes on without us, by the words of a launcher where there is one, and returns when it is ready.
///
/// # Errors
/// `Unavailable`, with what the program complained about.
pub(crate) fn detach(launcher: &[String], program: &Path, arguments: &[String]) -> Result<()> {
    let program = program.as_os_str();
    let all = launcher.iter().map(AsRef::as_ref).chain([program]).chain(arguments.iter().map(AsRef::as_ref));
    let all: Vec<&OsStr> = all.collect();
    run(Path::new(all[0]), &all[1..], START).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32) -> Option<Process> {
        let pid = Pid::from_raw(pid)?;
        Some(Process { pid, handle: pidfd_open(pid, PidfdFlags::empty()).ok()? })
    }

    #[test]
    fn a_process_of_ours_is_none_of_the_kernel_and_ends_when_it_is_collected_or_not() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let one = process(child.id() as i32).unwrap();
        assert!(!one.is_of_the_kernel());
        assert!(!one.is_over());
        one.kill(Duration::from_secs(60)).unwrap();
        assert!(one.is_over(), "nobody has collected it yet");
        assert!(!one.is_of_the_kernel(), "it is still none of the kernel's");
        child.wait().unwrap();
        assert!(one.is_over());
    }

    #[test]
    fn a_thread_of_the_kernel_is_known() {
        // The parent of all others; in a container of its own, the number is free or somebody's.
        let is_there = fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd");
        match process(2) {
            Some(thread) if is_there => assert!(thread.is_of_the_kernel()),
            _ => println!("SKIPPED a thread of the kernel: none can be seen from here"),
        }
    }
}

//! The processes of a stage's machines, found by the files that they write themselves.

use super::tool;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use site_recovery::{Clock, Error, ErrorKind, Result, SystemClock};
use site_recovery_qmp::{Limits, Monitor};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every machine that runs at the sites of a directory. All of them are ended when this is dropped.
#[derive(Debug)]
pub struct Machines {
    dir: PathBuf,
}

impl Machines {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The process of a machine, and the directory that its sockets stand in: `qmp`, `agent`.
    ///
    /// # Errors
    /// `NotFound` where it has none.
    pub fn process(&self, site: &str, name: &str) -> Result<(u32, PathBuf)> {
        let run = self.dir.join(site).join(".site-recovery/run");
        let named = format!("guest={name},");
        for place in fs::read_dir(&run).into_iter().flatten().flatten() {
            let text = fs::read_to_string(place.path().join("pid")).unwrap_or_default();
            let Ok(pid) = text.trim().parse::<u32>() else { continue };
            // A process that has ended and was not collected has no command line.
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&named) {
                return Ok((pid, place.path()));
            }
        }
        Err(Error::new(ErrorKind::NotFound, format!("{name} has no process at {site}")))
    }

    /// Cuts a machine's power, as a failing host does: `kill -9` of its process.
    ///
    /// # Errors
    /// `NotFound` where no process is found.
    pub async fn kill(&self, site: &str, name: &str) -> Result<()> {
        let (pid, _) = self.process(site, name)?;
        let Some(process) = opened(pid) else { return Ok(()) };
        let _gone_already = pidfd_send_signal(&process, Signal::KILL);
        ended(&process, name).await
    }

    /// Asks QEMU for one thing, as a person with a monitor would: `stop`, `cont`, `system_powerdown`.
    ///
    /// # Errors
    /// `NotFound` where no process is found; what the monitor says.
    pub fn ask(&self, site: &str, name: &str, command: &str, arguments: Value) -> Result<Value> {
        let (_, place) = self.process(site, name)?;
        let limits = Limits { greeting: Duration::from_secs(60), ..Limits::default() };
        let monitor = Monitor::connect(&place.join("qmp"), limits);
        let asked = monitor.and_then(|mut m| m.call(command, arguments));
        asked.map_err(|e| Error::new(ErrorKind::Unavailable, e.to_string()).caused_by(e))
    }

    /// Waits until a machine has no process any more.
    ///
    /// # Errors
    /// `Unavailable` when it goes on for minutes.
    pub async fn until_off(&self, site: &str, name: &str) -> Result<()> {
        let process = self.process(site, name).ok().and_then(|(pid, _)| opened(pid));
        match process {
            Some(process) => ended(&process, name).await,
            None => Ok(()),
        }
    }
}

fn opened(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Until the last of its threads has ended, and has let go of its files and their locks.
async fn ended(process: &OwnedFd, name: &str) -> Result<()> {
    for _ in 0..12_000 {
        let mut polled = [PollFd::new(process, PollFlags::IN)];
        if poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ended| ended > 0) {
            return Ok(());
        }
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    Err(Error::new(ErrorKind::Unavailable, format!("{name} does not end")))
}

impl Drop for Machines {
    fn drop(&mut self) {
        for site in ["here", "cloud"] {
            let run = self.dir.join(site).join(".site-recovery/run");
            for place in fs::read_dir(&run).into_iter().flatten().flatten() {
                for file in ["pid", "s-pid", "tpm-pid"] {
                    let file = place.path().join(file);
                    let Ok(pid) = fs::read_to_string(&file).unwrap_or_default().trim().parse::<u32>() else {
                        continue;
                    };
                    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                    if String::from_utf8_lossy(&line).contains(&*file.to_string_lossy()) {
                        let _gone_already = tool("kill", ["-9".as_ref(), pid.to_string().as_ref()]);
                    }
                }
            }
        }
    }
}

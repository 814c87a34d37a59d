//! Programs of the server, run without a shell and with a limit.

use super::deadline::Deadline;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long it is at most between two looks at a process; the first ones are close together.
const STEP: Duration = Duration::from_millis(5);
const FIRST: Duration = Duration::from_micros(200);
/// How long one that was killed is waited for: what the kernel has in an uninterruptible sleep ends when that does.
const REAP: Duration = Duration::from_secs(1);

/// A command of the operator's: asked to make applications ready for a capture, or to let them go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The program and its arguments; no shell.
    pub run: Vec<String>,
    /// Seconds after which it is killed, with all that it started in its process group.
    #[serde(default = "thirty")]
    pub seconds: u64,
}

fn thirty() -> u64 {
    30
}

impl Hook {
    /// Runs it to its end, or kills it at its limit. Blocks.
    ///
    /// # Errors
    /// `Unavailable`: it could not be started, failed, or did not end in time.
    pub(crate) fn run(&self, environment: &[(&str, &str)]) -> Result<()> {
        let Some((program, arguments)) = self.run.split_first() else {
            return Err(unavailable("a hook has no program: name one".into()));
        };
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let started = command.spawn();
        let child = started.map_err(|e| unavailable(format!("{program} cannot be started")).caused_by(e))?;
        match ended(child, Duration::from_secs(self.seconds)) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(unavailable(format!("{program} failed: {status}"))),
            None => Err(unavailable(format!("{program} did not end in {} seconds", self.seconds))),
        }
    }
}

/// How a process ended; `None` where it was killed at its limit, with its group. It has to lead one.
pub(crate) fn ended(mut child: Child, limit: Duration) -> Option<ExitStatus> {
    if let Some(status) = look(&mut child, limit) {
        return Some(status);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _it_is_gone = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    if look(&mut child, REAP).is_none() {
        std::thread::spawn(move || child.wait());
    }
    None
}

/// How it ended within this time.
fn look(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let (deadline, mut step) = (Deadline::after(limit), FIRST);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if !deadline.is_over() => std::thread::sleep(step),
            _ => return None,
        }
        step = (step * 2).min(STEP);
    }
}

/// Programs of the system lie where only root looks.
pub(crate) fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// Whether a program is there.
pub(crate) fn is_there(program: &str) -> bool {
    std::env::split_paths(&path()).any(|dir| dir.join(program).is_file())
}

pub(crate) fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

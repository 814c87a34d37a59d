//! Programs of the system that do what only they can: `dmsetup` and its like.

use super::command::{ended, is_there, path};
use super::deadline::Deadline;
use site_recovery::{Error, ErrorKind, Result};
use std::fmt::Debug;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// How long one may take: a device that is suspended answers nobody, and `dmsetup` waits for it.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs programs of the system, without a shell. Another one stands in for it in tests.
pub trait Programs: Debug + Send + Sync {
    /// What it says when it ends well. Blocks.
    ///
    /// # Errors
    /// `Unsupported` where there is no such program; `Unavailable`, with what it said, where it fails or does not end in time.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String>;
}

/// The programs of this system. One that has not ended after two minutes is killed, with its process group: what it did is not
/// known then.
#[derive(Debug, Clone, Copy, Default)]
pub struct Installed;

impl Programs for Installed {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(program, arguments, LIMIT)
    }
}

fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String> {
    if !is_there(program) {
        return Err(Error::new(ErrorKind::Unsupported, format!("{program} is absent: install it")));
    }
    let failed = |why: String| {
        let message = format!("{program} {}: {why}", arguments.join(" "));
        Error::new(ErrorKind::Unavailable, message)
    };
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path()).env("LC_ALL", "C").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let until = Deadline::after(limit);
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    let said = hear(child.stdout.take().expect("it is piped"));
    let errors = hear(child.stderr.take().expect("it is piped"));
    let late = || failed(format!("it did not end in {} seconds, and was killed", limit.as_secs_f32()));
    // What it left running may still have its output: that is waited for no longer.
    let Some(status) = ended(child, until.left()) else { return Err(late()) };
    let heard = |from: Receiver<Vec<u8>>| from.recv_timeout(until.left()).map_err(|_| late());
    match status.success() {
        true => Ok(String::from_utf8_lossy(&heard(said)?).into_owned()),
        false => Err(failed(String::from_utf8_lossy(&heard(errors)?).trim().to_owned())),
    }
}

/// All of it, read beside whoever waits.
fn hear(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        let mut all = vec![];
        // What cannot be read any more was not said.
        let _cut_off = from.read_to_end(&mut all);
        let _nobody_listens = tell.send(all);
    });
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_killed_at_its_limit_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let script = format!("sleep 600 & echo $$ $! > {}; wait", pids.display());
        let error = run("sh", &["-c", &script], Duration::from_millis(500)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("did not end in 0.5 seconds"), "{error}");
        let told = std::fs::read_to_string(pids).unwrap();
        assert_eq!(told.split_whitespace().count(), 2, "{told}");
        let until = Deadline::after(Duration::from_secs(20));
        // Gone, or dead and not yet taken away by its new parent.
        let lives = |pid: &str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
        };
        while told.split_whitespace().any(lives) {
            assert!(!until.is_over(), "{told} live on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_program_says_is_told_whole_and_so_is_why_it_failed() {
        let much = Installed.run("sh", &["-c", "head -c 300000 /dev/zero | tr '\\0' x"]).unwrap();
        assert_eq!(much, "x".repeat(300_000));
        let error = Installed.run("sh", &["-c", "echo because >&2; exit 3"]).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
        let absent = Installed.run("no-such-program-here", &[]).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::Unsupported);
    }
}

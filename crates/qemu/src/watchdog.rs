//! A frozen or paused guest goes on even when this process is killed: a shell that holds the connections, and says the word
//! when we fall silent.
//!
//! The shell has the guest agent's connection as its output and the monitor's as its error output. Since it holds them,
//! QEMU does not drop what this process had queued when it dies.

use site_recovery::{Error, ErrorKind, Result};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Waits for a line, for the end of its input, or for its limit; but for the line, it lets the guest go on. A byte 0xFF
/// makes both parsers forget half a message that we may have died in.
const SCRIPT: &str = r#"
go_on() {
    printf '\377{"execute":"guest-fsfreeze-thaw"}\n'
    printf '\377{"execute":"cont"}\n' >&2
}
(sleep "$1" </dev/null >/dev/null 2>&1; go_on) &
if read -r _; then kill $!; else kill $!; go_on; fi
"#;

/// Stands while a guest is held.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    word: Option<ChildStdin>,
}

impl Watchdog {
    /// Watches from now on. Without a connection, that part is not watched.
    ///
    /// # Errors
    /// `Unavailable` where no shell can be started: then nothing may be held.
    pub(crate) fn over(agent: Option<OwnedFd>, monitor: Option<OwnedFd>, limit: Duration) -> Result<Self> {
        let seconds = format!("{}.{:03}", limit.as_secs(), limit.subsec_millis());
        let end = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog", &seconds])
            .stdin(Stdio::piped())
            .stdout(end(agent))
            .stderr(end(monitor))
            .process_group(0) // what is meant for our group does not reach it
            .spawn()
            .map_err(|e| {
                Error::new(ErrorKind::Unavailable, "no shell can watch over the guest").caused_by(e)
            })?;
        let word = shell.stdin.take();
        Ok(Self { shell, word })
    }

    /// The guest goes on by our own hand: the shell ends, and lets the connections go.
    pub(crate) fn release(mut self) {
        if let Some(mut word) = self.word.take() {
            let _it_has_acted = word.write_all(b"\n");
        }
        let _ended = self.shell.wait();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Without the word it lets the guest go on.
        self.word = None;
        let _ended = self.shell.wait();
    }
}

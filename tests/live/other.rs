//! This test program once more, as another process: to be stopped and killed.

use super::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use site_recovery::{Clock, SystemClock};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// Tells a test program that it is the other process, what it has to do, and where.
const ROLE: &str = "SITE_RECOVERY_LIVE_ROLE";

/// What the other process has to do, and where; nothing in the first one.
pub fn role() -> Option<(String, PathBuf)> {
    let told = std::env::var(ROLE).ok()?;
    let (role, dir) = told.split_once(' ').expect("a role and a directory");
    Some((role.to_owned(), dir.into()))
}

/// Tells the first process something.
pub fn say(what: &str) {
    eprintln!("{SAID}{what}");
}

const SAID: &str = "said: ";

/// A process that runs the test `the_other_process` of this program. Killed when dropped, as by SIGKILL.
pub struct Other {
    child: Child,
    lines: Receiver<String>,
}

impl Other {
    pub fn start(role: &str, dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_other_process", "--nocapture"]);
        command.env(ROLE, format!("{role} {}", dir.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (told, lines) = channel();
        let reader = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { child, lines }
    }

    /// Waits until it says this.
    pub async fn says(&mut self, what: &str) {
        let (began, mut before) = (SystemClock.now(), vec![]);
        loop {
            match self.lines.try_recv() {
                Ok(line) if line.strip_prefix(SAID) == Some(what) => return,
                Ok(line) => before.push(line),
                Err(TryRecvError::Disconnected) => panic!("it ended: {}", before.join("\n")),
                Err(TryRecvError::Empty) => {
                    let late = SystemClock.now().since(began) > PATIENCE;
                    assert!(!late, "it never said {what}: {}", before.join("\n"));
                    SystemClock.sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Stops it where it stands: it holds what it has, and does nothing.
    pub fn stop(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended = self.child.wait();
    }
}

//! A part of this test's own program, run as a process that can be killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

/// What the process is told.
const TOLD: &str = "SITE_RECOVERY_ANOTHER_PROCESS";

/// The process; dropped, it is killed.
pub(crate) struct Another(
    Child,
    #[allow(dead_code, reason = "a place for its last words")] BufReader<ChildStdout>,
);

impl Another {
    /// Runs an ignored case of this program, and returns when it says that it is ready.
    pub(crate) fn start(case: &str, told: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([case, "--exact", "--ignored", "--nocapture"])
            .env(TOLD, told)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let ready =
            said.by_ref().lines().map_while(std::result::Result::ok).any(|line| line.contains("ready"));
        assert!(ready, "{case} did not start");
        Self(child, said)
    }

    /// Kills it, and says whether it was still at it.
    pub(crate) fn kill(mut self) -> bool {
        let ended = self.0.try_wait().unwrap();
        assert!(ended.is_none_or(|e| e.success()), "it failed before it was killed");
        if ended.is_none() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
        ended.is_none()
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        let _over_already = self.0.kill();
        let _over = self.0.wait();
    }
}

/// What this process was told, where it is such a one.
pub(crate) fn told() -> Option<String> {
    std::env::var(TOLD).ok()
}

pub(crate) fn ready() {
    println!("ready");
    std::io::stdout().flush().unwrap();
}

//! A program that runs while the test goes on.

use super::tool::until;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

/// Lines of its output that are shown when a test fails.
const SHOWN: usize = 40;

/// A process whose output goes to a file. Killed, by its id, when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command; its output and its errors go to this file.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log: log.to_owned(), ended: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it said so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Waits until it says this.
    ///
    /// # Panics
    /// Where it ends before.
    pub fn says(&mut self, what: &str) {
        until(&format!("{what} in {}", self.log.display()), || {
            let ended = self.has_ended();
            let said = self.output().contains(what);
            assert!(said || ended.is_none(), "it ended with {ended:?} and never said {what}");
            said
        });
    }

    /// Stops it where it stands: it holds what it has, and does nothing.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Nothing while it runs.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.log.display()), || self.has_ended().is_some());
        self.ended.unwrap()
    }

    /// By SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            let _ended_already = self.child.kill();
            // One that waits for a frozen file system ends when that is thawed, and its host does so at last.
            let reaped = (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
            });
            if !reaped {
                eprintln!("{} did not end yet when it was killed", self.log.display());
            }
        }
        if std::thread::panicking() {
            // A second panic would end the whole program.
            let said = fs::read(&self.log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("--- {}", self.log.display());
            lines[lines.len().saturating_sub(SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

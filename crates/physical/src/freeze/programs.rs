//! Programs of the system that do what only they can: `dmsetup` and its like.

use super::command::{is_there, path};
use site_recovery::{Error, ErrorKind, Result};
use std::fmt::Debug;
use std::process::{Command, Stdio};

/// Runs programs of the system, without a shell. Another one stands in for it in tests.
pub trait Programs: Debug + Send + Sync {
    /// What it says when it ends well. Blocks.
    ///
    /// # Errors
    /// `Unsupported` where there is no such program; `Unavailable`, with what it said, where it fails.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String>;
}

/// The programs of this system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Installed;

impl Programs for Installed {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        if !is_there(program) {
            return Err(Error::new(ErrorKind::Unsupported, format!("{program} is absent: install it")));
        }
        let mut command = Command::new(program);
        command.args(arguments).env("PATH", path()).env("LC_ALL", "C").stdin(Stdio::null());
        let failed = |why: String| {
            let message = format!("{program} {}: {why}", arguments.join(" "));
            Error::new(ErrorKind::Unavailable, message)
        };
        let out = command.output().map_err(|e| failed(e.to_string()))?;
        if !out.status.success() {
            return Err(failed(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

//! The system's own programs, run to their end with a limit.

use crate::inventory::Root;
use site_recovery::{Error, ErrorKind, ErrorStatus, Result};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

/// Building every initramfs of a server with many kernels takes minutes.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Who runs the programs of a system.
#[derive(Debug, Clone)]
pub(crate) enum Runner {
    /// The system that this process runs on, or one below another root, by `chroot`.
    System,
    /// Programs of the same names in a directory.
    From(PathBuf),
}

impl Runner {
    /// Runs a program; what it says is returned.
    ///
    /// # Errors
    /// `Unavailable` with the end of its complaint, or when it did not end in time; `Unsupported` when it is not there.
    pub(crate) fn run(&self, root: &Root, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = match self {
            Self::From(dir) => tokio::process::Command::new(dir.join(program)),
            Self::System if root.is_here() => tokio::process::Command::new(program),
            Self::System => {
                let mut command = tokio::process::Command::new("chroot");
                command.arg(root.path("/")).arg(program);
                command
            }
        };
        // What a login shell of root would have: services are started with less.
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        // This thread belongs to blocking work, so waiting here holds up nobody.
        let ended = tokio::runtime::Handle::current().block_on(async {
            tokio::time::timeout(LIMIT, command.output()).await.map_err(|_| {
                let message = format!("{program} did not end within {} s", LIMIT.as_secs());
                Error::new(ErrorKind::Unavailable, message)
            })
        })?;
        let output = ended.map_err(|e| {
            Error::new(ErrorKind::Unsupported, format!("{program} cannot be run")).caused_by(e)
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let complaint = String::from_utf8_lossy(&output.stderr);
        let complaint: Vec<&str> = complaint.trim().lines().rev().take(3).collect();
        let complaint = complaint.into_iter().rev().collect::<Vec<_>>().join("; ");
        let message = format!("{program} failed ({}): {complaint}", output.status);
        Err(Error::new(ErrorKind::Unavailable, message).status(ErrorStatus::Permanent))
    }
}

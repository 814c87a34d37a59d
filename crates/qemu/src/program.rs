//! QEMU's own programs, run to their end with a limit.

use site_recovery::{Error, ErrorKind, ErrorStatus, Result};
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Where the programs are that the site runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The system emulator.
    pub system: PathBuf,
    /// Arguments that come first on each of its command lines, as `-L` and a directory of firmware.
    pub system_arguments: Vec<String>,
    /// `qemu-img`.
    pub img: PathBuf,
    /// `qemu-storage-daemon`.
    pub storage_daemon: PathBuf,
    /// `swtpm`, for machines with a TPM.
    pub swtpm: PathBuf,
}

impl Default for Programs {
    /// Those of `PATH`, for this processor's architecture.
    fn default() -> Self {
        Self {
            system: format!("qemu-system-{}", std::env::consts::ARCH).into(),
            system_arguments: vec![],
            img: "qemu-img".into(),
            storage_daemon: "qemu-storage-daemon".into(),
            swtpm: "swtpm".into(),
        }
    }
}

/// Runs a program to its end and returns what it wrote to its standard output.
///
/// # Errors
/// `Unavailable` with what it complained about, or when it did not end in time; `Unsupported` when it is not there.
pub(crate) fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    limit: Duration,
) -> Result<Vec<u8>> {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // This thread belongs to blocking work, so waiting here holds up nobody.
    let ended = tokio::runtime::Handle::current().block_on(async {
        tokio::time::timeout(limit, command.output()).await.map_err(|_| {
            let message = format!("{name} did not end within {} s", limit.as_secs());
            Error::new(ErrorKind::Unavailable, message)
        })
    })?;
    let output = ended.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            let message =
                format!("{} is not there: install QEMU's tools, or name the program", program.display());
            Error::new(ErrorKind::Unsupported, message).caused_by(e)
        }
        _ => Error::new(ErrorKind::Unavailable, format!("{name} cannot be run")).caused_by(e),
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    if let Some(signal) = output.status.signal() {
        return Err(Error::new(ErrorKind::Unavailable, format!("{name} was ended by signal {signal}")));
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.trim().trim_start_matches(&format!("{name}: ")).to_owned();
    let kind =
        if complaint.contains("No space left") { ErrorKind::OutOfSpace } else { ErrorKind::Unavailable };
    Err(Error::new(kind, format!("{name} failed: {complaint}")).status(ErrorStatus::Permanent))
}

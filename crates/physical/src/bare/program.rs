//! Programs of the user's that a rescue system runs.

use crate::power::Command;
use site_recovery::{Error, ErrorKind, Result};
use std::process::Stdio;
use std::time::Duration;

/// Runs it for a server, to its end or its limit, whereupon it is killed.
///
/// # Errors
/// `Invalid` for a command without a program; `Unavailable` where it could not be started, ended otherwise than with 0, or not
/// in time: what it did is not known then. `failed` begins the message.
pub(crate) async fn run(command: &Command, server: &str, failed: &str) -> Result<()> {
    let (program, arguments) = command
        .run
        .split_first()
        .ok_or_else(|| Error::invalid("starter.run", "empty", "a command has a program", "name one"))?;
    let mut child = tokio::process::Command::new(program);
    child.args(arguments).env("SITE_RECOVERY_SERVER", server).stdin(Stdio::null());
    let failed = |how: String| Error::new(ErrorKind::Unavailable, format!("{failed}: {program} {how}"));
    let limit = Duration::from_secs(command.seconds);
    match tokio::time::timeout(limit, child.kill_on_drop(true).status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!("ended with {status}"))),
        Ok(Err(e)) => Err(failed("could not be started".into()).caused_by(e)),
        Err(_) => Err(failed("did not end in time".into())),
    }
}

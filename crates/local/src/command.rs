//! The user's own commands: run without a shell, in the machine's directory, with a limit.

use crate::Site;
use crate::description::Command;
use crate::home::Home;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::Told;
use site_recovery_register::durable;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code; `None` by a signal.
    Exit(Option<i32>),
    /// It could not be started at all.
    NeverRan,
    /// It was killed at its limit.
    TimedOut,
}

impl Site {
    /// Runs a command to its end, or kills it at `limit`. What it says goes to `.site-recovery/log/<verb>.txt`.
    pub(crate) fn run(
        &self,
        home: &Home,
        verb: &'static str,
        command: &Command,
        limit: Duration,
        environment: &[(&str, &str)],
    ) -> Result<Ended> {
        let path = home.own("log").join(format!("{verb}.txt"));
        durable::make_dir(&home.own("log"))?;
        let log = File::create(&path).told("make", &path)?;
        let (program, arguments) = command.run.split_first().expect("a description has no empty command");
        let mut child = tokio::process::Command::new(program);
        child
            .args(arguments)
            .current_dir(&home.dir)
            .env("SITE_RECOVERY_MACHINE", &home.name)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().told("open", &path)?)
            .stderr(log)
            .kill_on_drop(true);
        // This thread belongs to blocking work, so waiting here holds up nobody.
        tokio::runtime::Handle::current().block_on(async {
            let Ok(mut child) = child.spawn() else { return Ok(Ended::NeverRan) };
            tokio::select! {
                ended = child.wait() => ended.map(|s| Ended::Exit(s.code())).told("wait for", &path),
                () = self.clock.sleep(limit) => {
                    child.kill().await.told("kill", &path)?;
                    Ok(Ended::TimedOut)
                }
            }
        })
    }
}

/// What a person should read of a command that failed.
pub(crate) fn failed(home: &Home, verb: &'static str, command: &Command, ended: Ended) -> Error {
    let how = match ended {
        Ended::Exit(Some(code)) => format!("ended with {code}"),
        Ended::Exit(None) => "was ended by a signal".into(),
        Ended::NeverRan => format!("could not be started: check {:?}", command.run[0]),
        Ended::TimedOut => "did not end in time".into(),
    };
    let message = format!("the {verb} command of {} {how}", home.name);
    Error::new(ErrorKind::Unavailable, message)
        .with("output", home.own("log").join(format!("{verb}.txt")).display())
}

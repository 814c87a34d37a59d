//! Programs and ports of this host.

use crate::actions::{Actions, Command, Output};
use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use site_recovery::{Error, ErrorKind, Result};
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Programs of this host, and connections from it. A program gets `PATH` and its command's environment, and nothing else of
/// the engine's own, which may hold secrets. It leads a process group, which is killed with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemActions;

/// Kills what is left of a process group, whatever way its command ends.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _it_is_gone = kill_process_group(group, Signal::KILL);
        }
    }
}

#[async_trait]
impl Actions for SystemActions {
    async fn run(&self, command: &Command, output: &Output) -> Result<Option<i32>> {
        let Some((program, arguments)) = command.program.split_first() else {
            return Err(Error::new(ErrorKind::Invalid, "a command has a program"));
        };
        let mut child = tokio::process::Command::new(program);
        child.args(arguments).env_clear().envs(&command.environment);
        child.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.kill_on_drop(true).process_group(0).spawn();
        let mut child = child.map_err(|e| {
            Error::new(ErrorKind::NotFound, format!("{program} cannot be started")).caused_by(e)
        })?;
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut told = std::pin::pin!(async {
            let say = async {
                if let Some(mut stdin) = stdin {
                    // A program need not read what it is told.
                    let _ = stdin.write_all(&command.input).await;
                }
            };
            tokio::join!(say, keep(stdout, output), keep(stderr, output));
        });
        let mut ends = false;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status,
                () = &mut told, if !ends => ends = true,
            }
        };
        // What it left running goes with it; what has left the group too is not waited for.
        drop(group);
        if !ends {
            let _what_is_there = futures_util::poll!(told.as_mut());
        }
        let status = status.map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("{program} cannot be waited for")).caused_by(e)
        })?;
        Ok(status.code())
    }

    async fn connect(&self, host: &str, port: u16) -> Result<()> {
        let connected = TcpStream::connect((host, port)).await;
        connected.map(drop).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("port {port} of {host} takes no connection"))
                .caused_by(e)
        })
    }
}

async fn keep(from: Option<impl AsyncRead + Unpin>, output: &Output) {
    let Some(mut from) = from else { return };
    let mut part = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut part).await {
        output.write(&part[..read]);
    }
}

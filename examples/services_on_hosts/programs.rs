//! The service programs: found or built, enrolled, started, and stopped.

use crate::ground::path;
use rustix::process::{Pid, Signal, kill_process};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_examples::failed;
use site_recovery_transport::enrol::{JoinToken, ServedRole, Service};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

pub(crate) const AGENT: &str = "site-recovery-agent";
pub(crate) const PROCESS_SERVER: &str = "site-recovery-process-server";
pub(crate) const MASTER_TARGET: &str = "site-recovery-master-target";

/// Longer than any of them takes to start, or to end when it is asked to.
const SOON: Duration = Duration::from_secs(40);
/// Lines of a log that are shown after a failure.
const SHOWN: usize = 10;

/// The directory where the programs are: that of this example's profile. Those that are absent are built there first, with
/// the features that `--features services` has, so that nothing is built twice.
///
/// # Errors
/// `Unavailable` when cargo does not build them.
pub(crate) fn built() -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|e| failed("find", Path::new("this program"), e))?;
    // target/profile/examples/program
    let dir = own.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned();
    let programs = [AGENT, PROCESS_SERVER, MASTER_TARGET];
    let absent = || programs.iter().find(|program| !dir.join(program).is_file());
    if absent().is_none() {
        return Ok(dir);
    }
    println!("The service programs are not in {} yet; cargo builds them", dir.display());
    let profile = match dir.file_name() {
        Some(name) if name != "debug" => name,
        _ => "dev".as_ref(),
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).stdin(Stdio::null());
    cargo.args(["build", "--features", "services", "--example", "drill"]);
    cargo.args(programs.iter().flat_map(|program| ["--bin", program]));
    cargo.arg("--profile").arg(profile).arg("--target-dir").arg(dir.parent().unwrap_or(&dir));
    // What cargo said of this program would be news to build scripts, and they would run again.
    let told = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if told.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let ended = cargo.status().map_err(|e| failed("run", Path::new("cargo"), e))?;
    match absent() {
        None if ended.success() => Ok(dir),
        _ => Err(Error::new(ErrorKind::Unavailable, format!("they were not built: {ended}"))),
    }
}

/// A service: who it is, and the program that runs by its file of settings.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) binary: PathBuf,
    pub(crate) settings: PathBuf,
    pub(crate) service: Service,
    pub(crate) roles: Vec<ServedRole>,
    pub(crate) address: SocketAddr,
}

impl Program {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.settings).args(words).env("PATH", path());
        // Whoever interrupts this program leaves its services to it.
        command.process_group(0);
        command
    }

    /// Joins by a token, which goes in by standard input: it works once, and lies nowhere.
    ///
    /// # Errors
    /// `Refused`, with what it says when it does not.
    pub(crate) async fn join(&self, token: &JoinToken) -> Result<()> {
        let mut command = tokio::process::Command::from(self.command(&["join"]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| failed("start", &self.binary, e))?;
        if let Some(mut input) = child.stdin.take() {
            let written = input.write_all(token.to_text().as_bytes()).await;
            written.map_err(|e| failed("write to", &self.binary, e))?;
        }
        let output = child.wait_with_output().await.map_err(|e| failed("wait for", &self.binary, e))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(ErrorKind::Refused, format!("{} did not join: {}", self.service, said.trim())))
    }

    /// Starts it, and waits until it says that it serves.
    ///
    /// # Errors
    /// `Unavailable` when it ends before; its log says why.
    pub(crate) async fn start(&self) -> Result<Process> {
        self.started(&["run"]).await
    }

    /// Starts an agent as in a rescue system: it serves the bare disks of its server, to be written.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) async fn start_to_receive(&self) -> Result<Process> {
        self.started(&["--receive", "run"]).await
    }

    async fn started(&self, words: &[&str]) -> Result<Process> {
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let log = self.settings.with_extension("log");
        let log =
            OpenOptions::new().create(true).append(true).open(&log).map_err(|e| failed("make", &log, e))?;
        let mut child = command.spawn().map_err(|e| failed("start", &self.binary, e))?;
        let stderr = child.stderr.take();
        let (serves, serving) = oneshot::channel();
        let (over, ended) = oneshot::channel();
        let process = Process { child, ended: Some(ended), name: self.service.to_string() };
        let listening = std::thread::Builder::new().spawn(move || {
            listen(stderr, log, serves);
            // Nobody may wait for it.
            let _ = over.send(());
        });
        listening.map_err(|e| failed("listen to", &self.binary, e))?;
        match tokio::time::timeout(SOON, serving).await {
            Ok(Ok(())) => {
                println!("    {} serves at {}, as process {}", process.name, self.address, process.id());
                Ok(process)
            }
            _ => Err(Error::new(ErrorKind::Unavailable, format!("{} does not serve", process.name))),
        }
    }
}

/// Reads what a service says until it ends, into its log; that it serves is passed on.
fn listen(stderr: Option<ChildStderr>, mut log: File, serves: oneshot::Sender<()>) {
    let mut serves = Some(serves);
    for line in stderr.into_iter().flat_map(|e| BufReader::new(e).lines()).map_while(|line| line.ok()) {
        // A full disk ends the log and not the service.
        let _ = writeln!(log, "{line}");
        if line.contains(" serving ")
            && let Some(serves) = serves.take()
        {
            let _ = serves.send(());
        }
    }
}

/// Shows the ends of the logs in a directory.
pub(crate) fn show_logs(dir: &Path) {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for log in files.filter(|file| file.extension() == Some("log".as_ref())) {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        eprintln!("--- {}", log.display());
        lines[lines.len().saturating_sub(SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
    }
}

/// A service that runs. Killed by its id when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ended: Option<oneshot::Receiver<()>>,
    name: String,
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end in order, and waits for that.
    ///
    /// # Errors
    /// `Unavailable` when it does not end, or ends by a failure.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let program = PathBuf::from(&self.name);
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        asked.map_err(|e| failed("stop", &program, e.into()))?;
        if let Some(ended) = self.ended.take() {
            let in_time = tokio::time::timeout(SOON, ended).await;
            // Its output is at an end, or its listener is.
            let _ = in_time.map_err(|e| {
                Error::new(ErrorKind::Unavailable, format!("{} does not end", self.name)).caused_by(e)
            })?;
        }
        let status = self.child.wait().map_err(|e| failed("wait for", &program, e))?;
        if status.success() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{} ended with {status}", self.name)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended, and was waited for, is killed by nobody.
        if let Ok(None) = self.child.try_wait() {
            let _ended_just_now = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

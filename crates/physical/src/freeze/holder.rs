//! A process that holds something still, and lets it go when it is told to, when nobody holds its input any more, or when
//! its time is over: whatever becomes of the agent, nothing stays frozen.

use super::command::{path, unavailable};
use super::deadline::Deadline;
use super::{Installed, Programs};
use serde::{Deserialize, Serialize};
use site_recovery::Result;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// A device that is suspended answers no read either, and the programs that let it go may lie on it: they are run once
/// before, so that nothing of them has to be read.
///
/// Holds, waits, lets go. In one process and in this order, so that a hold which comes late is let go all the same. `cat`
/// ends with its input, which the kernel closes when the agent dies; `timeout` ends it before. Signals that end a whole
/// group are left to others: a service that is stopped still thaws.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
limit=$1 kind=$2 what=$3
case $kind in
file-system)
    hold() { fsfreeze --freeze "$what"; }
    let_go() { fsfreeze --unfreeze "$what"; } ;;
device)
    timeout --foreground 1 cat </dev/null
    dmsetup --noudevsync info "$what" >/dev/null || exit 1
    hold() { dmsetup --noudevsync suspend "$what"; }
    let_go() { dmsetup --noudevsync resume "$what"; } ;;
*) exit 2 ;;
esac
hold || exit 1
echo held
if timeout --foreground --signal=KILL "$limit" cat >/dev/null; then in_time=1; else in_time=; fi
let_go || exit 1
if [ "$in_time" ]; then echo let-go; else echo late; fi
"#;

/// What is held still.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Held {
    /// A mounted file system, by where it is mounted.
    FileSystem(String),
    /// A mapped device, by its name; what is mounted from it is frozen by the kernel.
    Device(String),
}

impl Held {
    /// Whether this is the mapped device at a path.
    pub(crate) fn is_device(&self, path: &Path) -> bool {
        matches!(self, Self::Device(name) if Path::new("/dev/mapper").join(name) == path)
    }

    /// Lets it go, whoever held it: where agent and holder were killed together. One that is not held is no error.
    pub(crate) fn let_go(&self) -> Result<()> {
        let let_go = match self {
            Self::FileSystem(mounted) => ["fsfreeze", "--unfreeze", mounted],
            Self::Device(name) => ["dmsetup", "resume", name],
        };
        let [program, arguments @ ..] = let_go;
        match Installed.run(program, &arguments) {
            // What it says of one that nobody froze.
            Err(e) if e.message().contains("Invalid argument") => Ok(()),
            let_go => let_go.map(drop),
        }
    }
}

/// One holder. Dropped, it lets go, and nobody waits for that.
#[derive(Debug)]
pub(crate) struct Holder {
    what: Held,
    shell: Child,
    word: Option<ChildStdin>,
    said: Receiver<String>,
}

impl Holder {
    /// Begins to hold; [`is_held`](Self::is_held) tells when it does.
    pub(crate) fn start(launcher: &[String], what: Held, limit: Duration) -> Result<Self> {
        let (kind, name) = match &what {
            Held::FileSystem(mounted) => ("file-system", mounted.clone()),
            Held::Device(name) => ("device", name.clone()),
        };
        let seconds = format!("{}.{:03}", limit.as_secs(), limit.subsec_millis());
        let mut words = launcher.iter().map(String::as_str).chain(["/bin/sh"]);
        let mut shell = Command::new(words.next().expect("a word"))
            .args(words)
            .args(["-c", SCRIPT, "holder", &seconds, kind, &name])
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| unavailable("no shell can be started to hold file systems".into()).caused_by(e))?;
        let (tell, said) = channel();
        let out = shell.stdout.take().expect("piped");
        let err = shell.stderr.take().expect("piped");
        let tell_errors = tell.clone();
        std::thread::spawn(move || lines(out, &|line| tell.send(line).is_ok()));
        std::thread::spawn(move || lines(err, &|line| tell_errors.send(format!("error {line}")).is_ok()));
        let word = shell.stdin.take();
        Ok(Self { what, shell, word, said })
    }

    /// Waits until it holds.
    ///
    /// # Errors
    /// `Unavailable`, with what the program said. What comes late is let go.
    pub(crate) fn is_held(&mut self, until: Deadline) -> Result<()> {
        let mut errors = vec![];
        loop {
            match self.said.recv_timeout(until.left()) {
                Ok(line) if line == "held" => return Ok(()),
                Ok(line) => errors.push(line.trim_start_matches("error ").to_owned()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(unavailable(format!("{} was not frozen in time", self.name())));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(unavailable(format!(
                        "{} cannot be frozen: {}",
                        self.name(),
                        errors.join("; ")
                    )));
                }
            }
        }
    }

    /// Lets go. The answer comes by [`was_held`](Self::was_held), so that several are let go at once.
    pub(crate) fn let_go(&mut self) {
        self.word = None;
    }

    /// Whether it was held until `let_go`. Waits for the end of the holder, at most until then.
    pub(crate) fn was_held(mut self, until: Deadline) -> bool {
        self.let_go();
        let mut held = false;
        loop {
            match self.said.recv_timeout(until.left()) {
                Ok(line) => held |= line == "let-go",
                Err(RecvTimeoutError::Disconnected) => {
                    let _reaped = self.shell.wait();
                    return held;
                }
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    fn name(&self) -> &str {
        match &self.what {
            Held::FileSystem(name) | Held::Device(name) => name,
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.let_go();
        if let Ok(None) = self.shell.try_wait() {
            // It ends by itself when it has let go. Its parent must see that, or it stays a zombie.
            let pid = i32::try_from(self.shell.id()).ok().and_then(rustix::process::Pid::from_raw);
            std::thread::spawn(move || {
                pid.map(|p| rustix::process::waitpid(Some(p), rustix::process::WaitOptions::empty()))
            });
        }
    }
}

fn lines(from: impl std::io::Read, told: &dyn Fn(String) -> bool) {
    for line in BufReader::new(from).lines().map_while(std::result::Result::ok) {
        if !told(line) {
            return;
        }
    }
}

//! A program that serves until it is dropped: told a secret, listened to, and ended.

use rustix::process::{Pid, Signal, kill_process};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_vim::Secret;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// How long it may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// How much of what it says is kept: the end.
const KEPT: usize = 4096;
/// Between two looks at one that says nothing any more.
const LOOK: Duration = Duration::from_millis(10);

/// A running program. Dropped, it is asked to end, and made to after ten seconds.
#[derive(Debug)]
pub(crate) struct Nbdkit(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Until it was waited for: so long its number is nobody else's.
    child: Option<Child>,
    said: Vec<u8>,
    over: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nbdkit {
    /// Starts it, with the secret as the one line of its standard input.
    ///
    /// A thread of its own starts it and stays with it: a program that asks to end with its parent (`--exit-with-parent`) ends
    /// with the thread that started it, and the threads of a runtime come and go.
    ///
    /// # Errors
    /// `Unsupported` where there is no such program; `Unavailable` where it cannot be started.
    pub(crate) fn start(command: Command, secret: Secret) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let shared = Arc::<Shared>::default();
        let (told, started) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("nbdkit".into());
        let run = {
            let shared = Arc::clone(&shared);
            move || run(command, &secret, &shared, &told)
        };
        let begun =
            thread.spawn(run).and_then(|_| started.recv().unwrap_or_else(|e| Err(std::io::Error::other(e))));
        match begun {
            Ok(()) => Ok(Self(shared)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let message = format!(
                    "{program} is not there: install nbdkit and its plugin vddk, or name the program"
                );
                Err(Error::new(ErrorKind::Unsupported, message).caused_by(e))
            }
            Err(e) => {
                Err(Error::new(ErrorKind::Unavailable, format!("{program} cannot be started")).caused_by(e))
            }
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.0.state().over
    }

    /// The end of what it complained about, on one line. It writes a line in pieces: one that is not whole is left out while it
    /// runs.
    pub(crate) fn said(&self) -> String {
        let state = self.0.state();
        let newline = state.said.iter().rposition(|b| *b == b'\n');
        let whole = if state.over { state.said.len() } else { newline.unwrap_or(0) };
        let said = String::from_utf8_lossy(&state.said[..whole]).into_owned();
        drop(state);
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let one = lines.collect::<Vec<_>>().join("; ");
        one.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl Drop for Nbdkit {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let Some(child) = &mut state.child else { return };
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        let shared = Arc::clone(&self.0);
        let insist = move || {
            let waited = shared.over.wait_timeout_while(shared.state(), GRACE, |state| !state.over);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if let Some(child) = &mut state.child {
                let _ = child.kill();
            }
        };
        if std::thread::Builder::new().name("nbdkit ends".into()).spawn(insist).is_err() {
            let _ = child.kill();
        }
    }
}

fn run(mut command: Command, secret: &Secret, shared: &Shared, told: &mpsc::SyncSender<std::io::Result<()>>) {
    let mut child = match command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return drop(told.send(Err(e))),
    };
    let (input, complaints) = (child.stdin.take(), child.stderr.take());
    shared.state().child = Some(child);
    let _ = told.send(Ok(()));
    // It fits into the pipe. One that has ended already says why.
    if let Some(mut input) = input {
        let _ = input.write_all(secret.expose().as_bytes()).and_then(|()| input.write_all(b"\n"));
    }
    if let Some(mut complaints) = complaints {
        let mut buffer = [0; 1024];
        while let Ok(len @ 1..) = complaints.read(&mut buffer) {
            let said = &mut shared.state().said;
            said.extend_from_slice(&buffer[..len]);
            let older = said.len().saturating_sub(KEPT);
            said.drain(..older);
        }
    }
    // Until it has ended, which whoever drops it sees to.
    loop {
        let mut state = shared.state();
        if !matches!(state.child.as_mut().map(Child::try_wait), Some(Ok(None))) {
            (state.child, state.over) = (None, true);
            return shared.over.notify_all();
        }
        drop(state);
        std::thread::sleep(LOOK);
    }
}

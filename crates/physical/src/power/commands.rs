//! The user's own programs as a power control.

use super::{Keeps, PowerControl, PowerState};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Error, ErrorKind, Result, SystemClock};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// How long a program may take that says nothing else.
const LIMIT: u64 = 60;
/// Between two looks at a server that is going down.
const BETWEEN: Duration = Duration::from_secs(1);
/// How much of what a program says is kept for a person.
const SAID: usize = 4096;

/// A program with its arguments, run without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program, by its whole path, and its arguments.
    pub run: Vec<String>,
    /// How long it may take: 1 to 3600 seconds, 60 where nothing is said.
    #[serde(default = "limit")]
    pub seconds: u64,
}

fn limit() -> u64 {
    LIMIT
}

/// Programs that switch a server.
///
/// `is_off` and `is_held` answer by how they end: 0 is yes, 1 is no, everything else (another code, a signal, its limit) is
/// *unknown*. All others have done it when they end with 0. Each has `SITE_RECOVERY_SERVER` (its name) set, `off` also
/// `SITE_RECOVERY_GRACE` (seconds; 0: at once).
///
/// # What may stand behind them
/// - A switched outlet, or another controller's own program: `off`, `is_off`, `on`.
/// - *Storage that is made read-only* on its array, a switch port that is shut, an outlet that is locked: `hold`, `release`,
///   `is_held`. It counts as what keeps a server off that is off: `is_held` says yes only where the server, started by
///   anybody, cannot write.
/// - Where nothing switches the server, but its storage can be made read-only: `off` and `is_off` may do that, besides
///   `hold`. A server that still answers counts as on all the same: shut it down first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Takes the power; in order, where `SITE_RECOVERY_GRACE` is not 0.
    pub off: Command,
    /// Whether it is off.
    pub is_off: Command,
    /// Gives the power.
    #[serde(default)]
    pub on: Option<Command>,
    /// Keeps it from being started, or from writing.
    #[serde(default)]
    pub hold: Option<Command>,
    /// Ends that.
    #[serde(default)]
    pub release: Option<Command>,
    /// Whether that stands.
    #[serde(default)]
    pub is_held: Option<Command>,
}

impl Command {
    /// Refuses what cannot be run, by the name of its field.
    ///
    /// # Errors
    /// `Invalid`, naming the field: no program, a program that is not named by its whole path, a limit out of bounds.
    pub fn check(&self, field: &'static str) -> Result<()> {
        if !self.run.first().is_some_and(|program| program.starts_with('/')) {
            let rule = "a program is named by its whole path";
            return Err(Error::invalid(field, format!("{:?}", self.run), rule, "write /…"));
        }
        if !(1..=3600).contains(&self.seconds) {
            let rule = "a program has 1 to 3600 seconds";
            return Err(Error::invalid(field, self.seconds, rule, "choose a limit"));
        }
        Ok(())
    }
}

impl Commands {
    /// Programs for the server of this name.
    ///
    /// # Errors
    /// `Invalid`, naming the field: no program, a program that is not named by its whole path, a limit out of bounds, only a
    /// part of `hold`, `release`, `is_held`.
    pub fn control(self, server: &str) -> Result<Arc<dyn PowerControl>> {
        Ok(Arc::new(Control::new(self, server, Arc::new(SystemClock))?))
    }
}

#[derive(Debug)]
struct Control {
    commands: Commands,
    server: String,
    clock: Arc<dyn Clock>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    /// With this code; `None` by a signal.
    Exit(Option<i32>, String),
    /// It could not be started at all.
    NeverRan,
    /// It was killed at its limit.
    TimedOut,
}

impl Control {
    fn new(commands: Commands, server: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let c = &commands;
        let named = [
            ("power.off", Some(&c.off)),
            ("power.is_off", Some(&c.is_off)),
            ("power.on", c.on.as_ref()),
            ("power.hold", c.hold.as_ref()),
            ("power.release", c.release.as_ref()),
            ("power.is_held", c.is_held.as_ref()),
        ];
        for (field, command) in named {
            command.map_or(Ok(()), |command| command.check(field))?;
        }
        let three = [c.hold.is_some(), c.release.is_some(), c.is_held.is_some()];
        if three.contains(&true) && three.contains(&false) {
            let rule = "hold, release and is_held come together";
            return Err(Error::invalid(
                "power.hold",
                "a part of three",
                rule,
                "add the others, or leave all out",
            ));
        }
        Ok(Self { commands, server: server.to_owned(), clock })
    }

    async fn run(&self, command: &Command, grace: Option<Duration>) -> Result<Ended> {
        let (program, arguments) = command.run.split_first().expect("a command has a program");
        let mut child = tokio::process::Command::new(program);
        child.args(arguments).env("SITE_RECOVERY_SERVER", &self.server).kill_on_drop(true);
        if let Some(grace) = grace {
            child.env("SITE_RECOVERY_GRACE", grace.as_secs().to_string());
        }
        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut child) = child.spawn() else { return Ok(Ended::NeverRan) };
        let mut stderr = child.stderr.take().expect("it is piped");
        let limit = Duration::from_secs(command.seconds).saturating_add(grace.unwrap_or_default());
        let mut said = Vec::new();
        let ended = {
            let mut hear = std::pin::pin!(hear(&mut stderr, &mut said));
            let mut heard = false;
            let ended = async {
                loop {
                    tokio::select! {
                        ended = child.wait() => break ended,
                        () = &mut hear, if !heard => heard = true,
                    }
                }
            };
            let ended = tokio::select! {
                ended = ended => Some(ended),
                () = self.clock.sleep(limit) => None,
            };
            // What it said last. Whatever it left running may say more, which is nobody's concern.
            if !heard {
                let _ = futures_util::poll!(hear.as_mut());
            }
            ended
        };
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        match ended {
            Some(Ok(status)) => Ok(Ended::Exit(status.code(), said)),
            Some(Err(e)) => Err(Error::new(ErrorKind::Unavailable, "cannot wait for a program").caused_by(e)),
            None => {
                let _ = child.kill().await;
                Ok(Ended::TimedOut)
            }
        }
    }

    async fn done(
        &self,
        verb: &'static str,
        command: Option<&Command>,
        grace: Option<Duration>,
    ) -> Result<()> {
        let Some(command) = command else {
            let message = format!("no {verb} command is given for {}", self.server);
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let (how, said) = match self.run(command, grace).await? {
            Ended::Exit(Some(0), _) => return Ok(()),
            Ended::Exit(Some(code), said) => (format!("ended with {code}"), said),
            Ended::Exit(None, said) => ("was ended by a signal".into(), said),
            Ended::NeverRan => (format!("could not be started: check {:?}", command.run[0]), String::new()),
            Ended::TimedOut => ("did not end in time".into(), String::new()),
        };
        let message = format!("the {verb} command of {} {how}", self.server);
        Err(Error::new(ErrorKind::Unavailable, message).with("said", said))
    }

    /// Yes, no, or unknown.
    async fn ask(&self, command: &Command) -> Result<Option<bool>> {
        Ok(match self.run(command, None).await? {
            Ended::Exit(Some(0), _) => Some(true),
            Ended::Exit(Some(1), _) => Some(false),
            _ => None,
        })
    }
}

/// Reads to the end, and keeps the first part.
async fn hear(from: &mut tokio::process::ChildStderr, said: &mut Vec<u8>) {
    let mut part = [0; SAID];
    while let Ok(n) = from.read(&mut part).await
        && n > 0
    {
        said.extend_from_slice(&part[..n.min(SAID - said.len())]);
    }
}

#[async_trait]
impl PowerControl for Control {
    async fn state(&self) -> Result<PowerState> {
        Ok(match self.ask(&self.commands.is_off).await? {
            Some(true) => PowerState::Off,
            Some(false) => PowerState::On,
            None => PowerState::Unknown,
        })
    }

    async fn off(&self, grace: Duration) -> Result<bool> {
        if grace.is_zero() {
            return Ok(false);
        }
        let limit = self.clock.now().after(grace);
        self.done("off", Some(&self.commands.off), Some(grace)).await?;
        loop {
            if self.state().await? == PowerState::Off {
                return Ok(true);
            }
            let left = limit.since(self.clock.now());
            if left.is_zero() {
                return Ok(false);
            }
            self.clock.sleep(left.min(BETWEEN)).await;
        }
    }

    async fn force_off(&self) -> Result<()> {
        self.done("off", Some(&self.commands.off), Some(Duration::ZERO)).await
    }

    async fn on(&self) -> Result<()> {
        self.done("on", self.commands.on.as_ref(), None).await
    }

    fn keeps(&self) -> Keeps {
        Keeps { holds: self.commands.hold.is_some(), tells: false }
    }

    async fn hold(&self, hold: bool) -> Result<()> {
        let (verb, command) = match hold {
            true => ("hold", &self.commands.hold),
            false => ("release", &self.commands.release),
        };
        self.done(verb, command.as_ref(), None).await
    }

    async fn held(&self) -> Result<Option<bool>> {
        match &self.commands.is_held {
            Some(command) => self.ask(command).await,
            None => Ok(None),
        }
    }
}

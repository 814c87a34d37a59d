//! A client of QEMU's monitor.

use crate::deadline::Deadline;
use crate::error::{Error, Refusal, excerpt};
use crate::limits::Limits;
use crate::message::{Event, Message, Version, command, fresh_id};
use crate::wire::{Stop, Wire};
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

const WANTED: &str = "a monitor of QEMU (QMP)";
const TAKEN: &str = "QEMU serves one client per QMP socket and lets others wait in silence; somebody else uses \
                     this one: give the library a -qmp socket of its own";
const LOOK: &str = "it may have been done, or may yet be: look before it is asked again";

/// A connection to the monitor of QEMU or of `qemu-storage-daemon`.
///
/// After [`Error::Broken`] and [`Error::Garbage`] it is of no more use: connect anew. After [`Error::Silent`] it is.
/// Dropping it closes the connection; a command that QEMU has not begun by then may be dropped by QEMU.
pub struct Monitor {
    wire: Wire,
    limits: Limits,
    version: Version,
    next_id: u64,
    events: VecDeque<Event>,
    events_dropped: u64,
    given_up: bool,
}

impl Monitor {
    /// Connects, waits for the greeting, and opens the monitor for commands.
    ///
    /// # Errors
    /// [`Absent`](Error::Absent), [`Denied`](Error::Denied), [`Stranger`](Error::Stranger);
    /// [`Silent`](Error::Silent) without a greeting in time: QEMU serves one client per QMP socket, and somebody else uses
    /// this one. [`Invalid`](Error::Invalid) for a path that is too long for a socket (107 bytes).
    pub fn connect(socket: &Path, limits: Limits) -> Result<Self, Error> {
        match Wire::connect(socket, &limits)? {
            Some(wire) => Self::greeted(wire, limits),
            None => Err(Error::Silent {
                socket: socket.into(),
                what: "place in the queue".into(),
                span: limits.greeting,
                remedy: TAKEN,
            }),
        }
    }

    pub(crate) fn greeted(mut wire: Wire, limits: Limits) -> Result<Self, Error> {
        let socket = wire.path.clone();
        let stranger = |said: &[u8]| Error::Stranger {
            socket: socket.clone(),
            wanted: WANTED,
            said: excerpt(&String::from_utf8_lossy(&said[..said.len().min(200)]), 60),
        };
        let version = match wire.line(&mut Deadline::after(limits.greeting)) {
            Ok(line) => match Message::parse(&line) {
                Ok(Message::Greeting(version)) => version,
                _ => return Err(stranger(&line)),
            },
            Err(Stop::TooLong | Stop::Late) if !wire.rest().is_empty() => return Err(stranger(wire.rest())),
            Err(Stop::Late | Stop::TooLong) => {
                let (what, span) = ("greeting".into(), limits.greeting);
                return Err(Error::Silent { socket, what, span, remedy: TAKEN });
            }
            Err(Stop::Closed) => return Err(Error::Broken { socket, source: closed() }),
            Err(Stop::Failed(source)) => return Err(Error::Broken { socket, source }),
        };
        let mut monitor = Self {
            wire,
            limits,
            version,
            next_id: fresh_id(),
            events: VecDeque::new(),
            events_dropped: 0,
            given_up: false,
        };
        monitor.call("qmp_capabilities", Value::Null)?;
        Ok(monitor)
    }

    /// The version of QEMU, or of `qemu-storage-daemon`.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The answer to one command, within [`Limits::answer`]. Arguments are an object, or `Null` for none.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with QEMU's answer, and those of the [connection](Monitor).
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.call_within(command, arguments, self.limits.answer)
    }

    /// The answer to one command, as [`call`](Self::call) with a limit of its own.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_within(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value, Error> {
        let answer = self.answers(&[(command, arguments)], limit)?.pop().expect("one command has one answer");
        answer.map_err(|refusal| Error::Refused { command: command.into(), refusal })
    }

    /// The answers to several commands that are sent at once, in their order, within [`Limits::answer`] for all. QEMU does
    /// them one after the other, and goes on after one that it refuses: for what has to be short, as a pause is.
    ///
    /// # Errors
    /// Those of the [connection](Monitor); then any of the commands may have been done. A refusal stands in the place of
    /// its command.
    pub fn call_each(&mut self, commands: &[(&str, Value)]) -> Result<Vec<Result<Value, Refusal>>, Error> {
        self.answers(commands, self.limits.answer)
    }

    /// The first event that is wanted: of those that were kept, then of those that come within the limit. The others are
    /// kept.
    ///
    /// # Errors
    /// [`Silent`](Error::Silent) where none came, and those of the [connection](Monitor).
    pub fn wait_for(
        &mut self,
        limit: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Result<Event, Error> {
        if let Some(event) = self.events.iter().position(&mut wanted).and_then(|at| self.events.remove(at)) {
            return Ok(event);
        }
        let mut by = Deadline::after(limit);
        loop {
            match self.receive(&mut by) {
                Ok(Message::Event(event)) if wanted(&event) => return Ok(event),
                Ok(Message::Event(event)) => self.keep(event),
                Ok(_) => {}
                Err(stop) => {
                    let remedy =
                        "it may have come before this connection, or not have happened: ask for the state";
                    return Err(self.told(stop, limit, || "such event".into(), remedy));
                }
            }
        }
    }

    /// The events that came and were not taken, oldest first. Waits for nothing, and never fails: what came before the end
    /// of a connection is there, and the next call tells of the end.
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut by = Deadline::after(Duration::ZERO);
        while let Ok(message) = self.receive(&mut by) {
            if let Message::Event(event) = message {
                self.keep(event);
            }
        }
        self.events.drain(..).collect()
    }

    /// How many events were dropped because too many were unread: [`Limits::events`].
    pub fn events_dropped(&self) -> u64 {
        self.events_dropped
    }

    /// Waits until QEMU has closed the connection, as it does when it ends. Events on the way are kept. The process ends a
    /// moment later: who needs its end waits for its id.
    ///
    /// # Errors
    /// [`Silent`](Error::Silent) where it is still there at the limit.
    pub fn wait_closed(&mut self, limit: Duration) -> Result<(), Error> {
        let mut by = Deadline::after(limit);
        loop {
            match self.receive(&mut by) {
                Ok(Message::Event(event)) => self.keep(event),
                Ok(_) => {}
                Err(Failure::Garbage(_)) => {}
                Err(Failure::Stop(Stop::TooLong)) => self.wire.forget(),
                Err(Failure::Stop(Stop::Closed)) => return Ok(()),
                Err(stop) => {
                    let remedy = "its QEMU still runs, or hangs: look at its process";
                    return Err(self.told(stop, limit, || "end of the connection".into(), remedy));
                }
            }
        }
    }

    /// The connection, so that another process may be given it: [`BorrowedFd::try_clone_to_owned`] makes a copy that holds
    /// it open. Two that read it take each other's lines.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    fn answers(
        &mut self,
        commands: &[(&str, Value)],
        limit: Duration,
    ) -> Result<Vec<Result<Value, Refusal>>, Error> {
        for (command, arguments) in commands {
            object_or_nothing(command, arguments)?;
        }
        if self.given_up {
            let source = io::Error::other("it was given up after an earlier error");
            return Err(Error::Broken { socket: self.wire.path.clone(), source });
        }
        let first = self.next_id;
        self.next_id += commands.len() as u64;
        let line = |(at, (name, arguments)): (usize, &(&str, Value))| {
            command(name, arguments, Some(first + at as u64))
        };
        let lines: Vec<u8> = commands.iter().enumerate().flat_map(line).collect();
        let mut by = Deadline::after(limit);
        let mut answers: Vec<Option<Result<Value, Refusal>>> = vec![None; commands.len()];
        if let Err(stop) = self.wire.send(&lines, &mut by) {
            // Half a command may be on its way, and would spoil the next one.
            self.given_up = true;
            return Err(self.told(stop.into(), limit, || format!("ear for {}", commands[0].0), LOOK));
        }
        while let Some(oldest) = answers.iter().position(Option::is_none) {
            match self.receive(&mut by) {
                Ok(Message::Event(event)) => self.keep(event),
                Ok(Message::Answer { id, outcome }) => {
                    let at = match (&id, &outcome) {
                        // QEMU could not read the command, and so not its id.
                        (Value::Null, Err(_)) => Some(oldest),
                        _ => id.as_u64().and_then(|id| usize::try_from(id.checked_sub(first)?).ok()),
                    };
                    if let Some(answer) = at.and_then(|at| answers.get_mut(at)) {
                        answer.get_or_insert(outcome);
                    }
                }
                Ok(_) => {}
                Err(stop) => {
                    return Err(self.told(stop, limit, || format!("answer to {}", commands[oldest].0), LOOK));
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn receive(&mut self, by: &mut Deadline) -> Result<Message, Failure> {
        let line = self.wire.line(by).map_err(Failure::Stop)?;
        Message::parse(&line).map_err(Failure::Garbage)
    }

    fn keep(&mut self, event: Event) {
        self.events.push_back(event);
        while self.events.len() > self.limits.events {
            self.events.pop_front();
            self.events_dropped += 1;
        }
    }

    fn told(
        &mut self,
        failure: Failure,
        span: Duration,
        what: impl FnOnce() -> String,
        remedy: &'static str,
    ) -> Error {
        let socket = self.wire.path.clone();
        match failure {
            Failure::Stop(Stop::Late) => Error::Silent { socket, what: what(), span, remedy },
            Failure::Stop(Stop::Closed) => Error::Broken { socket, source: closed() },
            Failure::Stop(Stop::Failed(source)) => Error::Broken { socket, source },
            Failure::Stop(Stop::TooLong) => {
                self.given_up = true;
                Error::Garbage { socket, what: too_long(&self.limits) }
            }
            Failure::Garbage(what) => {
                self.given_up = true;
                Error::Garbage { socket, what }
            }
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("socket", &self.wire.path)
            .field("version", &self.version)
            .field("events", &self.events.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no message.
enum Failure {
    Stop(Stop),
    Garbage(String),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

pub(crate) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed it")
}

pub(crate) fn too_long(limits: &Limits) -> String {
    format!("a line of more than {} bytes", limits.line)
}

pub(crate) fn object_or_nothing(command: &str, arguments: &Value) -> Result<(), Error> {
    let kind = match arguments {
        Value::Null | Value::Object(_) => return Ok(()),
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    Err(Error::Invalid {
        field: "arguments",
        value: format!("of {command}, {kind},"),
        rule: "arguments are an object".into(),
        remedy: "name each argument, or give Null for none",
    })
}

//! A client of QEMU's monitor.

use crate::deadline::Deadline;
use crate::error::{Error, Refusal};
use crate::limits::Limits;
use crate::message::{self, Event, Message, Version, fresh_id, readable};
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
/// QEMU that is still at the end of one client now and then closes the connection of the next one.
const TRIES: u32 = 3;
const LOOK: &str = "it may have been done, or may yet be: look before it is asked again";

/// A connection to the monitor of QEMU or of `qemu-storage-daemon`.
///
/// After [`Error::Broken`] and [`Error::Garbage`] it is of no more use: connect anew. After [`Error::Silent`] it is, unless
/// QEMU took no command at all.
///
/// Dropping it closes the connection, and a command that QEMU has not begun by then may never be. Better let its answer
/// come: about once in a hundred thousand times, QEMU 10.0 crashed when a client left in the middle and the next one came
/// at once.
pub struct Monitor {
    wire: Wire,
    limits: Limits,
    version: Version,
    next_id: u64,
    events: VecDeque<Event>,
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
        let mut by = Deadline::after(limits.greeting);
        let mut more = 1..TRIES;
        loop {
            let wire = match Wire::connect(socket, &limits, &mut by) {
                Ok(wire) => wire,
                Err(Some(error)) => return Err(error),
                Err(None) => return Err(silent(socket, limits)),
            };
            match Self::greeted(wire, limits, &mut by, fresh_id()) {
                Err(Error::Broken { .. }) if more.next().is_some() => {}
                outcome => return outcome,
            }
        }
    }

    pub(crate) fn greeted(
        mut wire: Wire,
        limits: Limits,
        by: &mut Deadline,
        next_id: u64,
    ) -> Result<Self, Error> {
        // What QEMU was saying to the client before may come first.
        let mut first: Option<Vec<u8>> = None;
        let version = loop {
            let stop = match wire.line(by) {
                Ok(line) => match Message::parse(&line) {
                    Ok(Message::Greeting(version)) => break version,
                    _ => {
                        first.get_or_insert(line);
                        continue;
                    }
                },
                Err(stop) => stop,
            };
            let said = first.as_deref().unwrap_or(wire.rest());
            return Err(match stop {
                Stop::Late if said.is_empty() => silent(&wire.path, limits),
                Stop::Late | Stop::TooLong => wire.stranger(WANTED, said),
                stop => wire.told(stop, "greeting", limits.greeting, TAKEN),
            });
        };
        let mut monitor = Self { wire, limits, version, next_id, events: VecDeque::new(), given_up: false };
        let opening = [("qmp_capabilities", Value::Null), ("query-version", Value::Null)];
        let tried = monitor.call_each(&opening)?.pop().expect("the second command has an answer");
        // That the first is refused says little: that of the client before may have come after this one's greeting.
        tried.map_err(|refusal| Error::Refused { command: "query-version".into(), refusal })?;
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
        let answer = self.call_each(&[(command, arguments)])?.pop().expect("one command has one answer");
        answer.map_err(|refusal| Error::Refused { command: command.into(), refusal })
    }

    /// The answers to several commands that are sent at once, in their order, within [`Limits::answer`] for all. QEMU does
    /// them one after the other, and goes on after one that it refuses: for what has to be short, as a pause is.
    ///
    /// # Errors
    /// Those of the [connection](Monitor); then any of the commands may have been done. A refusal stands in the place of
    /// its command.
    pub fn call_each(&mut self, commands: &[(&str, Value)]) -> Result<Vec<Result<Value, Refusal>>, Error> {
        for (command, arguments) in commands {
            readable(command, arguments)?;
        }
        self.usable()?;
        let (first, limit) = (self.next_id, self.limits.answer);
        self.next_id += commands.len() as u64;
        let line =
            |(id, (name, arguments)): (u64, &(&str, Value))| message::command(name, arguments, Some(id));
        let lines: Vec<u8> = (first..).zip(commands).flat_map(line).collect();
        let mut by = Deadline::after(limit);
        if let Err(stop) = self.wire.send(&lines, &mut by) {
            // Half a command may be on its way, and would spoil the next one.
            self.given_up = true;
            return Err(self.wire.told(stop, &format!("ear for {}", commands[0].0), limit, LOOK));
        }
        let mut answers: Vec<Option<Result<Value, Refusal>>> = vec![None; commands.len()];
        while let Some(oldest) = answers.iter().position(Option::is_none) {
            match self.receive(&mut by) {
                Ok(Message::Event(event)) => self.keep(event),
                Ok(Message::Answer { id, outcome }) => {
                    // One without an id, to what QEMU could not read, is of an earlier client. One with another id is of
                    // an earlier call.
                    let at = id.as_u64().and_then(|id| usize::try_from(id.checked_sub(first)?).ok());
                    if let Some(place) = at.and_then(|at| answers.get_mut(at)) {
                        place.get_or_insert(outcome);
                    }
                }
                Ok(_) => {}
                Err(unread) => {
                    let what = format!("answer to {}", commands[oldest].0);
                    return Err(self.told(unread, &what, limit, LOOK));
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
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
        self.usable()?;
        let mut by = Deadline::after(limit);
        loop {
            match self.receive(&mut by) {
                Ok(Message::Event(event)) if wanted(&event) => return Ok(event),
                Ok(Message::Event(event)) => self.keep(event),
                Ok(_) => {}
                Err(unread) => {
                    let remedy = "it may have come before this connection: ask for the state";
                    return Err(self.told(unread, "such event", limit, remedy));
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

    /// Waits until QEMU has closed the connection, as it does when it ends. Events on the way are kept, and garbage is
    /// passed by. The process ends a moment later: who needs its end waits for its id.
    ///
    /// # Errors
    /// [`Silent`](Error::Silent) where it is still there at the limit.
    pub fn wait_closed(&mut self, limit: Duration) -> Result<(), Error> {
        let mut by = Deadline::after(limit);
        loop {
            match self.receive(&mut by) {
                Ok(Message::Event(event)) => self.keep(event),
                Ok(_) | Err(Unread::Garbage(_)) => {}
                Err(Unread::Stop(Stop::TooLong)) => self.wire.forget(),
                Err(Unread::Stop(Stop::Closed)) => return Ok(()),
                Err(unread) => {
                    let remedy = "it still runs, or hangs: look at its process";
                    return Err(self.told(unread, "end of the connection", limit, remedy));
                }
            }
        }
    }

    /// The connection, so that another process may be given it: [`BorrowedFd::try_clone_to_owned`] makes a copy that holds
    /// it open. Two that read it take each other's lines.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    /// The next message. With garbage, the connection is given up.
    fn receive(&mut self, by: &mut Deadline) -> Result<Message, Unread> {
        let message = match self.wire.line(by) {
            Ok(line) => Message::parse(&line).map_err(Unread::Garbage),
            Err(stop) => Err(Unread::Stop(stop)),
        };
        self.given_up |= matches!(message, Err(Unread::Garbage(_) | Unread::Stop(Stop::TooLong)));
        message
    }

    fn usable(&self) -> Result<(), Error> {
        if self.given_up {
            let source = io::Error::other("it was given up after an earlier error");
            return Err(Error::Broken { socket: self.wire.path.clone(), source });
        }
        Ok(())
    }

    fn keep(&mut self, event: Event) {
        self.events.push_back(event);
        while self.events.len() > self.limits.events {
            self.events.pop_front();
        }
    }

    fn told(&self, unread: Unread, what: &str, span: Duration, remedy: &'static str) -> Error {
        match unread {
            Unread::Stop(stop) => self.wire.told(stop, what, span, remedy),
            Unread::Garbage(what) => self.wire.garbage(what),
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
enum Unread {
    Stop(Stop),
    Garbage(String),
}

fn silent(socket: &Path, limits: Limits) -> Error {
    Error::Silent { socket: socket.into(), what: "greeting".into(), span: limits.greeting, remedy: TAKEN }
}

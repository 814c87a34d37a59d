//! A client of the QEMU guest agent.

use crate::deadline::Deadline;
use crate::error::{Error, Refusal, excerpt};
use crate::guest::{self, AgentInfo, GuestOs, Interface};
use crate::limits::Limits;
use crate::message::{Message, command, fresh_id};
use crate::monitor::{closed, object_or_nothing, too_long};
use crate::wire::{Stop, Wire};
use serde_json::{Value, json};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

const SYNC: &str = "guest-sync-delimited";
const FREEZE: &str = "guest-fsfreeze-freeze";
const THAW: &str = "guest-fsfreeze-thaw";
/// In no JSON and in no text: it throws away what the other side holds of a line.
const DELIMITER: u8 = 0xff;

const NOBODY: &str = "no agent runs in the guest, or it is busy, or somebody else uses this socket: start \
                      qemu-guest-agent in the guest, and give the library a socket of its own";
const LOOK: &str = "it may have been done, or may yet be: ask for the state";

/// A connection to the agent in a guest.
///
/// The guest is trusted with nothing but its own answers. After [`Error::Silent`] and [`Error::Garbage`] the next call first
/// brings both sides in step again, and the late answer is thrown away; after [`Error::Broken`], connect anew.
pub struct Agent {
    wire: Wire,
    limits: Limits,
    /// Whether the next line of the agent is the answer to the next command.
    in_step: bool,
}

impl Agent {
    /// Connects, and waits for a sign of the agent.
    ///
    /// # Errors
    /// [`Silent`](Error::Silent) where no agent runs: QEMU has the socket, but nobody answers. [`Absent`](Error::Absent),
    /// [`Denied`](Error::Denied), [`Stranger`](Error::Stranger) for a monitor;
    /// [`Invalid`](Error::Invalid) for a path that is too long for a socket (107 bytes).
    pub fn connect(socket: &Path, limits: Limits) -> Result<Self, Error> {
        match Wire::connect(socket, &limits)? {
            Some(wire) => Self::greeted(wire, limits),
            None => Err(Error::Silent {
                socket: socket.into(),
                what: "place in the queue".into(),
                span: limits.greeting,
                remedy: NOBODY,
            }),
        }
    }

    pub(crate) fn greeted(wire: Wire, limits: Limits) -> Result<Self, Error> {
        let mut agent = Self { wire, limits, in_step: false };
        agent.sync()?;
        Ok(agent)
    }

    /// The answer to one command, within [`Limits::answer`]. Arguments are an object, or `Null` for none.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the agent's answer, and those of the [connection](Agent).
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.call_within(command, arguments, self.limits.answer)
    }

    /// The answer to one command, as [`call`](Self::call) with a limit of its own.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn call_within(&mut self, command: &str, arguments: Value, limit: Duration) -> Result<Value, Error> {
        object_or_nothing(command, &arguments)?;
        self.sync()?;
        self.answer(command, &arguments, limit)?.map_err(|refusal| refused(command, refusal))
    }

    /// Freezes the guest's file systems, and says how many. From then on the guest writes nothing, and what it does comes to
    /// a halt: [`thaw`](Self::thaw) it soon, and whatever happens.
    ///
    /// # Errors
    /// As [`call`](Self::call). Where it is not known that they are not frozen, a thaw was sent as well, so that a freeze
    /// that comes late ends at once; thaw all the same, to know that it did.
    pub fn freeze(&mut self, limit: Duration) -> Result<u64, Error> {
        self.sync()?;
        let count = match self.answer(FREEZE, &Value::Null, limit) {
            Ok(Err(refusal)) => return Err(refused(FREEZE, refusal)),
            Ok(Ok(count)) => self.number(FREEZE, &count),
            Err(error) => Err(error),
        };
        if count.is_err() {
            let mut by = Deadline::after(self.limits.greeting);
            // What goes wrong here is less than what is told already.
            let _ = self.wire.send(&command(THAW, &Value::Null, None), &mut by);
            self.in_step = false;
        }
        count
    }

    /// Thaws the guest's file systems, and says how many; 0 where none is frozen. It is sent even to an agent that does not
    /// answer, which does it when it gets to it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn thaw(&mut self) -> Result<u64, Error> {
        let limit = self.limits.answer;
        let mut by = Deadline::after(limit);
        let id = (!self.in_step).then(fresh_id);
        let mut lines = id.map(sync_line).unwrap_or_default();
        lines.extend(command(THAW, &Value::Null, None));
        self.in_step = false;
        self.send(&lines, &mut by, limit, THAW)?;
        if let Some(id) = id {
            self.synced(id, &mut by, limit)?;
        }
        let answer = self.next_answer(&mut by, limit, THAW)?;
        self.in_step = true;
        let count = answer.map_err(|refusal| refused(THAW, refusal))?;
        self.number(THAW, &count)
    }

    /// Whether the guest's file systems are frozen.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn frozen(&mut self) -> Result<bool, Error> {
        match self.call("guest-fsfreeze-status", Value::Null)?.as_str() {
            Some("frozen") => Ok(true),
            Some("thawed") => Ok(false),
            _ => Err(self.garbage("a state of the file systems that is neither frozen nor thawed".into())),
        }
    }

    /// Asks the guest to shut down and power off. That it does so is seen by QEMU's end, or by its event `SHUTDOWN`: the
    /// agent answers nothing, and may be gone at once.
    ///
    /// # Errors
    /// As [`call`](Self::call), before the guest was asked; afterwards, only [`Refused`](Error::Refused).
    pub fn shut_down(&mut self) -> Result<(), Error> {
        let name = "guest-shutdown";
        self.sync()?;
        let limit = self.limits.answer;
        let mut by = Deadline::after(limit);
        // The answer to what is asked next tells that none comes to the first. No delimiter before it, which would draw an
        // error of its own.
        let id = fresh_id();
        let mut lines = command(name, &json!({"mode": "powerdown"}), None);
        lines.extend(command(SYNC, &json!({"id": id}), None));
        self.in_step = false;
        self.send(&lines, &mut by, limit, name)?;
        loop {
            let Ok(line) = self.wire.line(&mut by) else { return Ok(()) };
            match after_delimiter(&line) {
                Some(line) => {
                    if answers_sync(line, id) {
                        self.in_step = true;
                        return Ok(());
                    }
                }
                None => {
                    if let Ok(Message::Answer { outcome: Err(refusal), .. }) = Message::parse(&line) {
                        return Err(refused(name, refusal));
                    }
                }
            }
        }
    }

    /// The agent's version, and the commands that it takes.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn info(&mut self) -> Result<AgentInfo, Error> {
        let info = self.call("guest-info", Value::Null)?;
        guest::info(&info).ok_or_else(|| self.garbage("no version or no commands of its own".into()))
    }

    /// The guest's network interfaces, with their addresses.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn addresses(&mut self) -> Result<Vec<Interface>, Error> {
        let interfaces = self.call("guest-network-get-interfaces", Value::Null)?;
        guest::interfaces(&interfaces).ok_or_else(|| self.garbage("no list of interfaces".into()))
    }

    /// The guest's system; nothing where its agent cannot tell.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn os(&mut self) -> Result<Option<GuestOs>, Error> {
        let name = "guest-get-osinfo";
        self.sync()?;
        let answer = self.answer(name, &Value::Null, self.limits.answer)?;
        guest::os(answer).map_err(|refusal| refused(name, refusal))
    }

    /// The connection, so that another process may be given it: [`BorrowedFd::try_clone_to_owned`] makes a copy that holds
    /// it open. Two that read it take each other's lines.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    /// Both sides in step, within [`Limits::greeting`].
    fn sync(&mut self) -> Result<(), Error> {
        if self.in_step {
            return Ok(());
        }
        let (id, span) = (fresh_id(), self.limits.greeting);
        let mut by = Deadline::after(span);
        match self.wire.send(&sync_line(id), &mut by) {
            Err(stop) => Err(self.told(stop, span, || "ear of a guest agent".into(), NOBODY)),
            Ok(()) => self.synced(id, &mut by, span),
        }
    }

    /// Throws away what comes before the answer to this id.
    fn synced(&mut self, id: u64, by: &mut Deadline, span: Duration) -> Result<(), Error> {
        let mut unknown = None;
        loop {
            let line = match self.wire.line(by) {
                Ok(line) => line,
                Err(Stop::TooLong) => {
                    self.wire.forget();
                    continue;
                }
                Err(Stop::Late) if unknown.is_some() => {
                    return Err(refused(SYNC, unknown.expect("looked at just now")));
                }
                Err(stop) => return Err(self.told(stop, span, || "sign of a guest agent".into(), NOBODY)),
            };
            if let Some(line) = after_delimiter(&line) {
                if answers_sync(line, id) {
                    self.in_step = true;
                    return Ok(());
                }
                continue;
            }
            match Message::parse(&line) {
                Ok(Message::Greeting(_)) => {
                    return Err(Error::Stranger {
                        socket: self.wire.path.clone(),
                        wanted: "a guest agent",
                        said: excerpt(&String::from_utf8_lossy(&line), 60),
                    });
                }
                Ok(Message::Answer { outcome: Err(refusal), .. }) if refusal.is_unknown_command() => {
                    unknown = Some(refusal);
                }
                _ => {}
            }
        }
    }

    /// The answer to a command of one who is in step.
    fn answer(
        &mut self,
        name: &str,
        arguments: &Value,
        limit: Duration,
    ) -> Result<Result<Value, Refusal>, Error> {
        let mut by = Deadline::after(limit);
        self.in_step = false;
        self.send(&command(name, arguments, None), &mut by, limit, name)?;
        let answer = self.next_answer(&mut by, limit, name)?;
        self.in_step = true;
        Ok(answer)
    }

    fn send(&mut self, lines: &[u8], by: &mut Deadline, span: Duration, name: &str) -> Result<(), Error> {
        self.wire.send(lines, by).map_err(|stop| self.told(stop, span, || format!("ear for {name}"), LOOK))
    }

    fn next_answer(
        &mut self,
        by: &mut Deadline,
        span: Duration,
        name: &str,
    ) -> Result<Result<Value, Refusal>, Error> {
        loop {
            let line = self.wire.line(by);
            let line = line.map_err(|stop| self.told(stop, span, || format!("answer to {name}"), LOOK))?;
            match Message::parse(&line) {
                Ok(Message::Answer { outcome, .. }) => return Ok(outcome),
                Ok(_) => {}
                Err(what) => return Err(self.garbage(what)),
            }
        }
    }

    fn number(&self, name: &str, answer: &Value) -> Result<u64, Error> {
        answer.as_u64().ok_or_else(|| self.garbage(format!("what is no number to {name}")))
    }

    fn garbage(&self, what: String) -> Error {
        Error::Garbage { socket: self.wire.path.clone(), what }
    }

    fn told(&self, stop: Stop, span: Duration, what: impl FnOnce() -> String, remedy: &'static str) -> Error {
        let socket = self.wire.path.clone();
        match stop {
            Stop::Late => Error::Silent { socket, what: what(), span, remedy },
            Stop::Closed => Error::Broken { socket, source: closed() },
            Stop::Failed(source) => Error::Broken { socket, source },
            Stop::TooLong => self.garbage(too_long(&self.limits)),
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("socket", &self.wire.path).finish_non_exhaustive()
    }
}

fn sync_line(id: u64) -> Vec<u8> {
    let mut line = vec![DELIMITER];
    line.extend(command(SYNC, &json!({"id": id}), None));
    line
}

/// What stands after the last delimiter of a line; before it is the rest of an older line.
fn after_delimiter(line: &[u8]) -> Option<&[u8]> {
    line.iter().rposition(|b| *b == DELIMITER).map(|at| &line[at + 1..])
}

fn answers_sync(line: &[u8], id: u64) -> bool {
    matches!(Message::parse(line), Ok(Message::Answer { outcome: Ok(answer), .. }) if answer.as_u64() == Some(id))
}

fn refused(command: &str, refusal: Refusal) -> Error {
    Error::Refused { command: command.into(), refusal }
}

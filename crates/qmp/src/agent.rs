//! A client of the QEMU guest agent.

use crate::deadline::Deadline;
use crate::error::{Error, Refusal};
use crate::limits::Limits;
use crate::message::{self, Message, fresh_id, readable};
use crate::wire::{Stop, Wire};
use serde_json::{Value, json};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

const SYNC: &str = "guest-sync-delimited";
const FREEZE: &str = "guest-fsfreeze-freeze";
const THAW: &str = "guest-fsfreeze-thaw";
const SHUTDOWN: &str = "guest-shutdown";
/// In no JSON and in no text: it throws away what the other side holds of a line.
const DELIMITER: u8 = 0xff;

const SIGN: &str = "sign of a guest agent";
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
    next_id: u64,
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
        let mut by = Deadline::after(limits.greeting);
        match Wire::connect(socket, &limits, &mut by) {
            Ok(wire) => Self::greeted(wire, limits, &mut by, fresh_id()),
            Err(Some(error)) => Err(error),
            Err(None) => {
                let (socket, what, span) = (socket.into(), SIGN.into(), limits.greeting);
                Err(Error::Silent { socket, what, span, remedy: NOBODY })
            }
        }
    }

    pub(crate) fn greeted(
        wire: Wire,
        limits: Limits,
        by: &mut Deadline,
        next_id: u64,
    ) -> Result<Self, Error> {
        let mut agent = Self { wire, limits, next_id, in_step: false };
        agent.sync(by)?;
        Ok(agent)
    }

    /// The answer to one command, within [`Limits::answer`]. Arguments are an object, or `Null` for none.
    ///
    /// # Errors
    /// [`Refused`](Error::Refused) with the agent's answer, and those of the [connection](Agent).
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        readable(command, &arguments)?;
        self.ask(command, &arguments, self.limits.answer)?.map_err(|refusal| refused(command, refusal))
    }

    /// Freezes the guest's file systems, and says how many. From then on the guest writes nothing, and what it does comes to
    /// a halt: [`thaw`](Self::thaw) it soon, and whatever happens.
    ///
    /// # Errors
    /// As [`call`](Self::call); a guest that is frozen already refuses. Where a freeze may be under way, a thaw was sent after it, so that it ends at once when it
    /// comes late; thaw all the same, to know that it did.
    pub fn freeze(&mut self, limit: Duration) -> Result<u64, Error> {
        self.in_step()?;
        let frozen = match self.ask(FREEZE, &Value::Null, limit) {
            Ok(Err(refusal)) => return Err(refused(FREEZE, refusal)),
            Ok(Ok(count)) => self.number(FREEZE, &count),
            Err(error) => Err(error),
        };
        if frozen.is_err() {
            self.in_step = false;
            // A part of the freeze may have been sent, which the delimiter throws away.
            let lines = [&[DELIMITER], &*message::command(THAW, &Value::Null, None)].concat();
            // A failure is less than what is told already.
            let _ = self.wire.send(&lines, &mut Deadline::after(self.limits.greeting));
        }
        frozen
    }

    /// Thaws the guest's file systems, and says how many; 0 where none is frozen. It is sent even to an agent that does not
    /// answer, which does it when it gets to it.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub fn thaw(&mut self) -> Result<u64, Error> {
        let limit = self.limits.answer;
        let mut by = Deadline::after(limit);
        let id = (!self.in_step).then(|| self.fresh_id());
        let mut lines = id.map(sync_line).unwrap_or_default();
        lines.extend(message::command(THAW, &Value::Null, None));
        self.in_step = false;
        self.send(THAW, &lines, &mut by, limit)?;
        if let Some(id) = id {
            self.synced(id, &mut by, limit)?;
        }
        let count = self.answer(THAW, &mut by, limit)?.map_err(|refusal| refused(THAW, refusal))?;
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
            _ => {
                Err(self.wire.garbage("a state of the file systems that is neither frozen nor thawed".into()))
            }
        }
    }

    /// Asks the guest to shut down and power off. That it does so is seen by QEMU's end, or by its event `SHUTDOWN`: the
    /// agent answers nothing, and may be gone at once.
    ///
    /// # Errors
    /// As [`call`](Self::call), before the guest was asked; afterwards, [`Refused`](Error::Refused) alone.
    pub fn shut_down(&mut self) -> Result<(), Error> {
        self.in_step()?;
        let limit = self.limits.answer;
        let mut by = Deadline::after(limit);
        // The answer to the second command tells that none comes to the first. No delimiter before it: that would draw an
        // error of its own.
        let id = self.fresh_id();
        let mut lines = message::command(SHUTDOWN, &json!({"mode": "powerdown"}), None);
        lines.extend(message::command(SYNC, &json!({"id": id}), None));
        self.in_step = false;
        self.send(SHUTDOWN, &lines, &mut by, limit)?;
        while let Ok(line) = self.wire.line(&mut by) {
            if answers_sync(&line, id) {
                self.in_step = true;
                break;
            }
            if let Ok(Message::Answer { outcome: Err(refusal), .. }) = Message::parse(&line) {
                return Err(refused(SHUTDOWN, refusal));
            }
        }
        Ok(())
    }

    /// The connection, so that another process may be given it: [`BorrowedFd::try_clone_to_owned`] makes a copy that holds
    /// it open. Two that read it take each other's lines.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    /// The outcome of a command.
    fn ask(
        &mut self,
        name: &str,
        arguments: &Value,
        limit: Duration,
    ) -> Result<Result<Value, Refusal>, Error> {
        self.in_step()?;
        let mut by = Deadline::after(limit);
        self.in_step = false;
        self.send(name, &message::command(name, arguments, None), &mut by, limit)?;
        self.answer(name, &mut by, limit)
    }

    fn send(&mut self, name: &str, lines: &[u8], by: &mut Deadline, span: Duration) -> Result<(), Error> {
        let sent = self.wire.send(lines, by);
        sent.map_err(|stop| self.wire.told(stop, &format!("ear for {name}"), span, LOOK))
    }

    /// The next answer, with which both sides are in step.
    fn answer(
        &mut self,
        name: &str,
        by: &mut Deadline,
        span: Duration,
    ) -> Result<Result<Value, Refusal>, Error> {
        loop {
            let line = self.wire.line(by);
            let line = line.map_err(|stop| self.wire.told(stop, &format!("answer to {name}"), span, LOOK))?;
            match Message::parse(&line) {
                Ok(Message::Answer { outcome, .. }) => {
                    self.in_step = true;
                    return Ok(outcome);
                }
                Ok(_) => {}
                Err(what) => return Err(self.wire.garbage(what)),
            }
        }
    }

    /// Brings both sides in step where they are not, within [`Limits::greeting`].
    fn in_step(&mut self) -> Result<(), Error> {
        if self.in_step { Ok(()) } else { self.sync(&mut Deadline::after(self.limits.greeting)) }
    }

    fn sync(&mut self, by: &mut Deadline) -> Result<(), Error> {
        let (id, span) = (self.fresh_id(), self.limits.greeting);
        let sent = self.wire.send(&sync_line(id), by);
        sent.map_err(|stop| self.wire.told(stop, SIGN, span, NOBODY))?;
        self.synced(id, by, span)
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
                Err(stop) => {
                    return Err(match (stop, unknown) {
                        (Stop::Late, Some(refusal)) => refused(SYNC, refusal),
                        (stop, _) => self.wire.told(stop, SIGN, span, NOBODY),
                    });
                }
            };
            if answers_sync(&line, id) {
                self.in_step = true;
                return Ok(());
            }
            match Message::parse(&line) {
                Ok(Message::Greeting(_)) => return Err(self.wire.stranger("a guest agent", &line)),
                Ok(Message::Answer { outcome: Err(refusal), .. }) if refusal.is_unknown_command() => {
                    unknown = Some(refusal);
                }
                _ => {}
            }
        }
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn number(&self, name: &str, answer: &Value) -> Result<u64, Error> {
        answer.as_u64().ok_or_else(|| self.wire.garbage(format!("what is no number to {name}")))
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("socket", &self.wire.path).finish_non_exhaustive()
    }
}

fn sync_line(id: u64) -> Vec<u8> {
    let mut line = vec![DELIMITER];
    line.extend(message::command(SYNC, &json!({"id": id}), None));
    line
}

/// Whether a line ends with the answer to this id, after a delimiter. Before that may be the rest of an older line.
fn answers_sync(line: &[u8], id: u64) -> bool {
    let Some(at) = line.iter().rposition(|b| *b == DELIMITER) else { return false };
    match Message::parse(&line[at + 1..]) {
        Ok(Message::Answer { outcome: Ok(answer), .. }) => answer.as_u64() == Some(id),
        _ => false,
    }
}

fn refused(command: &str, refusal: Refusal) -> Error {
    Error::Refused { command: command.into(), refusal }
}

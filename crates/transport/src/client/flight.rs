//! What is asked and not answered: it outlives connections, and is sent again on the next one.

use super::ask::{Answer, Ask, Room};
use crate::fault::{Fault, Result};
use crate::frame::{Kind, json};
use crate::message::{Call, LONGEST_WORD, Opened};
use crate::told::Told;
use bytes::Bytes;
use site_recovery::{Error, ErrorKind};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

/// How often one request is sent before its caller is told that it does not come through.
const MOST_SENDS: u32 = 16;

/// What is asked of the far side, in the order in which it was asked.
#[derive(Debug, Default)]
pub(super) struct Flight {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    /// Points that are opened again come before everything else, since reads follow that need them.
    waiting: BTreeMap<(Rank, u64), Job>,
    sent: BTreeMap<u64, Job>,
    /// Bytes of what is sent.
    taken: u64,
    /// Said once, and moot on the next connection.
    asides: VecDeque<(Kind, u64)>,
    /// What is open, to be opened again on the next connection.
    opened: BTreeMap<u64, Call>,
    last_handle: u64,
    /// Counts answers.
    answered: u64,
    is_driven: bool,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// By handle.
    Reopening(u64),
    Asked,
}

#[derive(Debug)]
struct Job {
    rank: Rank,
    ask: Ask,
    answer: oneshot::Sender<Result<Answer>>,
    /// What came of the answer on this connection.
    parts: Vec<Vec<u8>>,
    sends: u32,
    given_up: bool,
}

/// What is to be done on a connection.
pub(super) enum Next {
    Send {
        kind: Kind,
        id: u64,
        parts: Vec<Bytes>,
    },
    Nothing,
    /// Nobody is left who asks.
    Closed,
}

/// What a peer grants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) credit: u32,
    pub(super) requests: u32,
}

impl Flight {
    /// Takes a request on. True where somebody has to be started who sends it.
    pub(super) fn board(&self, ask: Ask) -> (u64, oneshot::Receiver<Result<Answer>>, bool) {
        let (answer, answered) = oneshot::channel();
        let mut state = self.lock();
        let id = state.board(Rank::Asked, ask, answer);
        let start = !std::mem::replace(&mut state.is_driven, true);
        self.changed.notify_one();
        (id, answered, start)
    }

    pub(super) fn driven(&self) {
        self.lock().is_driven = true;
    }

    /// Nobody waits for this any more.
    pub(super) fn give_up(&self, id: u64) {
        let mut state = self.lock();
        if state.waiting.remove(&(Rank::Asked, id)).is_none()
            && let Some(job) = state.sent.get_mut(&id)
        {
            job.given_up = true;
            state.asides.push_back((Kind::Cancel, id));
        }
        self.changed.notify_one();
    }

    pub(super) fn new_handle(&self) -> u64 {
        let mut state = self.lock();
        state.last_handle += 1;
        state.last_handle
    }

    /// Lets an opened point go.
    pub(super) fn close_handle(&self, handle: u64) {
        let mut state = self.lock();
        state.opened.remove(&handle);
        state.waiting.retain(|(rank, _), _| *rank != Rank::Reopening(handle));
        state.asides.push_back((Kind::Close, handle));
        self.changed.notify_one();
    }

    /// Ends it: nobody is left who could ask.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Ends when there may be something new.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// A new connection is there: what is open is opened again first.
    pub(super) fn connected(&self) {
        let mut state = self.lock();
        state.asides.clear();
        let calls: Vec<(u64, Ask)> =
            state.opened.iter().map(|(handle, call)| (*handle, Ask::call(call))).collect();
        for (handle, ask) in calls {
            let (nobody, _) = oneshot::channel();
            state.board(Rank::Reopening(handle), ask, nobody);
        }
    }

    /// What goes out next, as far as the peer grants it.
    pub(super) fn next(&self, grant: Grant) -> Next {
        let mut state = self.lock();
        if let Some((kind, id)) = state.asides.pop_front() {
            return Next::Send { kind, id, parts: vec![] };
        }
        while let Some(entry) = state.waiting.first_entry() {
            let len = entry.get().ask.len();
            if len > grant.credit.into() {
                let job = entry.remove();
                let _ = job.answer.send(Err(job.ask.too_long(grant.credit)));
                continue;
            }
            if state.taken + len > grant.credit.into() || state.sent.len() >= grant.requests as usize {
                return Next::Nothing;
            }
            let ((_, id), mut job) = state.waiting.pop_first().expect("seen above");
            job.sends += 1;
            state.taken += len;
            let (kind, parts) = (job.ask.kind, job.ask.parts.clone());
            state.sent.insert(id, job);
            return Next::Send { kind, id, parts };
        }
        if state.is_closed { Next::Closed } else { Next::Nothing }
    }

    /// Where the answer to `id` goes.
    pub(super) fn landing(&self, id: u64) -> Result<Landing<'_>, Fault> {
        let mut state = self.lock();
        let job = state.sent.get_mut(&id);
        let job = job.ok_or_else(|| Fault::Protocol(format!("an answer to {id}, which was not asked")))?;
        Ok(Landing { flight: self, id, room: job.ask.into.take() })
    }

    fn conclude(&self, id: u64, outcome: Result<Answer>) {
        let mut state = self.lock();
        let Some(job) = state.sent.remove(&id) else { return };
        state.taken -= job.ask.len();
        state.answered += 1;
        self.changed.notify_one();
        if let Some((handle, what)) = job.ask.opens
            && !job.given_up
            && let Ok(Answer::Parts(body)) = &outcome
            && let [body] = &body[..]
            && let Ok(Opened { cut, .. }) = json("an opened point", body)
        {
            state.opened.insert(handle, Call::Open { handle, what, cut });
        }
        if !job.given_up {
            let _ = job.answer.send(outcome);
        }
    }

    /// How many answers there were.
    pub(super) fn answered(&self) -> u64 {
        self.lock().answered
    }

    /// The connection broke: what was in flight waits for the next one. How much that is.
    pub(super) fn lost(&self, fault: &Fault) -> usize {
        let mut state = self.lock();
        state.taken = 0;
        let mut unanswered = 0;
        for (id, mut job) in std::mem::take(&mut state.sent) {
            job.parts.clear();
            if job.given_up || job.rank != Rank::Asked {
                continue;
            }
            unanswered += 1;
            if job.sends < MOST_SENDS {
                state.waiting.insert((job.rank, id), job);
            } else {
                let _ = job.answer.send(Err(fault.told().with("attempts", job.sends)));
            }
        }
        state.waiting.retain(|(rank, _), _| *rank == Rank::Asked);
        unanswered
    }

    /// Ends all that waits.
    pub(super) fn fail(&self, fault: &Fault) {
        let waiting = {
            let mut state = self.lock();
            state.asides.clear();
            std::mem::take(&mut state.waiting)
        };
        for job in waiting.into_values() {
            let _ = job.answer.send(Err(fault.told()));
        }
    }

    /// Whether nobody needs a connection; then whoever drives this stops, and the next request starts another one. Points
    /// that are open are a need where `hold` is set.
    pub(super) fn rest(&self, hold: bool) -> bool {
        let mut state = self.lock();
        let rest = state.is_closed || state.waiting.is_empty() && (state.opened.is_empty() || !hold);
        state.is_driven = !rest;
        rest
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl State {
    fn board(&mut self, rank: Rank, ask: Ask, answer: oneshot::Sender<Result<Answer>>) -> u64 {
        self.last += 1;
        let job = Job { rank, ask, answer, parts: vec![], sends: 0, given_up: false };
        self.waiting.insert((rank, self.last), job);
        self.last
    }
}

/// An answer that comes in. Where it breaks off, the room goes back to its request.
pub(super) struct Landing<'a> {
    flight: &'a Flight,
    id: u64,
    room: Option<Room>,
}

impl Landing<'_> {
    /// Where the body goes, if it has its place already.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        self.room.as_mut().map(|r| &mut r.block[r.at..r.at + r.len])
    }

    pub(super) fn filled(mut self) {
        if let Some(room) = self.room.take() {
            self.flight.conclude(self.id, Ok(Answer::Room(room)));
        }
    }

    /// How long the next part may be.
    pub(super) fn left_of(&self, longest: u32) -> u32 {
        let state = self.flight.lock();
        let so_far = state.sent.get(&self.id).map_or(0, |job| job.parts.iter().map(Vec::len).sum());
        u32::try_from(so_far).map_or(0, |so_far| longest.saturating_sub(so_far))
    }

    pub(super) fn part(self, part: Vec<u8>) {
        if let Some(job) = self.flight.lock().sent.get_mut(&self.id) {
            job.parts.push(part);
        }
    }

    pub(super) fn last(self, part: Vec<u8>) {
        let job = self.flight.lock().sent.get_mut(&self.id).map(|job| std::mem::take(&mut job.parts));
        let mut parts = job.unwrap_or_default();
        parts.push(part);
        self.flight.conclude(self.id, Ok(Answer::Parts(parts)));
    }

    pub(super) fn failed(mut self, told: Told) {
        self.room = None;
        self.flight.conclude(self.id, Err(told.into()));
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.room.take()
            && let Some(job) = self.flight.lock().sent.get_mut(&self.id)
        {
            job.ask.into = Some(room);
        }
    }
}

/// What a peer said in an error frame.
pub(super) fn told(body: &[u8]) -> Result<Told, Fault> {
    Ok(json("an error", body)?)
}

const _: () = assert!(LONGEST_WORD > 4096, "an error fits");

/// The error of a link whose driver is gone.
pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the task that drives the connection is gone")
}

#[cfg(test)]
mod tests;

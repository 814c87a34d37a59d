//! Who may hold how much of the pool.
//!
//! First come, first served, but for this: what a machine holds may never exceed what stays free for the others. So
//! one that never lets go of its room (its replica hangs) leaves half, a second one a quarter, and so on. A machine that
//! holds nothing gets its first room as soon as it is there.

use site_recovery::MachineId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::oneshot;

/// All the room there is.
#[derive(Debug)]
pub(crate) struct Rooms {
    size: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: u64,
    held: BTreeMap<MachineId, u64>,
    waiting: VecDeque<Wish>,
}

#[derive(Debug)]
struct Wish {
    machine: MachineId,
    bytes: u64,
    give: oneshot::Sender<Room>,
}

/// Part of it, given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    rooms: Arc<Rooms>,
    machine: MachineId,
    bytes: u64,
}

enum Answer {
    Now,
    /// Its machine's own bytes must land first.
    Later,
    /// Nobody behind it gets any before it.
    Next,
}

impl Rooms {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        let state = State { free: bytes, held: BTreeMap::new(), waiting: VecDeque::new() };
        Arc::new(Self { size: bytes, state: Mutex::new(state) })
    }

    /// Waits for room for `bytes`, or for all there is.
    ///
    /// # Cancel safety
    /// Dropping the future takes nothing.
    pub(crate) async fn take(self: &Arc<Self>, machine: &MachineId, bytes: u64) -> Room {
        self.ask(machine, bytes.min(self.size)).await.expect("who waits keeps the rooms alive")
    }

    fn ask(self: &Arc<Self>, machine: &MachineId, bytes: u64) -> oneshot::Receiver<Room> {
        let (give, given) = oneshot::channel();
        let mut state = self.state();
        state.waiting.push_back(Wish { machine: machine.clone(), bytes, give });
        let unwanted = self.serve(&mut state);
        drop(state);
        drop(unwanted);
        given
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Gives what can be given; returns what nobody waits for any more, to be dropped without the lock.
    fn serve(self: &Arc<Self>, state: &mut State) -> Vec<Room> {
        let (mut at, mut unwanted, mut passed_over) = (0, vec![], vec![]);
        while let Some(wish) = state.waiting.get(at) {
            let answer = match wish {
                wish if wish.give.is_closed() => {
                    state.waiting.remove(at);
                    continue;
                }
                wish if passed_over.contains(&wish.machine) => Answer::Later,
                wish => state.answer(wish),
            };
            match answer {
                Answer::Now => {
                    let Wish { machine, bytes, give } = state.waiting.remove(at).expect("it was looked at");
                    state.free -= bytes;
                    *state.held.entry(machine.clone()).or_default() += bytes;
                    unwanted.extend(give.send(Room { rooms: Arc::clone(self), machine, bytes }).err());
                }
                Answer::Later => {
                    passed_over.push(wish.machine.clone());
                    at += 1;
                }
                Answer::Next => break,
            }
        }
        unwanted
    }

    fn give_back(self: &Arc<Self>, machine: &MachineId, bytes: u64) {
        let mut state = self.state();
        state.free += bytes;
        if let Some(held) = state.held.get_mut(machine) {
            *held -= bytes;
            if *held == 0 {
                state.held.remove(machine);
            }
        }
        let unwanted = self.serve(&mut state);
        drop(state);
        drop(unwanted);
    }
}

impl State {
    fn answer(&self, wish: &Wish) -> Answer {
        match self.held.get(&wish.machine) {
            None if wish.bytes <= self.free => Answer::Now,
            None => Answer::Next,
            Some(held) if held + 2 * wish.bytes <= self.free => Answer::Now,
            Some(_) => Answer::Later,
        }
    }
}

impl Room {
    /// Gives all back but `bytes`.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        let rest = self.bytes.saturating_sub(bytes);
        self.bytes -= rest;
        if rest > 0 {
            self.rooms.give_back(&self.machine, rest);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.rooms.give_back(&self.machine, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn free(rooms: &Arc<Rooms>) -> u64 {
        rooms.state().free
    }

    #[tokio::test]
    async fn nobody_holds_more_than_stays_free() {
        let rooms = Rooms::new(64);
        let take = async |machine: &str| {
            let mut held = vec![];
            while let Some(room) = rooms.take(&machine.into(), 1).now_or_never() {
                held.push(room);
            }
            held
        };
        let (a, b, c) = (take("a").await, take("b").await, take("c").await);
        assert_eq!([a.len(), b.len(), c.len(), free(&rooms) as usize], [32, 16, 8, 8]);
        drop((a, b, c));
        assert_eq!(free(&rooms), 64);
        assert!(rooms.state().held.is_empty() && rooms.state().waiting.is_empty());
    }

    #[tokio::test]
    async fn who_waits_longest_is_next_and_a_dropped_wish_takes_nothing() {
        let (rooms, [a, b, c]) = (Rooms::new(10), ["a", "b", "c"].map(MachineId::from));
        let mut first = rooms.take(&a, 100).now_or_never().expect("all there is");
        let mut big = Box::pin(rooms.take(&b, 8));
        let mut small = Box::pin(rooms.take(&c, 1));
        assert!((&mut big).now_or_never().is_none() && (&mut small).now_or_never().is_none());
        first.shrink(4);
        assert!((&mut small).now_or_never().is_none(), "it does not overtake");
        drop(big);
        first.shrink(3);
        let small = small.now_or_never().expect("nobody is before it");
        drop((first, small));
        assert_eq!(free(&rooms), 10);
    }
}

//! Who may write where: runs that overlap are written one after the other, in the order in which they came.
//!
//! A server answers out of order and on several connections, and a request goes on when nobody waits for it any more. What
//! was given up could reach the disk after what was written later, and two writes into one block could each put back what
//! the other has changed.

use site_recovery::Run;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Turns(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    waiting: Mutex<Waiting>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// By number.
    runs: Vec<(u64, Run)>,
}

/// A place in the line, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    line: Arc<Line>,
    number: u64,
}

impl Turns {
    /// Waits until everybody is through who came earlier and writes to a part of `run`.
    pub(crate) async fn wait(&self, run: Run) -> Turn {
        let turn = self.line_up(run);
        loop {
            let moved = self.0.moved.notified();
            if turn.has_come(run) {
                return turn;
            }
            moved.await;
        }
    }

    fn line_up(&self, run: Run) -> Turn {
        let mut waiting = self.0.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.runs.push((number, run));
        Turn { line: Arc::clone(&self.0), number }
    }
}

impl Turn {
    fn has_come(&self, run: Run) -> bool {
        let waiting = self.line.lock();
        let mut earlier = waiting.runs.iter().take_while(|(number, _)| *number < self.number);
        earlier.all(|(_, other)| other.intersection(run).is_none())
    }
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no panic under this lock")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.lock().runs.retain(|(number, _)| *number != self.number);
        self.line.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[test]
    fn who_overlaps_waits_in_order_and_others_do_not() {
        let turns = Turns::default();
        let first = turns.wait(Run::new(0, 100)).now_or_never().expect("nobody is there");
        let mut second = pin!(turns.wait(Run::new(50, 100)));
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = pin!(turns.wait(Run::new(120, 1)));
        assert!(third.as_mut().now_or_never().is_none(), "it came after the second");
        turns.wait(Run::new(150, 10)).now_or_never().expect("it touches nobody");
        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        let second = second.now_or_never().expect("the first is through");
        drop(second);
        third.now_or_never().expect("the second is through");
    }

    #[test]
    fn who_gives_up_waiting_lets_others_pass() {
        let turns = Turns::default();
        let first = turns.wait(Run::new(0, 10)).now_or_never().expect("nobody is there");
        let mut second = Box::pin(turns.wait(Run::new(0, 30)));
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = pin!(turns.wait(Run::new(20, 10)));
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        third.now_or_never().expect("the second is gone");
        drop(first);
        assert!(turns.0.lock().runs.is_empty());
    }
}

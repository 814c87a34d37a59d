//! One engine per journal. Whoever works holds the lock, and does for others what they ask over the control socket.
//!
//! ```text
//!  verb ── lock is free ──> holds it, opens the engine, listens at control.sock, does the verb, ends
//!    └──── lock is held ──> control.sock: one line asks, lines tell, one line ends
//! ```
//!
//! Lines are JSON. To the holder: `{"ask": …}`, then perhaps `"stop"`. From it: `{"accepted": {"pid": …}}`, any number of
//! `{"told": …}`, and one `{"answer": …}` or `{"failed": …}`.

mod ask;
mod lock;
mod serve;

pub(crate) use ask::{Asked, ask};
pub(crate) use lock::Lock;
pub(crate) use serve::Desk;

use crate::answer::{Answer, Failed, Told};
use crate::execute::Request;
use serde::{Deserialize, Serialize};

/// The most bytes of a line that asks.
const LONGEST: u64 = 1 << 20;

/// From who asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Ask(Box<Request>),
    Stop,
}

/// From the holder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Heard {
    Accepted { pid: u32 },
    Told(Told),
    Answer(Box<Answer>),
    Failed(Failed),
}

fn line(of: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(of).expect("it is plain data");
    line.push(b'\n');
    line
}

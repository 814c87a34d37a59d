//! Which blocks of a server's disks changed between two instants.
//!
//! One table of hashes stands for each disk, one hash per 64 KiB, as of the newest cut that was scanned. A scan reads the
//! captured disk, compares, and keeps a map of the blocks that differ: what changed between two cuts is the union of the
//! maps between them. It rests on nothing but the bytes.
//!
//! What has to be read is told by the *means* of a disk:
//!
//! | means | a scan reads | survives a restart | needs |
//! |---|---|---|---|
//! | hashes | every block that is not a hole | yes | nothing |
//! | [`trace`] | blocks that were written since the cut before | no: the next scan reads every block | tracefs |
//! | [`era`] | blocks that were written since the cut before | of the agent, not of the server | dm-era below the file system |
//!
//! A means that has lost events, or begun anew, says so, and every block is read: it can make a scan longer, never a set
//! smaller. A cursor of another line, or one whose cut is no longer kept, is lost.

pub(crate) mod blocks;
mod cuts;
pub mod era;
mod line;
mod pace;
mod renew;
mod scan;
mod table;
pub mod trace;

pub use blocks::Blocks;
pub use cuts::Tracking;
pub use line::Tracked;
pub use pace::Pace;
pub use scan::Hint;

use line::FORMAT;
use serde::{Deserialize, Serialize};
use site_recovery::{Cursor, DiskId, Generation};
use std::fmt::Debug;

/// Says what may have been written to one disk.
pub trait Means: Debug + Send {
    /// As in `trace`.
    fn name(&self) -> &'static str;

    /// Bytes of the disk when it began.
    fn size(&self) -> u64;

    /// Ends the time since the call before and says what may have been written in it. Called at the instant, while file
    /// systems may be frozen: it writes to none, and is quick. What it does not know it tells as [`Hint::Anything`].
    fn cut(&mut self) -> Written;

    /// What was written since a mark that it gave once, to an agent before this one perhaps. Called after the instant.
    fn since(&mut self, _mark: &str) -> Hint {
        Hint::Anything("it keeps no marks".into())
    }
}

/// What a means says at a cut.
#[derive(Debug, Clone)]
pub enum Written {
    /// This, since the cut before.
    Told(Hint),
    /// It will say what was written [`since`](Means::since) this mark.
    Marked(String),
}

/// Asks a disk's means what was written since a mark.
pub type AskSince<'a> = &'a dyn Fn(&DiskId, &str) -> Hint;

/// A cut of a line: what a cursor's token says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CutRef {
    format: u32,
    line: String,
    cut: u64,
    /// Numbers come twice where the agent's directory is set back to an earlier time; this does not.
    nonce: u64,
}

impl CutRef {
    /// The cursor of this cut.
    pub fn cursor(&self, generation: Generation) -> Cursor {
        Cursor { generation, token: serde_json::to_vec(self).expect("plain data") }
    }

    /// Whether both are of one line; only then their order says which was first.
    pub(crate) fn is_of_line_of(&self, other: &CutRef) -> bool {
        self.line == other.line
    }

    /// The cut of a cursor that is ours.
    pub fn of(cursor: &Cursor) -> Option<Self> {
        serde_json::from_slice(&cursor.token).ok().filter(|c: &Self| c.format == FORMAT)
    }
}

//! Change tracking by dirty bitmaps.
//!
//! A bitmap records from its capture to the next one, and is frozen then. What changed since a cursor is the union of its
//! bitmap and all later ones that are frozen. The next bitmap begins before the instant of its capture, and the one before
//! is frozen after it: bits too many, never too few.

use crate::layer::Layer;
use crate::place::short;
use serde::{Deserialize, Serialize};
use serde_json::json;
use site_recovery::{Cursor, DiskId, Error, Generation, MachineId, OpKey, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The name of a bitmap: `dr-<generation>-<place in the chain>-<capture>`. None is used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) generation: u64,
    pub(crate) place: u64,
    pub(crate) capture: String,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dr-{}-{}-{}", self.generation, self.place, self.capture)
    }
}

impl FromStr for Link {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        let mut parts = name.strip_prefix("dr-").ok_or(())?.splitn(3, '-');
        let mut number = || parts.next().and_then(|p| p.parse().ok()).ok_or(());
        let (generation, place) = (number()?, number()?);
        Ok(Self { generation, place, capture: parts.next().ok_or(())?.to_owned() })
    }
}

/// What a cursor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) machine: MachineId,
    /// Name of the bitmap that every disk has.
    pub(crate) bitmap: String,
    /// Sizes then: a disk that grew is compared.
    pub(crate) sizes: BTreeMap<DiskId, u64>,
}

impl Position {
    pub(crate) fn cursor(&self, generation: Generation) -> Cursor {
        Cursor { generation, token: serde_json::to_vec(self).expect("plain data") }
    }

    pub(crate) fn of(cursor: &Cursor) -> Option<(Self, Link)> {
        let position: Self = serde_json::from_slice(&cursor.token).ok()?;
        let link = position.bitmap.parse().ok()?;
        Some((position, link))
    }
}

/// How a capture is called in the names of its nodes and bitmaps.
pub(crate) fn tag(key: &OpKey, machine: &MachineId) -> String {
    short(&format!("{key}/{machine}"))
}

impl Layer {
    /// Our bitmaps of a node, in the order of the chain.
    pub(crate) fn links(&mut self, node: &str) -> Result<Vec<Link>> {
        let found = self.bitmaps(node)?;
        let mut links: Vec<Link> = found.iter().filter_map(|b| b.name.parse().ok()).collect();
        links.sort_by_key(|l| l.place);
        Ok(links)
    }

    /// The same, each with whether it still records.
    pub(crate) fn chain(&mut self, node: &str) -> Result<Vec<(Link, bool)>> {
        let found = self.bitmaps(node)?.into_iter();
        let ours = found.filter_map(|b| Some((b.name.parse::<Link>().ok()?, b.recording && !b.inconsistent)));
        let mut chain: Vec<_> = ours.collect();
        chain.sort_by_key(|(link, _)| link.place);
        Ok(chain)
    }

    /// Begins a bitmap. One of this name that stands already is left.
    pub(crate) fn begin_bitmap(&mut self, node: &str, link: &Link, persistent: bool) -> Result<()> {
        let name = link.to_string();
        if self.bitmaps(node)?.iter().any(|b| b.name == name) {
            return Ok(());
        }
        let arguments = json!({ "node": node, "name": name, "persistent": persistent });
        self.call("block-dirty-bitmap-add", arguments).map(drop)
    }

    /// Freezes all bitmaps of ours but this one, and returns those that can be read, oldest first.
    pub(crate) fn freeze_older(&mut self, node: &str, but: &Link) -> Result<Vec<String>> {
        let mut older = vec![];
        for bitmap in self.bitmaps(node)? {
            let Ok(link) = bitmap.name.parse::<Link>() else { continue };
            if link == *but || bitmap.inconsistent {
                continue;
            }
            if bitmap.recording {
                self.call("block-dirty-bitmap-disable", json!({ "node": node, "name": bitmap.name }))?;
            }
            older.push(link);
        }
        older.sort_by_key(|l| l.place);
        Ok(older.iter().map(ToString::to_string).collect())
    }

    /// Removes a bitmap, and says whether it is gone. One that another capture's export still offers stays: it goes with the
    /// next point.
    pub(crate) fn drop_bitmap(&mut self, node: &str, name: &str) -> Result<bool> {
        let busy = |e: &Error| e.message().contains("busy") || e.message().contains("in use");
        match self.call("block-dirty-bitmap-remove", json!({ "node": node, "name": name })) {
            Err(e) if busy(&e) => Ok(false),
            done => done.map(|_| true),
        }
    }
}

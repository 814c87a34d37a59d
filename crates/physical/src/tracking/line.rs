//! The line of cuts of one server: which instants can be told apart, and what changed from each to the next.
//!
//! ```text
//! tracking/
//!   line.json              which server and disks it speaks of; a new one begins where that no longer fits
//!   next.json              the number of the next cut; a number never comes twice
//!   <line>/
//!     state.json           up to which cut the tables are, and what each of them sums to
//!     <n>.hashes           the hashes of the n-th disk at that cut
//!     redo.json <n>.redo   pages that are to be written into the tables, while that is under way
//!     cuts/<cut>.json      the cut before it, and what became of it
//!     cuts/<cut>-<n>.map   blocks of the n-th disk that changed since the cut before it
//! ```
//! Every change is written beside the tables first and then into them, so a power cut at any time leaves tables that can
//! be brought to where they belong. What does not fit together is given up as a whole: cursors are then lost, and the next
//! cut begins a new line.

use super::blocks::Blocks;
use super::scan::Hint;
use super::table::{Table, damaged};
use serde::{Deserialize, Serialize};
use site_recovery::{DiskId, Fate, Generation, MachineId, Result};
use site_recovery_register::{Told, durable};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) const FORMAT: u32 = 1;

/// Whose cuts they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) machine: MachineId,
    pub(crate) generation: Generation,
    pub(crate) disks: Vec<Tracked>,
}

/// A disk that is tracked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// As the timeline knows it.
    pub id: DiskId,
    /// As the hardware knows it: another one in its place is another disk.
    pub hardware: String,
    /// Bytes.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) format: u32,
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) about: About,
}

/// `state.json` and `redo.json`: what the tables are, or are to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) cut: u64,
    /// Scans since one that read everything on purpose.
    #[serde(default)]
    pub(crate) partial: u64,
    pub(crate) sums: BTreeMap<DiskId, u64>,
    /// What means said of the cut, to be asked by.
    #[serde(default)]
    pub(crate) marks: BTreeMap<DiskId, String>,
}

/// `cuts/<cut>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    pub(crate) cut: u64,
    pub(crate) nonce: u64,
    /// The cut from which its maps count; none where the line began.
    pub(crate) since: Option<u64>,
    pub(crate) became: Became,
    /// Checksums of the maps.
    pub(crate) maps: BTreeMap<DiskId, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Became {
    /// A capture that lives, or was swept.
    Captured,
    Spooled,
    Sealed,
    Abandoned,
}

impl From<Fate> for Became {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Sealed => Self::Sealed,
            Fate::Spooled => Self::Spooled,
            Fate::Abandoned => Self::Abandoned,
        }
    }
}

/// The files of one line.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    pub(crate) about: About,
}

impl Files {
    pub(crate) fn of(tracking: &Path, line: &Line) -> Self {
        Self { dir: tracking.join(&line.id), about: line.about.clone() }
    }

    fn place(&self, disk: &DiskId) -> usize {
        self.about.disks.iter().position(|d| &d.id == disk).expect("a disk of the line")
    }

    pub(crate) fn state_path(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    pub(crate) fn redo_path(&self) -> PathBuf {
        self.dir.join("redo.json")
    }

    pub(crate) fn table_path(&self, disk: &DiskId) -> PathBuf {
        self.dir.join(format!("{}.hashes", self.place(disk)))
    }

    pub(crate) fn pages_path(&self, disk: &DiskId) -> PathBuf {
        self.dir.join(format!("{}.redo", self.place(disk)))
    }

    fn cut_path(&self, cut: u64) -> PathBuf {
        self.dir.join("cuts").join(format!("{cut}.json"))
    }

    fn map_path(&self, cut: u64, disk: &DiskId) -> PathBuf {
        self.dir.join("cuts").join(format!("{cut}-{}.map", self.place(disk)))
    }

    pub(crate) fn make(&self) -> Result<()> {
        durable::make_dir(&self.dir.join("cuts"))
    }

    pub(crate) fn state(&self) -> Result<Option<State>> {
        durable::read(&self.state_path())
    }

    pub(crate) fn table(&self, disk: &Tracked) -> Result<Table> {
        Table::open(&self.table_path(&disk.id), &disk.id, disk.size)
    }

    pub(crate) fn cut(&self, cut: u64) -> Result<Option<Cut>> {
        durable::read(&self.cut_path(cut))
    }

    /// Writes the maps of a cut, then the cut itself.
    pub(crate) fn set_cut(&self, cut: &Cut, maps: &BTreeMap<DiskId, Blocks>) -> Result<()> {
        for (disk, map) in maps {
            durable::write_bytes(&self.map_path(cut.cut, disk), &map.to_bytes())?;
        }
        durable::write(&self.cut_path(cut.cut), cut)
    }

    /// What a disk's blocks changed in from the cut before.
    pub(crate) fn map(&self, cut: &Cut, disk: &Tracked) -> Result<Blocks> {
        let path = self.map_path(cut.cut, &disk.id);
        let bytes = fs::read(&path).map_err(|e| damaged(&path, "is gone").caused_by(e))?;
        let whole = cut.maps.get(&disk.id) == Some(&xxh3_64(&bytes));
        let map = whole.then(|| Blocks::from_bytes(&bytes, disk.size)).flatten();
        map.ok_or_else(|| damaged(&path, "is damaged"))
    }

    /// All cuts that are kept, oldest first.
    pub(crate) fn cuts(&self) -> Result<Vec<Cut>> {
        let mut all = vec![];
        for path in durable::list(&self.dir.join("cuts"))? {
            if path.extension().is_some_and(|e| e == "json") {
                all.extend(durable::read::<Cut>(&path)?);
            }
        }
        all.sort_by_key(|c| c.cut);
        Ok(all)
    }

    pub(crate) fn remove_cut(&self, cut: u64) -> Result<()> {
        durable::remove_file(&self.cut_path(cut))?;
        for disk in &self.about.disks {
            let path = self.map_path(cut, &disk.id);
            if path.exists() {
                fs::remove_file(&path).told("remove", &path)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn checksums(maps: &BTreeMap<DiskId, Blocks>) -> BTreeMap<DiskId, u64> {
    maps.iter().map(|(disk, map)| (disk.clone(), xxh3_64(&map.to_bytes()))).collect()
}

/// What is known, in memory alone, of what was written since each cut.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    last: Option<u64>,
    pending: Vec<Since>,
    /// What was under way at the last cut, if writers were not held there: it may land after it.
    carried: BTreeMap<DiskId, Hint>,
}

#[derive(Debug)]
struct Since {
    since: Option<u64>,
    cut: u64,
    hints: BTreeMap<DiskId, Hint>,
    marks: BTreeMap<DiskId, String>,
}

/// Cuts whose hints are kept for a scan that is to come.
const MOST_PENDING: usize = 8;

impl Hints {
    /// Notes what was written before this cut. Without `held`, writes may have been under way at it.
    pub(crate) fn note(
        &mut self,
        cut: u64,
        mut hints: BTreeMap<DiskId, Hint>,
        marks: BTreeMap<DiskId, String>,
        held: bool,
    ) {
        for (disk, carried) in std::mem::take(&mut self.carried) {
            if let Some(hint) = hints.remove(&disk) {
                hints.insert(disk, hint.and(&carried));
            }
        }
        if !held {
            self.carried = hints.clone();
        }
        // A mark of a cut at which writes were under way does not speak of them.
        let marks = if held { marks } else { BTreeMap::new() };
        self.pending.push(Since { since: self.last.replace(cut), cut, hints, marks });
        if self.pending.len() > MOST_PENDING {
            self.pending.remove(0);
        }
    }

    /// What means said of a cut, to be asked by.
    pub(crate) fn marks(&self, cut: u64) -> BTreeMap<DiskId, String> {
        self.pending.iter().find(|p| p.cut == cut).map(|p| p.marks.clone()).unwrap_or_default()
    }

    /// What may have been written to a disk between two cuts.
    pub(crate) fn between(&self, since: u64, cut: u64, disk: &DiskId) -> Hint {
        let (mut at, mut all) = (cut, None::<Hint>);
        while at != since {
            let Some(known) = self.pending.iter().find(|p| p.cut == at) else {
                return Hint::Anything(format!("nothing is known of what was written before cut {at}"));
            };
            let hint = known.hints.get(disk).cloned();
            let hint = hint.unwrap_or_else(|| Hint::Anything("the disk is told by hashes alone".into()));
            all = Some(match all {
                Some(all) => all.and(&hint),
                None => hint,
            });
            match known.since {
                Some(before) if before >= since => at = before,
                _ => return Hint::Anything("tracking began after the last scan".into()),
            }
        }
        all.unwrap_or_else(|| Hint::Anything("the same cut".into()))
    }

    /// Nothing before this cut is asked for any more.
    pub(crate) fn forget_up_to(&mut self, cut: u64) {
        self.pending.retain(|p| p.cut > cut);
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::HASH_BLOCK;

    fn blocks(which: &[u64]) -> Hint {
        let mut set = Blocks::none(64 * HASH_BLOCK);
        which.iter().for_each(|b| set.add(*b));
        Hint::Blocks(set)
    }

    fn told(hint: Hint) -> Option<Vec<u64>> {
        match hint {
            Hint::Blocks(set) => Some((0..64).filter(|b| set.has(*b)).collect()),
            Hint::Anything(_) => None,
        }
    }

    fn note(hints: &mut Hints, cut: u64, hint: Hint, held: bool) {
        hints.note(cut, BTreeMap::from([("d".into(), hint)]), BTreeMap::new(), held);
    }

    #[test]
    fn d4_hints_between_two_cuts_are_all_that_lies_between_or_nothing_is_known() {
        let (mut hints, disk) = (Hints::default(), DiskId::from("d"));
        note(&mut hints, 4, blocks(&[1]), true);
        note(&mut hints, 5, blocks(&[2]), true);
        note(&mut hints, 7, blocks(&[3]), true);
        assert_eq!(told(hints.between(4, 7, &disk)), Some(vec![2, 3]));
        assert_eq!(told(hints.between(5, 7, &disk)), Some(vec![3]));
        assert_eq!(told(hints.between(3, 7, &disk)), None, "begun after cut 3");
        assert_eq!(told(hints.between(6, 7, &disk)), None, "no such cut");
        assert_eq!(told(hints.between(4, 7, &"e".into())), None, "a disk without a tracer");
        hints.forget_up_to(5);
        assert_eq!(told(hints.between(4, 7, &disk)), None);
    }

    #[test]
    fn d4_what_was_under_way_at_a_cut_counts_for_the_next_one_too() {
        let (mut hints, disk) = (Hints::default(), DiskId::from("d"));
        note(&mut hints, 1, blocks(&[1]), true);
        note(&mut hints, 2, blocks(&[2]), false);
        note(&mut hints, 3, blocks(&[3]), false);
        note(&mut hints, 4, blocks(&[4]), true);
        note(&mut hints, 5, blocks(&[5]), true);
        assert_eq!(told(hints.between(2, 3, &disk)), Some(vec![2, 3]));
        assert_eq!(told(hints.between(3, 4, &disk)), Some(vec![2, 3, 4]));
        assert_eq!(told(hints.between(4, 5, &disk)), Some(vec![5]));
    }
}

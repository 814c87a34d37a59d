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
pub mod era;
mod line;
mod pace;
mod scan;
pub(crate) mod sparse;
mod table;
pub mod trace;

pub use blocks::Blocks;
pub use line::Tracked;
pub use pace::Pace;
pub use scan::Hint;

use line::{About, Became, Cut, FORMAT, Files, Hints, Line, State, checksums};
use scan::Still;
use serde::{Deserialize, Serialize};
use site_recovery::{
    ChangeSet, Changes, Cursor, DiskId, Error, ErrorKind, Generation, MachineId, Random, Result, SystemRandom,
};
use site_recovery_register::{Told, durable};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use table::{HASHES, Page, Table};

/// Cuts that never became points and are kept all the same: a seal may have happened unseen.
const UNSEALED: usize = 4;

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

/// Tracking of one server, in a directory of its own. All methods block.
#[derive(Debug)]
pub struct Tracking {
    dir: PathBuf,
    pace: Pace,
    whole_every: u64,
    hints: Mutex<Hints>,
    /// Held while tables or cuts change: as long as a scan takes.
    files: Mutex<()>,
    /// Held while a number is given, which waits for no scan unless the line is a new one.
    numbers: Mutex<()>,
}

impl Tracking {
    /// In this directory, which is made where it is missing.
    pub fn at(dir: impl Into<PathBuf>, pace: Pace) -> Self {
        Self {
            dir: dir.into(),
            pace,
            whole_every: u64::MAX,
            hints: Mutex::default(),
            files: Mutex::default(),
            numbers: Mutex::default(),
        }
    }

    /// Every so many scans read every block, whatever the means say: what a means does not see stays unseen no longer.
    #[must_use]
    pub fn whole_every(mut self, scans: u64) -> Self {
        self.whole_every = scans.max(1);
        self
    }

    /// A number for a cut that is about to be made, durable, in the line that these disks belong to. Where the line that
    /// stands is of another machine, generation or set of disks, a new one is begun.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(&self, machine: &MachineId, generation: Generation, disks: Vec<Tracked>) -> Result<CutRef> {
        let about = About { machine: machine.clone(), generation, disks };
        let _numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.dir.join("next.json");
        // Without the number that is next, one that was given before might come again.
        let (line, cut) = match (self.line(), durable::read::<u64>(&path)) {
            (Ok(Some(line)), Ok(Some(next))) if line.about == about && line.format == FORMAT => (line, next),
            _ => (self.new_line(about)?, 1),
        };
        durable::write(&path, &(cut + 1))?;
        Ok(CutRef { format: FORMAT, line: line.id, cut, nonce: SystemRandom.bits() })
    }

    fn new_line(&self, about: About) -> Result<Line> {
        let _files = self.lock_files();
        self.forget()?;
        let line = Line { format: FORMAT, id: format!("{:016x}", SystemRandom.bits()), about };
        Files::of(&self.dir, &line).make()?;
        durable::write(&self.dir.join("line.json"), &line)?;
        Ok(line)
    }

    /// Gives all cuts up: every cursor is lost.
    fn forget(&self) -> Result<()> {
        self.lock_hints().forget();
        durable::remove_file(&self.dir.join("line.json"))?;
        for entry in durable::list(&self.dir)? {
            if entry.is_dir() {
                durable::remove_tree(&entry)?;
            }
        }
        Ok(())
    }

    /// Removes everything that is kept.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn dismiss(&self) -> Result<()> {
        let _files = self.lock_files();
        self.forget()
    }

    /// Notes what the means said at a cut that was made. Without `held`, writes may have been under way at it.
    pub fn cut(&self, cut: &CutRef, written: BTreeMap<DiskId, Written>, held: bool) {
        let (mut hints, mut marks) = (BTreeMap::new(), BTreeMap::new());
        for (disk, written) in written {
            match written {
                Written::Told(hint) => drop(hints.insert(disk, hint)),
                Written::Marked(mark) => drop(marks.insert(disk, mark)),
            }
        }
        self.lock_hints().note(cut.cut, hints, marks, held);
    }

    /// Brings the tables to a cut, by reading its captured disks. Done already is no error. Cuts are scanned in their
    /// order: one that comes after a later one says so.
    ///
    /// # Errors
    /// `NotFound` for a cut of another line, or one that a later scan has passed; those of the disks; `Cancelled` when
    /// the agent ends.
    pub fn scan(&self, cut: &CutRef, disks: &BTreeMap<DiskId, PathBuf>, since: AskSince<'_>) -> Result<()> {
        let _files = self.lock_files();
        let scanned = self.scan_locked(cut, disks, since);
        if scanned.as_ref().is_err_and(|e| e.kind() == ErrorKind::Corrupt) {
            self.forget()?;
        }
        scanned
    }

    fn scan_locked(
        &self,
        cut: &CutRef,
        disks: &BTreeMap<DiskId, PathBuf>,
        since: AskSince<'_>,
    ) -> Result<()> {
        let files = self.files_of(cut)?;
        self.redo(&files)?;
        match files.cut(cut.cut)? {
            Some(kept) if kept.nonce == cut.nonce => return Ok(()),
            Some(_) => return Err(gone(format!("cut {} is another one", cut.cut))),
            None => {}
        }
        let before = files.state()?;
        if before.as_ref().is_some_and(|b| b.cut > cut.cut) {
            return Err(gone(format!("cut {} was passed by a later scan", cut.cut)));
        }
        let partial = before.as_ref().map_or(0, |b| b.partial + 1);
        let whole = partial >= self.whole_every;
        let partial = if whole { 0 } else { partial };
        let marks = self.lock_hints().marks(cut.cut);
        let mut state = State { cut: cut.cut, partial, sums: BTreeMap::new(), marks };
        let mut maps = BTreeMap::new();
        for disk in &files.about.disks {
            let path = disks.get(&disk.id);
            let path = path.ok_or_else(|| gone(format!("disk {} is not in the capture", disk.id)))?;
            let still = Still::open(path, disk.size, &self.pace)?;
            let (sum, changed) = match &before {
                None => (begin_table(&files, disk, &still)?, None),
                Some(before) => {
                    let mut hint = self.lock_hints().between(before.cut, cut.cut, &disk.id);
                    if let (Hint::Anything(_), Some(mark)) = (&hint, before.marks.get(&disk.id)) {
                        hint = since(&disk.id, mark);
                    }
                    let sum = before.sums.get(&disk.id).copied().unwrap_or(0);
                    let reads = match &hint {
                        Hint::Blocks(blocks) if blocks.size() != disk.size => {
                            Hint::Anything("another size".into())
                        }
                        Hint::Blocks(_) if whole => Hint::Anything("everything is read now and then".into()),
                        hint => hint.clone(),
                    };
                    let found = renew(&files, disk, &still, sum, &reads)?;
                    if let Hint::Blocks(told) = &hint
                        && !told.has_all(&found.changed)
                    {
                        tracing::error!(disk = %disk.id, "blocks were written that tracking had not seen: it is wrong here");
                    }
                    (found.sum, Some(found.changed))
                }
            };
            state.sums.insert(disk.id.clone(), sum);
            maps.extend(changed.map(|c| (disk.id.clone(), c)));
        }
        let since = before.as_ref().map(|b| b.cut);
        let kept =
            Cut { cut: cut.cut, nonce: cut.nonce, since, became: Became::Captured, maps: checksums(&maps) };
        files.set_cut(&kept, &maps)?;
        if before.is_some() {
            durable::write(&files.redo_path(), &state)?;
            self.redo(&files)?;
        } else {
            durable::write(&files.state_path(), &state)?;
        }
        self.lock_hints().forget_up_to(cut.cut);
        Ok(())
    }

    /// Writes into the tables what a scan has left beside them.
    fn redo(&self, files: &Files) -> Result<()> {
        let Some(state) = durable::read::<State>(&files.redo_path())? else { return Ok(()) };
        for disk in &files.about.disks {
            let table = files.table(disk)?;
            each_page(&files.pages_path(&disk.id), &mut |number, page| {
                table.set_page(number, page).map(drop)
            })?;
            table.sync()?;
        }
        durable::write(&files.state_path(), &state)?;
        durable::remove_file(&files.redo_path())?;
        files.about.disks.iter().try_for_each(|d| durable::remove_file(&files.pages_path(&d.id)))
    }

    /// The disks of a cut's line, by what the hardware calls them; none where tracking began anew since.
    pub(crate) fn hardware(&self, cut: &CutRef) -> Result<BTreeMap<DiskId, String>> {
        let line = self.line()?.filter(|l| l.id == cut.line);
        let disks = line.into_iter().flat_map(|l| l.about.disks);
        Ok(disks.map(|d| (d.id, d.hardware)).collect())
    }

    /// What changed between two cursors, or why that cannot be told.
    pub fn changes(&self, since: &Cursor, until: &CutRef, generation: Generation) -> Changes {
        let lost = |reason: String| Changes::Lost { reason };
        if since.generation != generation {
            return lost(format!(
                "the cursor is of generation {}, the machine of {generation}",
                since.generation
            ));
        }
        let Some(from) = CutRef::of(since) else { return lost("the cursor is not of this agent".into()) };
        if from.line != until.line {
            return lost(
                "the disks are not those of the cursor any more, or tracking began anew since".into(),
            );
        }
        if from.cut > until.cut {
            return lost("the cursor is later than the capture".into());
        }
        let _files = self.lock_files();
        match self.between(&from, until) {
            Ok(set) => Changes::Known(set),
            Err(e) => lost(e.to_string()),
        }
    }

    fn between(&self, from: &CutRef, until: &CutRef) -> Result<ChangeSet> {
        let files = self.files_of(until)?;
        let kept = |cut: u64| files.cut(cut)?.ok_or_else(|| gone(format!("cut {cut} is no longer kept")));
        if kept(from.cut)?.nonce != from.nonce {
            return Err(gone(format!("cut {} is another one: the agent's directory was set back", from.cut)));
        }
        let mut all: BTreeMap<&DiskId, Blocks> =
            files.about.disks.iter().map(|d| (&d.id, Blocks::none(d.size))).collect();
        let mut at = kept(until.cut)?;
        while at.cut != from.cut {
            for disk in &files.about.disks {
                all.get_mut(&disk.id).expect("every disk").add_all(&files.map(&at, disk)?);
            }
            match at.since {
                Some(before) if before >= from.cut => at = kept(before)?,
                _ => return Err(gone(format!("no line of cuts leads from {} to {}", from.cut, until.cut))),
            }
        }
        Ok(all.iter().flat_map(|(id, b)| b.runs().map(|run| ((*id).clone(), run))).collect())
    }

    /// Notes what became of a cut, and removes what no delta can start from any more. `living` are the cuts of captures
    /// that exist.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn note(&self, cut: &CutRef, fate: site_recovery::Fate, living: &[CutRef]) -> Result<()> {
        let _files = self.lock_files();
        let Ok(files) = self.files_of(cut) else { return Ok(()) };
        if let Some(mut kept) = files.cut(cut.cut)?.filter(|kept| kept.nonce == cut.nonce)
            // What was sealed stays sealed, whatever is said of it later.
            && kept.became != Became::Sealed
        {
            kept.became = fate.into();
            files.set_cut(&kept, &BTreeMap::new())?;
        }
        let living: Vec<u64> = living.iter().filter(|c| c.line == cut.line).map(|c| c.cut).collect();
        let cuts = files.cuts()?;
        let sealed = cuts.iter().rposition(|c| c.became == Became::Sealed).unwrap_or(0);
        // The oldest that stays is where a line of cuts begins: its own maps are not asked for.
        for cut in &cuts[..sealed] {
            if !living.contains(&cut.cut) {
                files.remove_cut(cut.cut)?;
            }
        }
        self.thin(&files, cuts[sealed..].to_vec(), &living)
    }

    /// Joins cuts that nobody starts from with the one after them.
    fn thin(&self, files: &Files, mut cuts: Vec<Cut>, living: &[u64]) -> Result<()> {
        let spare =
            |c: &Cut| matches!(c.became, Became::Captured | Became::Abandoned) && !living.contains(&c.cut);
        while cuts.iter().filter(|c| spare(c)).count() > UNSEALED {
            let Some(at) = cuts.iter().position(spare).filter(|at| at + 1 < cuts.len()) else { break };
            let goes = cuts.remove(at);
            let next = &mut cuts[at];
            if next.since == Some(goes.cut) {
                let mut maps = BTreeMap::new();
                if goes.since.is_some() {
                    for disk in &files.about.disks {
                        let mut map = files.map(next, disk)?;
                        map.add_all(&files.map(&goes, disk)?);
                        maps.insert(disk.id.clone(), map);
                    }
                    next.maps = checksums(&maps);
                }
                next.since = goes.since;
                files.set_cut(next, &maps)?;
            }
            files.remove_cut(goes.cut)?;
        }
        Ok(())
    }

    fn line(&self) -> Result<Option<Line>> {
        durable::read(&self.dir.join("line.json"))
    }

    fn files_of(&self, cut: &CutRef) -> Result<Files> {
        let line = self.line()?.filter(|l| l.id == cut.line);
        let line = line.ok_or_else(|| gone("tracking began anew since".into()))?;
        Ok(Files::of(&self.dir, &line))
    }

    fn lock_hints(&self) -> MutexGuard<'_, Hints> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first table of a disk. What it sums to.
fn begin_table(files: &Files, disk: &Tracked, still: &Still<'_>) -> Result<u64> {
    let table = Table::create(&files.table_path(&disk.id), &disk.id, disk.size)?;
    let anything = Hint::Anything("the line begins".into());
    let found = still.compare(&table, 0, &anything, &mut |n, page| table.set_page(n, page).map(drop))?;
    table.sync()?;
    Ok(found.sum)
}

/// Compares with a table, and leaves beside it the pages that are to be written into it.
fn renew(files: &Files, disk: &Tracked, still: &Still<'_>, sum: u64, hint: &Hint) -> Result<scan::Found> {
    let table = files.table(disk)?;
    let path = files.pages_path(&disk.id);
    let mut out = BufWriter::with_capacity(256 << 10, File::create(&path).told("make", &path)?);
    let found = still.compare(&table, sum, hint, &mut |number, page| {
        out.write_all(&number.to_le_bytes()).told("write", &path)?;
        page.0.iter().try_for_each(|h| out.write_all(&h.to_le_bytes())).told("write", &path)
    })?;
    let out = out.into_inner().map_err(std::io::IntoInnerError::into_error).told("write", &path)?;
    out.sync_all().told("sync", &path)?;
    Ok(found)
}

/// Reads what [`renew`] left.
fn each_page(path: &Path, told: &mut dyn FnMut(u64, &Page) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| table::damaged(path, "is gone").caused_by(e))?;
    let mut file = BufReader::with_capacity(256 << 10, file);
    let mut number = [0; 8];
    let mut hashes = vec![0; HASHES as usize * 16];
    loop {
        match file.read_exact(&mut number) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read.told("read", path)?,
        }
        file.read_exact(&mut hashes).map_err(|e| table::damaged(path, "is cut short").caused_by(e))?;
        let mut page = Page::empty();
        for (to, from) in page.0.iter_mut().zip(hashes.as_chunks::<16>().0) {
            *to = u128::from_le_bytes(*from);
        }
        told(u64::from_le_bytes(number), &page)?;
    }
}

fn gone(message: String) -> Error {
    Error::new(ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// What stands on disk when a scan is cut off right after it was written beside the tables, with `applied` of its pages
    /// in them already.
    fn cut_off(applied: bool) {
        let dir = tempfile::tempdir().unwrap();
        let (disk, size) = (DiskId::from("d"), 3 << 20);
        let copy = dir.path().join("copy");
        let disks = BTreeMap::from([(disk.clone(), copy.clone())]);
        let nobody = |_: &DiskId, _: &str| Hint::Anything("nobody is asked".into());
        let tracking = || Tracking::at(dir.path().join("tracking"), Pace::default());
        let begin = |t: &Tracking| {
            let tracked = Tracked { id: disk.clone(), hardware: "h".into(), size };
            t.begin(&"m".into(), Generation(0), vec![tracked]).unwrap()
        };
        let mut content = vec![1; size as usize];
        fs::write(&copy, &content).unwrap();
        let one = tracking();
        let first = begin(&one);
        one.scan(&first, &disks, &nobody).unwrap();
        content[70_000] = 2;
        fs::write(&copy, &content).unwrap();
        let second = begin(&one);
        let files = one.files_of(&second).unwrap();
        let before = files.state().unwrap().unwrap();
        let tracked = files.about.disks[0].clone();
        let still = Still::open(&copy, size, &one.pace).unwrap();
        let hint = Hint::Anything("a test".into());
        let found = renew(&files, &tracked, &still, before.sums[&disk], &hint).unwrap();
        let maps = BTreeMap::from([(disk.clone(), found.changed)]);
        let (cut, nonce) = (second.cut, second.nonce);
        let kept =
            Cut { cut, nonce, since: Some(before.cut), became: Became::Captured, maps: checksums(&maps) };
        files.set_cut(&kept, &maps).unwrap();
        let sums = BTreeMap::from([(disk.clone(), found.sum)]);
        let state = State { cut, partial: 1, sums, marks: BTreeMap::new() };
        durable::write(&files.redo_path(), &state).unwrap();
        if applied {
            let table = files.table(&tracked).unwrap();
            each_page(&files.pages_path(&disk), &mut |n, page| table.set_page(n, page).map(drop)).unwrap();
        }
        drop(one);
        content[200_000] = 3;
        fs::write(&copy, &content).unwrap();
        let two = tracking();
        let third = begin(&two);
        two.scan(&third, &disks, &nobody).unwrap();
        let told = |since: &CutRef| match two.changes(&since.cursor(Generation(0)), &third, Generation(0)) {
            Changes::Known(set) => set.runs(&disk).iter().map(|r| r.start / 65536).collect::<Vec<_>>(),
            Changes::Lost { reason } => panic!("lost: {reason}"),
        };
        assert_eq!(told(&first), [1, 3], "applied: {applied}");
        assert_eq!(told(&second), [3], "applied: {applied}");
        assert!(!files.redo_path().exists() && !files.pages_path(&disk).exists(), "leftovers");
    }

    #[test]
    fn d4_a_scan_that_was_cut_off_is_carried_to_its_end() {
        cut_off(false);
        cut_off(true);
    }
}

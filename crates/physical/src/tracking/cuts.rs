//! Cuts of a server: their numbers, their scans, and what changed from one to another.

use super::blocks::Blocks;
use super::line::{About, Became, Cut, FORMAT, Files, Hints, Line, State, Tracked, checksums};
use super::renew::{begin_table, each_page, renew};
use super::scan::{Hint, Still};
use super::{AskSince, CutRef, Pace, Written};
use site_recovery::{
    ChangeSet, Changes, Cursor, DiskId, Error, ErrorKind, Fate, Generation, MachineId, Random, Result,
    SystemRandom,
};
use site_recovery_register::durable;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Cuts that never became points and are kept all the same: a seal may have happened unseen.
const UNSEALED: usize = 4;

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
                Some(before) if before >= from.cut && before < at.cut => at = kept(before)?,
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
    pub fn note(&self, cut: &CutRef, fate: Fate, living: &[CutRef]) -> Result<()> {
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

fn gone(message: String) -> Error {
    Error::new(ErrorKind::NotFound, message)
}

#[cfg(test)]
mod tests;

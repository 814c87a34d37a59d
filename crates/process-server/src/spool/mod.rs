//! Captures that wait on disk for their replica, and what was last seen of it.
//!
//! `<root>/<machine>/epoch.json`, and per replica `<root>/<machine>/<replica>/base.json` and `<number>.capture`. A file
//! that cannot be sealed any more is not deleted: it is set aside under another ending, and named by an error.

mod capture_file;
pub(crate) mod durable;

pub(crate) use capture_file::{Header, Reader, Writer};

use crate::base::Base;
use crate::blocking::at_path;
use site_recovery::{CutId, Error, ErrorKind, MachineId, OpKey, Result, RoleName};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const CAPTURE: &str = "capture";

/// The spool's folder. Everything here blocks.
#[derive(Debug)]
pub(crate) struct Spool {
    root: PathBuf,
    most_bytes: u64,
    _lock: File,
}

/// A spooled capture.
#[derive(Debug, Clone)]
pub(crate) struct Spooled {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) bytes: u64,
}

impl Spooled {
    pub(crate) fn cut(&self) -> &CutId {
        &self.header.manifest.cut
    }
}

/// The part of the spool for one machine on its way to one replica.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Spool {
    /// Opens it, alone, and removes what was never finished.
    pub(crate) fn open(root: &Path, most_bytes: u64) -> Result<Self> {
        durable::make_folder(root)?;
        let path = root.join("lock");
        let lock = File::create(&path).map_err(at_path(&path))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => {
                Error::new(ErrorKind::Conflict, "another process has this spool open")
                    .with("folder", root.display())
            }
            TryLockError::Error(e) => at_path(&path)(e),
        })?;
        for machine in durable::list(root)?.iter().filter(|p| p.is_dir()) {
            for shelf in durable::list(machine)? {
                let unfinished = if shelf.is_dir() { durable::list(&shelf)? } else { vec![shelf] };
                for path in unfinished.iter().filter(|p| ends_with(p, durable::UNFINISHED)) {
                    durable::remove(path)?;
                }
            }
        }
        Ok(Self { root: root.to_owned(), most_bytes, _lock: lock })
    }

    /// Where the machine's epoch is kept.
    pub(crate) fn register(&self, machine: &MachineId) -> PathBuf {
        self.machine(machine).join("epoch.json")
    }

    /// The machine's captures for one replica.
    pub(crate) fn shelf(&self, machine: &MachineId, replica: &RoleName) -> Shelf {
        Shelf { folder: self.machine(machine).join(file_name(&replica.0)) }
    }

    /// The machine's captures for all replicas.
    pub(crate) fn shelves(&self, machine: &MachineId) -> Result<Vec<Shelf>> {
        let found = durable::list(&self.machine(machine))?;
        Ok(found.into_iter().filter(|p| p.is_dir()).map(|folder| Shelf { folder }).collect())
    }

    /// Refuses when it holds more than it may, unfinished files included.
    pub(crate) fn check_room(&self) -> Result<()> {
        if self.most_bytes == u64::MAX {
            return Ok(());
        }
        let used = self.used()?;
        if used > self.most_bytes {
            let said = format!("the spool holds {used} of at most {} bytes", self.most_bytes);
            return Err(Error::new(ErrorKind::OutOfSpace, said).with("folder", self.root.display()));
        }
        Ok(())
    }

    /// The share that is free, from 0 to 1: of the limit, or of the volume where there is none.
    pub(crate) fn free(&self) -> Result<f64> {
        if self.most_bytes < u64::MAX {
            let free = self.most_bytes.saturating_sub(self.used()?);
            return Ok(free as f64 / self.most_bytes.max(1) as f64);
        }
        let volume = rustix::fs::statvfs(&self.root).map_err(|e| at_path(&self.root)(e.into()))?;
        Ok(volume.f_bavail as f64 / volume.f_blocks.max(1) as f64)
    }

    fn used(&self) -> Result<u64> {
        let mut used = 0;
        for machine in durable::list(&self.root)?.iter().filter(|p| p.is_dir()) {
            for shelf in durable::list(machine)?.iter().filter(|p| p.is_dir()) {
                for file in durable::list(shelf)? {
                    used += file.metadata().map_or(0, |m| m.len());
                }
            }
        }
        Ok(used)
    }

    fn machine(&self, machine: &MachineId) -> PathBuf {
        self.root.join(file_name(&machine.0))
    }
}

impl Shelf {
    /// All captures, oldest first.
    ///
    /// # Errors
    /// `Corrupt`, naming the first file that cannot be read.
    pub(crate) fn captures(&self) -> Result<Vec<Spooled>> {
        let mut captures = vec![];
        for path in self.files()? {
            match open(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                found => captures.push(found?),
            }
        }
        Ok(captures)
    }

    /// All captures, oldest first, for the one whose turn it is: a damaged file is set aside and named once, so that
    /// the others are not held up for ever.
    pub(crate) fn sound(&self) -> Result<Vec<Spooled>> {
        self.captures().map_err(set_aside_if_damaged)
    }

    /// Opens a new one, the newest.
    pub(crate) fn create(&self, header: &Header, set: &site_recovery::ChangeSet) -> Result<Writer> {
        durable::make_folder(&self.folder)?;
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
        let taken = durable::list(&self.folder)?.iter().filter_map(number).max().unwrap_or(0);
        Writer::create(&self.folder.join(format!("{:016}.{CAPTURE}", taken + 1)), header, set)
    }

    /// Keeps what was seen of the replica. Where there is no room for it, nothing is known of the replica from here on: then
    /// nothing is spooled, and a full volume holds up nobody who needs no spool.
    pub(crate) fn remember(&self, base: &Base) -> Result<()> {
        match durable::write_json(&self.base(), base) {
            Err(error) if error.kind() == ErrorKind::OutOfSpace => {
                durable::remove(&self.base())?;
                tracing::warn!(%error, "where the timeline stands was not kept: nothing is spooled meanwhile");
                Ok(())
            }
            kept => kept,
        }
    }

    /// What was last seen of the replica.
    pub(crate) fn recall(&self) -> Result<Option<Base>> {
        durable::read_json(&self.base())
    }

    fn base(&self) -> PathBuf {
        self.folder.join("base.json")
    }

    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = durable::list(&self.folder)?;
        files.retain(|p| ends_with(p, CAPTURE));
        Ok(files)
    }
}

/// Takes a file out of the way, keeps its bytes, and says where they are.
pub(crate) fn set_aside(path: &Path, why: &'static str) -> Result<PathBuf> {
    let to = path.with_extension(why);
    durable::rename(path, &to)?;
    tracing::error!(file = %to.display(), "a spooled capture was set aside as {why}");
    Ok(to)
}

/// Sets the file aside that an error of reading it names, if it is damaged.
pub(crate) fn set_aside_if_damaged(error: Error) -> Error {
    let Some(path) = error.fact("file").filter(|_| error.kind() == ErrorKind::Corrupt).map(PathBuf::from)
    else {
        return error;
    };
    match set_aside(&path, "damaged") {
        Ok(to) => error.with("set_aside_as", to.display()),
        Err(e) => error.with("not_set_aside", e),
    }
}

fn open(path: &Path) -> Result<Spooled> {
    let (_, header) = Reader::open(path)?;
    let bytes = path.metadata().map_err(at_path(path))?.len();
    Ok(Spooled { path: path.to_owned(), header, bytes })
}

fn ends_with(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|e| e == ending)
}

/// A folder's name for any name; the prefix keeps the empty one apart from none.
fn file_name(name: &str) -> String {
    format!("x-{}", OpKey::from(name).to_name())
}

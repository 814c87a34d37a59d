//! Small files that survive a power cut whole: the old text or the new one, never half of either.
//!
//! They may hold what is the guest's (firmware variables, state of a TPM) or who is in charge: files that are written here
//! are for their owner alone (0600), and so are directories that are made here (0700). What was there keeps its mode where
//! it is a directory, and gets this one where it is a file that is replaced. Whoever else is to read them runs as the same
//! user.

use crate::told::Told;
use serde::Serialize;
use serde::de::DeserializeOwned;
use site_recovery::{Error, ErrorKind, Result};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How the name of every draft begins.
const DRAFT: &str = ".draft-";

/// Reads a record; `None` where there is none. A record that cannot be read is `Corrupt`, never taken for none.
///
/// # Errors
/// Those of the file system, `Corrupt`.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if absent(&e) => return Ok(None),
        Err(e) => return Err(e).told("read", path),
    };
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        Error::new(ErrorKind::Corrupt, format!("{} is damaged: mend or remove it", path.display()))
            .caused_by(e)
    })
}

/// Replaces a record. Durable on return; its directory is made where it is missing.
///
/// # Errors
/// Those of the file system.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(record).expect("records are plain data");
    write_bytes(path, &text)
}

/// Replaces a file. Durable on return; its directory is made where it is missing.
///
/// # Errors
/// Those of the file system.
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = parent(path);
    make_dir(&parent)?;
    let (draft, mut file) = fresh_draft(&parent).told("write", path)?;
    let written =
        file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.told("write", path)?;
    sync_dir(&parent)
}

/// A file that becomes the record by its rename. A power cut before that leaves it; it is never taken for a record.
fn fresh_draft(dir: &Path) -> io::Result<(PathBuf, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{DRAFT}{}-{n}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            // Left by a process of this number that was before.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|file| (path, file)),
        }
    }
}

/// Makes a directory and those above it, durably.
///
/// # Errors
/// Those of the file system.
pub fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_dir(&parent(path))?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.told("make", path)?,
    }
    sync_dir(&parent(path))
}

/// Makes what was created, renamed or removed in a directory durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).told("sync", path)
}

/// Renames, durably, and never over something that exists.
///
/// # Errors
/// Those of the file system.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    let cwd = rustix::fs::CWD;
    rustix::fs::renameat_with(cwd, from, cwd, to, rustix::fs::RenameFlags::NOREPLACE).told("rename", from)?;
    sync_dir(&parent(to))?;
    sync_dir(&parent(from))
}

/// Removes a file, durably. Gone already is no error.
///
/// # Errors
/// Those of the file system.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if absent(&e) => Ok(()),
        removed => removed.told("remove", path).and_then(|()| sync_dir(&parent(path))),
    }
}

/// Removes a directory with all that is in it, durably. Gone already is no error.
///
/// # Errors
/// Those of the file system.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if absent(&e) => Ok(()),
        removed => removed.told("remove", path).and_then(|()| sync_dir(&parent(path))),
    }
}

/// What stands in a directory, by name, without [`write()`]'s own drafts; nothing where it is missing.
///
/// # Errors
/// Those of the file system.
pub fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(e) if absent(&e) => return Ok(vec![]),
        entries => entries.told("list", path)?,
    };
    let mut all = entries.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>().told("list", path)?;
    all.retain(|p| !is_draft(p));
    all.sort();
    Ok(all)
}

fn is_draft(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(DRAFT.as_bytes()))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

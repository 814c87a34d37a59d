//! Files that are whole or absent, also after a power cut.

use crate::blocking::at_path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use site_recovery::{Error, ErrorKind, Result};
use std::fs::{self, File};
use std::io::{ErrorKind as Io, Write};
use std::path::{Path, PathBuf};

/// What is not whole yet carries this ending.
pub(crate) const UNFINISHED: &str = "tmp";

/// Replaces `path` by `value`.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value)
        .map_err(|e| Error::new(ErrorKind::Invalid, "not JSON").with("file", path.display()).caused_by(e))?;
    make_folder(folder_of(path))?;
    let unfinished = path.with_extension(UNFINISHED);
    let mut file = File::create(&unfinished).map_err(at_path(&unfinished))?;
    let written = file.write_all(&bytes).map_err(at_path(&unfinished));
    let published = written.and_then(|()| publish(&file, &unfinished, path));
    if published.is_err() {
        let _renamed_already = fs::remove_file(&unfinished);
    }
    published
}

/// Reads it back; `None` where there is none.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == Io::NotFound => return Ok(None),
        Err(e) => return Err(at_path(path)(e)),
    };
    let damaged = |e| Error::new(ErrorKind::Corrupt, "damaged").with("file", path.display()).caused_by(e);
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// Gives a finished file its name.
pub(crate) fn publish(file: &File, unfinished: &Path, path: &Path) -> Result<()> {
    file.sync_all().map_err(at_path(unfinished))?;
    rename(unfinished, path)
}

/// Renames within a folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(at_path(from))?;
    sync_folder(folder_of(to))
}

/// Removes a file; none is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(folder_of(path)),
        Err(e) if e.kind() == Io::NotFound => Ok(()),
        Err(e) => Err(at_path(path)(e)),
    }
}

/// Makes a folder and all above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    make_folder(folder_of(path))?;
    match fs::create_dir(path) {
        Err(e) if e.kind() != Io::AlreadyExists => Err(at_path(path)(e)),
        _ => sync_folder(folder_of(path)),
    }
}

/// What is in a folder; nothing where there is none.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(e) if e.kind() == Io::NotFound => return Ok(vec![]),
        Err(e) => return Err(at_path(folder)(e)),
    };
    let mut paths = vec![];
    for entry in found {
        paths.push(entry.map_err(at_path(folder))?.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(at_path(folder))
}

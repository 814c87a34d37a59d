//! Files of ours in a system that is not: each is ours alone, says so in its first lines, and goes without a trace.

use crate::inventory::Root;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, conflict, durable};
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// What each of our files says.
pub(crate) const MARK: &str = "# Written by site-recovery. Taken away by its revert; changes here are lost.";

/// A file that the preparation keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OurFile {
    /// Where, as a path of the system.
    pub path: String,
    /// Its whole text.
    pub text: String,
    /// Its permissions.
    pub mode: u32,
}

impl OurFile {
    /// Whether it stands there as it should.
    ///
    /// # Errors
    /// `Conflict` where a file that is not ours stands in its place; those of the file system.
    pub(crate) fn stands(&self, root: &Root) -> Result<bool> {
        let Some(text) = read(root, &self.path)? else { return Ok(false) };
        let path = root.path(&self.path);
        let mode = fs::metadata(&path).told("read", &path)?.permissions().mode() & 0o7777;
        Ok(text == self.text && mode == self.mode)
    }

    /// Whether it can be put there.
    ///
    /// # Errors
    /// `Conflict` as above, `Refused` where a link leads out of the root, `Unavailable` without its directory.
    pub(crate) fn has_place(&self, root: &Root) -> Result<()> {
        read(root, &self.path)?;
        place(root, &self.path).map(drop)
    }

    /// Puts it there, durably: the file that was ours before, or the new one, never half of either.
    pub(crate) fn write(&self, root: &Root) -> Result<()> {
        self.has_place(root)?;
        let path = place(root, &self.path)?;
        let (dir, name) = (path.parent().expect("it has one"), path.file_name().expect("it has one"));
        let draft = dir.join(format!(".draft-{}", name.to_string_lossy()));
        durable::remove_file(&draft)?; // of one that was cut off
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(self.text.as_bytes())?;
            file.set_permissions(Permissions::from_mode(self.mode))?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        let done = written().told("write", &path);
        if done.is_err() {
            let _ = fs::remove_file(&draft);
        }
        done.and_then(|()| durable::sync_dir(dir))
    }
}

/// The text of a file of ours; `None` where there is none.
///
/// # Errors
/// `Conflict` for one that is not ours.
pub(crate) fn read(root: &Root, path: &str) -> Result<Option<String>> {
    let path = root.path(path);
    let told = match fs::symlink_metadata(&path) {
        Ok(told) => told,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).told("read", &path),
    };
    let text = if told.is_file() { fs::read(&path).told("read", &path)? } else { vec![] };
    match String::from_utf8(text) {
        Ok(text) if text.contains(MARK) => Ok(Some(text)),
        _ => {
            let message = format!("{} is not ours: it is not touched; move it away", path.display());
            Err(conflict(message))
        }
    }
}

/// Takes a file of ours away, durably; gone already is no error.
pub(crate) fn remove(root: &Root, path: &str) -> Result<()> {
    match read(root, path)? {
        Some(_) => durable::remove_file(&place(root, path)?),
        None => Ok(()),
    }
}

/// Where a file is written: its directory exists, and no link leads out of the system's root.
fn place(root: &Root, path: &str) -> Result<PathBuf> {
    let path = root.path(path);
    let dir = path.parent().unwrap_or(&path);
    let real = fs::canonicalize(dir).told("find", dir)?;
    let top = fs::canonicalize(root.path("/")).told("find", &root.path("/"))?;
    if !real.starts_with(&top) {
        let message = format!("{} leads out of {}", dir.display(), top.display());
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(real.join(path.file_name().unwrap_or_default()))
}

//! Files below a root directory.

use rustix::fs::statvfs;
use site_recovery::Result;
use site_recovery_register::Told;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The root directory of a system.
#[derive(Debug, Clone)]
pub(crate) struct Root(PathBuf);

impl Root {
    pub(crate) fn of(path: PathBuf) -> Self {
        Self(path)
    }

    /// Whether it is the root of this process.
    pub(crate) fn is_here(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Where a file of the system stands, as this process sees it.
    pub(crate) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(crate) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).exists()
    }

    /// The text of a file without the space around it; `None` where there is none.
    pub(crate) fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        let path = self.path(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(e).told("read", &path),
        }
    }

    /// The text of a file that every Linux has.
    pub(crate) fn must(&self, path: &str) -> Result<String> {
        let file = self.path(path);
        let bytes = fs::read(&file).told("read", &file)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// An attribute of a device; `None` where it has none, or does not tell it: drivers answer many reads with an error,
    /// and a device may go away at any time.
    pub(crate) fn attribute(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Names in a directory, in order; none where it is missing.
    pub(crate) fn names(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = self.path(path);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if absent(&e) => return Ok(vec![]),
            Err(e) => return Err(e).told("list", &path),
        };
        let names = entries.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()));
        let mut names = names.collect::<io::Result<Vec<_>>>().told("list", &path)?;
        names.sort();
        Ok(names)
    }

    /// What a symbolic link says.
    pub(crate) fn link(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        fs::read_link(self.path(path)).ok()
    }

    /// A path of the system without links in it.
    pub(crate) fn real(&self, path: &Path) -> Option<PathBuf> {
        let (top, real) = (fs::canonicalize(&self.0).ok()?, fs::canonicalize(self.path(path)).ok()?);
        real.strip_prefix(top).ok().map(|rest| Path::new("/").join(rest))
    }

    /// The last name in what a symbolic link says.
    pub(crate) fn link_name(&self, path: impl AsRef<Path>) -> Option<String> {
        Some(self.link(path)?.file_name()?.to_string_lossy().into_owned())
    }

    /// Bytes free for all users, on the file system that `path` or the next directory above it lies on.
    pub(crate) fn free(&self, path: &str) -> Option<u64> {
        let path = self.path(path);
        let there = path.ancestors().find(|p| p.exists())?;
        let found = statvfs(there).ok()?;
        Some(found.f_bavail * found.f_frsize)
    }
}

fn absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

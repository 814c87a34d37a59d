//! Files of the retention volume: replaced whole or appended to, durable before the call returns.

use serde::Serialize;
use serde::de::DeserializeOwned;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_record::checksum;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Version of everything that is written here. A newer one is refused.
pub(crate) const FORMAT: u32 = 1;

/// A folder of the retention volume.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    #[cfg(test)]
    pub(crate) fuse: std::sync::Arc<crate::crash::Fuse>,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            #[cfg(test)]
            fuse: Default::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below this one, which need not exist.
    pub(crate) fn below(&self, name: &str) -> Folder {
        self.at(self.path.join(name))
    }

    fn at(&self, path: PathBuf) -> Folder {
        Folder {
            path,
            #[cfg(test)]
            fuse: std::sync::Arc::clone(&self.fuse),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Makes the folder, durably, where it is missing.
    pub(crate) fn make(&self) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        self.step().and_then(|()| fs::create_dir_all(&self.path)).map_err(|e| self.failed("", e))?;
        let above = self.path.parent().map_or_else(|| self.clone(), |p| self.at(p.into()));
        above.sync()
    }

    /// Opens a file for reading and writing, and makes it, empty, where it is missing.
    pub(crate) fn open(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        let new = !path.exists();
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = self.step().and_then(|()| open()).map_err(|e| self.failed(name, e))?;
        if new {
            self.sync()?;
        }
        Ok(file)
    }

    /// Writes at `at` and makes it durable.
    pub(crate) fn append(&self, name: &str, file: &File, at: u64, bytes: &[u8]) -> Result<()> {
        self.write_at(file, at, bytes).map_err(|e| self.failed(name, e))?;
        self.step().and_then(|()| file.sync_data()).map_err(|e| self.failed(name, e))
    }

    /// Removes files; gone already is no error. Not made durable: what is removed is not named any more.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        match self.step().and_then(|()| fs::remove_file(self.path.join(name))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed(name, e)),
            _ => Ok(()),
        }
    }

    /// Removes a file for good.
    pub(crate) fn erase(&self, name: &str) -> Result<()> {
        self.remove(name)?;
        self.sync()
    }

    /// Names of all files here.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let list = || {
            fs::read_dir(&self.path)?
                .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<Vec<_>>>()
        };
        list().map_err(|e| self.failed("", e))
    }

    /// Replaces a document, or makes it: either the old or the new one is there, whole, whatever happens.
    pub(crate) fn write<T: Serialize>(&self, name: &str, revision: u64, value: &T) -> Result<()> {
        let body = serde_json::to_vec(value).expect("plain data is always JSON");
        let mut bytes = Header { format: FORMAT, revision, checksum: checksum(&body) }.line();
        bytes.extend_from_slice(&body);
        let (new, path) = (self.path.join(format!("{name}.new")), self.path.join(name));
        let write = || {
            self.step()?;
            let file = File::create(&new)?;
            self.write_at(&file, 0, &bytes)?;
            self.step()?;
            file.sync_all()?;
            self.step()?;
            fs::rename(&new, &path)
        };
        write().map_err(|e| self.failed(name, e))?;
        self.sync()
    }

    /// Reads a document with its revision; none where there is none.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(u64, T)>> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        let corrupt =
            |why: &str| Error::new(ErrorKind::Corrupt, format!("{}: {why}", self.path.join(name).display()));
        let (header, body) = Header::split(&bytes).ok_or_else(|| corrupt("the first line is damaged"))?;
        if header.format > FORMAT {
            let message = format!("{} has format {}, this version knows {FORMAT}", name, header.format);
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if checksum(body) != header.checksum {
            return Err(corrupt("the content does not match its checksum"));
        }
        let value = serde_json::from_slice(body)
            .map_err(|e| corrupt("the content is not understood").caused_by(e))?;
        Ok(Some((header.revision, value)))
    }

    /// The revision of a document, at the price of one line.
    pub(crate) fn revision(&self, name: &str) -> Result<Option<u64>> {
        let mut line = [0; Header::MOST];
        let head =
            File::open(self.path.join(name)).and_then(|mut f| f.read(&mut line).map(|n| line[..n].to_vec()));
        match head {
            Ok(head) => Ok(Header::split(&head).map(|(h, _)| h.revision)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, e)),
        }
    }

    pub(crate) fn failed(&self, name: &str, error: io::Error) -> Error {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::OutOfSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => ErrorKind::Corrupt,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, format!("retention volume: {}", self.path.join(name).display())).caused_by(error)
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(name, e)),
        }
    }

    fn sync(&self) -> Result<()> {
        let sync = || self.step().and_then(|()| File::open(&self.path)?.sync_all());
        sync().map_err(|e| self.failed("", e))
    }

    fn write_at(&self, file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Err(e) = self.fuse.step() {
            file.write_all_at(&bytes[..self.fuse.torn(bytes.len())], at)?;
            return Err(e);
        }
        file.write_all_at(bytes, at)
    }

    /// Where the crash tests stop the process: before every effect on a file.
    #[allow(clippy::unused_self, reason = "only the tests have something to ask")]
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        self.fuse.step()?;
        Ok(())
    }
}

struct Header {
    format: u32,
    revision: u64,
    checksum: u64,
}

impl Header {
    const MOST: usize = 128;
    const NAME: &str = "site-recovery-master-target";

    fn line(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(Self::MOST);
        let written =
            writeln!(line, "{} {} {} {:016x}", Self::NAME, self.format, self.revision, self.checksum);
        written.expect("memory takes every byte");
        line
    }

    fn split(bytes: &[u8]) -> Option<(Header, &[u8])> {
        let end = bytes.iter().take(Self::MOST).position(|b| *b == b'\n')?;
        let mut words = std::str::from_utf8(&bytes[..end]).ok()?.split(' ');
        if words.next()? != Self::NAME {
            return None;
        }
        let header = Header {
            format: words.next()?.parse().ok()?,
            revision: words.next()?.parse().ok()?,
            checksum: u64::from_str_radix(words.next()?, 16).ok()?,
        };
        Some((header, &bytes[end + 1..]))
    }
}

impl Folder {
    /// Bytes that are free on the volume of this folder.
    pub(crate) fn free(&self) -> Result<u64> {
        let volume = rustix::fs::statvfs(&self.path).map_err(|e| self.failed("", e.into()))?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }
}

//! Writing one object: without a name until it is whole and durable.

use object_store::PutPayload;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE: usize = 4096;
/// Shorter objects go through the page cache: they are read again soon.
const DIRECT: usize = 128 << 10;
/// Buffers that are kept for the next object, and how large each may be.
const KEPT: usize = 4;
const LARGEST: usize = 8 << 20;

#[derive(Debug, Default)]
pub(crate) struct Writer {
    buffers: Mutex<Vec<Vec<u8>>>,
    number: AtomicU64,
}

impl Writer {
    /// Writes `payload` to `path`. With `create`, `AlreadyExists` where something stands there.
    pub(crate) fn put(&self, root: &Path, path: &Path, payload: &PutPayload, create: bool) -> io::Result<()> {
        let folder = path.parent().filter(|folder| folder.starts_with(root)).unwrap_or(root);
        make_folder(root, folder)?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let temporary = || folder.join(format!(".{name}.{}-{}", std::process::id(), self.number()));
        let (file, named) = match nameless(folder, payload.content_length() >= DIRECT) {
            Ok(file) => (file, None),
            Err(e) if is_unsupported(&e) => {
                let path = temporary();
                (File::create_new(&path)?, Some(path))
            }
            Err(e) => return Err(e),
        };
        let written = self.fill(&file, payload).and_then(|()| match (&named, create) {
            (Some(named), true) => std::fs::hard_link(named, path),
            (Some(named), false) => std::fs::rename(named, path),
            (None, true) => link(&file, path),
            (None, false) => match link(&file, path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    let between = temporary();
                    link(&file, &between)?;
                    std::fs::rename(&between, path)
                }
                linked => linked,
            },
        });
        if let Some(named) = named.filter(|_| create || written.is_err()) {
            std::fs::remove_file(named)?;
        }
        written?;
        sync(folder)
    }

    fn number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// All of it, durable.
    fn fill(&self, file: &File, payload: &PutPayload) -> io::Result<()> {
        let len = payload.content_length();
        if len < DIRECT {
            let mut at = 0;
            for part in payload.iter() {
                file.write_all_at(part, at)?;
                at += part.len() as u64;
            }
            return file.sync_data();
        }
        let mut buffer = self.buffers.lock().expect("no panic under this lock").pop().unwrap_or_default();
        let padded = len.next_multiple_of(PAGE);
        if buffer.len() < padded + PAGE {
            buffer.resize(padded + PAGE, 0);
        }
        let skip = buffer.as_ptr().align_offset(PAGE).min(PAGE);
        let mut at = skip;
        for part in payload.iter() {
            buffer[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        buffer[at..skip + padded].fill(0);
        let whole = &buffer[skip..skip + padded];
        let direct = match file.write_all_at(whole, 0) {
            // A file system may open a file for direct writes and refuse them.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                rustix::fs::fcntl_setfl(file, rustix::fs::fcntl_getfl(file)?.difference(OFlags::DIRECT))?;
                file.write_all_at(whole, 0)
            }
            written => written,
        };
        direct?;
        file.set_len(len as u64)?;
        file.sync_data()?;
        let mut buffers = self.buffers.lock().expect("no panic under this lock");
        if buffers.len() < KEPT && buffer.len() <= LARGEST {
            buffers.push(buffer);
        }
        Ok(())
    }
}

/// A file that has no name yet, past the page cache if that is wanted and can be.
fn nameless(folder: &Path, direct: bool) -> io::Result<File> {
    let open = |flags| {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC | flags;
        rustix::fs::openat(CWD, folder, flags, Mode::from_raw_mode(0o600)).map(File::from)
    };
    match direct.then(|| open(OFlags::DIRECT)) {
        Some(Ok(file)) => Ok(file),
        _ => Ok(open(OFlags::empty())?),
    }
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    let itself = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, itself.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// The file system, or its kernel, knows no files without a name.
fn is_unsupported(error: &io::Error) -> bool {
    let known = [rustix::io::Errno::OPNOTSUPP, rustix::io::Errno::ISDIR, rustix::io::Errno::INVAL];
    error.raw_os_error().is_some_and(|code| known.iter().any(|errno| errno.raw_os_error() == code))
}

/// Makes a folder and all between it and the root, durable.
fn make_folder(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| folder != root && above.starts_with(root));
    if let Some(above) = above {
        make_folder(root, above)?;
    }
    match std::fs::create_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    above.map_or(Ok(()), sync)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

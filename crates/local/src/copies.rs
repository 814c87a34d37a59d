//! Copies of disks that keep the holes, and the room for them.

use rustix::io::Errno;
use site_recovery::{Error, ErrorKind, Fill, Result, Run};
use site_recovery_register::Told;
use site_recovery_sparse::extents;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How many bytes are copied at a time, and between two looks at the clock.
const PIECE: u64 = 4 << 20;

/// Makes `to` hold what `from` holds: by sharing blocks where the file system can, else by copying the data and keeping
/// the holes. `between` is asked between two pieces and may end it. Nothing is synced.
pub(crate) fn clone(from: &Path, to: &Path, between: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let source = File::open(from).told("open", from)?;
    let copy = OpenOptions::new().write(true).create_new(true).open(to).told("make", to)?;
    between()?;
    if rustix::fs::ioctl_ficlone(&copy, &source).is_ok() {
        return Ok(());
    }
    let size = source.metadata().told("look at", from)?.len();
    copy.set_len(size).told("size", to)?;
    for extent in extents(&source, Run::new(0, size), size).told("map", from)? {
        if extent.fill == Fill::Zero {
            continue;
        }
        for piece in extent.run.pieces(PIECE) {
            between()?;
            copy_piece(&source, &copy, piece).told("copy", from)?;
        }
    }
    Ok(())
}

fn copy_piece(from: &File, to: &File, run: Run) -> std::io::Result<()> {
    let mut at = run.start;
    while at < run.end() {
        let (mut read_at, mut write_at) = (at, at);
        let len = (run.end() - at) as usize;
        let copied = rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), len);
        match copied {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => at += copied as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                let mut buffer = vec![0; len];
                from.read_exact_at(&mut buffer, at)?;
                to.write_all_at(&buffer, at)?;
                at = run.end();
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Bytes free for us in the file system of `path`, and in all.
pub(crate) fn space(path: &Path) -> Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path).told("ask for the space of", path)?;
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}

/// Refuses before anything is written that cannot fit.
pub(crate) fn must_fit(path: &Path, need: u64) -> Result<()> {
    let (free, _) = space(path)?;
    if need <= free {
        return Ok(());
    }
    let message = format!("{need} bytes are needed in {}, {free} are free", path.display());
    Err(Error::new(ErrorKind::OutOfSpace, message))
}

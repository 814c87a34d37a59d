//! What stands on a guest's disk: its file system's own word, and the records.

use super::record::{Record, read};
use super::tool;
use crate::failed;
use site_recovery::{Disk, Error, ErrorKind, Fill, Pool, Result, Run};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Where the guest's root file system begins, as `tests/guest/build` makes it.
const ROOT_AT: u64 = 133_120 * 512;

/// What a disk holds.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Whether the journal has to be replayed before the file system is whole: the sign of a crash-consistent copy.
    pub needs_recovery: bool,
    /// The guest's records, each as it was written, without a gap.
    pub records: Vec<Record>,
}

/// Looks at a copy of the root file system of a whole raw disk.
///
/// # Errors
/// `Corrupt` when the journal does not replay cleanly, the file system is not clean afterwards, or a record is not what
/// was written; `Unsupported` without e2fsprogs.
pub fn inspect(disk: &Path) -> Result<Inspection> {
    let root = disk.with_extension("root");
    let size = fs::metadata(disk).map_err(|e| failed("look at", disk, e))?.len();
    copy_from(disk, &root, size)?;
    let inspected = inspect_root(&root);
    let _nothing_to_tell = fs::remove_file(&root);
    inspected
}

fn inspect_root(root: &Path) -> Result<Inspection> {
    let log = root.with_extension("log");
    let damaged = |e: Error| Error::new(ErrorKind::Corrupt, e.message().to_owned());
    let told = tool("/usr/sbin/dumpe2fs", ["-h".as_ref(), root.as_os_str()])?;
    let needs_recovery = told.lines().any(|l| l.starts_with("Filesystem features:") && l.contains("needs_recovery"));
    let replay = ["-y", "-E", "journal_only"].map(str::as_ref);
    tool("/usr/sbin/e2fsck", replay.into_iter().chain([root.as_os_str()])).map_err(damaged)?;
    tool("/usr/sbin/e2fsck", ["-fn".as_ref(), root.as_os_str()]).map_err(damaged)?;
    let dump = format!("dump /data/log {}", log.display());
    tool("/usr/sbin/debugfs", ["-R".as_ref(), dump.as_ref(), root.as_os_str()])?;
    let bytes = fs::read(&log).map_err(|e| failed("read", &log, e))?;
    let _nothing_to_tell = fs::remove_file(&log);
    let records = read(&bytes).map_err(|e| Error::new(ErrorKind::Corrupt, e))?;
    Ok(Inspection { needs_recovery, records })
}

/// Copies the partition, its zeros as holes.
fn copy_from(disk: &Path, to: &Path, size: u64) -> Result<()> {
    let (from, into) = (File::open(disk), File::create(to));
    let from = from.map_err(|e| failed("open", disk, e))?;
    let into = into.map_err(|e| failed("make", to, e))?;
    into.set_len(size - ROOT_AT).map_err(|e| failed("size", to, e))?;
    for piece in Run::new(ROOT_AT, size - ROOT_AT).pieces(1 << 20) {
        let mut bytes = vec![0; piece.len as usize];
        from.read_exact_at(&mut bytes, piece.start).map_err(|e| failed("read", disk, e))?;
        if bytes.iter().any(|b| *b != 0) {
            into.write_all_at(&bytes, piece.start - ROOT_AT).map_err(|e| failed("write", to, e))?;
        }
    }
    Ok(())
}

/// Copies an opened disk into a sparse raw file.
///
/// # Errors
/// Those of the disk and of the file system.
pub async fn copy_out(disk: &Arc<dyn Disk>, to: &Path) -> Result<()> {
    let (file, pool) = (File::create(to).map_err(|e| failed("make", to, e))?, Pool::new(4 << 20));
    file.set_len(disk.size()).map_err(|e| failed("size", to, e))?;
    for window in Run::new(0, disk.size()).pieces(1 << 30) {
        for extent in disk.extents(window).await?.iter().filter(|e| e.fill == Fill::Data) {
            for piece in extent.run.pieces(1 << 20) {
                let bytes = disk.read(piece, &pool).await?;
                file.write_all_at(&bytes, piece.start).map_err(|e| failed("write", to, e))?;
            }
        }
    }
    Ok(())
}

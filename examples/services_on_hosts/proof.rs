//! What is looked at: bytes of disks by their digests, and a file of the server on them.

use crate::ground::tool;
use crate::missing;
use sha2::{Digest, Sha256};
use site_recovery::{Disks, Error, ErrorKind, Pool, Result, Run};
use site_recovery_examples::failed;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const PIECE: u64 = 1 << 20;

/// Says what is proven.
///
/// # Errors
/// `Corrupt` when it is not so.
pub(crate) fn prove(holds: bool, what: impl Into<String>) -> Result<()> {
    let what = what.into();
    if !holds {
        return Err(Error::new(ErrorKind::Corrupt, format!("not so: {what}")));
    }
    println!("    proven: {what}");
    Ok(())
}

/// SHA-256 of a disk's bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// The same, of an image file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn digest_of_image(image: &Path) -> Result<String> {
    Ok(digest(&fs::read(image).map_err(|e| failed("read", image, e))?))
}

/// The same, of the one disk of a point, wherever that is kept.
///
/// # Errors
/// Those of the disk.
pub(crate) async fn digest_of_point(disks: &Disks) -> Result<String> {
    let disk = disks.values().next().ok_or_else(|| missing("a disk"))?;
    let (mut hash, pool) = (Sha256::new(), Pool::new(8 * PIECE as usize));
    for run in Run::new(0, disk.size()).pieces(PIECE) {
        hash.update(disk.read(run, &pool).await?);
    }
    Ok(hex(hash))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The image of the one disk of a machine in a directory.
///
/// # Errors
/// `Corrupt` when its description names none.
pub(crate) fn image(machine: &Path) -> Result<PathBuf> {
    let file = machine.join("machine.json");
    let text = fs::read(&file).map_err(|e| failed("read", &file, e))?;
    let described: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| failed("read", &file, e.into()))?;
    let name = described["disks"][0]["file"].as_str().ok_or_else(|| missing("a disk"))?;
    Ok(machine.join(name))
}

/// What the server's file of orders says in an image, whose file system is whole besides.
///
/// # Errors
/// What `e2fsck` or `debugfs` complains about.
pub(crate) fn orders_in(image: &Path) -> Result<String> {
    tool("e2fsck", ["-fn"].map(OsStr::new), image)?;
    tool("debugfs", ["-R", "cat /orders"].map(OsStr::new), image)
}

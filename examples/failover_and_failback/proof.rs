//! What is proven at the end, and on the way.

use crate::guest::Log;
use crate::image::{Content, DATA, SYSTEM, tool};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use site_recovery::{
    Booted, DiskId, Disks, Error, ErrorKind, Pool, Recovery, Result, Run, Validation, Verdict,
};
use site_recovery_examples::failed;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

const PIECE: u64 = 1 << 20;

/// SHA-256 of every disk, by name.
pub(crate) type Digests = BTreeMap<String, String>;

/// Says what is proven.
///
/// # Errors
/// When it is not so.
pub(crate) fn prove(holds: bool, what: impl Into<String>) -> Result<()> {
    let what = what.into();
    if !holds {
        return Err(Error::new(ErrorKind::Corrupt, format!("not so: {what}")));
    }
    println!("    proven: {what}");
    Ok(())
}

/// The disks of the machine in `dir`, as `sha256sum` says.
pub(crate) async fn digests_of_machine(dir: &Path) -> Result<Digests> {
    let mut all = Digests::new();
    for (id, name) in [("system", SYSTEM), ("data", DATA)] {
        let path = dir.join(name);
        let hashed = tokio::task::spawn_blocking(move || hash_file(&path)).await;
        all.insert(id.to_owned(), hashed.map_err(|e| Error::new(ErrorKind::Cancelled, e.to_string()))??);
    }
    Ok(all)
}

fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| failed("open", path, e))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE as usize]);
    loop {
        match file.read(&mut piece).map_err(|e| failed("read", path, e))? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}

/// The disks of an opened point.
pub(crate) async fn digests_of_point(disks: &Disks) -> Result<Digests> {
    let (mut all, pool) = (Digests::new(), Pool::new(8 * PIECE as usize));
    for (id, disk) in disks {
        let mut hash = Sha256::new();
        for run in Run::new(0, disk.size()).pieces(PIECE) {
            hash.update(disk.read(run, &pool).await?);
        }
        all.insert(id.to_string(), hex(&hash.finalize()));
    }
    Ok(all)
}

/// Writes the system disk of an opened point to a file.
pub(crate) async fn export(disks: &Disks, to: &Path) -> Result<()> {
    let disk = &disks[&DiskId::from("system")];
    let (file, pool) = (File::create(to).map_err(|e| failed("make", to, e))?, Pool::new(8 * PIECE as usize));
    file.set_len(disk.size()).map_err(|e| failed("size", to, e))?;
    for run in Run::new(0, disk.size()).pieces(PIECE) {
        file.write_all_at(&disk.read(run, &pool).await?, run.start).map_err(|e| failed("write", to, e))?;
    }
    Ok(())
}

/// Looks at a machine as its user would: the file system is clean, and the guest's log is one instant of both disks.
#[derive(Debug, Clone)]
pub(crate) struct Inspection {
    pub(crate) log: Log,
    /// Whether there is a file system that e2fsck can check.
    pub(crate) fsck: bool,
}

impl Inspection {
    /// Decides whether there is one, by the disk as it was before anything happened.
    ///
    /// # Errors
    /// When the file system that was made just now is not clean, or cannot be checked.
    pub(crate) fn new(log: Log, system: &Path, content: Content) -> std::io::Result<Self> {
        let fsck = match check(system) {
            Ok(()) => true,
            Err(why) if content == Content::Ext4 => return Err(why),
            Err(why) => {
                let why = why.to_string();
                println!("!!! the file system is not checked: {}", why.lines().next().unwrap_or_default());
                false
            }
        };
        Ok(Self { log, fsck })
    }

    /// Looks at the machine in `dir`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn look(&self, dir: &Path) -> std::io::Result<()> {
        self.log.last(dir)?;
        self.check(&dir.join(SYSTEM))
    }

    /// `e2fsck -fn` on one disk, where there is a file system.
    pub(crate) fn check(&self, system: &Path) -> std::io::Result<()> {
        if self.fsck { check(system) } else { Ok(()) }
    }
}

#[async_trait]
impl Validation for Inspection {
    async fn validate(&self, _: &Recovery, booted: &Booted) -> Result<Verdict> {
        let (inspection, reach) = (self.clone(), booted.reach.first().cloned().unwrap_or_default());
        let looked = tokio::task::spawn_blocking(move || inspection.look(Path::new(&reach))).await;
        Ok(match looked.map_err(std::io::Error::other).flatten() {
            Ok(()) => Verdict::Good,
            Err(error) => Verdict::Bad { reason: error.to_string() },
        })
    }
}

fn check(system: &Path) -> std::io::Result<()> {
    tool("e2fsck", &["-fn", &system.display().to_string()]).map(drop)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

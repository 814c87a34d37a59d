use crate::record::{self, Record};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

const SECTOR: u64 = 512;
const BLOCK: usize = 64 * 1024;
/// `EXT4_FEATURE_INCOMPAT_RECOVER`.
const RECOVER: u8 = 0x04;

/// What stands on a guest's disk.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The file system's journal holds what is not yet in place. So of a disk that was caught at any instant; not of one
    /// that was frozen, nor of one that was shut down.
    pub needs_recovery: bool,
    /// With the journal replayed, `e2fsck -fn` finds nothing to complain of.
    pub replay_clean: bool,
    /// The number of records that the freeze hook left there; nothing where no hook made the guest quiet.
    pub quiet: Option<u64>,
    /// The guest's log.
    pub records: Vec<Record>,
}

/// Looks at a raw disk of a guest: the file system on its second partition, in a copy, and the log in there. Blocks.
///
/// # Errors
/// In words: the file cannot be read, it has no second partition with ext4, `e2fsck` or `debugfs` cannot be run, a record is
/// not right.
pub fn inspect(disk: &Path) -> Result<Inspected, String> {
    let dir = tempfile::tempdir().map_err(|e| format!("a temporary directory: {e}"))?;
    let copy = dir.path().join("root.ext4");
    let name = copy.display().to_string();
    copy_partition(disk, &copy).map_err(|e| format!("the second partition of {}: {e}", disk.display()))?;
    let needs_recovery = needs_recovery(&copy)?;
    let replayed = run("e2fsck", &["-y", "-E", "journal_only", &name])?.success;
    let checked = run("e2fsck", &["-fn", &name])?.success;
    let file = |path: &str, into: &str| -> Result<Option<Vec<u8>>, String> {
        let into = dir.path().join(into);
        run("debugfs", &["-R", &format!("dump {path} {}", into.display()), &name])?;
        Ok(std::fs::read(into).ok())
    };
    let quiet = file("/data/quiet", "quiet")?;
    let quiet = quiet.and_then(|bytes| String::from_utf8_lossy(&bytes).trim().parse().ok());
    let records = record::read(&file("/data/log", "log")?.unwrap_or_default())?;
    Ok(Inspected { needs_recovery, replay_clean: replayed && checked, quiet, records })
}

fn copy_partition(disk: &Path, to: &Path) -> std::io::Result<()> {
    let mut disk = File::open(disk)?;
    let mut table = [0; SECTOR as usize];
    disk.read_exact(&mut table)?;
    let entry = &table[446 + 16..][..16];
    let number =
        |at: usize| u64::from(u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]));
    let (start, sectors) = (number(8), number(12));
    if table[510..] != [0x55, 0xaa] || sectors == 0 {
        return Err(std::io::Error::other("there is none"));
    }
    disk.seek(SeekFrom::Start(start * SECTOR))?;
    let mut from = disk.take(sectors * SECTOR);
    let mut file = File::create(to)?;
    file.set_len(sectors * SECTOR)?;
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        if from.by_ref().take(BLOCK as u64).read_to_end(&mut block)? == 0 {
            return Ok(());
        }
        if block.iter().all(|b| *b == 0) {
            file.seek(SeekFrom::Current(block.len() as i64))?;
        } else {
            file.write_all(&block)?;
        }
    }
}

/// From the superblock.
fn needs_recovery(file_system: &Path) -> Result<bool, String> {
    let mut block = [0; 1024];
    let mut file = File::open(file_system).map_err(|e| e.to_string())?;
    file.seek(SeekFrom::Start(1024)).and_then(|_| file.read_exact(&mut block)).map_err(|e| e.to_string())?;
    if block[0x38..0x3a] != [0x53, 0xef] {
        return Err("the second partition holds no ext4".to_owned());
    }
    Ok(block[0x60] & RECOVER != 0)
}

struct Ran {
    success: bool,
}

fn run(program: &str, args: &[&str]) -> Result<Ran, String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    Ok(Ran { success: output.status.success() })
}

//! Scratch space: a block device that is ours alone, as a label in its first MiB says.
//!
//! It is written without a look at what was there, so that what is somebody else's has to be found before: a device that is in
//! use, that the disks lie on which are captured, or that holds anything is refused. Only one that reads as empty at both ends
//! is labelled. From then on its first MiB is the label and zeros: whatever is made there later shows.

use super::Stack;
use super::device_mapper::is_cow;
use crate::inventory::{Block, Blocks, Root};
use crate::signature;
use rustix::fs::{OFlags, SeekFrom, major, minor, seek};
use site_recovery::{Error, Result};
use site_recovery_register::Told;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const FIELD: &str = "capture.device_mapper.scratch";
/// How much of it is the label's.
pub(super) const HEAD: u64 = 1 << 20;
const LABEL: &[u8] = b"site-recovery scratch space 1\n";

/// The device that snapshots are kept on.
#[derive(Debug, Clone)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn at(path: PathBuf) -> Result<Self> {
        match path.is_absolute() {
            true => Ok(Self(path)),
            false => {
                let rule = "a device is named by its whole path";
                Err(Error::invalid(FIELD, path.display(), rule, "name it below /dev/disk/by-id"))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether it is labelled as ours. Changes nothing.
    ///
    /// # Errors
    /// `Invalid`, with what stands in the way: no block device, too small, of the stacks, in use, or it holds something.
    pub(super) fn look(&self, stacks: &[Stack]) -> Result<bool> {
        let about = self.0.metadata().told("look at", &self.0)?;
        if !about.file_type().is_block_device() {
            return Err(self.refused("it is a block device", "name one that holds nothing"));
        }
        let blocks = Blocks::read(&Root::of("/".into()))?;
        let number = format!("{}:{}", major(about.rdev()), minor(about.rdev()));
        let own = blocks.numbered(&number).map(|b| b.name.clone()).unwrap_or_default();
        if let Some(name) = of_stacks(&blocks, &own, stacks) {
            let rule = format!("it is apart from the disks that are captured, and {name} lies on it");
            return Err(self.refused(&rule, "name a disk of its own"));
        }
        let ours = self.is_ours()?;
        match beside_ours(&blocks, &own) {
            Some(other) => {
                let rule = format!("nothing else is on it, and {other} is");
                return Err(self.refused(&rule, "name a disk of its own"));
            }
            // Our own snapshots hold it, and with them nobody else does.
            None if ours && blocks.above(&own).len() > 1 => {}
            None => drop(self.alone(false)?),
        }
        Ok(ours)
    }

    /// Makes it ours, where it is not yet.
    ///
    /// # Errors
    /// As [`look`](Self::look); those of the device.
    pub(super) fn claim(&self, stacks: &[Stack]) -> Result<()> {
        if self.look(stacks)? {
            return Ok(());
        }
        let file = self.alone(true)?;
        // The label last: what is cut short before is empty still, and nobody's.
        file.write_all_at(&vec![0; HEAD as usize], 0).told("clear the head of", &self.0)?;
        file.sync_all().told("sync", &self.0)?;
        file.write_all_at(&label(), 0).told("label", &self.0)?;
        file.sync_all().told("sync", &self.0)?;
        tracing::info!(device = %self.0.display(), "labelled as scratch space");
        Ok(())
    }

    fn is_ours(&self) -> Result<bool> {
        let mut file = File::open(&self.0).told("open", &self.0)?;
        let size = seek(&mut file, SeekFrom::End(0)).told("ask for the size of", &self.0)?;
        if size <= HEAD {
            return Err(self.refused("it has more than 1 MiB", "name a larger one"));
        }
        let mut head = vec![0; HEAD as usize];
        file.read_exact_at(&mut head, 0).told("read", &self.0)?;
        if head.starts_with(LABEL) && head[LABEL.len()..].iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        match signature::on(&self.0, size)?.first() {
            None => Ok(false),
            Some(what) => {
                let rule = format!("it holds nothing, or our label, and there is {what}");
                let remedy = "make sure that it is the right one; what is of no use any more goes by wipefs --all and blkdiscard -z";
                Err(self.refused(&rule, remedy))
            }
        }
    }

    /// Opened so that no mount, no volume and no swap has it.
    fn alone(&self, write: bool) -> Result<File> {
        let flags = OFlags::EXCL.bits() as i32;
        match OpenOptions::new().read(true).write(write).custom_flags(flags).open(&self.0) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                let rule = "nobody uses it: it is mounted, or part of a volume, an array or swap";
                Err(self.refused(rule, "name another one, or stop what lies on it").caused_by(e))
            }
            opened => opened.told("open", &self.0),
        }
    }

    fn refused(&self, rule: &str, remedy: &str) -> Error {
        Error::invalid(FIELD, self.0.display(), rule, remedy)
    }
}

/// The stack that shares a device with it, whichever of the two lies on the other.
fn of_stacks<'a>(blocks: &Blocks, own: &str, stacks: &'a [Stack]) -> Option<&'a str> {
    let (below, above) = (blocks.below(own), blocks.above(own));
    let names = stacks.iter().flat_map(|stack| std::iter::once(&stack.origin).chain(&stack.era));
    names.map(String::as_str).find(|name| {
        let mapped = blocks.at(&format!("/dev/mapper/{name}"));
        let under = mapped.map(|mapped| blocks.below(&mapped.name)).unwrap_or_default();
        under.iter().any(|block| below.contains(block) || above.contains(block))
    })
}

/// What lies on it and is neither space of a snapshot of ours nor such a snapshot.
fn beside_ours(blocks: &Blocks, own: &str) -> Option<String> {
    let is_cow = |name: &String| {
        let device = blocks.get(name).map(Block::device);
        device.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).is_some_and(is_cow)
    };
    blocks.above(own).into_iter().find(|name| name != own && !blocks.below(name).iter().any(is_cow))
}

/// A block of a device, so that it is written as a whole.
fn label() -> Vec<u8> {
    let mut block = LABEL.to_vec();
    block.resize(4096, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// `era` and `data` on `sda`, the era's notes on `sdb`, a snapshot of ours with its space on `sdc`.
    fn blocks(dir: &Path, more: &[(&str, &str, &[&str])]) -> Blocks {
        let some: [(&str, &str, &[&str]); 7] = [
            ("sda", "", &[]),
            ("sdb", "", &[]),
            ("sdc", "", &[]),
            ("dm-0", "era", &["sda", "sdb"]),
            ("dm-1", "data", &["dm-0"]),
            ("dm-2", "sr-0123456789abcdef-cow", &["sdc"]),
            ("dm-3", "sr-0123456789abcdef", &["dm-0", "dm-2"]),
        ];
        for (at, (name, given, slaves)) in some.iter().chain(more).enumerate() {
            let own = dir.join("sys/block").join(name);
            fs::create_dir_all(own.join("slaves")).unwrap();
            fs::write(own.join("dev"), format!("8:{at}\n")).unwrap();
            fs::write(own.join("size"), "2048\n").unwrap();
            if !given.is_empty() {
                fs::create_dir_all(own.join("dm")).unwrap();
                fs::write(own.join("dm/name"), format!("{given}\n")).unwrap();
            }
            for slave in *slaves {
                fs::write(own.join("slaves").join(slave), "").unwrap();
            }
        }
        Blocks::read(&Root::of(dir.to_owned())).unwrap()
    }

    #[test]
    fn src_4_what_the_stacks_lie_on_and_what_lies_on_them_is_no_scratch_space() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = blocks(dir.path(), &[("dm-4", "vg-root", &["dm-1"]), ("sdd", "", &[])]);
        let stack = Stack { disk: "wwn-1".into(), origin: "data".into(), era: Some("era".into()) };
        for (own, name) in
            [("sda", "data"), ("sdb", "data"), ("dm-0", "data"), ("dm-1", "data"), ("dm-4", "data")]
        {
            assert_eq!(of_stacks(&blocks, own, std::slice::from_ref(&stack)), Some(name), "{own}");
        }
        for own in ["sdc", "sdd", ""] {
            assert_eq!(of_stacks(&blocks, own, std::slice::from_ref(&stack)), None, "{own}");
        }
    }

    #[test]
    fn src_4_on_scratch_space_are_our_own_snapshots_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(beside_ours(&blocks(dir.path(), &[]), "sdc"), None);
        let other = blocks(dir.path(), &[("dm-4", "vg-data", &["sdc"])]);
        assert_eq!(beside_ours(&other, "sdc").as_deref(), Some("dm-4"));
    }
}

//! Scratch space: a block device that is ours alone, as a label in its first MiB says.
//!
//! It is written without a look at what was there, so that what is somebody else's has to be found before: a device that is in
//! use, that the disks lie on which are captured, or that holds anything is refused. Only one that reads as empty at both ends
//! is labelled. From then on its first MiB is the label and zeros: whatever is made there later shows.

use super::Stack;
use crate::inventory::{Blocks, Root};
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
        let around: Vec<_> = blocks.below(&own).union(&blocks.above(&own)).cloned().collect();
        for stack in stacks {
            for name in std::iter::once(&stack.origin).chain(&stack.era) {
                let Some(mapped) = blocks.at(&format!("/dev/mapper/{name}")) else { continue };
                let below = blocks.below(&mapped.name);
                if around.iter().any(|block| below.contains(block)) {
                    let rule = format!("it is apart from the disks that are captured, and {name} lies on it");
                    return Err(self.refused(&rule, "name a disk of its own"));
                }
            }
        }
        let ours = self.is_ours()?;
        // Our own snapshots hold it, and with them nobody else does.
        let on_it: Vec<_> = blocks.above(&own).into_iter().filter(|name| *name != own).collect();
        let is_cow = |name: &String| {
            let given = blocks.get(name).map(|b| b.device());
            given.and_then(|d| Some(super::device_mapper::is_cow(d.file_name()?.to_str()?))).unwrap_or(false)
        };
        if !ours || on_it.is_empty() {
            drop(self.alone(false)?);
        } else if let Some(other) =
            on_it.iter().find(|name| !is_cow(name) && !lies_on_cow(&blocks, name, is_cow))
        {
            let rule = format!("nothing else is on it, and {other} is");
            return Err(self.refused(&rule, "name a disk of its own"));
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

/// A snapshot lies on its space.
fn lies_on_cow(blocks: &Blocks, name: &str, is_cow: impl Fn(&String) -> bool) -> bool {
    blocks.below(name).iter().any(is_cow)
}

/// A block of a device, so that it is written as a whole.
fn label() -> Vec<u8> {
    let mut block = LABEL.to_vec();
    block.resize(4096, 0);
    block
}

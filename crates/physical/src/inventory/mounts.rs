//! What is mounted, and on which disks it lies.

use super::block::{Block, Blocks};
use super::{FileSystem, Root, ServerDisk};
use site_recovery::{DiskRole, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Mount points that a system starts from, or lies on.
const SYSTEM: [&str; 5] = ["/", "/boot", "/boot/efi", "/efi", "/usr"];
/// Kinds of file system that lie on no block device that the kernel tells of.
const FAR: [&str; 10] =
    ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "zfs", "fuse.glusterfs", "fuse.sshfs"];

#[derive(Debug)]
struct Mount {
    at: PathBuf,
    kind: String,
    source: String,
    /// Whether all of the file system is mounted there, and not a part of it.
    whole: bool,
    /// The block devices that it lies on; none for what lies on no device.
    on: Vec<String>,
}

/// All mounts, in their order.
#[derive(Debug)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(crate) fn read(root: &Root, blocks: &Blocks) -> Result<Self> {
        let text = root.must("/proc/self/mountinfo")?;
        let mut all = vec![];
        for mut mount in text.lines().filter_map(|line| parse(line, blocks)) {
            if mount.kind == "btrfs" {
                mount.on = members(root, &mount.on)?;
            }
            all.push(mount);
        }
        Ok(Self(all))
    }

    /// The file systems on a disk, each once.
    pub(crate) fn on(&self, blocks: &Blocks, disk: &Block) -> Vec<FileSystem> {
        let above = blocks.above(&disk.name);
        self.each(blocks, |m| m.on.iter().any(|n| above.contains(n)))
    }

    /// The file systems that lie on none of the disks.
    pub(crate) fn elsewhere(&self, blocks: &Blocks, disks: &[ServerDisk]) -> Vec<FileSystem> {
        let ours: BTreeSet<_> = disks.iter().flat_map(|d| &d.file_systems).map(|f| &f.mounted).collect();
        let is_far = |m: &Mount| FAR.contains(&m.kind.as_str());
        let mut found = self.each(blocks, |m| is_far(m) || !m.on.is_empty());
        found.retain(|f| !ours.contains(&f.mounted));
        found
    }

    /// Where the system's own file systems lie.
    pub(crate) fn boot(&self, blocks: &Blocks, disks: &[ServerDisk]) -> Vec<(PathBuf, Vec<String>)> {
        let system = self.0.iter().filter(|m| is_system(m) && !m.on.is_empty());
        let on = |m: &Mount| {
            let below: BTreeSet<_> = m.on.iter().flat_map(|n| blocks.below(n)).collect();
            let devices: BTreeSet<_> =
                below.iter().filter_map(|n| blocks.get(n)).map(Block::device).collect();
            disks.iter().filter(|d| devices.contains(&d.device)).map(|d| d.id.clone()).collect()
        };
        system.map(|m| (m.at.clone(), on(m))).collect()
    }

    pub(crate) fn role(&self, root: &Root, blocks: &Blocks, disk: &Block) -> DiskRole {
        let above = blocks.above(&disk.name);
        let mounted = self.0.iter().any(|m| is_system(m) && m.on.iter().any(|n| above.contains(n)));
        let bios = !root.has("/sys/firmware/efi");
        // A volume has no boot loader for the BIOS, but a partition of the disk may.
        let booted = above.iter().filter_map(|n| blocks.get(n)).any(|b| bios && b.bios_boot);
        if mounted || booted { DiskRole::System } else { DiskRole::Data }
    }

    /// File systems, each once: where all of it is mounted, else where it is mounted first.
    fn each(&self, blocks: &Blocks, wanted: impl Fn(&Mount) -> bool) -> Vec<FileSystem> {
        let mut found: Vec<(&Mount, PathBuf)> = vec![];
        for mount in self.0.iter().filter(|m| wanted(m)) {
            let device = match mount.on.first().and_then(|n| blocks.get(n)) {
                Some(block) => block.device(),
                None => mount.source.clone().into(),
            };
            match found.iter_mut().find(|(_, d)| *d == device) {
                None => found.push((mount, device)),
                Some(known) if mount.whole && !known.0.whole => known.0 = mount,
                Some(_) => {}
            }
        }
        let plain = |(m, device): (&Mount, PathBuf)| FileSystem {
            device,
            mounted: m.at.clone(),
            kind: m.kind.clone(),
        };
        found.into_iter().map(plain).collect()
    }
}

fn is_system(mount: &Mount) -> bool {
    SYSTEM.iter().any(|s| mount.at == Path::new(s))
}

/// One line of `mountinfo` (proc(5)): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`.
fn parse(line: &str, blocks: &Blocks) -> Option<Mount> {
    let (place, what) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(2);
    let (number, part, at) = (place.next()?, place.next()?, place.next()?);
    let mut what = what.split(' ');
    let (kind, source) = (what.next()?, unescaped(what.next()?));
    let on = blocks.numbered(number).or_else(|| {
        // btrfs gives numbers of its own to its subvolumes.
        if kind == "btrfs" { blocks.at(&source) } else { None }
    });
    Some(Mount {
        at: unescaped(at).into(),
        kind: kind.to_owned(),
        on: on.map(|b| b.name.clone()).into_iter().collect(),
        source,
        whole: part == "/",
    })
}

/// Space, tabulator, line end and backslash stand as octal numbers.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

/// All devices of a btrfs one of whose devices is known.
fn members(root: &Root, known: &[String]) -> Result<Vec<String>> {
    for uuid in root.names("/sys/fs/btrfs")? {
        let devices = root.names(format!("/sys/fs/btrfs/{uuid}/devices"))?;
        if known.iter().any(|k| devices.contains(k)) {
            let others = devices.into_iter().filter(|d| !known.contains(d));
            return Ok(known.iter().cloned().chain(others).collect());
        }
    }
    Ok(known.to_vec())
}

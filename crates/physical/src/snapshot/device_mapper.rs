//! Snapshots by device-mapper: dm-snapshot beside a `snapshot-origin`.
//!
//! The operator stacks, below the file systems and over the whole disk:
//! ```text
//! disk (or a linear map of all of it) -> [era] -> snapshot-origin "data" -> [partitions, volumes] -> file systems
//! ```
//! A capture then takes
//! ```text
//! dmsetup create <name>-cow --table "0 N linear <scratch> <free place>"     before; its head is cleared, beyond our label
//! dmsetup suspend data                                                    by a process that resumes it, whatever happens
//! dmsetup message <era> 0 checkpoint                                        where there is an era
//! dmsetup --noudevsync create <name> --table "0 SZ snapshot <below data> /dev/mapper/<name>-cow N 128"
//! dmsetup resume data
//! ```
//! Suspending holds every writer: the kernel freezes a file system that is mounted from the origin itself, and those on
//! partitions or volumes above are frozen one by one before. An origin splits writes at the chunks of its snapshots only
//! after it was resumed: one that is taken of an origin which runs on would keep too little, so every capture suspends, also
//! one that nobody wants consistent. What is overwritten while a snapshot lives is kept in scratch space; a snapshot that has no room left is lost, and so is every one when the server
//! restarts: the capture is `NotFound` then.
//!
//! A device that is suspended answers no read either. Where the system's own programs lie on it, what the window runs has
//! been run right before it, and waits for nothing that udev does; a server that is so short of memory that it drops them
//! again is let go at the limit only if they are read from elsewhere, as from an initial file system that stays mounted.

use super::scratch::{HEAD, Scratch};
use super::{Handle, Means, Prepared};
use crate::freeze::{Held, Programs};
use crate::inventory::ServerDisk;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::not_found;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const SECTOR: u64 = 512;
/// Sectors of a chunk that is kept.
const CHUNK: u64 = 128;

/// How a disk lies below device-mapper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The disk's id, as the server tells it.
    pub disk: String,
    /// The mapped device of the target `snapshot-origin`, over the whole disk.
    pub origin: String,
    /// The mapped device of the target `era` below it, where there is one.
    #[serde(default)]
    pub era: Option<String>,
}

/// Disks that lie below a `snapshot-origin`.
#[derive(Debug, Clone)]
pub struct DeviceMapper {
    stacks: Vec<Stack>,
    scratch: Scratch,
    /// Bytes of scratch space for each snapshot.
    room: u64,
    programs: Arc<dyn Programs>,
}

impl DeviceMapper {
    /// With a block device as scratch space, of which every snapshot gets `room` bytes. Nothing else may be on it: the first
    /// capture labels it, in its first MiB, and one that holds something else is never written. Looks at nothing yet.
    ///
    /// # Errors
    /// `Invalid` for room that is less than 1 MiB, and for a device that is not named by its whole path.
    pub fn new(
        stacks: Vec<Stack>,
        scratch: impl Into<PathBuf>,
        room: u64,
        programs: Arc<dyn Programs>,
    ) -> Result<Self> {
        if room < 1 << 20 {
            return Err(Error::invalid("room", room, "a snapshot has at least 1 MiB", "give it more"));
        }
        let scratch = Scratch::at(scratch.into())?;
        Ok(Self { stacks, scratch, room: room / SECTOR * SECTOR, programs })
    }

    /// Whether scratch space is labelled as ours already; one that is not is fit to be. Changes nothing. Blocks.
    ///
    /// # Errors
    /// `Invalid`, with what stands in the way: no block device, too small, of the stacks, in use, or it holds something;
    /// `NotFound`, and those of the device.
    pub fn look(&self) -> Result<bool> {
        self.scratch.look(&self.stacks)
    }

    fn dmsetup(&self, arguments: &[&str]) -> Result<String> {
        self.programs.run("dmsetup", arguments)
    }

    fn stack(&self, disk: &ServerDisk) -> Result<&Stack> {
        self.stacks.iter().find(|s| s.disk == disk.id).ok_or_else(|| {
            let message = format!("{} lies below no device-mapper that was named", disk.device.display());
            Error::new(ErrorKind::Unsupported, message).with("disk", &disk.id)
        })
    }

    /// Sectors of the origin, and what lies below it.
    fn below(&self, disk: &ServerDisk) -> Result<(u64, String)> {
        let origin = &self.stack(disk)?.origin;
        let table = self.dmsetup(&["table", origin])?;
        let fields: Vec<&str> = table.split_whitespace().collect();
        let ["0", sectors, "snapshot-origin", below] = fields[..] else {
            let message = format!("{origin} is not a snapshot-origin: {}", table.trim());
            return Err(Error::new(ErrorKind::Unsupported, message).with("disk", &disk.id));
        };
        match sectors.parse::<u64>() {
            Ok(sectors) if sectors * SECTOR == disk.size => Ok((sectors, below.to_owned())),
            _ => {
                let message =
                    format!("{origin} has {sectors} sectors, disk {} has {} bytes", disk.id, disk.size);
                Err(Error::new(ErrorKind::Unsupported, message).with("disk", &disk.id))
            }
        }
    }

    /// Tables of all mapped devices, by name.
    fn tables(&self) -> Result<BTreeMap<String, String>> {
        let all = self.dmsetup(&["table"])?;
        let parts = all.lines().filter_map(|line| line.split_once(": "));
        Ok(parts.map(|(name, table)| (name.to_owned(), table.to_owned())).collect())
    }

    /// The first place in scratch space where nothing of ours is.
    fn free_place(&self) -> Result<u64> {
        let (sectors, room) = (self.scratch_sectors()?, self.room / SECTOR);
        let mut taken: Vec<(u64, u64)> = vec![];
        for (name, table) in self.tables()? {
            let fields: Vec<&str> = table.split_whitespace().collect();
            if let (true, ["0", len, "linear", _, at]) = (is_cow(&name), &fields[..])
                && let (Ok(at), Ok(len)) = (at.parse(), len.parse())
            {
                taken.push((at, len));
            }
        }
        taken.sort_unstable();
        let mut place = HEAD / SECTOR;
        for (at, len) in taken {
            if place + room <= at {
                break;
            }
            place = place.max(at + len);
        }
        if place + room <= sectors {
            return Ok(place);
        }
        let message =
            format!("{} has no {} bytes left for a snapshot", self.scratch.path().display(), self.room);
        Err(Error::new(ErrorKind::OutOfSpace, message))
    }

    fn scratch_sectors(&self) -> Result<u64> {
        let size = self.programs.run("blockdev", &["--getsz", &self.scratch.path().display().to_string()])?;
        size.trim().parse().map_err(|_| {
            let message = format!("{} has no size: {size:?}", self.scratch.path().display());
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    fn remove_device(&self, name: &str) -> Result<()> {
        if !self.tables()?.contains_key(name) {
            return Ok(());
        }
        self.dmsetup(&["remove", "--retry", name]).map(drop)
    }
}

impl Means for DeviceMapper {
    fn name(&self) -> &'static str {
        "device-mapper"
    }

    fn plan(&self, disk: &ServerDisk, name: &str) -> Result<Handle> {
        self.below(disk)?;
        self.scratch.look(&self.stacks)?;
        Ok(Handle { means: self.name().into(), name: name.into(), path: mapped(name) })
    }

    fn writes_to(&self, _disk: &ServerDisk) -> Result<Vec<PathBuf>> {
        Ok(vec![])
    }

    fn holds(&self, disk: &ServerDisk) -> Vec<Held> {
        self.stack(disk).map(|s| Held::Device(s.origin.clone())).into_iter().collect()
    }

    fn prepare(&self, disk: &ServerDisk, handle: &Handle) -> Result<Box<dyn Prepared>> {
        let (sectors, below) = self.below(disk)?;
        let cow = cow(&handle.name);
        self.scratch.claim(&self.stacks)?;
        let place = self.free_place()?;
        let linear = format!("0 {} linear {} {place}", self.room / SECTOR, self.scratch.path().display());
        self.dmsetup(&["create", &cow, "--table", &linear])?;
        let table = format!("0 {sectors} snapshot {below} {} N {CHUNK}", mapped(&cow).display());
        let snapshot = Snapshot { name: handle.name.clone(), table, programs: Arc::clone(&self.programs) };
        snapshot.clear()?;
        Ok(Box::new(snapshot))
    }

    fn open(&self, handle: &Handle) -> Result<PathBuf> {
        if !self.tables()?.contains_key(&handle.name) {
            return Err(not_found(format!("snapshot {} is gone", handle.name)));
        }
        let status = self.dmsetup(&["status", &handle.name])?;
        match status.split_whitespace().nth(3) {
            Some(used) if used.contains('/') => Ok(handle.path.clone()),
            other => {
                let why = other.unwrap_or("nothing");
                Err(not_found(format!("snapshot {} is lost: device-mapper says {why}", handle.name)))
            }
        }
    }

    fn remove(&self, handle: &Handle) -> Result<()> {
        self.remove_device(&handle.name)?;
        self.remove_device(&cow(&handle.name))
    }
}

#[derive(Debug)]
struct Snapshot {
    name: String,
    table: String,
    programs: Arc<dyn Programs>,
}

impl Snapshot {
    /// What an earlier snapshot left in its space would be taken for this one's.
    fn clear(&self) -> Result<()> {
        let cow = mapped(&cow(&self.name)).display().to_string();
        self.programs.run("blkdiscard", &["-z", "-l", "65536", &cow]).map(drop)
    }
}

impl Prepared for Snapshot {
    fn take(&mut self) -> Result<()> {
        self.programs
            .run("dmsetup", &["--noudevsync", "create", &self.name, "--table", &self.table])
            .map(drop)
    }

    fn again(&mut self) -> Result<()> {
        self.programs.run("dmsetup", &["remove", "--retry", &self.name])?;
        self.clear()
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

fn cow(name: &str) -> String {
    format!("{name}-cow")
}

pub(super) fn is_cow(name: &str) -> bool {
    name.starts_with("sr-") && name.ends_with("-cow")
}

fn mapped(name: &str) -> PathBuf {
    PathBuf::from("/dev/mapper").join(name)
}

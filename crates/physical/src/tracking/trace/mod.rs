//! Writes to a disk as the kernel's block layer traces them: `block_bio_queue`, in an instance of its own.
//!
//! Every bio that is queued for the disk is seen before it is written, whoever writes it: file systems, raw writers,
//! mappings above. A set of blocks is kept in memory, and is exchanged at each cut. What is under way at a cut may land
//! after it: where writers are not held there, the blocks count for the next cut too.
//!
//! # What it does not see
//! Commands that are handed to a device past the block layer (SCSI and NVMe pass-through), and writes of another host to
//! a disk that is shared. A scan of everything, now and then, bounds how long they stay unseen.
//!
//! # Doubt
//! Events that were lost, a page or format that is not as described, tracing that somebody switched off, a disk that is
//! another one now: the cut is told as [`Hint::Anything`], and everything is read. It lives in memory: after a restart too.

mod instance;
mod page;

use super::blocks::Blocks;
use super::scan::Hint;
use super::{Means, Written};
pub(crate) use instance::name_of;
use instance::{Instance, next_page};
use page::{Bio, Doubt, Kind, Layout};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use site_recovery::{Error, ErrorKind, Result, Run};
use site_recovery_register::Told;
use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// KiB of the ring buffer of each processor: some 30,000 writes between two looks.
const BUFFER_KIB: u32 = 2048;
/// How long the reader sleeps at most before it looks whether it is to end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
const SECTOR: u64 = 512;

/// Tracing of one disk. Dropped, it ends.
#[derive(Debug)]
pub struct Trace {
    shared: Arc<Shared>,
    reader: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    instance: Instance,
    layout: Layout,
    dev: u32,
    size: u64,
    /// Read by whoever holds it: the reader, or a cut.
    seen: Mutex<Seen>,
    ends: AtomicBool,
}

#[derive(Debug)]
struct Seen {
    blocks: Blocks,
    doubt: Option<String>,
    lost: u64,
    page: Vec<u8>,
}

impl Trace {
    /// Begins to trace a disk under a name of its own. What was written before the first cut is not known.
    ///
    /// # Errors
    /// `Unsupported` where the device or the kernel cannot be traced; `Busy` where somebody traces under this name;
    /// `Denied`, `Unavailable`.
    pub fn start(device: &Path, name: &str) -> Result<Self> {
        Self::with_buffer(device, name, BUFFER_KIB)
    }

    /// As [`start`](Self::start), with so many KiB of ring buffer for each processor.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_buffer(device: &Path, name: &str, kib: u32) -> Result<Self> {
        let meta = fs::metadata(device).told("look at", device)?;
        if !meta.file_type().is_block_device() {
            let message = format!("{} is no block device", device.display());
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let dev = (rustix::fs::major(meta.rdev()) << 20) | rustix::fs::minor(meta.rdev());
        let size =
            File::open(device).and_then(|f| site_recovery_sparse::size_of(&f)).told("look at", device)?;
        let instance = Instance::start(name, dev, kib)?;
        let layout = Layout::parse(&instance.format).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this kernel describes block_bio_queue in a way that is not known",
            )
        })?;
        let seen = Seen {
            blocks: Blocks::none(size),
            doubt: Some("tracing began after the cut before".into()),
            lost: instance.lost().unwrap_or(0),
            page: vec![0; 64 << 10],
        };
        let ends = AtomicBool::new(false);
        let shared = Arc::new(Shared { instance, layout, dev, size, seen: Mutex::new(seen), ends });
        let reading = Arc::clone(&shared);
        let reader = std::thread::Builder::new().name("trace".into()).spawn(move || reading.read_on());
        Ok(Self { shared, reader: Some(reader.told("start a reader for", device)?) })
    }
}

impl Means for Trace {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn size(&self) -> u64 {
        self.shared.size
    }

    fn cut(&mut self) -> Written {
        let mut seen = self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.drain(&mut seen);
        if !self.shared.instance.is_as_set() {
            seen.doubt.get_or_insert_with(|| "somebody changed how the disk is traced".into());
        }
        match self.shared.instance.lost() {
            Some(lost) if lost == seen.lost => {}
            Some(lost) => {
                let events = lost - seen.lost;
                seen.lost = lost;
                seen.doubt.get_or_insert_with(|| format!("the kernel lost {events} events"));
            }
            None => {
                seen.doubt.get_or_insert_with(|| "the kernel does not say how many events it lost".into());
            }
        }
        let blocks = std::mem::replace(&mut seen.blocks, Blocks::none(self.shared.size));
        Written::Told(match seen.doubt.take() {
            Some(why) => Hint::Anything(why),
            None => Hint::Blocks(blocks),
        })
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        let _ended = self.reader.take().map(std::thread::JoinHandle::join);
    }
}

impl Shared {
    /// Empties the buffers whenever one is a quarter full.
    fn read_on(&self) {
        while !self.ends.load(Ordering::Relaxed) {
            let cpus = &self.instance.cpus;
            let mut pipes: Vec<_> = cpus.iter().map(|(_, pipe)| PollFd::new(pipe, PollFlags::IN)).collect();
            if poll(&mut pipes, Some(&LOOK)).is_ok_and(|ready| ready > 0) {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                self.drain(&mut seen);
            }
        }
    }

    /// Takes in everything that was traced until now.
    fn drain(&self, seen: &mut Seen) {
        let Seen { blocks, doubt, page, .. } = seen;
        for (_, pipe) in &self.instance.cpus {
            loop {
                let page = match next_page(pipe, page) {
                    Ok(Some(page)) => page,
                    Ok(None) => break,
                    Err(e) => {
                        doubt.get_or_insert_with(|| format!("the trace cannot be read: {e}"));
                        break;
                    }
                };
                let mut strange = false;
                let read = self.layout.each(page, &mut |bio| strange |= !self.take(bio, blocks));
                match read {
                    Ok(()) => {}
                    Err(Doubt::Lost) => {
                        doubt.get_or_insert_with(|| "the kernel lost events".into());
                    }
                    Err(Doubt::Strange(what)) => {
                        doubt.get_or_insert_with(|| format!("the trace has {what}"));
                    }
                }
                if strange {
                    doubt.get_or_insert_with(|| {
                        "a write that is not of this disk, or has no place in it".into()
                    });
                }
            }
        }
    }

    /// Notes one bio. False where it cannot be placed.
    fn take(&self, bio: Bio, blocks: &mut Blocks) -> bool {
        if bio.kind != Kind::Write {
            return true;
        }
        if bio.dev != self.dev || bio.sectors == 0 {
            return false;
        }
        let Some(start) = bio.sector.checked_mul(SECTOR) else { return false };
        let run = Run::new(start, u64::from(bio.sectors) * SECTOR);
        blocks.add_run(run);
        // Past the end it had when tracing began: it has grown.
        run.start.checked_add(run.len).is_some_and(|end| end <= self.size)
    }
}

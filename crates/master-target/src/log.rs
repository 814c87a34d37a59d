//! One file of the retention log: groups of pieces, each group durable by one sync before anything rests on it.
//!
//! A group is a fixed head (magic, number of the file, own offset, lengths, checksum), a list of entries as JSON, and
//! the bytes of the pieces. A group is written only when the one before is durable; so a damaged group that others
//! follow is damage, and a damaged one at the end was never relied on.

use crate::folder::Folder;
use crate::layer::{Kept, Layer, Piece};
use crate::timeline::Part;
use serde::{Deserialize, Serialize};
use site_recovery::{DiskId, Error, ErrorKind, HASH_BLOCK, Landed, Result, Run};
use site_recovery_record::{checksum, is_zero};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Most bytes of one piece: what must be read to verify any of it.
pub(crate) const PIECE: u64 = HASH_BLOCK;

/// Bytes that go through a file by one sync.
pub(crate) const GROUP: u64 = 8 << 20;
const MOST_ENTRIES: usize = 1 << 16;

const MAGIC: [u8; 8] = *b"srt-log1";
const HEAD: usize = 48;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// What a run held.
    Piece { disk: DiskId, run: Run, kept: Kept },
    /// A batch of an ingest is durable on the landing disks.
    Batch(Batch),
}

/// Where an ingest stands after a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) session: u64,
    pub(crate) batch: u64,
    pub(crate) records: u64,
    pub(crate) digest: u64,
    pub(crate) landed: Landed,
}

/// A group on its way into a file.
#[derive(Debug, Default)]
pub(crate) struct Group {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl Group {
    /// Bytes of a run, in pieces; zeros cost nothing.
    pub(crate) fn data(&mut self, disk: &DiskId, run: Run, bytes: &[u8]) {
        let mut at = 0;
        for piece in run.pieces(PIECE) {
            let part = &bytes[at..at + piece.len as usize];
            at += part.len();
            if is_zero(part) {
                self.mark(disk, piece, Kept::Zero);
            } else {
                self.bytes.extend_from_slice(part);
                self.mark(disk, piece, Kept::Data { checksum: checksum(part) });
            }
        }
    }

    /// A run of which no bytes are kept.
    pub(crate) fn mark(&mut self, disk: &DiskId, run: Run, kept: Kept) {
        self.entries.push(Entry::Piece { disk: disk.clone(), run, kept });
    }

    pub(crate) fn batch(&mut self, batch: Batch) {
        self.entries.push(Entry::Batch(batch));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// A file of the log and what it holds.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) number: u64,
    pub(crate) end: u64,
    pub(crate) layer: Layer<Piece>,
    /// Batches, oldest first; only of interest while the file is written.
    pub(crate) batches: Vec<Batch>,
    file: Arc<File>,
}

/// Bytes that a file of the log holds for a run.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) within: Run,
    piece: Piece,
    file: Arc<File>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("number", &self.number).field("end", &self.end).finish_non_exhaustive()
    }
}

impl Log {
    pub(crate) fn name(number: u64) -> String {
        format!("{number:08}.log")
    }

    /// Opens a file that is closed: exactly `end` bytes of whole groups.
    pub(crate) fn open(folder: &Folder, number: u64, end: u64) -> Result<Log> {
        let mut log = Self::empty(folder, number)?;
        let found = log.scan(folder)?;
        if log.end == end && found >= end {
            return Ok(log);
        }
        Err(log.damaged(folder, log.end))
    }

    /// Opens the file that is written to; a last group that was cut short is taken away.
    pub(crate) fn open_last(folder: &Folder, number: u64) -> Result<Log> {
        let mut log = Self::empty(folder, number)?;
        let found = log.scan(folder)?;
        if found > log.end {
            if log.goes_on(folder, found)? {
                return Err(log.damaged(folder, log.end));
            }
            let cut = log.file.set_len(log.end).and_then(|()| log.file.sync_all());
            cut.map_err(|e| folder.failed(&Self::name(number), e))?;
        }
        Ok(log)
    }

    /// Appends a group; when this returns it is durable.
    pub(crate) fn append(&mut self, folder: &Folder, group: Group) -> Result<()> {
        if group.is_empty() {
            return Ok(());
        }
        let list = serde_json::to_vec(&group.entries).expect("plain data is always JSON");
        let head = Head { number: self.number, at: self.end, list: list.len() as u64, body: group.len() };
        let mut bytes = head.bytes(&list);
        bytes.extend_from_slice(&list);
        bytes.extend_from_slice(&group.bytes);
        folder.append(&Self::name(self.number), &self.file, self.end, &bytes)?;
        self.take(group.entries, self.end + (HEAD + list.len()) as u64);
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// What the file holds of one piece, verified.
    pub(crate) fn stored(&self, within: Run, piece: &Piece) -> Stored {
        Stored { within, piece: *piece, file: Arc::clone(&self.file) }
    }

    /// Bytes of pieces.
    pub(crate) fn bytes(&self) -> u64 {
        let data = self.layer.pieces().filter(|(_, _, p)| matches!(p.kept, Kept::Data { .. }));
        data.map(|(_, run, _)| run.len).sum()
    }

    fn empty(folder: &Folder, number: u64) -> Result<Log> {
        let file = Arc::new(folder.open(&Self::name(number))?);
        Ok(Log { number, end: 0, layer: Layer::default(), batches: vec![], file })
    }

    /// Takes in whole groups from the start; returns the length of the file.
    fn scan(&mut self, folder: &Folder) -> Result<u64> {
        let name = Self::name(self.number);
        let failed = |e| folder.failed(&name, e);
        let length = self.file.metadata().map_err(failed)?.len();
        while self.end < length {
            let Some((head, entries)) = self.group(self.end, length).map_err(failed)? else { break };
            let body = self.end + HEAD as u64 + head.list;
            let last = body + head.body == length;
            if last && !self.whole(&entries, body).map_err(failed)? {
                break;
            }
            self.take(entries, body);
            self.end = body + head.body;
        }
        Ok(length)
    }

    fn group(&self, at: u64, length: u64) -> io::Result<Option<(Head, Vec<Entry>)>> {
        let mut bytes = [0; HEAD];
        if at + HEAD as u64 > length {
            return Ok(None);
        }
        self.file.read_exact_at(&mut bytes, at)?;
        let Some((head, sum)) = Head::read(&bytes).filter(|(h, _)| h.fits(self.number, at, length)) else {
            return Ok(None);
        };
        let mut list = vec![0; head.list as usize];
        self.file.read_exact_at(&mut list, at + HEAD as u64)?;
        if head.checksum(&list) != sum {
            return Ok(None);
        }
        let entries: Option<Vec<Entry>> = serde_json::from_slice(&list).ok();
        Ok(entries.filter(|entries| head.describes(entries)).map(|entries| (head, entries)))
    }

    fn whole(&self, entries: &[Entry], mut at: u64) -> io::Result<bool> {
        for entry in entries {
            if let Entry::Piece { run, kept: Kept::Data { checksum: sum }, .. } = entry {
                let mut bytes = vec![0; run.len as usize];
                self.file.read_exact_at(&mut bytes, at)?;
                at += run.len;
                if checksum(&bytes) != *sum {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether a whole group starts anywhere behind the damage.
    fn goes_on(&self, folder: &Folder, length: u64) -> Result<bool> {
        let look = || -> io::Result<bool> {
            let mut rest = vec![];
            let mut file = File::try_clone(&self.file)?;
            io::Seek::seek(&mut file, io::SeekFrom::Start(self.end + 1))?;
            file.take(length - self.end - 1).read_to_end(&mut rest)?;
            let starts = rest.windows(MAGIC.len()).enumerate().filter(|(_, w)| **w == MAGIC);
            for (at, _) in starts {
                if self.group(self.end + 1 + at as u64, length)?.is_some() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        look().map_err(|e| folder.failed(&Self::name(self.number), e))
    }

    fn take(&mut self, entries: Vec<Entry>, mut at: u64) {
        for entry in entries {
            match entry {
                Entry::Piece { disk, run, kept } => {
                    self.layer.add(&disk, run, &Piece { run, kept, at });
                    at += if matches!(kept, Kept::Data { .. }) { run.len } else { 0 };
                }
                Entry::Batch(batch) => self.batches.push(batch),
            }
        }
    }

    fn damaged(&self, folder: &Folder, at: u64) -> Error {
        let path = folder.path().join(Self::name(self.number));
        Error::new(ErrorKind::Corrupt, format!("retention log {} is damaged at byte {at}", path.display()))
    }
}

impl Stored {
    /// The bytes of `within`; none for zeros.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>> {
        let Run { start, len } = self.piece.run;
        let corrupt =
            |why: &str| Error::new(ErrorKind::Corrupt, format!("bytes {start}+{len} in the log: {why}"));
        let sum = match self.piece.kept {
            Kept::Zero => return Ok(None),
            Kept::Lost => return Err(corrupt("nothing was kept")),
            Kept::Data { checksum } => checksum,
        };
        let mut bytes = vec![0; len as usize];
        self.file
            .read_exact_at(&mut bytes, self.piece.at)
            .map_err(|e| corrupt("cannot be read").caused_by(e))?;
        if checksum(&bytes) != sum {
            return Err(corrupt("they do not match their checksum"));
        }
        bytes.truncate((self.within.end() - start) as usize);
        Ok(Some(bytes.split_off((self.within.start - start) as usize)))
    }

    /// The same, of a part of it.
    pub(crate) fn cut(&self, within: Run) -> Stored {
        Stored { within, ..self.clone() }
    }

    pub(crate) fn kept(&self) -> Kept {
        self.piece.kept
    }
}

/// A file that is written in one go and named when it is whole.
#[derive(Debug)]
pub(crate) struct Writer {
    folder: Folder,
    log: Log,
    group: Group,
}

impl Writer {
    pub(crate) fn new(folder: &Folder, number: u64) -> Result<Self> {
        folder.remove(&Log::name(number))?;
        Ok(Self { folder: folder.clone(), log: Log::empty(folder, number)?, group: Group::default() })
    }

    pub(crate) fn data(&mut self, disk: &DiskId, run: Run, bytes: &[u8]) -> Result<()> {
        self.group.data(disk, run, bytes);
        self.relieve()
    }

    pub(crate) fn mark(&mut self, disk: &DiskId, run: Run, kept: Kept) -> Result<()> {
        self.group.mark(disk, run, kept);
        self.relieve()
    }

    /// Everything is durable when this returns.
    pub(crate) fn finish(mut self) -> Result<Part> {
        let group = std::mem::take(&mut self.group);
        self.log.append(&self.folder, group)?;
        Ok(Part { number: self.log.number, end: self.log.end })
    }

    fn relieve(&mut self) -> Result<()> {
        if self.group.len() >= GROUP || self.group.entries.len() >= MOST_ENTRIES {
            self.log.append(&self.folder, std::mem::take(&mut self.group))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod fuzz;

struct Head {
    number: u64,
    at: u64,
    list: u64,
    body: u64,
}

impl Head {
    fn bytes(&self, list: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for field in [self.number, self.at, self.list, self.body, self.checksum(list)] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    fn read(bytes: &[u8; HEAD]) -> Option<(Head, u64)> {
        let field = |n: usize| Some(u64::from_le_bytes(bytes[n * 8..n * 8 + 8].try_into().ok()?));
        let head = Head { number: field(1)?, at: field(2)?, list: field(3)?, body: field(4)? };
        (bytes[..8] == MAGIC).then_some((head, field(5)?))
    }

    fn fits(&self, number: u64, at: u64, length: u64) -> bool {
        let room = length - at - HEAD as u64;
        self.number == number
            && self.at == at
            && self.list.checked_add(self.body).is_some_and(|len| len <= room)
    }

    /// Whether the bytes of these pieces are the body, and none of them costs more memory than a piece may.
    fn describes(&self, entries: &[Entry]) -> bool {
        let mut left = Some(self.body);
        for entry in entries {
            let Entry::Piece { run, kept, .. } = entry else { continue };
            let data = if matches!(kept, Kept::Data { .. }) { run.len } else { 0 };
            if run.start.checked_add(run.len).is_none() || data > PIECE {
                return false;
            }
            left = left.and_then(|left| left.checked_sub(data));
        }
        left == Some(0)
    }

    fn checksum(&self, list: &[u8]) -> u64 {
        let fields = [self.number, self.at, self.list, self.body].map(u64::to_le_bytes).concat();
        checksum(&fields) ^ checksum(list)
    }
}

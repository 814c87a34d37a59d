//! The shape of what crosses, and its parser. Any bytes give a frame or a named error; nothing is allocated that the bytes
//! at hand do not pay for.
//!
//! All numbers are little-endian. A frame is a [`Header`] and as many bytes as it says.

use bytes::{BufMut, Bytes, BytesMut};
use site_recovery::{DiskId, Extent, Fill, Hash, Ingest, Payload, Record, Run};

/// The most records of one write.
pub(crate) const MOST_RECORDS: usize = 1 << 16;
/// The most bytes of the disks' names of one write, each counted as often as a record has it: each has a copy.
pub(crate) const MOST_NAMES: usize = 16 << 20;
/// The most bytes of one read.
pub(crate) const MOST_READ: u32 = 4 << 20;
/// A record in the head of a write, without the payload.
const RECORD: usize = 24 + size_of_val(&CHECKSUM);
const CHECKSUM: [u8; size_of::<Checksum>()] = [0; size_of::<Checksum>()];

/// The type of [`Record::checksum`], as it crosses.
type Checksum = Hash;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Both sides: still there. No body.
    Beat = 0,
    /// Client, first frame: JSON [`Hello`](crate::message::Hello).
    Hello = 1,
    /// Server, first frame: JSON [`Welcome`](crate::message::Welcome).
    Welcome = 2,
    /// Server, first frame instead of a welcome, then it hangs up: a JSON error.
    Unwelcome = 3,
    /// Client: JSON [`Call`](crate::message::Call).
    Call = 4,
    /// Client: a batch of records, see [`WriteHead`].
    Write = 5,
    /// Client: bytes of an opened disk, see [`Place`].
    Read = 6,
    /// Client: extents of an opened disk, see [`Place`].
    Extents = 7,
    /// Client: nobody waits for this request any more. No body; the request is answered still.
    Cancel = 8,
    /// Client: lets an opened point go; the id is the handle. No body, no answer.
    Close = 9,
    /// Server: the answer to a request.
    Answer = 10,
    /// Server: a request failed: a JSON error. Parts that came before are void.
    Failed = 11,
    /// Server: the beginning of an answer that is a list: a JSON list, and more is to come.
    Part = 12,
    /// Client: bytes for a landing disk: a [`Place`], and as many bytes as its run is long.
    Put = 13,
}

/// The first sixteen bytes of every frame: kind, three zeros, length of what follows, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) len: u32,
    pub(crate) id: u64,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a frame of kind {0}")]
    Kind(u8),
    #[error("bytes that must be zero are not")]
    Reserved,
    #[error("{what} ends early")]
    Short { what: &'static str },
    #[error("{extra} bytes behind the end of {what}")]
    Long { what: &'static str, extra: usize },
    #[error("{what} is {found}, at most {most}")]
    TooMuch { what: &'static str, found: u64, most: u64 },
    #[error("record {0} is of a disk that the head does not name")]
    Disk(usize),
    #[error("record {record} has payload kind {kind}")]
    Payload { record: usize, kind: u8 },
    #[error("a run of {len} bytes at {start} has no end")]
    Run { start: u64, len: u64 },
    #[error("a name that is not UTF-8")]
    Name,
    #[error("the payloads have {said} bytes by the head, {there} by the frame")]
    Sum { said: u64, there: u64 },
    #[error("{what} is not what it should be: {why}")]
    Json { what: &'static str, why: String },
}

impl Header {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn new(kind: Kind, id: u64, len: u32) -> Self {
        Self { kind, len, id }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: [u8; Self::SIZE]) -> Result<Self, Malformed> {
        let mut fields = Fields { rest: &bytes, what: "a header" };
        let kind = Kind::of(fields.u8()?)?;
        if fields.take(3)? != [0; 3] {
            return Err(Malformed::Reserved);
        }
        Ok(Self { kind, len: fields.u32()?, id: fields.u64()? })
    }
}

impl Kind {
    const ALL: [Kind; 14] = [
        Kind::Beat,
        Kind::Hello,
        Kind::Welcome,
        Kind::Unwelcome,
        Kind::Call,
        Kind::Write,
        Kind::Read,
        Kind::Extents,
        Kind::Cancel,
        Kind::Close,
        Kind::Answer,
        Kind::Failed,
        Kind::Part,
        Kind::Put,
    ];

    fn of(byte: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|k| *k as u8 == byte).ok_or(Malformed::Kind(byte))
    }
}

/// All of a write but the payloads, which follow it in the order of the records.
///
/// Length of what follows of the head (4); length of the ingest (4) and the ingest as JSON; batch (8); number of disks (4),
/// each a length (2) and a name; number of records (4), each: which disk (3), kind of payload (1: 0 zeros, 1 plain,
/// 2 sealed), length of the payload (4), start (8), length (8), checksum.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WriteHead {
    pub(crate) ingest: Ingest,
    pub(crate) batch: u64,
    records: Vec<Laid>,
    /// Bytes of all payloads together.
    pub(crate) payload: usize,
}

/// A record without its payload.
#[derive(Debug, Clone, PartialEq)]
struct Laid {
    disk: DiskId,
    run: Run,
    checksum: Checksum,
    kind: u8,
    len: u32,
}

const ZERO: u8 = 0;
const PLAIN: u8 = 1;
const SEALED: u8 = 2;

impl WriteHead {
    /// The head, with its own length (4) before it. The payloads are what [`payload`] gives of each record.
    pub(crate) fn encode(ingest: &Ingest, batch: u64, records: &[Record]) -> Bytes {
        let ingest = serde_json::to_vec(ingest).expect("plain data serialises");
        let mut disks: Vec<&DiskId> = records.iter().map(|r| &r.disk).collect();
        disks.sort_unstable();
        disks.dedup();
        let mut head = BytesMut::with_capacity(64 + ingest.len() + records.len() * RECORD);
        head.put_u32_le(0);
        head.put_u32_le(ingest.len() as u32);
        head.put_slice(&ingest);
        head.put_u64_le(batch);
        head.put_u32_le(disks.len() as u32);
        for disk in &disks {
            head.put_u16_le(disk.0.len() as u16);
            head.put_slice(disk.0.as_bytes());
        }
        head.put_u32_le(records.len() as u32);
        for record in records {
            let kind = match record.payload {
                Payload::Zero => ZERO,
                Payload::Plain(_) => PLAIN,
                Payload::Sealed(_) => SEALED,
            };
            let disk = disks.binary_search(&&record.disk).expect("all disks are in it") as u32;
            head.put_u32_le(disk | u32::from(kind) << 24);
            head.put_u32_le(payload(record).map_or(0, Bytes::len) as u32);
            head.put_u64_le(record.run.start);
            head.put_u64_le(record.run.len);
            head.put_slice(&record.checksum.to_le_bytes());
        }
        let len = head.len() as u32 - 4;
        head[..4].copy_from_slice(&len.to_le_bytes());
        head.freeze()
    }

    /// Of the bytes behind the length; `frame` is what the whole frame has, the length included.
    pub(crate) fn parse(head: &[u8], frame: u32) -> Result<Self, Malformed> {
        let mut fields = Fields { rest: head, what: "the head of a write" };
        let len = fields.u32()? as usize;
        let ingest = json("an ingest", fields.take(len)?)?;
        let batch = fields.u64()?;
        let mut disks = vec![];
        for _ in 0..fields.count(2)? {
            let len = fields.u16()?.into();
            let name = std::str::from_utf8(fields.take(len)?).map_err(|_| Malformed::Name)?;
            disks.push(DiskId::from(name));
        }
        let count = fields.count(RECORD)?;
        if count > MOST_RECORDS {
            return Err(Malformed::TooMuch {
                what: "the number of records",
                found: count as u64,
                most: MOST_RECORDS as u64,
            });
        }
        let mut records = Vec::with_capacity(count);
        let (mut sum, mut names) = (0, 0);
        for number in 0..count {
            let laid = Laid::parse(&mut fields, number, &disks)?;
            sum += u64::from(laid.len);
            names += laid.disk.0.len();
            if names > MOST_NAMES {
                let (what, found, most) = ("the length of all names", names as u64, MOST_NAMES as u64);
                return Err(Malformed::TooMuch { what, found, most });
            }
            records.push(laid);
        }
        fields.end()?;
        let there = u64::from(frame).saturating_sub(4 + head.len() as u64);
        if sum != there {
            return Err(Malformed::Sum { said: sum, there });
        }
        Ok(Self { ingest, batch, records, payload: sum as usize })
    }

    /// The records, with slices of `payload` as their bytes.
    pub(crate) fn records(self, payload: &Bytes) -> Vec<Record> {
        let mut at = 0;
        let whole = |laid: Laid| {
            let bytes = payload.slice(at..at + laid.len as usize);
            at += laid.len as usize;
            let payload = match laid.kind {
                ZERO => Payload::Zero,
                PLAIN => Payload::Plain(bytes),
                _ => Payload::Sealed(bytes),
            };
            Record { disk: laid.disk, run: laid.run, checksum: laid.checksum, payload }
        };
        self.records.into_iter().map(whole).collect()
    }
}

impl Laid {
    fn parse(fields: &mut Fields<'_>, number: usize, disks: &[DiskId]) -> Result<Self, Malformed> {
        let (disk, len) = (fields.u32()?, fields.u32()?);
        let (kind, disk) = ((disk >> 24) as u8, (disk & 0xff_ffff) as usize);
        let run = fields.run()?;
        let mut checksum = CHECKSUM;
        checksum.copy_from_slice(fields.take(CHECKSUM.len())?);
        if kind > SEALED || kind == ZERO && len != 0 {
            return Err(Malformed::Payload { record: number, kind });
        }
        let disk = disks.get(disk).ok_or(Malformed::Disk(number))?.clone();
        Ok(Self { disk, run, checksum: Checksum::from_le_bytes(checksum), kind, len })
    }
}

/// The bytes of a record that cross, if it has any.
pub(crate) fn payload(record: &Record) -> Option<&Bytes> {
    match &record.payload {
        Payload::Zero => None,
        Payload::Plain(bytes) | Payload::Sealed(bytes) => Some(bytes),
    }
}

/// A run of an opened disk: handle (8), which of its disks in the order of their names (4), start (8), length (8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) handle: u64,
    pub(crate) disk: u32,
    pub(crate) run: Run,
}

impl Place {
    pub(crate) const SIZE: usize = 28;

    pub(crate) fn encode(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::SIZE);
        bytes.put_u64_le(self.handle);
        bytes.put_u32_le(self.disk);
        bytes.put_u64_le(self.run.start);
        bytes.put_u64_le(self.run.len);
        bytes.freeze()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields { rest: bytes, what: "a place" };
        let place = Self { handle: fields.u64()?, disk: fields.u32()?, run: fields.run()? };
        fields.end()?;
        Ok(place)
    }
}

/// Extents as they follow each other: length (8) and fill (1: 0 data, 1 zeros) each.
pub(crate) fn encode_extents(extents: &[Extent]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(extents.len() * 9);
    for extent in extents {
        bytes.put_u64_le(extent.run.len);
        bytes.put_u8(u8::from(extent.fill == Fill::Zero));
    }
    bytes.freeze()
}

/// The extents of `range`, which they have to cover.
pub(crate) fn parse_extents(bytes: &[u8], range: Run) -> Result<Vec<Extent>, Malformed> {
    let mut fields = Fields { rest: bytes, what: "a list of extents" };
    let (mut extents, mut at) = (Vec::with_capacity(bytes.len() / 9), range.start);
    while !fields.rest.is_empty() {
        let (len, fill) = (fields.u64()?, fields.u8()?);
        let end = at.checked_add(len).filter(|end| len > 0 && *end <= range.end());
        let end = end.ok_or(Malformed::Run { start: at, len })?;
        let fill = if fill == 1 { Fill::Zero } else { Fill::Data };
        extents.push(Extent { run: Run::new(at, len), fill });
        at = end;
    }
    if at == range.end() { Ok(extents) } else { Err(Malformed::Short { what: "a list of extents" }) }
}

/// Sixteen bytes each.
pub(crate) fn encode_hashes(hashes: &[Hash]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size_of_val(hashes));
    hashes.iter().for_each(|hash| bytes.put_u128_le(*hash));
    bytes.freeze()
}

pub(crate) fn parse_hashes(bytes: &[u8]) -> Result<Vec<Hash>, Malformed> {
    let (whole, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(Malformed::Long { what: "a list of hashes", extra: rest.len() });
    }
    Ok(whole.iter().map(|hash| Hash::from_le_bytes(*hash)).collect())
}

pub(crate) fn json<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|e| Malformed::Json { what, why: e.to_string() })
}

/// Whether a run has an end. One that has not is taken from nobody.
pub(crate) fn has_end(run: Run) -> bool {
    run.start.checked_add(run.len).is_some()
}

struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short { what: self.what })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn run(&mut self) -> Result<Run, Malformed> {
        let (start, len) = (self.u64()?, self.u64()?);
        let run = Run::new(start, len);
        if has_end(run) { Ok(run) } else { Err(Malformed::Run { start, len }) }
    }

    /// A number of things of at least `each` bytes, for which there are bytes.
    fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / each {
            return Err(Malformed::Short { what: self.what });
        }
        Ok(count)
    }

    fn end(self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(Malformed::Long { what: self.what, extra }),
        }
    }
}

#[cfg(test)]
mod tests;

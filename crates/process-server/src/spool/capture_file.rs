//! One spooled capture: a file of frames, each with its checksum, closed by a count and a digest.
//!
//! `SRSPOOL1`, then frames of `length u32, checksum u64, body`: the header, the change set, the records in order, the
//! end. All numbers are little-endian. Header and change set are JSON.

use super::durable::{self, UNFINISHED};
use crate::blocking::at_path;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use site_recovery::{
    ChangeSet, Cursor, CutId, DiskId, Error, ErrorKind, Hash, Manifest, OpKey, Payload, PointId, Record,
    Result, Run, fold,
};
use site_recovery_record::checksum;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SRSPOOL1";
/// Header and change set: the most runs on some ten disks, as JSON.
const MOST_JSON: u64 = 1 << 28;
/// A record of 1 MiB, whatever the codec added, and its name.
const MOST_RECORD: u64 = 1 << 21;

/// What must be known of a spooled capture before its bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Under this key it is ingested, however often.
    pub(crate) key: OpKey,
    /// The point that its change set stands on.
    pub(crate) on: Option<PointId>,
    /// The cursor that its change set stands on.
    pub(crate) since: Option<Cursor>,
    /// Cuts that may have been sealed before it since, all of which its change set contains.
    pub(crate) follows: Vec<CutId>,
    /// What will be sealed.
    pub(crate) manifest: Manifest,
}

/// Writes one; gone when it is dropped before [`Writer::publish`].
#[derive(Debug)]
pub(crate) struct Writer {
    file: BufWriter<File>,
    unfinished: PathBuf,
    path: PathBuf,
    records: u64,
    digest: u64,
    bytes: u64,
    published: bool,
}

impl Writer {
    pub(crate) fn create(path: &Path, header: &Header, set: &ChangeSet) -> Result<Self> {
        let unfinished = path.with_extension(UNFINISHED);
        let file =
            BufWriter::with_capacity(1 << 20, File::create(&unfinished).map_err(at_path(&unfinished))?);
        let path = path.to_owned();
        let mut new = Self { file, unfinished, path, records: 0, digest: 0, bytes: 0, published: false };
        new.put(MAGIC)?;
        new.frame(&json(header)?)?;
        new.frame(&json(set)?)?;
        Ok(new)
    }

    pub(crate) fn append(&mut self, record: &Record) -> Result<()> {
        self.records += 1;
        self.digest = fold(self.digest, record);
        self.frame(&encode(record))
    }

    /// Hands all of it to the file system, where it can be counted.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(at_path(&self.unfinished))
    }

    /// Makes it durable under its name.
    pub(crate) fn publish(mut self) -> Result<u64> {
        let end = [[0].as_slice(), &self.records.to_le_bytes(), &self.digest.to_le_bytes()].concat();
        self.frame(&end)?;
        self.flush()?;
        durable::publish(self.file.get_ref(), &self.unfinished, &self.path)?;
        self.published = true;
        Ok(self.bytes)
    }

    fn frame(&mut self, body: &[u8]) -> Result<()> {
        if body.len() as u64 > MOST_JSON {
            return Err(Error::new(ErrorKind::OutOfSpace, "the change set is too big for a spool file"));
        }
        self.put(&(body.len() as u32).to_le_bytes())?;
        self.put(&checksum(body).to_le_bytes())?;
        self.put(body)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(at_path(&self.unfinished))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.published
            && let Err(e) = std::fs::remove_file(&self.unfinished)
        {
            tracing::warn!(file = %self.unfinished.display(), error = %e, "an unfinished spool file stays");
        }
    }
}

/// Reads one, in order.
#[derive(Debug)]
pub(crate) struct Reader {
    file: BufReader<File>,
    path: PathBuf,
    left: u64,
    records: u64,
    digest: u64,
    ended: bool,
}

impl Reader {
    /// Opens it and reads the header.
    ///
    /// # Errors
    /// `Corrupt`, naming the file; `Unsupported` for a newer format.
    pub(crate) fn open(path: &Path) -> Result<(Self, Header)> {
        let file = File::open(path).map_err(at_path(path))?;
        let left = file.metadata().map_err(at_path(path))?.len();
        let file = BufReader::with_capacity(1 << 20, file);
        let mut reader = Self { file, path: path.to_owned(), left, records: 0, digest: 0, ended: false };
        let magic: [u8; 8] = reader.array()?;
        if &magic != MAGIC {
            let newer = magic.starts_with(&MAGIC[..7]);
            let kind = if newer { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
            return Err(Error::new(kind, "not a spool file of this version").with("file", path.display()));
        }
        let header = reader.json("header")?;
        Ok((reader, header))
    }

    /// The change set; read once, before the records.
    pub(crate) fn set(&mut self) -> Result<ChangeSet> {
        self.json("change set")
    }

    /// The next record; `None` after the last one, when all of them have been there.
    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        if self.ended {
            return Ok(None);
        }
        let body = self.frame(MOST_RECORD)?;
        if body.first() == Some(&0) {
            let mut rest = body.slice(1..);
            let end = number(&mut rest).zip(number(&mut rest));
            return match end {
                Some(end) if end == (self.records, self.digest) && self.left == 0 => {
                    self.ended = true;
                    Ok(None)
                }
                _ => Err(self.damaged("the records are not those that were written")),
            };
        }
        let record = decode(body).ok_or_else(|| self.damaged("a record cannot be read"))?;
        self.records += 1;
        self.digest = fold(self.digest, &record);
        Ok(Some(record))
    }

    fn json<T: DeserializeOwned>(&mut self, what: &'static str) -> Result<T> {
        let body = self.frame(MOST_JSON)?;
        serde_json::from_slice(&body).map_err(|e| self.damaged(what).caused_by(e))
    }

    fn frame(&mut self, most: u64) -> Result<Bytes> {
        let len = u64::from(u32::from_le_bytes(self.array()?));
        let expected = u64::from_le_bytes(self.array()?);
        if len > self.left || len > most {
            return Err(self.damaged("a frame is longer than it can be"));
        }
        let mut body = vec![0; len as usize];
        self.fill(&mut body)?;
        if checksum(&body) != expected {
            return Err(self.damaged("a frame does not match its checksum"));
        }
        Ok(body.into())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        self.fill(&mut array)?;
        Ok(array)
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<()> {
        self.file.read_exact(into).map_err(at_path(&self.path))?;
        self.left = self.left.saturating_sub(into.len() as u64);
        Ok(())
    }

    fn damaged(&self, why: &str) -> Error {
        Error::new(ErrorKind::Corrupt, format!("a spooled capture is damaged: {why}"))
            .with("file", self.path.display())
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(ErrorKind::Invalid, "not JSON").caused_by(e))
}

/// `kind u8 (1 zero, 2 plain, 3 sealed), disk length u32, disk, start, len u64, checksum u128, payload`.
fn encode(record: &Record) -> Vec<u8> {
    let (kind, payload): (u8, &[u8]) = match &record.payload {
        Payload::Zero => (1, &[]),
        Payload::Plain(bytes) => (2, bytes),
        Payload::Sealed(bytes) => (3, bytes),
    };
    let mut body = Vec::with_capacity(37 + record.disk.0.len() + payload.len());
    body.push(kind);
    body.extend_from_slice(&(record.disk.0.len() as u32).to_le_bytes());
    body.extend_from_slice(record.disk.0.as_bytes());
    body.extend_from_slice(&record.run.start.to_le_bytes());
    body.extend_from_slice(&record.run.len.to_le_bytes());
    body.extend_from_slice(&record.checksum.to_le_bytes());
    body.extend_from_slice(payload);
    body
}

fn decode(mut body: Bytes) -> Option<Record> {
    let kind = *body.first()?;
    let _ = body.split_to(1);
    let name = u32::from_le_bytes(*body.first_chunk()?) as usize;
    let _ = body.split_to(4);
    let disk = std::str::from_utf8(body.get(..name)?).ok()?.to_owned();
    let _ = body.split_to(name);
    let run = Run::new(number(&mut body)?, number(&mut body)?);
    run.start.checked_add(run.len)?;
    let checksum = Hash::from_le_bytes(*body.first_chunk()?);
    let _ = body.split_to(size_of::<Hash>());
    let payload = match kind {
        1 if body.is_empty() => Payload::Zero,
        2 => Payload::Plain(body),
        3 => Payload::Sealed(body),
        _ => return None,
    };
    Some(Record { disk: DiskId(disk), run, checksum, payload })
}

fn number(body: &mut Bytes) -> Option<u64> {
    let number = u64::from_le_bytes(*body.first_chunk()?);
    let _ = body.split_to(8);
    Some(number)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_half_of_one_is_told() {
        let run = Run::new(4096, 4096);
        for payload in
            [Payload::Zero, Payload::Plain(vec![1; 4096].into()), Payload::Sealed(vec![7; 9].into())]
        {
            let record = Record { disk: "sda".into(), run, checksum: 5, payload };
            let body = encode(&record);
            assert_eq!(decode(body.clone().into()), Some(record));
            assert!((0..32).all(|cut| decode(Bytes::copy_from_slice(&body[..cut])).is_none()));
            let endless = Record { run: Run::new(u64::MAX, 2), ..decode(body.into()).expect("as above") };
            assert_eq!(decode(encode(&endless).into()), None);
        }
    }
}

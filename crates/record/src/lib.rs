//! One run of a disk on its way: checksummed where it is first read, framed once, verified wherever it lands.
//!
//! A [`Packer`] makes a [`Record`] of plain bytes, compressed and sealed; an [`Unpacker`] gives them back or says what is
//! wrong. Pure, no I/O but for reading a key's file: both are CPU work of up to a millisecond, so callers keep them off
//! their async workers.
//!
//! Sealing is AES-256-GCM under the keys of a [`Keyring`]: with none, records are framed and stay readable to everybody.
//! What is sealed keeps its checksum and its place in the open: machine, disk, run, CRC-64 and the hashes of blocks tell
//! an onlooker what is equal and where, never what it is.
#![forbid(unsafe_code)]

mod digest;
mod frame;
mod keys;
mod seal;

pub use digest::{checksum, checksum_of_zeros, hash, is_zero};
pub use frame::{Codec, is_sealed};
pub use keys::{KEY_BYTES, Key, KeyId, Keyring};

use bytes::Bytes;
use frame::Damage;
use seal::{Opener, Place, Sealer, Shut};
use site_recovery::{DiskId, Error, ErrorKind, Form, MachineId, Payload, Record, Result, Run};

/// The most bytes that one record may carry.
pub const MOST_BYTES: u64 = 1 << 20;

/// Makes records. Its life is one stream of sealed records, with a random name of its own: it is shared, never copied.
#[derive(Debug)]
pub struct Packer {
    codec: Codec,
    sealer: Sealer,
}

impl Packer {
    /// Compresses by `codec`, and seals with the key that `keys` have for a machine; where they have none, not.
    pub fn new(codec: Codec, keys: Keyring) -> Self {
        Self { codec, sealer: Sealer::new(keys) }
    }

    /// Whether records of this machine are sealed.
    pub fn seals(&self, machine: &MachineId) -> bool {
        self.sealer.seals(machine)
    }

    /// Makes a record of the plain bytes of one run.
    ///
    /// A run of zeros carries no bytes. Codec and seal count for [`Form::Sealed`] alone; the codec is dropped where it
    /// would not make the frame smaller.
    ///
    /// # Panics
    /// When `plain` is not `run.len` bytes: the caller would send a run that it did not read.
    pub fn pack(&self, machine: &MachineId, disk: &DiskId, run: Run, plain: Bytes, form: Form) -> Record {
        assert_eq!(plain.len() as u64, run.len, "a record carries the whole run and nothing else");
        if is_zero(&plain) {
            let checksum = checksum_of_zeros(run.len);
            return Record { disk: disk.clone(), run, checksum, payload: Payload::Zero };
        }
        let checksum = checksum(&plain);
        let place = Place { machine, disk, run };
        let payload = match form {
            Form::Plain => Payload::Plain(plain),
            Form::Sealed => Payload::Sealed(frame::close(&plain, self.codec, &self.sealer, place)),
        };
        Record { disk: disk.clone(), run, checksum, payload }
    }
}

/// Opens records.
#[derive(Debug)]
pub struct Unpacker(Opener);

impl Unpacker {
    /// Opens what the keys of `keys` have sealed, and what was never sealed.
    pub fn new(keys: Keyring) -> Self {
        Self(Opener::new(keys))
    }

    /// The plain bytes of a machine's record; none for a run of zeros.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt), naming disk and run, unless length and checksum are those that the record says
    /// and its seal fits this place; [`Denied`](ErrorKind::Denied), naming the key that is missing. Garbage costs at most
    /// [`MOST_BYTES`] of memory.
    pub fn unpack(&self, machine: &MachineId, record: &Record) -> Result<Option<Bytes>> {
        let Run { start, len } = record.run;
        if len == 0 || len > MOST_BYTES || start.checked_add(len).is_none() {
            return Err(corrupt(record, &format!("a record carries 1 to {MOST_BYTES} bytes")));
        }
        let plain = match &record.payload {
            Payload::Zero if record.checksum == checksum_of_zeros(len) => return Ok(None),
            Payload::Zero => return Err(corrupt(record, "the checksum is not that of zeros")),
            Payload::Plain(plain) => plain.clone(),
            Payload::Sealed(frame) => {
                let place = Place { machine, disk: &record.disk, run: record.run };
                frame::open(frame, &self.0, place).map_err(|damage| match damage {
                    Damage::Shut(Shut::NoKey(key)) => shut(record, machine, key),
                    damage => corrupt(record, &damage.to_string()),
                })?
            }
        };
        if plain.len() as u64 != len {
            return Err(corrupt(record, &format!("it carries {} bytes", plain.len())));
        }
        if checksum(&plain) != record.checksum {
            return Err(corrupt(record, "the bytes do not match their checksum"));
        }
        Ok(Some(plain))
    }
}

fn shut(record: &Record, machine: &MachineId, key: KeyId) -> Error {
    let message = format!(
        "the records of {machine} are sealed with the key {key}, which is not in the keyring: add it with open_with"
    );
    Error::new(ErrorKind::Denied, message).with("key", key).with("disk", &record.disk)
}

fn corrupt(record: &Record, why: &str) -> Error {
    let Run { start, len } = record.run;
    Error::new(ErrorKind::Corrupt, format!("{len} bytes at {start} of disk {}: {why}", record.disk))
        .with("disk", &record.disk)
        .with("run", format!("{start}+{len}"))
}

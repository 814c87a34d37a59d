//! One run of a disk on its way: checksummed where it is first read, framed once, verified wherever it lands.
//!
//! A [`Packer`] makes a [`Record`] of plain bytes, compressed and sealed; an [`Unpacker`] gives them back or says what is
//! wrong. Pure, no I/O but for reading a key's file: both are CPU work of up to a millisecond, so callers keep them off
//! their async workers.
//!
//! Sealing is AES-256-GCM under the keys of a [`Keyring`]: with none, records are framed and stay readable to everybody.
//! What is sealed keeps its checksum and its place in the open: machine, disk, run and the hash of its bytes tell an
//! onlooker what is equal and where, never what it is.
#![forbid(unsafe_code)]

mod codec;
mod digest;
mod frame;
mod keys;
mod place;
mod seal;

pub use codec::Codec;
pub use digest::{checksum, checksum_of, hash, is_zero};
pub use frame::is_sealed;
pub use keys::{KEY_BYTES, Key, KeyId, Keyring};

use bytes::Bytes;
use frame::{Damage, Frames};
use place::Place;
use seal::{Opener, Sealer, Shut};
use site_recovery::{DiskId, Error, ErrorKind, Form, Hash, MachineId, Payload, Record, Result, Run};

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
        if plain.len() as u64 == run.len && is_zero(&plain) {
            return Record { disk: disk.clone(), run, checksum: 0, payload: Payload::Zero };
        }
        let checksum = hash(&plain);
        let frames = Frames::sharing(0);
        Bundle { packer: self, machine, disk, form, frames }.pack(run, plain, checksum)
    }

    /// For records of one disk that are made and gone together, of `plain` bytes in all: their frames share memory, of
    /// about as many bytes, taken with the first of them.
    pub fn bundle<'a>(
        &'a self,
        machine: &'a MachineId,
        disk: &'a DiskId,
        form: Form,
        plain: u64,
    ) -> Bundle<'a> {
        // Of records of a few KiB the headers count.
        let stretch = (plain + plain / 64) as usize;
        Bundle { packer: self, machine, disk, form, frames: Frames::sharing(stretch) }
    }
}

/// The frame of a record that came plain, as it is and without a seal: header and body, which is not copied.
///
/// # Panics
/// When `plain` is not `run.len` bytes.
pub fn raw_frame(machine: &MachineId, record: &Record, plain: Bytes) -> [Bytes; 2] {
    assert_eq!(plain.len() as u64, record.run.len, "a frame carries the whole run and nothing else");
    [frame::header_of_raw(&plain, place(machine, record)), plain]
}

/// Makes records of one disk that are made and gone together, see [`Packer::bundle`].
#[derive(Debug)]
pub struct Bundle<'a> {
    packer: &'a Packer,
    machine: &'a MachineId,
    disk: &'a DiskId,
    form: Form,
    frames: Frames,
}

impl Bundle<'_> {
    /// As [`Packer::pack`], of bytes that are known not to be all zero, and to have this hash: what was compared is not
    /// hashed again.
    ///
    /// # Panics
    /// When `plain` is not `run.len` bytes; in debug builds also when the hash is another one.
    pub fn pack(&mut self, run: Run, plain: Bytes, checksum: Hash) -> Record {
        assert_eq!(plain.len() as u64, run.len, "a record carries the whole run and nothing else");
        debug_assert_eq!(checksum, hash(&plain), "the hash is that of the bytes");
        let (machine, disk, Packer { codec, sealer }) = (self.machine, self.disk, self.packer);
        let place = Place { machine, disk, run, checksum };
        let payload = match self.form {
            Form::Plain => Payload::Plain(plain),
            Form::Sealed => Payload::Sealed(frame::close(&plain, *codec, sealer, place, &mut self.frames)),
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

    /// Whether a machine's record is what was packed for its place, without opening it: no key is needed, and what was
    /// compressed stays so.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt), naming disk and run.
    pub fn check(&self, machine: &MachineId, record: &Record) -> Result<()> {
        bounds(record)?;
        match &record.payload {
            Payload::Zero if record.checksum == 0 => Ok(()),
            Payload::Zero => Err(corrupt(record, "the checksum is not that of zeros")),
            Payload::Plain(plain) => verify(record, plain),
            Payload::Sealed(_) => match damaged(record, machine) {
                Some(damage) => Err(corrupt(record, &damage.to_string())),
                None => Ok(()),
            },
        }
    }

    /// The plain bytes of a machine's record; none for a run of zeros.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt), naming disk and run, unless length and checksum are those that the record says
    /// and its seal fits this place; [`Denied`](ErrorKind::Denied), naming the key that is missing. Garbage costs at most
    /// [`MOST_BYTES`] of memory.
    pub fn unpack(&self, machine: &MachineId, record: &Record) -> Result<Option<Bytes>> {
        bounds(record)?;
        let plain = match &record.payload {
            Payload::Zero => return self.check(machine, record).map(|()| None),
            Payload::Plain(plain) => plain.clone(),
            Payload::Sealed(frame) => {
                frame::open(frame, &self.0, place(machine, record)).map_err(|d| told(record, machine, d))?
            }
        };
        verify(record, &plain)?;
        Ok(Some(plain))
    }
}

impl Unpacker {
    /// Lays the plain bytes of a machine's record into `into`, which is as long as its run.
    ///
    /// # Errors
    /// As [`unpack`](Self::unpack); then what `into` holds means nothing.
    ///
    /// # Panics
    /// When `into` is not `run.len` bytes.
    pub fn unpack_into(&self, machine: &MachineId, record: &Record, into: &mut [u8]) -> Result<()> {
        assert_eq!(into.len() as u64, record.run.len, "there is room for the run");
        let Payload::Sealed(frame) = &record.payload else {
            match self.unpack(machine, record)? {
                Some(plain) => into.copy_from_slice(&plain),
                None => into.fill(0),
            }
            return Ok(());
        };
        bounds(record)?;
        frame::open_into(frame, &self.0, place(machine, record), into)
            .map_err(|d| told(record, machine, d))?;
        verify(record, into)
    }
}

fn told(record: &Record, machine: &MachineId, damage: Damage) -> Error {
    match damage {
        // A header whose bits flipped asks for a key that nobody has.
        Damage::Shut(Shut::NoKey(key)) => match damaged(record, machine) {
            Some(damage) => corrupt(record, &damage.to_string()),
            None => shut(record, machine, key),
        },
        damage => corrupt(record, &damage.to_string()),
    }
}

fn damaged(record: &Record, machine: &MachineId) -> Option<Damage> {
    let Payload::Sealed(frame) = &record.payload else { return None };
    frame::check(frame, place(machine, record)).err()
}

fn bounds(record: &Record) -> Result<()> {
    let Run { start, len } = record.run;
    if len == 0 || len > MOST_BYTES || start.checked_add(len).is_none() {
        return Err(corrupt(record, &format!("a record carries 1 to {MOST_BYTES} bytes")));
    }
    Ok(())
}

fn verify(record: &Record, plain: &[u8]) -> Result<()> {
    if plain.len() as u64 != record.run.len {
        return Err(corrupt(record, &format!("it carries {} bytes", plain.len())));
    }
    if hash(plain) != record.checksum {
        return Err(corrupt(record, "the bytes do not match their checksum"));
    }
    Ok(())
}

fn place<'a>(machine: &'a MachineId, record: &'a Record) -> Place<'a> {
    Place { machine, disk: &record.disk, run: record.run, checksum: record.checksum }
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

//! One run of a disk on its way: checksummed where it is first read, framed once, verified wherever it lands.
//!
//! [`pack`] makes a [`Record`] of plain bytes, [`unpack`] gives them back or says what is wrong. Pure, no I/O: both are
//! CPU work of up to a millisecond, so callers keep them off their async workers.
#![forbid(unsafe_code)]

mod digest;
mod frame;

pub use digest::{checksum, checksum_of_zeros, hash, is_zero};
pub use frame::Codec;

use bytes::Bytes;
use site_recovery::{DiskId, Error, ErrorKind, Form, Payload, Record, Result, Run};

/// The most bytes that one record may carry.
pub const MOST_BYTES: u64 = 1 << 20;

/// Makes a record of the plain bytes of one run.
///
/// A run of zeros carries no bytes. `codec` counts for [`Form::Sealed`] alone, and is dropped where it would not make
/// the frame smaller.
///
/// # Panics
/// When `plain` is not `run.len` bytes: the caller would send a run that it did not read.
pub fn pack(disk: &DiskId, run: Run, plain: Bytes, form: Form, codec: Codec) -> Record {
    assert_eq!(plain.len() as u64, run.len, "a record carries the whole run and nothing else");
    if is_zero(&plain) {
        let checksum = checksum_of_zeros(run.len);
        return Record { disk: disk.clone(), run, checksum, payload: Payload::Zero };
    }
    let checksum = checksum(&plain);
    let payload = match form {
        Form::Plain => Payload::Plain(plain),
        Form::Sealed => Payload::Sealed(frame::seal(&plain, codec)),
    };
    Record { disk: disk.clone(), run, checksum, payload }
}

/// The plain bytes of a record; none for a run of zeros.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt), naming disk and run, unless length and checksum are those that the record says.
/// Garbage costs at most [`MOST_BYTES`] of memory.
pub fn unpack(record: &Record) -> Result<Option<Bytes>> {
    let Run { start, len } = record.run;
    if len == 0 || len > MOST_BYTES || start.checked_add(len).is_none() {
        return Err(corrupt(record, &format!("a record carries 1 to {MOST_BYTES} bytes")));
    }
    let plain = match &record.payload {
        Payload::Zero if record.checksum == checksum_of_zeros(len) => return Ok(None),
        Payload::Zero => return Err(corrupt(record, "the checksum is not that of zeros")),
        Payload::Plain(plain) => plain.clone(),
        Payload::Sealed(frame) => frame::open(frame, len).map_err(|e| corrupt(record, &e.to_string()))?,
    };
    if plain.len() as u64 != len {
        return Err(corrupt(record, &format!("it carries {} bytes", plain.len())));
    }
    if checksum(&plain) != record.checksum {
        return Err(corrupt(record, "the bytes do not match their checksum"));
    }
    Ok(Some(plain))
}

fn corrupt(record: &Record, why: &str) -> Error {
    let Run { start, len } = record.run;
    Error::new(ErrorKind::Corrupt, format!("{len} bytes at {start} of disk {}: {why}", record.disk))
        .with("disk", &record.disk)
        .with("run", format!("{start}+{len}"))
}

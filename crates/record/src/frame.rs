//! The bytes of a sealed payload: eight of header, then the body.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | codec of the body: 0 raw, 1 zstd |
//! | 2 | 1 | seal around the codec: 0 none, 1 AES-256-GCM |
//! | 3 | 1 | 0 |
//! | 4 | 4 | plain bytes, little endian |
//!
//! With a seal, the body is: name of the key (8), stream (16), number of the record in it (8, little endian), what the
//! codec made, sealed, and the tag (16).

use crate::seal::{Opener, PREFIX, Place, Sealer, Shut, TAG};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

const VERSION: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const UNSEALED: u8 = 0;
const AES_GCM: u8 = 1;
const HEADER: usize = 8;
const LEVEL: i32 = 1;

/// How the bytes of a sealed payload are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// Not at all.
    Raw,
    /// Zstandard, level 1.
    Zstd,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("the frame ends after {0} bytes")]
    Short(usize),
    #[error("the frame has version {0}, 1 is known")]
    Version(u8),
    #[error("the frame has codec {0}, seal {1} and reserved byte {2}, which are not known")]
    Kind(u8, u8, u8),
    #[error("the frame is of {0} bytes")]
    Length(u32),
    #[error("the frame does not decompress")]
    Body,
    #[error(transparent)]
    Shut(#[from] Shut),
}

/// Frames plain bytes: compressed where that makes them smaller, then sealed where there is a key.
pub(crate) fn close(plain: &[u8], codec: Codec, sealer: &Sealer, place: Place<'_>) -> Bytes {
    let framed = |codec: u8, body: &[u8]| framed(codec, plain.len(), body, sealer, place);
    match codec {
        Codec::Raw => framed(RAW, plain),
        Codec::Zstd => compressed(plain, |body| framed(ZSTD, body)).unwrap_or_else(|| framed(RAW, plain)),
    }
}

/// Whether a frame is sealed with a key.
pub fn is_sealed(frame: &[u8]) -> bool {
    frame.get(2) == Some(&AES_GCM)
}

/// The plain bytes of a frame.
pub(crate) fn open(frame: &Bytes, opener: &Opener, place: Place<'_>) -> Result<Bytes, Damage> {
    let Some((header, body)) = frame.split_first_chunk::<HEADER>() else {
        return Err(Damage::Short(frame.len()));
    };
    let [version, codec, seal, reserved, plain @ ..] = *header;
    let plain = u32::from_le_bytes(plain);
    match (version, codec, seal, reserved) {
        (VERSION, _, _, _) if u64::from(plain) != place.run.len => Err(Damage::Length(plain)),
        (VERSION, RAW, UNSEALED, 0) => Ok(frame.slice(HEADER..)),
        (VERSION, ZSTD, UNSEALED, 0) => decompressed(body, plain as usize),
        (VERSION, RAW, AES_GCM, 0) => Ok(opener.open(place, header, body)?.into()),
        (VERSION, ZSTD, AES_GCM, 0) => decompressed(&opener.open(place, header, body)?, plain as usize),
        (VERSION, ..) => Err(Damage::Kind(codec, seal, reserved)),
        _ => Err(Damage::Version(version)),
    }
}

fn framed(codec: u8, plain: usize, body: &[u8], sealer: &Sealer, place: Place<'_>) -> Bytes {
    let len = u32::try_from(plain).expect("a record is at most 1 MiB");
    let sealed = sealer.seals(place.machine);
    let mut frame = Vec::with_capacity(HEADER + PREFIX + body.len() + TAG);
    frame.extend([VERSION, codec, if sealed { AES_GCM } else { UNSEALED }, 0]);
    frame.extend(len.to_le_bytes());
    if sealed {
        sealer.seal(place, &mut frame, body);
    } else {
        frame.extend_from_slice(body);
    }
    frame.into()
}

struct Compressing {
    zstd: Compressor<'static>,
    scratch: Vec<u8>,
}

thread_local! {
    static COMPRESSING: RefCell<Option<Compressing>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// None where it does not get smaller: then it does not fit the scratch.
fn compressed(plain: &[u8], with: impl FnOnce(&[u8]) -> Bytes) -> Option<Bytes> {
    COMPRESSING.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = Some(Compressing { zstd: Compressor::new(LEVEL).ok()?, scratch: vec![] });
        }
        let Compressing { zstd, scratch } = packer.as_mut()?;
        scratch.resize(plain.len().saturating_sub(1), 0);
        let body = zstd.compress_to_buffer(plain, scratch.as_mut_slice()).ok()?;
        Some(with(&scratch[..body]))
    })
}

fn decompressed(body: &[u8], len: usize) -> Result<Bytes, Damage> {
    UNPACKER.with_borrow_mut(|unpacker| {
        if unpacker.is_none() {
            *unpacker = Some(Decompressor::new().map_err(|_| Damage::Body)?);
        }
        let unpacker = unpacker.as_mut().ok_or(Damage::Body)?;
        unpacker.decompress(body, len).map(Bytes::from).map_err(|_| Damage::Body)
    })
}

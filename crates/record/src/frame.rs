//! The bytes of a sealed payload: eight of header, then the body.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | codec of the body: 0 raw, 1 zstd |
//! | 2 | 1 | seal around the codec: 0 none |
//! | 3 | 1 | 0 |
//! | 4 | 4 | plain bytes, little endian |

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

const VERSION: u8 = 1;
const RAW: u8 = 0;
const ZSTD: u8 = 1;
const UNSEALED: u8 = 0;
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
}

pub(crate) fn seal(plain: &[u8], codec: Codec) -> Bytes {
    match codec {
        Codec::Raw => framed(RAW, plain, plain),
        Codec::Zstd => compressed(plain).unwrap_or_else(|| framed(RAW, plain, plain)),
    }
}

pub(crate) fn open(frame: &Bytes, len: u64) -> Result<Bytes, Damage> {
    let Some((header, body)) = frame.split_first_chunk::<HEADER>() else {
        return Err(Damage::Short(frame.len()));
    };
    let [version, codec, seal, reserved, plain @ ..] = *header;
    let plain = u32::from_le_bytes(plain);
    match (version, codec, seal, reserved) {
        (VERSION, _, _, _) if u64::from(plain) != len => Err(Damage::Length(plain)),
        (VERSION, RAW, UNSEALED, 0) => Ok(frame.slice(HEADER..)),
        (VERSION, ZSTD, UNSEALED, 0) => decompressed(body, plain as usize),
        (VERSION, ..) => Err(Damage::Kind(codec, seal, reserved)),
        _ => Err(Damage::Version(version)),
    }
}

fn framed(codec: u8, plain: &[u8], body: &[u8]) -> Bytes {
    let len = u32::try_from(plain.len()).expect("a record is at most 1 MiB");
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend([VERSION, codec, UNSEALED, 0]);
    frame.extend(len.to_le_bytes());
    frame.extend_from_slice(body);
    frame.into()
}

struct Packer {
    zstd: Compressor<'static>,
    scratch: Vec<u8>,
}

thread_local! {
    static PACKER: RefCell<Option<Packer>> = const { RefCell::new(None) };
    static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// None where it does not get smaller: then it does not fit the scratch.
fn compressed(plain: &[u8]) -> Option<Bytes> {
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = Some(Packer { zstd: Compressor::new(LEVEL).ok()?, scratch: vec![] });
        }
        let Packer { zstd, scratch } = packer.as_mut()?;
        scratch.resize(plain.len().saturating_sub(1), 0);
        let body = zstd.compress_to_buffer(plain, scratch.as_mut_slice()).ok()?;
        Some(framed(ZSTD, plain, &scratch[..body]))
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

//! Making bytes smaller.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

const LEVEL: i32 = 1;

/// How the bytes of a sealed payload are made smaller. What does not get smaller is kept raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Codec {
    /// Not at all.
    Raw,
    /// Zstandard, level 1: a fifth smaller than LZ4.
    Zstd,
    /// LZ4: two thirds of the work to make, half of the work to open.
    Lz4,
}

impl Codec {
    pub(crate) fn number(self) -> u8 {
        match self {
            Codec::Raw => 0,
            Codec::Zstd => 1,
            Codec::Lz4 => 2,
        }
    }

    pub(crate) fn numbered(number: u8) -> Option<Self> {
        [Codec::Raw, Codec::Zstd, Codec::Lz4].into_iter().find(|codec| codec.number() == number)
    }
}

struct Packing {
    zstd: Compressor<'static>,
    scratch: Vec<u8>,
}

thread_local! {
    static PACKING: RefCell<Option<Packing>> = const { RefCell::new(None) };
    static UNPACKING: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// None where it does not get smaller.
pub(crate) fn compressed(plain: &[u8], codec: Codec, with: impl FnOnce(&[u8]) -> Bytes) -> Option<Bytes> {
    if codec == Codec::Raw {
        return None;
    }
    PACKING.with_borrow_mut(|packing| {
        if packing.is_none() {
            *packing = Some(Packing { zstd: Compressor::new(LEVEL).ok()?, scratch: vec![] });
        }
        let Packing { zstd, scratch } = packing.as_mut()?;
        let room = lz4_flex::block::get_maximum_output_size(plain.len());
        if scratch.len() < room {
            scratch.resize(room, 0);
        }
        let made = match codec {
            Codec::Lz4 => lz4_flex::block::compress_into(plain, scratch).ok()?,
            // Of what does not fit there is none.
            _ => zstd.compress_to_buffer(plain, &mut scratch[..plain.len() - 1]).ok()?,
        };
        (made < plain.len()).then(|| with(&scratch[..made]))
    })
}

/// False where the body does not give exactly as many bytes as there is room for.
pub(crate) fn decompressed_into(body: &[u8], codec: Codec, into: &mut [u8]) -> bool {
    let made = match codec {
        Codec::Raw => {
            let fits = body.len() == into.len();
            if fits {
                into.copy_from_slice(body);
            }
            return fits;
        }
        Codec::Lz4 => lz4_flex::block::decompress_into(body, into).ok(),
        Codec::Zstd => UNPACKING.with_borrow_mut(|unpacking| {
            if unpacking.is_none() {
                *unpacking = Some(Decompressor::new().ok()?);
            }
            unpacking.as_mut()?.decompress_to_buffer(body, into).ok()
        }),
    };
    made == Some(into.len())
}

/// None where the body does not give exactly so many bytes.
pub(crate) fn decompressed(body: &[u8], codec: Codec, len: usize) -> Option<Bytes> {
    if codec == Codec::Lz4 {
        let mut plain = vec![0; len];
        return decompressed_into(body, codec, &mut plain).then(|| plain.into());
    }
    UNPACKING.with_borrow_mut(|unpacking| {
        if unpacking.is_none() {
            *unpacking = Some(Decompressor::new().ok()?);
        }
        let plain = unpacking.as_mut()?.decompress(body, len).ok()?;
        (plain.len() == len).then(|| plain.into())
    })
}

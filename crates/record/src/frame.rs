//! The bytes of a sealed payload: sixteen of header, then the body.
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | codec of the body: 0 raw, 1 zstd, 2 LZ4 |
//! | 2 | 1 | seal around the codec: 0 none, 1 AES-256-GCM |
//! | 3 | 1 | 0 |
//! | 4 | 4 | plain bytes, little endian |
//! | 8 | 8 | CRC-64/NVME of the eight bytes before, of the place, and of the body, little endian |
//!
//! With a seal, the body is: name of the key (8), stream (16), number of the record in it (8, little endian), what the
//! codec made, sealed, and the tag (16).

use crate::codec::{Codec, compressed, decompressed, decompressed_into};
use crate::digest::checksum_of;
use crate::place::Place;
use crate::seal::{Opener, PREFIX, Sealer, Shut, TAG};
use bytes::{Bytes, BytesMut};

const VERSION: u8 = 1;
const UNSEALED: u8 = 0;
const AES_GCM: u8 = 1;
/// What says of what kind the frame is.
const KIND: usize = 8;
const HEADER: usize = KIND + 8;

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
    #[error("the frame was changed, or belongs elsewhere: it does not match its checksum")]
    Checksum,
    #[error("the frame does not decompress")]
    Body,
    #[error(transparent)]
    Shut(#[from] Shut),
}

/// Frames plain bytes: compressed where that makes them smaller, then sealed where there is a key.
pub(crate) fn close(
    plain: &[u8],
    codec: Codec,
    sealer: &Sealer,
    place: Place<'_>,
    into: &mut Frames,
) -> Bytes {
    let mut framed = |codec: Codec, body: &[u8]| framed(codec, plain.len(), body, sealer, place, into);
    compressed(plain, codec, |body| framed(codec, body)).unwrap_or_else(|| framed(Codec::Raw, plain))
}

/// Whether a frame is sealed with a key.
pub fn is_sealed(frame: &[u8]) -> bool {
    frame.get(2) == Some(&AES_GCM)
}

/// Whether a frame is what was made for this place. Needs no key, and opens nothing.
pub(crate) fn check(frame: &[u8], place: Place<'_>) -> Result<(), Damage> {
    let head = Head::read(frame, place)?;
    let (sum, body) = frame[KIND..].split_first_chunk().expect("the header was read");
    if checksum_of([&frame[..KIND], &place.bytes(), body]) != u64::from_le_bytes(*sum) {
        return Err(Damage::Checksum);
    }
    if head.sealed && body.len() < PREFIX + TAG { Err(Shut::Short.into()) } else { Ok(()) }
}

/// The plain bytes of a frame, which may be other ones than were framed: the checksum of the place tells.
pub(crate) fn open(frame: &Bytes, opener: &Opener, place: Place<'_>) -> Result<Bytes, Damage> {
    let Head { codec, sealed } = Head::read(frame, place)?;
    let len = place.run.len as usize;
    match (sealed, codec) {
        (false, Codec::Raw) => Ok(frame.slice(HEADER..)),
        (false, codec) => decompressed(&frame[HEADER..], codec, len).ok_or(Damage::Body),
        (true, codec) => {
            let body = opener.open(place, &frame[..KIND], &frame[HEADER..])?;
            if codec == Codec::Raw {
                return Ok(body.into());
            }
            decompressed(&body, codec, len).ok_or(Damage::Body)
        }
    }
}

/// Lays the plain bytes of a frame there, which may be other ones than were framed.
pub(crate) fn open_into(
    frame: &[u8],
    opener: &Opener,
    place: Place<'_>,
    into: &mut [u8],
) -> Result<(), Damage> {
    let Head { codec, sealed } = Head::read(frame, place)?;
    let opened = if sealed { Some(opener.open(place, &frame[..KIND], &frame[HEADER..])?) } else { None };
    let body = opened.as_deref().unwrap_or(&frame[HEADER..]);
    if decompressed_into(body, codec, into) { Ok(()) } else { Err(Damage::Body) }
}

struct Head {
    codec: Codec,
    sealed: bool,
}

impl Head {
    fn read(frame: &[u8], place: Place<'_>) -> Result<Self, Damage> {
        let Some(header) = frame.first_chunk::<HEADER>() else { return Err(Damage::Short(frame.len())) };
        let [version, codec, seal, reserved, plain @ .., _, _, _, _, _, _, _, _] = *header;
        let plain = u32::from_le_bytes(plain);
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        if u64::from(plain) != place.run.len {
            return Err(Damage::Length(plain));
        }
        let kind = || Damage::Kind(codec, seal, reserved);
        let sealed = match (seal, reserved) {
            (UNSEALED, 0) => false,
            (AES_GCM, 0) => true,
            _ => return Err(kind()),
        };
        Ok(Self { codec: Codec::numbered(codec).ok_or_else(kind)?, sealed })
    }
}

/// Memory that frames share, in stretches of at least so many bytes; what is left of the last one is empty.
#[derive(Debug)]
pub(crate) struct Frames {
    stretch: usize,
    left: BytesMut,
}

impl Frames {
    pub(crate) fn sharing(stretch: usize) -> Self {
        Self { stretch, left: BytesMut::new() }
    }
}

/// The header of a frame that holds plain bytes as they are, without a seal.
pub(crate) fn header_of_raw(plain: &[u8], place: Place<'_>) -> Bytes {
    let len = u32::try_from(plain.len()).expect("a record is at most 1 MiB");
    let mut header = Vec::with_capacity(HEADER);
    header.extend([VERSION, Codec::Raw.number(), UNSEALED, 0]);
    header.extend(len.to_le_bytes());
    let sum = checksum_of([&header[..], &place.bytes(), plain]);
    header.extend(sum.to_le_bytes());
    header.into()
}

fn framed(
    codec: Codec,
    plain: usize,
    body: &[u8],
    sealer: &Sealer,
    place: Place<'_>,
    frames: &mut Frames,
) -> Bytes {
    let len = u32::try_from(plain).expect("a record is at most 1 MiB");
    let sealed = sealer.seals(place.machine);
    let around = if sealed { PREFIX + TAG } else { 0 };
    let whole = HEADER + around + body.len();
    let into = &mut frames.left;
    if into.capacity() < whole {
        *into = BytesMut::with_capacity(whole.max(frames.stretch));
    }
    into.extend_from_slice(&[VERSION, codec.number(), if sealed { AES_GCM } else { UNSEALED }, 0]);
    into.extend_from_slice(&len.to_le_bytes());
    into.extend_from_slice(&[0; HEADER - KIND]);
    if sealed {
        sealer.seal(place, into, KIND, body);
    } else {
        into.extend_from_slice(body);
    }
    let sum = checksum_of([&into[..KIND], &place.bytes(), &into[HEADER..]]);
    into[KIND..HEADER].copy_from_slice(&sum.to_le_bytes());
    into.split().freeze()
}

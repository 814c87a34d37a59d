use crc_fast::CrcAlgorithm::Crc64Nvme;
use site_recovery::Hash;

/// CRC-64/NVME: finds what broke on the way or at rest, in files and frames.
pub fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, bytes)
}

/// The same over several pieces, as if they were one.
pub fn checksum_of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut digest = crc_fast::Digest::new(Crc64Nvme);
    pieces.into_iter().for_each(|piece| digest.update(piece));
    digest.finalize()
}

/// xxh3-128: finds what differs between two sides that trust each other, and is the checksum of a record.
pub fn hash(plain: &[u8]) -> Hash {
    xxhash_rust::xxh3::xxh3_128(plain)
}

/// Whether all of it is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let any = |chunk: &[u8]| chunk.iter().fold(0, |any, byte| any | byte);
    let mut chunks = bytes.chunks_exact(256);
    chunks.all(|chunk| any(chunk) == 0) && any(chunks.remainder()) == 0
}

use crc_fast::CrcAlgorithm::Crc64Nvme;
use site_recovery::Hash;
use std::sync::LazyLock;

/// CRC-64/NVME: finds what broke on the way or at rest.
pub fn checksum(plain: &[u8]) -> u64 {
    crc_fast::checksum(Crc64Nvme, plain)
}

/// The checksum of `len` zeros, without the zeros: a look-up for powers of two, a few microseconds otherwise.
pub fn checksum_of_zeros(len: u64) -> u64 {
    static OF_POWERS: LazyLock<[u64; 64]> = LazyLock::new(|| {
        let mut sums = [checksum(&[0]); 64];
        for power in 1..64 {
            sums[power] = join(sums[power - 1], sums[power - 1], 1 << (power - 1));
        }
        sums
    });
    let powers = (0..64).filter(|power| len >> power & 1 == 1);
    powers
        .map(|power| (OF_POWERS[power], 1_u64 << power))
        .reduce(|(sum, bytes), (next, more)| (join(sum, next, more), bytes + more))
        .map_or_else(|| checksum(&[]), |(sum, _)| sum)
}

fn join(first: u64, second: u64, second_len: u64) -> u64 {
    crc_fast::checksum_combine(Crc64Nvme, first, second, second_len)
}

/// xxh3-128: finds what differs between two sides that trust each other.
pub fn hash(plain: &[u8]) -> Hash {
    xxhash_rust::xxh3::xxh3_128(plain)
}

/// Whether all of it is zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let any = |chunk: &[u8]| chunk.iter().fold(0, |any, byte| any | byte);
    let mut chunks = bytes.chunks_exact(256);
    chunks.all(|chunk| any(chunk) == 0) && any(chunks.remainder()) == 0
}

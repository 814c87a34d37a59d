//! Streams as VMware's servers send them, and as they should not.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use std::io::Write;

pub(crate) const GRAIN: u64 = 64 << 10;

/// What stands before the grains: a header that says so much of a disk, and a descriptor.
pub(crate) fn head(capacity: u64, descriptor: &str) -> Vec<u8> {
    let mut head = vec![0; 4 * 512];
    head[..4].copy_from_slice(b"KDMV");
    for (at, number) in [(4, 3_u32), (8, 0x3_0001), (44, 512)] {
        head[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    // Capacity, grain, descriptor, its length, the directory, the data.
    let sectors = capacity.div_ceil(512);
    for (at, number) in [(12, sectors), (20, GRAIN / 512), (28, 1), (36, 2), (56, u64::MAX), (64, 4)] {
        head[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    head[73..79].copy_from_slice(b"\n \r\n\x01\x00");
    head[512..512 + descriptor.len()].copy_from_slice(descriptor.as_bytes());
    head
}

pub(crate) const DESCRIPTOR: &str =
    "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n";

/// A grain, deflated.
pub(crate) fn grain(start: u64, bytes: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(vec![], Compression::fast());
    packed.write_all(bytes).unwrap();
    packed_grain(start, &packed.finish().unwrap())
}

pub(crate) fn packed_grain(start: u64, packed: &[u8]) -> Vec<u8> {
    let mut all = [&(start / 512).to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), packed].concat();
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

/// A marker that no grain follows.
pub(crate) fn marker(sectors: u64, kind: u32) -> Vec<u8> {
    let mut all = [&sectors.to_le_bytes()[..], &[0; 4], &kind.to_le_bytes()].concat();
    all.resize(512, 0);
    all
}

/// Tables, a directory, the header again, the end.
pub(crate) fn tail(capacity: u64) -> Vec<u8> {
    let mut footer = head(capacity, "");
    footer.truncate(512);
    let parts =
        [marker(4, 1), vec![7; 4 * 512], marker(1, 2), vec![9; 512], marker(1, 3), footer, marker(0, 0)];
    parts.concat()
}

/// A whole stream of a disk with these bytes. Grains of zeros are left out.
pub(crate) fn stream(disk: &[u8]) -> Vec<u8> {
    let capacity = disk.len() as u64;
    let mut all = head(capacity, DESCRIPTOR);
    for (n, bytes) in disk.chunks(GRAIN as usize).enumerate() {
        if bytes.iter().any(|b| *b != 0) {
            let mut whole = bytes.to_vec();
            whole.resize(GRAIN as usize, 0);
            all.extend(grain(n as u64 * GRAIN, &whole));
        }
    }
    all.extend(tail(capacity));
    all
}

/// A disk with data that compresses and data that does not, holes, and an end within a grain.
pub(crate) fn disk() -> Vec<u8> {
    let mut disk = vec![0; 5 * GRAIN as usize + 512];
    let mut number = 88_172_645_463_325_252_u64;
    for byte in &mut disk[GRAIN as usize..2 * GRAIN as usize] {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        *byte = number as u8;
    }
    disk[3 * GRAIN as usize + 700..][..90].fill(b'a');
    let end = disk.len() - 4;
    disk[end..].copy_from_slice(b"last");
    disk
}

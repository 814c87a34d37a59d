//! The last 512 bytes of a fixed VHD, by which Azure knows a disk.

use crate::image::{Image, SECTOR};

const MEBIBYTE: u64 = 1 << 20;

/// Why bytes are no fixed VHD that Azure takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotVhd {
    /// The last 512 bytes do not start with `conectix`.
    Cookie,
    /// The footer is not what was written.
    Checksum,
    /// It is dynamic or differencing.
    NotFixed,
    /// The footer tells another size than there is.
    Size,
    /// The disk is not whole mebibytes.
    Alignment,
}

/// The footer of a disk of this many bytes.
///
/// # Panics
/// When the disk is not whole mebibytes.
#[must_use]
pub fn footer(size: u64) -> [u8; 512] {
    assert!(size.is_multiple_of(MEBIBYTE), "{size} bytes are no whole mebibytes");
    let mut footer = [0; 512];
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"conectix");
    put(8, &2_u32.to_be_bytes());
    put(12, &0x0001_0000_u32.to_be_bytes());
    put(16, &u64::MAX.to_be_bytes());
    put(28, b"fake");
    put(36, b"Wi2k");
    put(40, &size.to_be_bytes());
    put(48, &size.to_be_bytes());
    // Cylinders, heads, sectors: of no meaning to Azure.
    put(56, &[0xff, 0xff, 16, 255]);
    put(60, &2_u32.to_be_bytes());
    let sum = checksum(&footer);
    footer[64..68].copy_from_slice(&sum.to_be_bytes());
    footer
}

/// The disk inside a fixed VHD.
///
/// # Errors
/// What Azure's import would refuse it for.
pub fn disk(vhd: &Image) -> Result<Image, NotVhd> {
    let size = vhd.size().checked_sub(SECTOR).ok_or(NotVhd::Size)?;
    let footer = vhd.read(size, SECTOR);
    let word = |at: usize| u32::from_be_bytes([footer[at], footer[at + 1], footer[at + 2], footer[at + 3]]);
    if &footer[..8] != b"conectix" {
        return Err(NotVhd::Cookie);
    }
    if word(64) != checksum(&footer) {
        return Err(NotVhd::Checksum);
    }
    if word(60) != 2 {
        return Err(NotVhd::NotFixed);
    }
    if u64::from(word(48)) << 32 | u64::from(word(52)) != size {
        return Err(NotVhd::Size);
    }
    if !size.is_multiple_of(MEBIBYTE) {
        return Err(NotVhd::Alignment);
    }
    let mut disk = vhd.clone();
    disk.resize(size);
    Ok(disk)
}

fn checksum(footer: &[u8]) -> u32 {
    let sum = |range: std::ops::Range<usize>| footer[range].iter().map(|byte| u32::from(*byte)).sum::<u32>();
    !(sum(0..64) + sum(68..512))
}

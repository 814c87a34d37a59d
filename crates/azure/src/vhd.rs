//! The footer of a fixed VHD: what makes a page blob a disk that Azure imports.
//!
//! 512 bytes after the disk's last, which is rounded up to a whole MiB: "only fixed VHD", its virtual size a multiple of 1 MiB
//! (azure-docs, `create-upload-generic.md`). Layout: Virtual Hard Disk Image Format Specification, 1.0.

/// Bytes of the footer.
pub(crate) const FOOTER: u64 = 512;
const MIB: u64 = 1 << 20;
/// The largest page blob.
const LARGEST_BLOB: u64 = 8 << 40;
/// From the epoch of the operating system to the one of the format, in seconds: 2000-01-01.
const EPOCH: u64 = 946_684_800;

/// What a disk of so many bytes takes in its image, without the footer.
pub(crate) fn rounded(size: u64) -> u64 {
    size.div_ceil(MIB).max(1) * MIB
}

/// Whether a page blob holds the image of a disk of so many bytes, with its footer.
pub(crate) fn fits_a_blob(size: u64) -> bool {
    rounded(size) + FOOTER <= LARGEST_BLOB
}

/// The footer of a disk of so many bytes, which were [rounded].
pub(crate) fn footer(size: u64, id: [u8; 16], unix_seconds: u64) -> [u8; FOOTER as usize] {
    let mut footer = [0; FOOTER as usize];
    let mut put = |at: usize, bytes: &[u8]| footer[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"conectix");
    put(8, &2_u32.to_be_bytes()); // always set
    put(12, &0x1_0000_u32.to_be_bytes()); // version of the format
    put(16, &u64::MAX.to_be_bytes()); // a fixed disk has nothing behind
    put(24, &(unix_seconds.saturating_sub(EPOCH) as u32).to_be_bytes());
    put(28, b"win "); // who reads the size as it stands, not as a geometry
    put(32, &0xA_0000_u32.to_be_bytes());
    put(36, b"Wi2k");
    put(40, &size.to_be_bytes());
    put(48, &size.to_be_bytes());
    let (cylinders, heads, sectors) = geometry(size / 512);
    put(56, &cylinders.to_be_bytes());
    put(58, &[heads, sectors]);
    put(60, &2_u32.to_be_bytes()); // fixed
    put(68, &id);
    let sum: u32 = footer.iter().map(|b| u32::from(*b)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

/// Cylinders, heads and sectors per track, as the format's appendix reckons them.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let total = sectors.min(65_535 * 16 * 255);
    if total > 65_535 * 16 * 63 {
        return ((total / 255 / 16) as u16, 16, 255);
    }
    let (mut per_track, mut tracks) = (17, total / 17);
    let mut heads = tracks.div_ceil(1024).max(4);
    if tracks >= heads * 1024 || heads > 16 {
        (per_track, heads) = (31, 16);
        tracks = total / 31;
    }
    if tracks >= heads * 1024 {
        (per_track, heads) = (63, 16);
        tracks = total / 63;
    }
    ((tracks / heads) as u16, heads as u8, per_track as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_says_its_size_and_sums_up() {
        for size in [MIB, 64 * MIB, 3 * 1024 * MIB + MIB, 8 << 40] {
            let footer = footer(size, [7; 16], EPOCH + 5);
            assert_eq!((&footer[..8], &footer[48..56]), (&b"conectix"[..], &size.to_be_bytes()[..]));
            let told = u32::from_be_bytes(footer[64..68].try_into().unwrap());
            let others = footer[..64].iter().chain(&footer[68..]);
            assert_eq!(told, !others.map(|b| u32::from(*b)).sum::<u32>());
            assert_eq!(footer[24..28], [0, 0, 0, 5]);
        }
    }

    #[test]
    fn sizes_are_whole_mebibytes() {
        assert_eq!([0, 1, MIB, MIB + 1].map(rounded), [MIB, MIB, MIB, 2 * MIB]);
    }

    #[test]
    fn a_page_blob_holds_less_than_eight_tebibytes() {
        let most = LARGEST_BLOB - MIB;
        assert_eq!([most, most + 1, LARGEST_BLOB].map(fits_a_blob), [true, false, false]);
    }

    /// Of the format's appendix: 64 MiB are 2048 tracks of 17 sectors under 4 heads... and the rest is cut off.
    #[test]
    fn geometries_hold_no_more_than_the_disk() {
        for sectors in [2048, 131_072, 4_000_000, 200_000_000, 17_179_869_184] {
            let (cylinders, heads, per_track) = geometry(sectors);
            assert!(u64::from(cylinders) * u64::from(heads) * u64::from(per_track) <= sectors);
            assert!(cylinders > 0);
        }
    }
}

//! What is on a disk before anything of ours is written to it.

use site_recovery::Result;
use site_recovery_register::Told;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where from, counted from the start; negative: from the end.
type At = i64;

/// What is told by a few bytes at a fixed place. By each format's own description.
const KNOWN: &[(At, &[u8], &str)] = &[
    (510, &[0x55, 0xaa], "a partition table or a boot sector"),
    (512, b"EFI PART", "a GUID partition table"),
    (4096, b"EFI PART", "a GUID partition table"),
    (-512, b"EFI PART", "the end of a GUID partition table"),
    (0, b"LABELONE", "an LVM volume"),
    (512, b"LABELONE", "an LVM volume"),
    (1024, b"LABELONE", "an LVM volume"),
    (1536, b"LABELONE", "an LVM volume"),
    (0, b"LUKS\xba\xbe", "an encrypted volume"),
    (0x438, &[0x53, 0xef], "an ext file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x10040, b"_BHRfS_M", "a Btrfs file system"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (-8192, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (-65536, &[0xfc, 0x4e, 0x2b, 0xa9], "a member of a Linux RAID"),
    (-512, &[0xde, 0x11, 0xde, 0x11], "metadata of a RAID controller (DDF)"),
    (-1024, b"Intel Raid ISM Cfg Sig.", "metadata of a RAID controller (Intel)"),
    (3, b"NTFS    ", "an NTFS file system"),
    (4086, b"SWAPSPACE2", "swap space"),
];
/// How much of either end is looked through for bytes that nobody knows.
const ENDS: u64 = 128 << 10;

/// What is there, in words; none where both ends are zeros.
pub(crate) fn on(path: &Path, size: u64) -> Result<Vec<&'static str>> {
    let file = File::open(path).told("open", path)?;
    let mut found = vec![];
    for (at, magic, what) in KNOWN {
        let start = if *at < 0 { size.checked_sub(at.unsigned_abs()) } else { Some(at.unsigned_abs()) };
        let Some(start) = start else { continue };
        if start + magic.len() as u64 > size {
            continue;
        }
        let mut bytes = vec![0; magic.len()];
        file.read_exact_at(&mut bytes, start).told("read", path)?;
        if bytes == *magic && !found.contains(what) {
            found.push(*what);
        }
    }
    if found.is_empty() {
        let len = ENDS.min(size);
        for start in [0, size - len] {
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, start).told("read", path)?;
            if bytes.iter().any(|b| *b != 0) {
                found.push("bytes of a kind that is not known here");
                break;
            }
        }
    }
    Ok(found)
}

//! The reader of streams: what a stream holds, however it is cut; and what is no stream of this disk.

use super::streams::*;
use crate::read::stream_vmdk::StreamVmdk;
use site_recovery::{Error, ErrorKind, Result};
use std::process::Command;

/// The disk that a stream holds, as it comes in pieces of this size.
fn read(stream: &[u8], capacity: u64, piece: usize) -> Result<Vec<u8>> {
    let mut disk = vec![0; capacity as usize];
    let mut reader = StreamVmdk::new(capacity);
    for bytes in stream.chunks(piece) {
        reader.push(bytes, &mut |at, bytes| {
            disk[at as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        })?;
    }
    reader.finish()?;
    Ok(disk)
}

#[test]
fn d1_a_stream_is_the_disk_however_it_is_cut() {
    let disk = disk();
    let (stream, capacity) = (stream(&disk), disk.len() as u64);
    for piece in [1, 7, 511, 512, 513, 65_536, stream.len()] {
        assert!(read(&stream, capacity, piece).unwrap() == disk, "in pieces of {piece}");
    }
    // A capacity that is rounded up to whole grains.
    let mut rounded = stream.clone();
    rounded[..512].copy_from_slice(&head(6 * GRAIN, "")[..512]);
    assert!(read(&rounded, capacity, 4096).unwrap() == disk);
    let padded = [&stream[..], &[0; 1024]].concat();
    assert!(read(&padded, capacity, 4096).unwrap() == disk, "zeros after the end are nothing");
    let empty = vec![0; 1 << 20];
    assert!(read(&self::stream(&empty), 1 << 20, 4096).unwrap() == empty);
}

#[test]
fn d1_what_is_not_a_whole_stream_of_this_disk_is_corrupt_with_its_reason() {
    let disk = disk();
    let (right, capacity) = (stream(&disk), disk.len() as u64);
    let bytes = vec![1; GRAIN as usize];
    let around =
        |grains: &[Vec<u8>]| [&head(capacity, DESCRIPTOR)[..], &grains.concat(), &tail(capacity)].concat();
    let header = |at: usize, new: &[u8]| {
        let mut other = right.clone();
        other[at..at + new.len()].copy_from_slice(new);
        other
    };
    let mut flipped = grain(0, &bytes);
    let last = 12 + u32::from_le_bytes(flipped[8..12].try_into().unwrap()) as usize - 1;
    flipped[last] ^= 1;
    let child = DESCRIPTOR.replace("parentCID=ffffffff", "parentCID=12345678");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no VMDK", header(0, b"COWD")),
        ("no VMDK", header(4, &[9])),
        ("no streamOptimized", header(10, &[0])),
        ("no streamOptimized", header(77, &[0])),
        ("grains have 100 sectors", header(20, &[100])),
        ("grains have 4096 sectors", header(20, &4096_u64.to_le_bytes())),
        ("its disk has 2048 sectors", stream(&vec![0; 1 << 20])),
        ("its disk has", header(12, &u64::MAX.to_le_bytes())),
        ("leads nowhere", header(64, &0_u64.to_le_bytes())),
        ("leads nowhere", header(64, &u64::MAX.to_le_bytes())),
        ("leads nowhere", header(36, &4_u64.to_le_bytes())),
        ("leads nowhere", header(28, &u64::MAX.to_le_bytes())),
        ("differs from another disk", [&head(capacity, &child)[..], &tail(capacity)].concat()),
        ("not in order", around(&[grain(GRAIN, &bytes), grain(0, &bytes)])),
        ("not in order", around(&[grain(0, &bytes), grain(0, &bytes)])),
        ("not in order", around(&[grain(512, &bytes)])),
        ("beyond the disk", around(&[grain(6 * GRAIN, &bytes)])),
        ("beyond the disk", around(&[packed_grain(u64::MAX - 511, &[1])])),
        ("cannot be inflated", around(&[flipped])),
        ("cannot be inflated", around(&[grain(0, &bytes[1..])])),
        ("cannot be inflated", around(&[grain(0, &[&bytes[..], &[1]].concat())])),
        ("cannot be inflated", around(&[packed_grain(0, &[0x78])])),
        ("grain in it has 131073 bytes", around(&[packed_grain(0, &vec![0; 131_073])])),
        ("no kind that is known", around(&[marker(1, 4)])),
        ("no kind that is known", around(&[marker(7, 0)])),
        ("has no end", around(&[marker(u64::MAX, 1)])),
        ("is no header", around(&[marker(1, 3), vec![1; 512]])),
        ("goes on after its end", [&right[..], b"more"].concat()),
        ("before its end is marked", right[..right.len() - 512].to_vec()),
        ("before its end is marked", right[..right.len() - 1].to_vec()),
        ("before its end is marked", vec![]),
    ];
    for (why, stream) in cases {
        for piece in [1000, usize::MAX] {
            let error = read(&stream, capacity, piece).expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(why), "{error}, not {why}");
        }
    }
}

#[test]
fn d1_no_cut_of_a_stream_is_taken_for_the_disk() {
    let disk = disk();
    let stream = stream(&disk);
    for end in (0..stream.len()).step_by(61).chain(stream.len() - 40..stream.len()) {
        assert!(read(&stream[..end], disk.len() as u64, 4096).is_err(), "{end} bytes of {}", stream.len());
    }
}

#[test]
fn what_cannot_be_written_is_told_and_ends_it() {
    let disk = disk();
    let mut reader = StreamVmdk::new(disk.len() as u64);
    let full = |_: u64, _: &[u8]| Err(Error::new(ErrorKind::OutOfSpace, "full"));
    let error = reader.push(&stream(&disk), &mut { full }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfSpace);
}

/// An independent writer of the format.
#[test]
fn a_stream_of_qemu_is_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (raw, packed) = (dir.path().join("disk.raw"), dir.path().join("disk.vmdk"));
    let mut disk = disk();
    disk.resize(6 << 20, 0);
    disk[5 << 20..][..100_000].fill(7);
    std::fs::write(&raw, &disk).unwrap();
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-O", "vmdk", "-o", "subformat=streamOptimized"]).args([&raw, &packed]);
    let made = match convert.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED streams of QEMU: qemu-img is absent; tests/run --setup gets it");
            assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "it is required");
            return;
        }
        made => made.unwrap(),
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // It marks no end, but fills a cluster with zeros, which are one.
    let mut stream = std::fs::read(&packed).unwrap();
    stream.resize(stream.len().next_multiple_of(512) + 512, 0);
    assert!(read(&stream, disk.len() as u64, 4096).unwrap() == disk);
}

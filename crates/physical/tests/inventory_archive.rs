//! Archives that real programs packed, and damaged ones.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod inventory_tree;

use inventory_tree::{cpio, packed, peer};
use site_recovery::ErrorKind;
use site_recovery_physical::inventory::Archive;
use std::path::PathBuf;

const MODULE: &str = "usr/lib/modules/6.1.0/kernel/drivers/hv/hv_vmbus.ko.zst";

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("initrd.img");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn read(bytes: &[u8]) -> site_recovery::Result<Vec<String>> {
    let (_dir, path) = written(bytes);
    Archive::read(&path).map(|a| a.names().map(str::to_owned).collect())
}

/// As distributions make them: microcode first, then what is packed; some with several of the former.
#[test]
fn all_ways_of_packing() {
    let early = cpio(&["kernel/x86/microcode/AuthenticAMD.bin"]);
    let main = cpio(&["init", MODULE]);
    for program in ["gzip", "zstd", "xz", "bzip2", "lzma", "lz4"] {
        if !peer(&format!("an initramfs by {program}"), program) {
            continue;
        }
        let mut image = early.clone();
        image.extend(cpio(&["early2"]));
        image.extend(if program == "lz4" {
            let (dir, path) = written(&main);
            // The kernel reads the older of lz4's formats alone.
            let output = std::process::Command::new("lz4").args(["-l", "-c"]).arg(&path).output().unwrap();
            drop(dir);
            output.stdout
        } else {
            packed(program, &main)
        });
        let names = read(&image).unwrap_or_else(|e| panic!("{program}: {e}"));
        assert_eq!(names, ["early2", "init", "kernel/x86/microcode/AuthenticAMD.bin", MODULE], "{program}");
    }
    let mut plain = early;
    plain.extend(main);
    assert_eq!(read(&plain).unwrap().len(), 3, "not packed at all");
}

#[test]
fn modules_by_any_name() {
    let (_dir, path) = written(&cpio(&[MODULE, "lib/modules/6/hid-hyperv.ko", "etc/foo.ko.conf", "x.kox"]));
    let archive = Archive::read(&path).unwrap();
    assert_eq!(archive.modules().collect::<Vec<_>>(), ["hid_hyperv", "hv_vmbus"]);
    assert!(archive.has_module("hv-vmbus") && archive.has_module("hid-hyperv") && !archive.has_module("foo"));
}

/// Neither a cut nor a change makes it panic, wait or take a name for another that is too long to be one.
#[test]
fn damaged_archives() {
    let whole = cpio(&["init", MODULE]);
    // In front of the trailer's end every cut is seen.
    let end = whole.windows(10).position(|w| w == b"TRAILER!!!").unwrap();
    for cut in 1..end {
        let kind = read(&whole[..cut]).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "cut at {cut}: {kind:?}");
    }
    for at in (0..end).step_by(3) {
        for value in [0u8, b'f', 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            if let Ok(names) = read(&bytes) {
                assert!(names.iter().all(|n| n.len() < 4096));
            }
        }
    }
    if peer("a damaged initramfs by gzip", "gzip") {
        let image = packed("gzip", &whole);
        let kind = read(&image[..image.len() - 20]).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Corrupt);
        let kind = read(&packed("gzip", b"no archive at all")).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Corrupt);
        let kind = read(&packed("gzip", b"")).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Corrupt);
    }
    assert_eq!(read(b"\x7fELF no archive").unwrap_err().kind(), ErrorKind::Unsupported);
}

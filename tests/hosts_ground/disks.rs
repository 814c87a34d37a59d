//! Disks are cloned, mounted and checked, and a writer's time is told from them.

use super::hosts::*;
use super::{MIB, SILENCE};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

#[test]
fn disks_are_cloned_mounted_and_checked() {
    if !peers("disks", &["filefrag"]) {
        return;
    }
    let ground = Ground::new("disks_are_cloned_mounted_and_checked");
    // The host is there first: it sees what is mounted later.
    let web = ground.host("web-1");
    let store = ground.store(512 * MIB);
    let disk = store.disk("data", 32 * MIB);
    disk.format();
    {
        let mount = disk.mount(&web, "data");
        web.run("cp", &[Path::new("/etc/passwd"), &mount.at().join("copy")]);
        assert_eq!(fs::read(mount.outside().join("copy")).unwrap(), fs::read("/etc/passwd").unwrap());
        assert!(!mount.at().join("copy").exists(), "mounted in the host alone");
        assert!(web.run("ls", &[store.dir()]).contains("data.raw"), "the store is there for each");
        let frozen = mount.freeze();
        let mut touching = web.start_program("touch", &[mount.at().join("touched")]);
        thread::sleep(SILENCE);
        assert_eq!(touching.has_ended(), None, "nobody writes to what is frozen");
        drop(frozen);
        assert!(touching.wait().success());
    }
    fsck(disk.device()).unwrap();
    fsck(disk.image()).unwrap();

    let clone = store.dir().join("clone.raw");
    reflink(disk.image(), &clone);
    let shared = run("filefrag", &["-v".as_ref(), clone.as_os_str()]);
    let extents: Vec<&str> = shared.lines().filter(|line| line.contains("..")).collect();
    assert!(!extents.is_empty() && extents.iter().all(|line| line.contains("shared")), "{shared}");
    let before = fs::read(&clone).unwrap();
    assert_eq!(before, fs::read(disk.image()).unwrap());
    // Zeros over all metadata of the first group but the superblock.
    let mut damaged = before.clone();
    damaged[8192..MIB as usize].fill(0);
    fs::write(disk.image(), &damaged).unwrap();
    assert!(fsck(disk.image()).is_err());
    assert_eq!(fs::read(&clone).unwrap(), before);
    fsck(&clone).unwrap();
}

#[test]
fn d3_a_writers_cut_is_told_from_a_torn_one() {
    if !peers("a writer on two disks", &[]) {
        return;
    }
    let ground = Ground::new("d3_a_writers_cut_is_told_from_a_torn_one");
    let (web, store) = (ground.host("web-1"), ground.store(512 * MIB));
    let (first, second) = (store.disk("first", 16 * MIB), store.disk("second", 16 * MIB));
    first.format();
    second.format();
    let (on_first, on_second) = (first.mount(&web, "first"), second.mount(&web, "second"));
    let mut writer = Writer::start(&web, &[&on_first, &on_second], Duration::from_millis(1));
    let at = |name: &str| store.dir().join(name);
    let clone = |disk: &Disk, name: &str| {
        reflink(disk.image(), &at(name));
        at(name)
    };

    // Before the rings are full, and after.
    for count in [20, tokens::SLOTS as u64 + 10] {
        writer.until(count);
        let (one, two) = (on_first.freeze(), on_second.freeze());
        let acknowledged = writer.acknowledged();
        let images = [clone(&first, "a"), clone(&second, "b")];
        drop((one, two));
        let prefix = check_images(&[&images[0], &images[1]]).unwrap();
        assert!((acknowledged..=acknowledged + 1).contains(&prefix.count), "{prefix:?} of {acknowledged}");
        assert!(fsck(&images[0]).is_ok() && fsck(&images[1]).is_ok(), "frozen, so clean");
        writer.until(acknowledged + 3);
    }
    // As after a loss of power: one disk alone is whole, though it was not frozen.
    for _ in 0..3 {
        let acknowledged = writer.acknowledged();
        let prefix = check_images(&[&clone(&first, "a")]).unwrap();
        assert!(prefix.count >= acknowledged, "{prefix:?} of {acknowledged}");
    }
    // Two disks, but not of one time: in either order.
    let (early_first, early_second) = (clone(&first, "early-first"), clone(&second, "early-second"));
    writer.until(writer.acknowledged() + 5);
    let (late_first, late_second) = (clone(&first, "late-first"), clone(&second, "late-second"));
    for images in [[&early_first, &late_second], [&late_first, &early_second]] {
        let complaint = check_images(&images.map(|path| path.as_path())).unwrap_err();
        assert!(complaint.contains("not of one time"), "{complaint}");
    }
}

#[test]
fn d3_a_ring_that_lost_a_write_is_found_out() {
    let ring = |count: u64| {
        let mut ring = vec![0; tokens::SLOTS * tokens::LEN];
        for number in 0..count {
            let at = number as usize % tokens::SLOTS * tokens::LEN;
            ring[at..at + tokens::LEN].copy_from_slice(&tokens::token(0, number));
        }
        ring
    };
    let slots = tokens::SLOTS as u64;
    for count in [0, 1, 5, slots - 1, slots, slots + 1, 3 * slots + 7] {
        let whole = ring(count);
        assert_eq!(tokens::count(0, &whole), Ok(count));
        assert!(count < 2 || tokens::count(1, &whole).is_err(), "another disk's");
        // A token may be on its way to the next slot.
        let next = count as usize % tokens::SLOTS * tokens::LEN;
        let mut torn = whole.clone();
        torn[next..next + 512].copy_from_slice(&tokens::token(0, count)[..512]);
        assert_eq!(tokens::count(0, &torn), Ok(count));
        for back in 2..count.min(slots) {
            let at = (count - back) as usize % tokens::SLOTS * tokens::LEN;
            let mut lost = whole.clone();
            lost[at + 4000] ^= 1;
            assert!(tokens::count(0, &lost).is_err(), "a bit of the token {back} before the end of {count}");
        }
    }
    let half = [&ring(slots + 20)[..40 * tokens::LEN], &ring(slots + 50)[40 * tokens::LEN..]].concat();
    assert!(tokens::count(0, &half).is_err(), "of two times");
    let whole = |count| ring(count);
    let of_second = |count: u64| {
        (0..tokens::SLOTS as u64)
            .flat_map(move |at| if at < count { tokens::token(1, at) } else { vec![0; tokens::LEN] })
    };
    let check = |first, second| check_logs(&[whole(first), of_second(second).collect()]);
    assert_eq!(check(4, 4), Ok(Prefix { count: 4, ahead: 0 }));
    assert_eq!(check(5, 4), Ok(Prefix { count: 4, ahead: 1 }));
    assert!(check(6, 4).is_err() && check(4, 5).is_err());
}

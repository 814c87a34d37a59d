//! Scans that are cut off.

use super::*;
use std::fs;

/// What stands on disk when a scan is cut off right after it was written beside the tables, with `applied` of its pages
/// in them already.
fn cut_off(applied: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, size) = (DiskId::from("d"), 3 << 20);
    let copy = dir.path().join("copy");
    let disks = BTreeMap::from([(disk.clone(), copy.clone())]);
    let nobody = |_: &DiskId, _: &str| Hint::Anything("nobody is asked".into());
    let tracking = || Tracking::at(dir.path().join("tracking"), Pace::default());
    let begin = |t: &Tracking| {
        let tracked = Tracked { id: disk.clone(), hardware: "h".into(), size };
        t.begin(&"m".into(), Generation(0), vec![tracked]).unwrap()
    };
    let mut content = vec![1; size as usize];
    fs::write(&copy, &content).unwrap();
    let one = tracking();
    let first = begin(&one);
    one.scan(&first, &disks, &nobody).unwrap();
    content[70_000] = 2;
    fs::write(&copy, &content).unwrap();
    let second = begin(&one);
    let files = one.files_of(&second).unwrap();
    let before = files.state().unwrap().unwrap();
    let tracked = files.about.disks[0].clone();
    let still = Still::open(&copy, size, &one.pace).unwrap();
    let hint = Hint::Anything("a test".into());
    let found = renew(&files, &tracked, &still, before.sums[&disk], &hint).unwrap();
    let maps = BTreeMap::from([(disk.clone(), found.changed)]);
    let (cut, nonce) = (second.cut, second.nonce);
    let kept = Cut { cut, nonce, since: Some(before.cut), became: Became::Captured, maps: checksums(&maps) };
    files.set_cut(&kept, &maps).unwrap();
    let sums = BTreeMap::from([(disk.clone(), found.sum)]);
    let state = State { cut, partial: 1, sums, marks: BTreeMap::new() };
    durable::write(&files.redo_path(), &state).unwrap();
    if applied {
        let table = files.table(&tracked).unwrap();
        each_page(&files.pages_path(&disk), &mut |n, page| table.set_page(n, page).map(drop)).unwrap();
    }
    drop(one);
    content[200_000] = 3;
    fs::write(&copy, &content).unwrap();
    let two = tracking();
    let third = begin(&two);
    two.scan(&third, &disks, &nobody).unwrap();
    let told = |since: &CutRef| match two.changes(&since.cursor(Generation(0)), &third, Generation(0)) {
        Changes::Known(set) => set.runs(&disk).iter().map(|r| r.start / 65536).collect::<Vec<_>>(),
        Changes::Lost { reason } => panic!("lost: {reason}"),
    };
    assert_eq!(told(&first), [1, 3], "applied: {applied}");
    assert_eq!(told(&second), [3], "applied: {applied}");
    assert!(!files.redo_path().exists() && !files.pages_path(&disk).exists(), "leftovers");
}

#[test]
fn d4_a_scan_that_was_cut_off_is_carried_to_its_end() {
    cut_off(false);
    cut_off(true);
}

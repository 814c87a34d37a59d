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

#[test]
fn d4_a_cut_that_says_it_comes_after_itself_is_lost_and_not_followed_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, size) = (DiskId::from("d"), 1 << 20);
    let copy = dir.path().join("copy");
    let disks = BTreeMap::from([(disk.clone(), copy.clone())]);
    let nobody = |_: &DiskId, _: &str| Hint::Anything("nobody is asked".into());
    let tracking = Tracking::at(dir.path().join("tracking"), Pace::default());
    let mut cuts = vec![];
    for content in [1, 2] {
        fs::write(&copy, vec![content; size as usize]).unwrap();
        let tracked = Tracked { id: disk.clone(), hardware: "h".into(), size };
        let cut = tracking.begin(&"m".into(), Generation(0), vec![tracked]).unwrap();
        tracking.scan(&cut, &disks, &nobody).unwrap();
        cuts.push(cut);
    }
    let [first, second] = [cuts.remove(0), cuts.remove(0)];
    let files = tracking.files_of(&second).unwrap();
    for damaged in [second.cut, second.cut + 1] {
        let kept = files.cut(second.cut).unwrap().unwrap();
        files.set_cut(&Cut { since: Some(damaged), ..kept }, &BTreeMap::new()).unwrap();
        // Where it is followed for ever, the thread is left behind.
        let (told, hears) = std::sync::mpsc::channel();
        let (at, since, until) = (dir.path().join("tracking"), first.cursor(Generation(0)), second.clone());
        std::thread::spawn(move || {
            let _ = told.send(Tracking::at(at, Pace::default()).changes(&since, &until, Generation(0)));
        });
        let changes = hears.recv_timeout(std::time::Duration::from_secs(20)).expect("an answer");
        assert!(matches!(changes, Changes::Lost { .. }), "{damaged}: {changes:?}");
    }
}

//! Each test has a container of its own.

use crate::server::{container, is_here, key, name, settings, signed};
use bytes::Bytes;
use site_recovery_azure_blob::{
    Container, CopyState, Error, Image, Limits, PageBlob, Run, Secret, SnapshotId, Who,
};
use std::collections::BTreeMap;
use std::time::Duration;
use url::Url;

fn metadata(name: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn bytes(of: u8, len: usize) -> Bytes {
    Bytes::from(vec![of; len])
}

async fn read(blob: &PageBlob, at: Option<&SnapshotId>, start: u64, len: usize) -> Vec<u8> {
    let mut into = vec![0xee; len];
    blob.read(at, Run::new(start, len as u64), &mut into).await.expect("read");
    into
}

#[tokio::test]
async fn a_container_is_made_once_and_again() {
    if !is_here() {
        return;
    }
    let container = Container::new(&settings(&name()), signed()).expect("settings");
    let error = container.list("").await.expect_err("not made yet");
    assert!(
        matches!(&error, Error::Absent(answer) if answer.code.as_deref() == Some("ContainerNotFound")),
        "{error}"
    );
    let error = container.document("a").create(bytes(1, 3)).await.expect_err("nowhere");
    assert!(matches!(error, Error::Absent(_)), "{error}");
    container.make().await.expect("made");
    container.make().await.expect("made already");
    assert_eq!(container.list("").await.expect("a list"), []);
}

#[tokio::test]
async fn a_document_is_replaced_by_whoever_has_read_it_last() {
    if !is_here() {
        return;
    }
    let container = container().await;
    let document = container.document("points/märz 1/manifest+a%b.json");
    assert_eq!(document.read().await.expect("asked"), None);
    let first = document.create(Bytes::from_static(b"one")).await.expect("made");
    assert_eq!(document.read().await.expect("asked"), Some((Bytes::from_static(b"one"), first.clone())));
    let error = document.create(Bytes::from_static(b"other")).await.expect_err("there");
    assert!(matches!(error, Error::Exists(_)) && !error.may_have_been_done(), "{error}");
    let second = document.replace(Bytes::from_static(b"two"), &first).await.expect("replaced");
    let error = document.replace(Bytes::from_static(b"late"), &first).await.expect_err("changed");
    assert!(matches!(error, Error::Changed(_)), "{error}");
    assert_eq!(document.read().await.expect("asked"), Some((Bytes::from_static(b"two"), second.clone())));
    document.delete().await.expect("gone");
    document.delete().await.expect("gone already");
    assert_eq!(document.read().await.expect("asked"), None);
    let error = document.replace(Bytes::from_static(b"late"), &second).await.expect_err("gone");
    assert!(matches!(error, Error::Changed(_)), "{error}");
}

#[tokio::test]
async fn a_disk_is_written_cleared_and_listed() {
    if !is_here() {
        return;
    }
    let disk = container().await.pages("disks/os.vhd");
    assert_eq!(disk.properties().await.expect("asked"), None);
    let etag = disk.create(16 << 20, &metadata("machine", "web 1")).await.expect("made");
    let found = disk.properties().await.expect("asked").expect("there");
    assert_eq!((found.size, found.sequence, found.etag, found.leased), (16 << 20, 0, etag, false));
    assert_eq!((found.metadata, found.copy), (metadata("machine", "web 1"), None));
    let error = disk.create(1 << 20, &none()).await.expect_err("there");
    assert!(matches!(error, Error::Exists(_)), "{error}");
    let all = Run::new(0, 16 << 20);
    assert_eq!(disk.ranges(None, all).await.expect("ranges"), []);
    disk.write(1 << 20, bytes(7, 4 << 20), 0).await.expect("written");
    disk.write(8 << 20, bytes(9, 512), 0).await.expect("written");
    disk.clear(Run::new(2 << 20, 1 << 20), 0).await.expect("cleared");
    let mib = |from: u64, to: u64| Run::new(from << 20, (to - from) << 20);
    let data = [mib(1, 2), mib(3, 5), Run::new(8 << 20, 512)];
    assert_eq!(disk.ranges(None, all).await.expect("ranges"), data);
    assert_eq!(disk.ranges(None, mib(4, 6)).await.expect("ranges"), [mib(4, 5)]);
    // Over more than one piece, from and to the middle of pages.
    let got = read(&disk, None, (1 << 20) - 5, (8 << 20) + 5).await;
    let mut wanted = vec![0; (8 << 20) + 5];
    wanted[5..5 + (1 << 20)].fill(7);
    wanted[5 + (2 << 20)..5 + (4 << 20)].fill(7);
    wanted[5 + (7 << 20)..5 + (7 << 20) + 512].fill(9);
    assert!(got == wanted, "other bytes");
    let before = disk.properties().await.expect("asked").expect("there").etag;
    let now = disk.take_sequence(1, &before).await.expect("taken");
    assert!(matches!(disk.take_sequence(2, &before).await, Err(Error::Changed(_))), "another one was first");
    assert!(matches!(disk.resize(64 << 20, &before).await, Err(Error::Changed(_))), "late");
    disk.resize(32 << 20, &now).await.expect("resized");
    assert_eq!(disk.properties().await.expect("asked").expect("there").size, 32 << 20);
    assert_eq!(read(&disk, None, 31 << 20, 512).await, [0; 512]);
}

#[tokio::test]
async fn a_writer_that_was_superseded_writes_nothing() {
    if !is_here() {
        return;
    }
    let disk = container().await.pages("os.vhd");
    disk.create(1 << 20, &none()).await.expect("made");
    disk.raise_sequence(5).await.expect("raised");
    disk.write(0, bytes(1, 512), 5).await.expect("written");
    disk.raise_sequence(6).await.expect("raised");
    disk.raise_sequence(4).await.expect("higher already");
    assert_eq!(disk.properties().await.expect("asked").expect("there").sequence, 6);
    for error in [
        disk.write(0, bytes(2, 512), 5).await.expect_err("superseded"),
        disk.clear(Run::new(0, 512), 5).await.expect_err("superseded"),
        disk.write(0, bytes(2, 512), 7).await.expect_err("never raised so far"),
    ] {
        assert!(matches!(error, Error::Superseded(_)) && !error.may_have_been_done(), "{error}");
    }
    assert_eq!(read(&disk, None, 0, 512).await, [1; 512]);
    disk.write(0, bytes(3, 512), 6).await.expect("written");
    assert_eq!(read(&disk, None, 0, 512).await, [3; 512]);
}

#[tokio::test]
async fn a_snapshot_stays_as_it_was_until_it_is_removed() {
    if !is_here() {
        return;
    }
    let container = container().await;
    let disk = container.pages("disks/data.vhd");
    disk.create(1 << 20, &metadata("disk", "data")).await.expect("made");
    disk.write(0, bytes(1, 1024), 0).await.expect("written");
    let first = disk.snapshot(&metadata("point", "1")).await.expect("taken");
    disk.write(512, bytes(2, 1024), 0).await.expect("written");
    let second = disk.snapshot(&none()).await.expect("taken");
    assert!(first < second, "{first} {second}");
    assert_eq!(read(&disk, Some(&first), 0, 1536).await, [[1; 512], [1; 512], [0; 512]].concat());
    assert_eq!(disk.ranges(Some(&first), Run::new(0, 1 << 20)).await.expect("ranges"), [Run::new(0, 1024)]);
    assert_eq!(disk.ranges(Some(&second), Run::new(0, 1 << 20)).await.expect("ranges"), [Run::new(0, 1536)]);

    container.document("disks/manifest").create(bytes(5, 3)).await.expect("made");
    container.document("other").create(bytes(5, 3)).await.expect("made");
    let listed = container.list("disks/").await.expect("a list");
    let short: Vec<_> = listed.iter().map(|l| (l.name.as_str(), l.snapshot.as_ref(), l.size)).collect();
    let vhd = "disks/data.vhd";
    let wanted = [
        (vhd, Some(&first), 1 << 20),
        (vhd, Some(&second), 1 << 20),
        (vhd, None, 1 << 20),
        ("disks/manifest", None, 3),
    ];
    assert_eq!(short, wanted);
    assert_eq!(listed[0].metadata, metadata("point", "1"));
    assert_eq!(listed[2].metadata, metadata("disk", "data"));
    assert_eq!(listed[2].etag, disk.properties().await.expect("asked").expect("there").etag);
    assert_eq!(container.folders("").await.expect("folders"), ["disks/"]);
    assert_eq!(container.folders("disks/").await.expect("folders"), [] as [&str; 0]);

    let error = disk.delete(None).await.expect_err("it has snapshots");
    let code = error.answer().and_then(|answer| answer.code.as_deref());
    assert!(matches!(error, Error::Refused(_)) && code == Some("SnapshotsPresent"), "{error}");
    disk.delete(Some(&first)).await.expect("gone");
    disk.delete(Some(&first)).await.expect("gone already");
    let mut into = [0; 512];
    let error = disk.read(Some(&first), Run::new(0, 512), &mut into).await.expect_err("gone");
    assert!(matches!(error, Error::Absent(_)), "{error}");
    disk.delete_all().await.expect("gone");
    disk.delete_all().await.expect("gone already");
    assert_eq!(container.list("disks/data").await.expect("a list"), []);
}

#[tokio::test]
async fn a_snapshot_is_copied_by_the_service() {
    if !is_here() {
        return;
    }
    let container = container().await;
    let (disk, copy) = (container.pages("data.vhd"), container.pages("copy.vhd"));
    disk.create(1 << 20, &none()).await.expect("made");
    disk.write(0, bytes(1, 512), 0).await.expect("written");
    let at = disk.snapshot(&none()).await.expect("taken");
    disk.write(0, bytes(2, 512), 0).await.expect("written");
    let mut source = container.url("data.vhd");
    source.query_pairs_mut().append_pair("snapshot", at.as_str());
    copy.copy_from(&source, None).await.expect("begun");
    let made = copy.properties().await.expect("asked").expect("there").copy.expect("it is a copy");
    assert_eq!(made.state, CopyState::Success);
    assert_eq!(read(&copy, None, 0, 512).await, [1; 512]);
    let error = copy.copy_from(&source, None).await.expect_err("there");
    assert!(matches!(error, Error::Exists(_)), "{error}");
    copy.abort_copy(&made.id).await.expect("done already");
    assert_eq!(read(&copy, None, 0, 512).await, [1; 512]);
}

#[tokio::test]
async fn a_signed_address_gives_one_blob_to_read_and_nothing_else() {
    if !is_here() {
        return;
    }
    for who in [signed(), key()] {
        let shown = format!("{who:?}");
        let container = Container::new(&settings(&name()), who).expect("settings");
        container.make().await.expect("made");
        let disk = container.pages("disks/a b.vhd");
        disk.create(1 << 20, &none()).await.expect("made");
        disk.write(512, bytes(4, 512), 0).await.expect("written");
        let sas = container.read_sas("disks/a b.vhd", Duration::from_secs(600)).await.expect("signed");
        let image = Image::new(&sas, &settings("any").trust, Limits::default()).expect("an address");
        assert_eq!(image.size().await.expect("asked"), 1 << 20, "{shown}");
        let mut into = [0; 512];
        image.read(Run::new(512, 512), &mut into).await.expect("read");
        assert_eq!(into, [4; 512], "{shown}");
        assert_eq!(
            image.ranges(Run::new(0, 1 << 20)).await.expect("ranges"),
            [Run::new(512, 512)],
            "{shown}"
        );
        let error = image.write(0, bytes(1, 512)).await.expect_err("read only");
        assert!(matches!(error, Error::Denied(_)), "{shown}: {error}");
        let other = sas.expose().replace("a%20b.vhd", "other.vhd");
        assert_ne!(other, sas.expose());
        let image =
            Image::new(&Secret::new(other), &settings("any").trust, Limits::default()).expect("an address");
        let error = image.size().await.expect_err("signed for another");
        assert!(matches!(error, Error::Denied(_)), "{shown}: {error}");
    }
}

#[tokio::test]
async fn whoever_has_only_a_signature_does_what_it_gives() {
    if !is_here() {
        return;
    }
    let name = name();
    let container = Container::new(&settings(&name), key()).expect("settings");
    container.make().await.expect("made");
    let disk = container.pages("d");
    disk.create(1 << 20, &none()).await.expect("made");
    disk.write(0, bytes(8, 512), 0).await.expect("written");
    let sas = container.read_sas("d", Duration::from_secs(600)).await.expect("signed");
    let query = Url::parse(sas.expose()).expect("an address").query().expect("signed").to_owned();
    let reader = Container::new(&settings(&name), Who::Sas(Secret::new(query))).expect("settings");
    assert_eq!(read(&reader.pages("d"), None, 0, 512).await, [8; 512]);
    assert_eq!(reader.pages("d").properties().await.expect("asked").expect("there").size, 1 << 20);
    let error = reader.pages("d").write(0, bytes(9, 512), 0).await.expect_err("read only");
    assert!(matches!(error, Error::Denied(_)), "{error}");
    let error = reader.read_sas("d", Duration::from_secs(600)).await.expect_err("no key");
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

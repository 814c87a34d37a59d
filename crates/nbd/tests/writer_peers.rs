//! What our client writes, as `qemu-nbd`, `qemu-storage-daemon`, `nbdkit` and our own server take it, and as others read it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::poll;
use site_recovery::*;
use site_recovery_nbd::{Address, ClientTls, Export, RemoteDisk, RemoteDiskMut, Server, ServerTls};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use support::*;
use tokio::sync::mpsc;

/// No multiple of a block larger than a sector.
const SIZE: u64 = 8 * MIB + 512;

async fn writable(address: &Address, export: &str) -> RemoteDiskMut {
    RemoteDisk::builder(address.clone(), export).connect_writable().await.unwrap()
}

fn random(rng: &mut Rng, len: u64) -> Bytes {
    let (first, step) = (rng.next(255) as u8 + 1, rng.next(7) as u8);
    (0..len).map(|i| first.wrapping_add(((i / 13) as u8).wrapping_mul(step))).collect()
}

/// Writes and zeroes parts of `area` at random, and returns what it holds then.
async fn scribble(disk: &RemoteDiskMut, area: Run, mut held: Vec<u8>, seed: u64) -> Vec<u8> {
    let mut rng = Rng::of(seed);
    for _ in 0..60 {
        let at = rng.next(area.len);
        let longest = if rng.next(8) == 0 { MIB } else { 9000 };
        let run = Run::new(area.start + at, rng.next(longest.min(area.len - at) + 1));
        let part = &mut held[at as usize..(at + run.len) as usize];
        if rng.next(3) == 0 {
            disk.zero(run).await.unwrap();
            part.fill(0);
        } else {
            let bytes = random(&mut rng, run.len);
            part.copy_from_slice(&bytes);
            disk.write(run.start, bytes).await.unwrap();
        }
    }
    held
}

/// Rules DSM and DSK by several tasks at once. The areas of the tasks meet in the middle of blocks. Returns what the disk
/// holds, flushed.
async fn dsm_dsk_what_is_written_reads_back(address: &Address, export: &str) -> Vec<u8> {
    let disk = writable(address, export).await;
    let next = writable(address, export).await;
    let size = disk.size();
    let before = contents(&disk).await;
    let ends = [0, 2_000_001, 4_000_003, 6_500_007, size];
    let areas: Vec<Run> = ends.windows(2).map(|ends| Run::new(ends[0], ends[1] - ends[0])).collect();
    let tasks = areas.iter().enumerate().map(|(i, area)| {
        let held = before[area.start as usize..area.end() as usize].to_vec();
        scribble(&disk, *area, held, size + i as u64)
    });
    let expected: Vec<u8> = join_all(tasks).await.concat();
    assert!(contents(&disk).await == expected, "this handle reads other bytes");
    assert!(contents(&next).await == expected, "the next handle reads other bytes");
    for extent in disk.extents(Run::new(0, size)).await.unwrap() {
        let held = &expected[extent.run.start as usize..extent.run.end() as usize];
        assert!(extent.fill == Fill::Data || held.iter().all(|b| *b == 0), "{extent:?} is not zero");
    }
    for error in [
        disk.write(size - 1, Bytes::from_static(b"xx")).await.expect_err("past the end"),
        disk.write(u64::MAX, Bytes::from_static(b"xx")).await.expect_err("past all numbers"),
        disk.zero(Run::new(size - 1, 2)).await.expect_err("past the end"),
        disk.zero(Run::new(size + 1, 0)).await.expect_err("past the end"),
    ] {
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("run")), "{error}");
    }
    disk.write(size, Bytes::new()).await.unwrap();
    disk.zero(Run::new(size, 0)).await.unwrap();
    disk.flush().await.unwrap();
    assert!(contents(&next).await == expected, "what is refused writes nothing");
    expected
}

/// As `qemu-img` copies it from the server.
async fn converted(dir: &Path, address: &Address, export: &str) -> Vec<u8> {
    let copy = dir.join("converted.raw");
    let uri = address.uri(export);
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &uri, copy.to_str().unwrap()]).await;
    std::fs::read(copy).unwrap()
}

/// As `nbdcopy` copies it from the server.
async fn copied(dir: &Path, address: &Address, export: &str) -> Vec<u8> {
    let copy = dir.join("copied.raw");
    run("nbdcopy", &["--request-size=65536", &address.uri(export), copy.to_str().unwrap()]).await;
    std::fs::read(copy).unwrap()
}

fn raw_file(dir: &Path, seed: u64) {
    std::fs::write(dir.join("disk.raw"), image(SIZE, seed).bytes).unwrap();
}

async fn qcow2_file(dir: &Path, size: u64) {
    let path = dir.join("disk.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", path.to_str().unwrap(), &size.to_string()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_nbd_takes_writes_into_raw_files() {
    if !peers("our writer and qemu-nbd", &["qemu-nbd", "qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    raw_file(dir.path(), 31);
    let peer = daemon(dir.path(), "qemu-nbd -t -e 16 -f raw disk.raw");
    assert_eq!(writable(&peer.address(), "").await.reader().connections(), 4);
    let expected = dsm_dsk_what_is_written_reads_back(&peer.address(), "").await;
    assert!(converted(dir.path(), &peer.address(), "").await == expected, "qemu-img has other bytes");
    peer.kill().await;
    assert!(std::fs::read(dir.path().join("disk.raw")).unwrap() == expected, "the file has other bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_storage_daemon_takes_writes_into_qcow2_files() {
    if !peers("our writer and qemu-storage-daemon", &["qemu-storage-daemon", "qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    qcow2_file(dir.path(), SIZE).await;
    let peer = daemon(dir.path(), &storage_daemon("disk.qcow2", "writable=on"));
    let expected = dsm_dsk_what_is_written_reads_back(&peer.address(), "x").await;
    assert!(converted(dir.path(), &peer.address(), "x").await == expected, "qemu-img has other bytes");
}

fn storage_daemon(file: &str, export: &str) -> String {
    format!(
        "qemu-storage-daemon --blockdev driver=file,node-name=file,filename={file} \
         --blockdev driver=qcow2,node-name=disk,file=file \
         --nbd-server addr.type=fd,addr.str=3,max-connections=16 \
         --export type=nbd,id=export,node-name=disk,name=x,{export}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdkit_takes_writes_with_all_it_has_and_with_little() {
    if !peers("our writer and nbdkit", &["nbdkit", "nbdcopy", "nbdinfo"]) {
        return;
    }
    let blocks = "memory 8M blocksize-error-policy=error blocksize-minimum=4096 blocksize-maximum=65536";
    let size = SIZE;
    // What is served how, over how many connections, and whether it has a command for zeros.
    let cases = [
        (format!("memory {size}"), 4, true),
        (format!("--filter=nozero memory {size}"), 4, false),
        (format!("--no-sr memory {size}"), 4, true),
        (format!("--filter=multi-conn memory {size} multi-conn-mode=disable"), 1, true),
        (format!("--filter=blocksize-policy {blocks}"), 4, true),
        (format!("--filter=blocksize-policy --filter=nozero {blocks}"), 4, false),
    ];
    for (served, connections, zeroes) in cases {
        let dir = tempfile::tempdir().unwrap();
        let peer = daemon(dir.path(), &format!("nbdkit -f {served}"));
        let told = run("nbdinfo", &[&peer.address().uri("")]).await;
        assert!(told.contains(&format!("can_zero: {zeroes}")), "{served}: {told}");
        assert_eq!(writable(&peer.address(), "").await.reader().connections(), connections, "{served}");
        let expected = dsm_dsk_what_is_written_reads_back(&peer.address(), "").await;
        assert!(copied(dir.path(), &peer.address(), "").await == expected, "{served}: other bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_server_takes_writes_into_its_overlay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(image(SIZE, 33));
    let export = Export::with_overlay("x", disk.clone(), dir.path(), 64 * MIB).unwrap();
    let small = Export::with_overlay("small", disk.clone(), dir.path(), MIB).unwrap();
    let server = Server::builder().export(export).export(small).export(Export::read_only("ro", disk));
    let server = server.listen(Address::loopback()).await.unwrap();
    let expected = dsm_dsk_what_is_written_reads_back(server.address(), "x").await;
    if peers("our writer, our server and nbdcopy", &["nbdcopy"]) {
        assert!(copied(dir.path(), server.address(), "x").await == expected, "nbdcopy has other bytes");
    }
    let small = writable(server.address(), "small").await;
    let error = small.write(0, vec![1; 2 * MIB as usize].into()).await.expect_err("it does not fit");
    assert_eq!(error.kind(), ErrorKind::OutOfSpace, "{error}");
    small.write(0, vec![1; 4096].into()).await.expect("a refused write breaks nothing");
    small.flush().await.unwrap();
    let error = RemoteDisk::builder(server.address().clone(), "ro").connect_writable().await;
    assert_eq!(error.expect_err("it is read-only").kind(), ErrorKind::Denied);
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_over_tls_is_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(image(SIZE, 34));
    let mut expected = disk.bytes.clone();
    let export = Export::with_overlay("x", disk, dir.path(), 64 * MIB).unwrap();
    let tls =
        ServerTls::mutual(&pem("server-cert.pem"), &pem("server-key.pem"), &pem("ca-cert.pem")).unwrap();
    let server = Server::builder().export(export).tls(tls).listen(Address::loopback()).await.unwrap();
    let ours = ClientTls::ca(&pem("ca-cert.pem"), "localhost").unwrap();
    let ours = ours.identity(&pem("client-cert.pem"), &pem("client-key.pem")).unwrap();
    let builder = || RemoteDisk::builder(server.address().clone(), "x").tls(ours.clone());
    let disk = builder().connect_writable().await.unwrap();
    let mut rng = Rng::of(34);
    let written = [(0, 1), (77, 3 * MIB), (4 * MIB, 100_000), (SIZE - 5, 5)]
        .map(|(at, len)| (at, random(&mut rng, len)));
    for (at, bytes) in &written {
        expected[*at as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    for outcome in join_all(written.map(|(at, bytes)| disk.write(at, bytes))).await {
        outcome.unwrap();
    }
    disk.flush().await.unwrap();
    assert!(contents(&builder().connect().await.unwrap()).await == expected, "other bytes");
    server.stop(Duration::from_secs(5)).await;
}

/// Without the flush, the file has none of it: QEMU keeps what says where clusters are.
#[tokio::test(flavor = "multi_thread")]
async fn dsm_3_what_was_flushed_survives_the_end_of_qemu_nbd() {
    if !peers("our writer and a killed qemu-nbd", &["qemu-nbd", "qemu-img"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    qcow2_file(dir.path(), SIZE).await;
    let peer = daemon(dir.path(), "qemu-nbd -t -e 8 -f qcow2 disk.qcow2");
    let disk = writable(&peer.address(), "").await;
    let kept = random(&mut Rng::of(5), MIB + 77);
    disk.write(MIB, kept.clone()).await.unwrap();
    disk.zero(Run::new(MIB + 100, 4096)).await.unwrap();
    disk.flush().await.unwrap();
    disk.write(4 * MIB, Bytes::from_static(b"not flushed")).await.unwrap();
    peer.kill().await;
    is_broken(&disk).await;

    let (image, copy) = (dir.path().join("disk.qcow2"), dir.path().join("copy.raw"));
    let (image, copy) = (image.to_str().unwrap(), copy.to_str().unwrap());
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", image, copy]).await;
    let mut expected = kept.to_vec();
    expected[100..4196].fill(0);
    let copy = std::fs::read(copy).unwrap();
    assert!(copy[MIB as usize..][..expected.len()] == expected, "what was flushed is lost");
}

/// Whatever is asked for.
async fn is_broken(disk: &RemoteDiskMut) {
    for round in 0..2 {
        for outcome in [
            disk.flush().await,
            disk.write(0, Bytes::from_static(b"x")).await,
            disk.zero(Run::new(0, 4096)).await,
            disk.read(Run::new(0, 512), &Pool::new(4096)).await.map(drop),
            disk.extents(Run::new(0, 512)).await.map(drop),
            disk.flush().await,
        ] {
            let error = outcome.expect_err("the connection is lost");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "round {round}: {error}");
            assert!(error.is_temporary(), "round {round}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_in_the_middle_of_writes_fails_them_all() {
    if !peers("our writer and a qemu-nbd killed while it writes", &["qemu-nbd"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    raw_file(dir.path(), 35);
    let peer = daemon(dir.path(), "qemu-nbd -t -e 8 -f raw disk.raw");
    let disk = writable(&peer.address(), "").await;
    let written = AtomicUsize::new(0);
    let (under_way, mut is_under_way) = mpsc::channel(1);
    let write = async |at: u64| {
        for round in 0..1_000_000 {
            if let Err(error) = disk.write(at * MIB, vec![round as u8; 300_000].into()).await {
                return error;
            }
            if written.fetch_add(1, Ordering::SeqCst) == 50 {
                under_way.send(()).await.unwrap();
            }
        }
        panic!("the server is not killed");
    };
    let kill = async {
        is_under_way.recv().await.unwrap();
        peer.kill().await;
    };
    let all = async { tokio::join!(join_all((0..8).map(&write)), kill).0 };
    let errors = tokio::time::timeout(Duration::from_secs(60), all).await.expect("every write ends");
    for error in errors {
        assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error}");
    }
    is_broken(&disk).await;
}

#[tokio::test]
async fn writes_that_are_given_up_never_win_over_later_ones() {
    if !peers("our writer that gives up", &["qemu-nbd", "nbdcopy"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    raw_file(dir.path(), 36);
    let peer = daemon(dir.path(), "qemu-nbd -t -e 8 -f raw disk.raw");
    let disk = writable(&peer.address(), "").await;
    let mut expected = contents(&disk).await;
    let (mut rng, mut given_up) = (Rng::of(36), 0);
    for _ in 0..300 {
        let at = rng.next(SIZE - MIB);
        let len = rng.next(MIB) + 1;
        let polls = 1 + rng.next(4);
        let mut bytes = random(&mut rng, len);
        let mut write = Box::pin(disk.write(at, bytes.clone()));
        let mut done = false;
        for _ in 0..polls {
            if let Poll::Ready(outcome) = poll!(write.as_mut()) {
                outcome.unwrap();
                done = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(write);
        if !done {
            given_up += 1;
            bytes = random(&mut rng, len);
            // The last bytes first: they would be there long before those that were given up.
            let head = bytes.len() - bytes.len().min(100);
            disk.write(at + head as u64, bytes.slice(head..)).await.unwrap();
            disk.write(at, bytes.slice(..head)).await.unwrap();
        }
        expected[at as usize..(at + len) as usize].copy_from_slice(&bytes);
    }
    // On one thread, nothing is answered by the time of the first poll.
    assert!(given_up > 50, "{given_up} were given up");
    disk.flush().await.unwrap();
    assert!(copied(dir.path(), &peer.address(), "").await == expected, "other bytes");
}

/// Both bitmaps are asked for on one connection, and what is written is in the one that still records.
#[tokio::test(flavor = "multi_thread")]
async fn several_bitmaps_of_qemu_are_told_apart() {
    if !peers("our client and two bitmaps", &["qemu-storage-daemon", "qemu-img", "qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    qcow2_file(dir.path(), 64 * MIB).await;
    let path = dir.path().join("disk.qcow2");
    let path = path.to_str().unwrap();
    run("qemu-img", &["bitmap", "--add", "-g", "65536", path, "older"]).await;
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 1 1M 128k", path]).await;
    run("qemu-img", &["bitmap", "--disable", path, "older"]).await;
    run("qemu-img", &["bitmap", "--add", "-g", "65536", path, "newer"]).await;
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 2 10M 64k", path]).await;
    let command = storage_daemon("disk.qcow2", "writable=on,bitmaps.0=older,bitmaps.1=newer");
    let peer = daemon(dir.path(), &command);
    let builder = || RemoteDisk::builder(peer.address(), "x").bitmap("older").bitmap("newer");
    let disk = builder().connections(1).connect_writable().await.unwrap();
    let id = DiskId::from("root");
    let (older, newer) = ([Run::new(MIB, 128 * KIB)], Run::new(10 * MIB, 64 * KIB));
    assert_eq!(disk.reader().changed("older", &id).await.unwrap().runs(&id), older);
    assert_eq!(disk.reader().changed("newer", &id).await.unwrap().runs(&id), [newer]);
    disk.write(20 * MIB + 5, Bytes::from_static(b"written")).await.unwrap();
    let read = builder().connect().await.unwrap();
    let written = Run::new(20 * MIB, 64 * KIB);
    assert_eq!(read.changed("older", &id).await.unwrap().runs(&id), older);
    assert_eq!(read.changed("newer", &id).await.unwrap().runs(&id), [newer, written]);
    // Zeros are told of beside both.
    let told = read.extents(Run::new(MIB - 4096, 8192)).await.unwrap();
    assert_eq!(told.iter().map(|e| e.fill).collect::<Vec<_>>(), [Fill::Zero, Fill::Data]);
    let absent = builder().bitmap("newest").connect().await.expect_err("there are two");
    assert!(absent.kind() == ErrorKind::NotFound && absent.message().contains("newest"), "{absent}");
}

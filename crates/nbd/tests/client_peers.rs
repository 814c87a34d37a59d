//! Our client, with `nbdkit`, `qemu-nbd` and our own server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use site_recovery_nbd::{Address, ClientTls, Export, RemoteDisk, Server, ServerTls};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::*;

const SIZE: u64 = 20 * MIB + 512;

/// Reads as zeros where it says so, and as the bytes wherever.
async fn reads_as(remote: &RemoteDisk, bytes: &[u8]) -> u64 {
    assert_eq!(remote.size(), bytes.len() as u64);
    assert!(contents(remote).await == bytes, "other bytes");
    let extents = remote.extents(Run::new(0, u64::MAX)).await.unwrap();
    let mut at = 0;
    for extent in &extents {
        assert_eq!(extent.run.start, at);
        at = extent.run.end();
        let part = &bytes[extent.run.start as usize..at as usize];
        assert!(extent.fill == Fill::Data || part.iter().all(|b| *b == 0), "{extent:?} is not zero");
    }
    assert_eq!(at, remote.size());
    extents.iter().filter(|e| e.fill == Fill::Zero).map(|e| e.run.len).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdkit_is_read_over_several_connections() {
    if !peers("our client and nbdkit", &["nbdkit"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = image(SIZE, 11);
    write_sparse(&dir.path().join("disk.raw"), &disk.bytes);
    let peer = daemon(dir.path(), "nbdkit -f -r file disk.raw");
    let remote = RemoteDisk::builder(Address::Unix(peer.socket.clone()), "").connect().await.unwrap();
    assert_eq!(remote.connections(), 4);
    assert!(remote.tells_zeros());
    assert!(reads_as(&remote, &disk.bytes).await > 0, "holes of the file are told");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_without_structured_replies_is_read_too() {
    if !peers("our client and an old server", &["nbdkit"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = image(SIZE, 12);
    write_sparse(&dir.path().join("disk.raw"), &disk.bytes);
    let peer = daemon(dir.path(), "nbdkit -f -r --no-sr file disk.raw");
    let remote = RemoteDisk::builder(Address::Unix(peer.socket.clone()), "").connect().await.unwrap();
    assert!(!remote.tells_zeros());
    assert_eq!(reads_as(&remote, &disk.bytes).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_reads_whole_blocks_alone_is_asked_for_whole_blocks() {
    if !peers("our client and a block size", &["nbdkit"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let disk = image(4 * MIB, 15);
    write_sparse(&dir.path().join("disk.raw"), &disk.bytes);
    let policy = "blocksize-error-policy=error blocksize-minimum=4096 blocksize-maximum=65536";
    let peer = daemon(dir.path(), &format!("nbdkit -f -r --filter=blocksize-policy file disk.raw {policy}"));
    let remote = RemoteDisk::builder(Address::Unix(peer.socket.clone()), "").connect().await.unwrap();
    let pool = Pool::new(MIB as usize);
    for run in [Run::new(4095, 2), Run::new(1, 0), Run::new(100_001, 200_000), Run::new(4 * MIB - 1, 1)] {
        let bytes = remote.read(run, &pool).await.unwrap();
        assert!(bytes == disk.bytes[run.start as usize..run.end() as usize], "other bytes at {run:?}");
    }
    let extents = remote.extents(Run::new(5000, 10)).await.unwrap();
    assert_eq!((extents.len(), extents[0].run), (1, Run::new(5000, 10)));
    reads_as(&remote, &disk.bytes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_qemu_calls_a_hole_is_read_unless_it_reads_as_zeros() {
    if !peers("our client, qemu-nbd and a backing file", &["qemu-nbd", "qemu-img", "qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut disk = image(SIZE, 13);
    write_sparse(&dir.path().join("base.raw"), &disk.bytes);
    let top = dir.path().join("top.qcow2");
    let top = top.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw", top]).await;
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 0x61 3M 256k", "-c", "write -z 8M 1M", top]).await;
    disk.bytes[3 * MIB as usize..(3 * MIB + 256 * KIB) as usize].fill(0x61);
    disk.bytes[8 * MIB as usize..9 * MIB as usize].fill(0);
    let peer = daemon(dir.path(), "qemu-nbd -r -t -e 8 -f qcow2 top.qcow2");
    let remote = RemoteDisk::builder(Address::Unix(peer.socket.clone()), "").connect().await.unwrap();
    assert!(reads_as(&remote, &disk.bytes).await > MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dirty_bitmap_of_qemu_is_a_change_set() {
    if !peers("our client and a dirty bitmap", &["qemu-nbd", "qemu-img", "qemu-io"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.qcow2");
    let path = path.to_str().unwrap();
    run("qemu-img", &["create", "-q", "-f", "qcow2", path, "64M"]).await;
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 1 0 1M", path]).await;
    run("qemu-img", &["bitmap", "--add", "-g", "65536", path, "dr1"]).await;
    run("qemu-io", &["-f", "qcow2", "-c", "write -P 2 10M 128k", "-c", "write -P 3 40000000 5", path]).await;
    let peer = daemon(dir.path(), "qemu-nbd -r -t -e 8 -f qcow2 -B dr1 disk.qcow2");
    let address = Address::Unix(peer.socket.clone());
    let remote = RemoteDisk::builder(address.clone(), "").bitmap("dr1").connect().await.unwrap();
    let id = DiskId::from("root");
    let changed = remote.changed("dr1", &id).await.unwrap();
    let block = Run::new(40_000_000, 5).aligned(64 * KIB, 64 * MIB);
    assert_eq!(changed.runs(&id), [Run::new(10 * MIB, 128 * KIB), block]);
    let pool = Pool::new(MIB as usize);
    assert_eq!(remote.read(Run::new(39_999_999, 7), &pool).await.unwrap()[..], [0, 3, 3, 3, 3, 3, 0]);
    assert_eq!(remote.changed("dr2", &id).await.expect_err("never named").kind(), ErrorKind::Invalid);
    let absent = RemoteDisk::builder(address.clone(), "").bitmap("dr2").connect().await.expect_err("absent");
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");
    let absent = RemoteDisk::builder(address, "nothing").connect().await.expect_err("absent");
    assert_eq!(absent.kind(), ErrorKind::NotFound, "{absent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdkit_is_trusted_by_its_authority_or_by_its_certificate_alone() {
    if !peers("our client and TLS", &["nbdkit"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for name in ["ca-cert.pem", "server-cert.pem", "server-key.pem"] {
        std::fs::write(dir.path().join(name), pem(name)).unwrap();
    }
    let command = format!(
        "nbdkit -f -r --tls=require --tls-certificates={} --tls-verify-peer pattern 4M",
        dir.path().display()
    );
    let peer = daemon(dir.path(), &command);
    let address = Address::Unix(peer.socket.clone());
    let ours = |tls: ClientTls| tls.identity(&pem("client-cert.pem"), &pem("client-key.pem")).unwrap();
    let trusted = [
        ours(ClientTls::ca(&pem("ca-cert.pem"), "localhost").unwrap()),
        ours(ClientTls::pinned(&pem("server-cert.pem")).unwrap()),
    ];
    for tls in trusted {
        let remote = RemoteDisk::builder(address.clone(), "").tls(tls).connect().await.unwrap();
        let bytes = remote.read(Run::new(4096, 16), &Pool::new(4096)).await.unwrap();
        assert_eq!(bytes[..], [0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 16, 8]);
    }
    let strange = [
        ours(ClientTls::ca(&pem("stranger-cert.pem"), "localhost").unwrap()),
        ours(ClientTls::ca(&pem("ca-cert.pem"), "example.org").unwrap()),
        ours(ClientTls::pinned(&pem("stranger-cert.pem")).unwrap()),
    ];
    for tls in strange {
        let error =
            RemoteDisk::builder(address.clone(), "").tls(tls).connect().await.expect_err("a stranger");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    let error = RemoteDisk::builder(address, "").connect().await.expect_err("TLS is required");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

fn write_sparse(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for run in Run::new(0, bytes.len() as u64).pieces(4096) {
        let part = &bytes[run.start as usize..run.end() as usize];
        if part.iter().any(|b| *b != 0) {
            file.write_all_at(part, run.start).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_server_over_tls_is_read_as_it_is() {
    let disk = Arc::new(image(SIZE, 14));
    let tls =
        ServerTls::mutual(&pem("server-cert.pem"), &pem("server-key.pem"), &pem("ca-cert.pem")).unwrap();
    let id = DiskId::from("root");
    let changes: ChangeSet = [(id.clone(), Run::new(MIB, 4096))].into_iter().collect();
    let export = Export::read_only("web/root", disk.clone()).changed("since-1", &changes, &id);
    let server = Server::builder().export(export).tls(tls).listen(Address::loopback()).await.unwrap();
    let pinned = ClientTls::pinned(&pem("server-cert.pem")).unwrap();
    let ours = pinned.clone().identity(&pem("client-cert.pem"), &pem("client-key.pem")).unwrap();
    let builder = || RemoteDisk::builder(server.address().clone(), "web/root");
    let remote = builder().tls(ours).bitmap("since-1").connections(2).connect().await.unwrap();
    assert_eq!(remote.connections(), 2);
    assert!(reads_as(&remote, &disk.bytes).await > 0);
    assert_eq!(remote.changed("since-1", &id).await.unwrap(), changes);
    let error = builder().connect().await.expect_err("without TLS");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let error = builder().tls(pinned).connect().await.expect_err("without a certificate");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    drop(remote);
    server.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dsk_1_2_3_4_a_remote_disk_keeps_the_rules_of_disks() {
    let disk = Arc::new(image(SIZE, 16));
    let server = Server::builder().export(Export::read_only("", disk.clone()));
    let server = server.listen(Address::loopback()).await.unwrap();
    let remote = RemoteDisk::builder(server.address().clone(), "").connect().await.unwrap();
    reads_as(&remote, &disk.bytes).await;
    for asked in
        [Run::new(4096, 12_288), Run::new(SIZE - 512, 8192), Run::new(SIZE, 1), Run::new(SIZE + 9, 9)]
    {
        let told: u64 = remote.extents(asked).await.unwrap().iter().map(|e| e.run.len).sum();
        assert_eq!(told, asked.end().min(SIZE).saturating_sub(asked.start), "{asked:?}");
    }
    let pool = Pool::new(4096);
    for past in [Run::new(SIZE - 1, 2), Run::new(SIZE + 1, 0), Run::new(u64::MAX, 2)] {
        let error = remote.read(past, &pool).await.expect_err("past the end");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    let held = remote.read(Run::new(0, 4096), &pool).await.unwrap();
    let mut next = Box::pin(pool.take(4096));
    tokio::select! {
        biased;
        _ = &mut next => panic!("bytes were read in memory that is not of the pool"),
        () = std::future::ready(()) => {}
    }
    drop(held);
    next.await.unwrap();
    // A read that nobody waits for any more harms no other, and its memory comes back.
    drop(tokio::time::timeout(Duration::ZERO, remote.read(Run::new(0, 4096), &pool)).await);
    assert!(
        remote.read(Run::new(SIZE - 100, 100), &pool).await.unwrap() == disk.bytes[SIZE as usize - 100..]
    );
    server.stop(Duration::from_secs(5)).await;
}

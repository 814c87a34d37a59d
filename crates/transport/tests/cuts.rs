//! Connections that break in the middle: what it costs is what was in flight. `SEED=<n> cargo test --test cuts` replays one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use site_recovery_transport::{Limits, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::shipping::*;
use support::*;

const SIZE: u64 = 32 * MIB;
const CREDIT: u64 = 6 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_cut_costs_what_was_in_flight_and_never_the_copy() {
    for seed in seeds(4) {
        let mut rng = Rng::of(seed);
        // Between handshakes alone and several batches.
        let cuts: Vec<u64> = (0..1 + rng.below(8)).map(|_| 1000 + rng.below(12 * MIB)).collect();
        let (tls, dir) = (Tls::new(), tempfile::tempdir().unwrap());
        let limits = Limits { connection_bytes: CREDIT as usize, ..Limits::default() };
        let builder = Server::builder(tls.server.clone()).store(points(dir.path())).limits(limits);
        let server = builder.listen(loopback()).await.unwrap();
        let proxy = Proxy::new(server.address(), cuts.clone()).await;
        let store = remote(&tls, proxy.address).lazy(points(dir.path()).capability()).unwrap();
        let replica: Arc<dyn Replica> = Arc::new(store);
        let shipper = Shipper::new(seed, SIZE).await;
        shipper.prepare(&replica).await;
        let shipped = tokio::time::timeout(SOON * 2, shipper.ship("copy", &replica)).await;
        let point = shipped.expect("in time").unwrap_or_else(|e| panic!("seed {seed}, {cuts:?}: {e}"));
        let (sent, cut) = (proxy.up.load(SeqCst), proxy.cut.load(SeqCst));
        // Heads, handshakes, TLS and the calls around are small.
        let most = SIZE + cut * CREDIT + SIZE / 64 + MIB;
        assert!(sent <= most, "seed {seed}, {cuts:?}: {sent} bytes sent with {cut} cuts, at most {most}");
        assert!(cut > 0, "seed {seed}: {cuts:?} cut nothing");
        shipper.assert_equal(&replica, point.id).await;
        assert_eq!(replica.points(shipper.machine.id()).await.unwrap().len(), 1, "seed {seed}");
        drop(replica);
        assert_eq!(server.stop(SOON).await.cut, 0, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_disk_that_is_read_goes_on_after_a_cut_and_lets_go_at_the_end() {
    let (tls, dir) = (Tls::new(), tempfile::tempdir().unwrap());
    let store = points(dir.path());
    let server = serve(&tls, store.clone()).await;
    let shipper = Shipper::new(1, 4 * MIB).await;
    let near: Arc<dyn Replica> = store.clone();
    shipper.prepare(&near).await;
    let first = shipper.ship("one", &near).await.unwrap();
    let proxy = Proxy::new(server.address(), vec![6_000, 5_500, 5_000]).await;
    let far = remote(&tls, proxy.address).connect().await.unwrap();
    let disks = far.open(shipper.machine.id(), first.id).await.unwrap();
    let (disk, pool) = (Arc::clone(&disks[&DiskId::from("root")]), Pool::new(MIB as usize));
    drop(disks);
    for round in 0..40 {
        for run in Run::new(0, disk.size()).pieces(64 * 1024) {
            let there = disk.read(run, &pool).await.unwrap();
            assert_eq!(there.len() as u64, run.len, "round {round}");
        }
        if proxy.cut.load(SeqCst) == 3 {
            break;
        }
    }
    assert_eq!(proxy.cut.load(SeqCst), 3, "the connection was cut while it was read");
    let replica: Arc<dyn Replica> = Arc::new(far);
    shipper.assert_equal(&replica, first.id).await;
    shipper.scribble(3);
    shipper.ship("two", &near).await.unwrap();
    // Open on the other side still, so it stays, and is gone with the last handle.
    let (id, drop_first) = (shipper.machine.id(), [first.id]);
    assert!(replica.prune(&op("prune"), id, &drop_first).await.unwrap().is_empty());
    drop(disk);
    assert_eq!(replica.prune(&op("prune-later"), id, &drop_first).await.unwrap(), drop_first);
    drop(replica);
    server.stop(SOON).await;
}

#[tokio::test]
async fn an_open_that_fails_or_that_nobody_waits_for_takes_no_place() {
    let (tls, dir) = (Tls::new(), tempfile::tempdir().unwrap());
    let store = points(dir.path());
    let shipper = Shipper::new(1, MIB).await;
    let near: Arc<dyn Replica> = store.clone();
    shipper.prepare(&near).await;
    let (point, id) = (shipper.ship("one", &near).await.unwrap().id, shipper.machine.id());
    let limits = Limits { connection_points: 2, ..Limits::default() };
    let builder = Server::builder(tls.server.clone()).store(store).limits(limits);
    let server = builder.listen(loopback()).await.unwrap();
    let far = remote(&tls, server.address()).connect().await.unwrap();
    for _ in 0..3 {
        let error = far.open(id, PointId(77)).await.expect_err("there is no such point");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    for _ in 0..3 {
        let mut open = far.open(id, point);
        assert!(futures_util::poll!(open.as_mut()).is_pending());
        // Behind it: some of these find it answered, and not looked at.
        for _ in 0..8 {
            far.points(id).await.unwrap();
        }
    }
    let (one, two) = (far.open(id, point).await.unwrap(), far.open(id, point).await.unwrap());
    let error = far.open(id, point).await.expect_err("one too many");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    drop((one, two, far));
    server.stop(SOON).await;
}

#[tokio::test]
async fn a_point_that_is_another_one_now_is_not_taken_for_the_one_that_was_opened() {
    let (tls, dir, other) = (Tls::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shipper = Shipper::new(1, MIB).await;
    let mut servers: Vec<Server> = vec![];
    for (folder, cut) in [(&dir, "one"), (&other, "another")] {
        let store = points(folder.path());
        let near: Arc<dyn Replica> = store.clone();
        shipper.prepare(&near).await;
        shipper.ship(cut, &near).await.unwrap();
        servers.push(serve(&tls, store).await);
    }
    let proxy = Proxy::new(servers[0].address(), vec![]).await;
    let far = remote(&tls, proxy.address).connect().await.unwrap();
    let point = far.points(shipper.machine.id()).await.unwrap()[0].id;
    let disks = far.open(shipper.machine.id(), point).await.unwrap();
    proxy.redirect(servers[1].address());
    assert_eq!(servers.remove(0).stop(SOON).await.cut, 0);
    let read = disks[&DiskId::from("root")].read(Run::new(0, 4096), &Pool::new(4096)).await;
    let error = read.expect_err("it is another point");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.message().contains("one") && error.message().contains("another"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_reached_in_the_bound_is_unavailable_and_comes_back() {
    let (tls, dir) = (Tls::new(), tempfile::tempdir().unwrap());
    let server = serve(&tls, points(dir.path())).await;
    let proxy = Proxy::new(server.address(), vec![]).await;
    let far = remote(&tls, proxy.address).patience(Duration::from_millis(300)).connect().await.unwrap();
    assert!(far.machines().await.unwrap().is_empty());
    server.stop(SOON).await;
    let error = tokio::time::timeout(SOON, far.machines()).await.expect("in the bound").unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.is_temporary(), "{error}");
    assert_eq!(error.role(), Some(&"store".into()));
    let server = serve(&tls, points(dir.path())).await;
    proxy.redirect(server.address());
    assert!(far.machines().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_many_batches_at_once_keep_to_the_credit_also_over_cuts() {
    let (tls, dir) = (Tls::new(), tempfile::tempdir().unwrap());
    // A server cuts off whoever goes beyond: then this would not come to an end.
    let limits = Limits { connection_bytes: 4 << 20, connection_requests: 3, ..Limits::default() };
    let builder = Server::builder(tls.server.clone()).store(points(dir.path())).limits(limits);
    let server = builder.listen(loopback()).await.unwrap();
    let proxy = Proxy::new(server.address(), vec![3 * MIB, 5 * MIB]).await;
    let store = remote(&tls, proxy.address).lazy(points(dir.path()).capability()).unwrap();
    let shipper = Shipper::new(3, 16 * MIB).await;
    let (disk, plan) = (DiskId::from("root"), ChangeSet::whole(&shipper.machine.disks));
    store.prepare(&op("prepare"), &shipper.machine, &Seed::Fresh, &Settings::default()).await.unwrap();
    let ingest = store.begin(&op("copy"), &shipper.machine, &"cut".into(), &plan).await.unwrap();
    let contents: Vec<u8> = (0..16 * MIB).map(|at| (at / 4096) as u8).collect();
    let write = |batch: u64| {
        let pieces = Run::new(batch * MIB, MIB).pieces(HASH_BLOCK);
        let records = pieces.map(|run| {
            let bytes = contents[run.start as usize..run.end() as usize].to_vec();
            let checksum = site_recovery_record::hash(&bytes);
            Record { disk: disk.clone(), run, checksum, payload: Payload::Plain(bytes.into()) }
        });
        store.write(&ingest, batch, records.collect())
    };
    let written = futures_util::future::try_join_all((0..16).map(write));
    tokio::time::timeout(SOON, written).await.expect("in time").unwrap();
    assert_eq!(proxy.cut.load(SeqCst), 2);
    let sent = proxy.up.load(SeqCst);
    assert!(sent <= 16 * MIB + 2 * limits.connection_bytes as u64 + MIB, "{sent} bytes sent");
    let found = store.hashes(shipper.machine.id(), &disk, Run::new(0, 16 * MIB)).await.unwrap();
    let expected: Vec<Hash> = contents.chunks(HASH_BLOCK as usize).map(site_recovery_record::hash).collect();
    assert!(found == expected, "every batch has landed");
    drop(store);
    server.stop(SOON).await;
}

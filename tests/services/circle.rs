//! The whole circle: a server with two disks under a live writer, three services, a vault.

use crate::hosts::{Writer, peers};
use crate::program::*;
use crate::scene::*;
use crate::world::*;
use site_recovery::state::Divergence;
use site_recovery::*;
use site_recovery_transport::Pulse;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_d5_a_server_is_protected_drilled_fails_over_and_comes_back_to_its_bare_disks() {
    if !peers("services on hosts", &["blockdev"]) {
        return;
    }
    let mut scene = Scene::new("circle").await;
    let (switch, server) = (scene.switch(), std::sync::Arc::clone(&scene.server));
    let keeper = scene.vaulted.keeper(&server, &switch);
    let vault = scene.vault(&keeper).await;
    let mounts = [scene.disks[0].mount(&server, "system"), scene.disks[1].mount(&server, "data")];
    let mut writer = Writer::start(&server, &[&mounts[0], &mounts[1]], Duration::from_millis(2));
    writer.until(50);

    let web = scene.protected(&vault).await;
    let first = writer.acknowledged();
    for round in 1..4 {
        writer.until(first + round * 40);
        vault.replicate_now(web.id()).await.unwrap();
    }
    let points = scene.vaulted.points.points(web.id()).await.unwrap();
    assert!(points.len() >= 4, "{points:?}");
    assert!(points.iter().all(|p| p.consistency >= Consistency::Crash), "of one instant: {points:?}");
    vault.take_point(web.id(), Consistency::FileSystem).await.unwrap();
    let newest = scene.vaulted.points.points(web.id()).await.unwrap().pop().unwrap();
    assert_eq!(newest.consistency, Consistency::FileSystem);

    // What the agent may take of its server, and what it took.
    let figures = scene.vaulted.agent(&server).heard().await.unwrap().signs.figures;
    assert_eq!((figures["limit_memory_bytes"], figures["limit_nice"]), (f64::from(32 << 20), 10.0));
    assert!(figures["cpu_seconds"] > 0.0 && figures["memory_bytes"] > 0.0 && figures["scanned_bytes"] > 0.0);

    // A drill, while the writer goes on.
    let before = writer.acknowledged();
    web.test_failover(DrillRequest::default()).await.unwrap().done().await.unwrap();
    let drilled = scene.prefix(&scene.recovered("web-1-test"));
    assert!(drilled.count >= first + 120, "{drilled:?}");
    web.clean_up_test().await.unwrap().done().await.unwrap();
    writer.until(before + 20);

    // The writer is at it when the power goes; what the newest point has is there.
    let sealed = writer.acknowledged();
    vault.replicate_now(web.id()).await.unwrap();
    let request = FailoverRequest::unplanned(OUT, force());
    web.failover(request).await.unwrap().done().await.unwrap();
    assert!(switch.is_off());
    // It was proven off, not forced; and it had written what no point has.
    let item = web.item().unwrap();
    assert_eq!((item.state.divergence, item.unproven.len()), (Divergence::OldSideAhead, 0));
    let there = scene.recovered(SERVER);
    let prefix = scene.prefix(&there);
    assert!(prefix.count >= sealed, "{prefix:?} where {sealed} were acknowledged before the newest point");
    web.commit(CommitRequest::default()).await.unwrap().done().await.unwrap();
    drop((writer, mounts));

    // It works on there, beyond its file systems.
    let disks = scene.disk_ids();
    for at in [21, 25, 30] {
        let data = bytes::Bytes::from(vec![at as u8; 70_000]);
        scene.vaulted.cloud.write_disk(SERVER, &disks[1], at * MIB, data).await.unwrap();
    }

    // The server starts its rescue system, and a master target lands on it.
    scene.agent.rescue(&disks, &scene.disks);
    switch.started_by_hand();
    let rescue = scene.agent.start_to_receive(&server);
    let instance = web.item().unwrap().instances.iter().find(|i| i.site.0 == SITE).unwrap().clone();
    let power = scene.vaulted.agent(&server).power(&instance).await.unwrap();
    assert_eq!(power, Power::Off { start: StartGuard::Free }, "its rescue system says that its own is off");
    assert_eq!(
        keeper.power(&instance).await.unwrap(),
        Power::Off { start: StartGuard::Blocked { until: None } }
    );
    let retention = scene.ground.dir().join("retention");
    std::fs::create_dir(&retention).unwrap();
    let landing = format!("[landing.servers]\nsite = \"{SITE}\"");
    let returns = scene.vaulted.keeper_serves(&scene.ground, &keeper, &server).await;
    let mt = master_target(&scene.ground, &scene.landing, &retention, &landing);
    let _mt = enrolled(&scene.vaulted, &scene.landing, &mt, master_target_service()).await;
    let losing = ReprotectRequest { other_side_loses: true, ..ReprotectRequest::default() };
    web.reprotect(losing).await.unwrap().done().await.unwrap();
    scene.vaulted.cloud.write_disk(SERVER, &disks[0], 40 * MIB, vec![9; 5000].into()).await.unwrap();
    vault.replicate_now(web.id()).await.unwrap();

    // What has landed is what runs there, byte for byte.
    let landed = scene.vaulted.master_target(&scene.landing);
    let newest = landed.points(web.id()).await.unwrap().pop().unwrap();
    let open = landed.open(web.id(), newest.id).await.unwrap();
    let pool = Pool::new(1 << 20);
    for (id, image) in disks.iter().zip(&there) {
        let (disk, expected) = (&open[id], std::fs::read(image).unwrap());
        assert_eq!(disk.size(), expected.len() as u64);
        for run in Run::new(0, disk.size()).pieces(1 << 20) {
            let landed = disk.read(run, &pool).await.unwrap();
            assert!(landed[..] == expected[run.start as usize..run.end() as usize], "{id} at {}", run.start);
        }
    }
    drop(open);

    // Back: the rescue system is left, and the server's own system runs again, from what landed.
    let back = web.failover(FailoverRequest::planned(BACK)).await.unwrap();
    let left = async {
        while !scene.agent.was_left() {
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, left).await.expect("its rescue system is left");
    drop(rescue);
    let brought: Vec<Vec<u8>> = there.iter().map(|image| std::fs::read(image).unwrap()).collect();
    must_be(&brought, &scene.bytes(), "what ran there is what lies on the server's disks");
    scene.agent_runs = Some(scene.agent.start(&server));
    back.done().await.unwrap();
    let back_home = web.item().unwrap().active().clone();
    assert_eq!((back_home.site.as_str(), back_home.name.as_str()), (SITE, SERVER));
    assert_eq!(keeper.power(&back_home).await.unwrap(), Power::On);
    web.commit(CommitRequest::default()).await.unwrap().done().await.unwrap();

    // And protected again: what a new writer writes is replicated.
    let mounts = [scene.disks[0].mount(&server, "system"), scene.disks[1].mount(&server, "data")];
    web.reprotect(ReprotectRequest::default()).await.unwrap().done().await.unwrap();
    for mount in &mounts {
        let log = std::fs::read(mount.outside().join("tokens")).unwrap();
        assert!(!log.is_empty(), "what the first writer left");
        std::fs::remove_file(mount.outside().join("tokens")).unwrap();
    }
    let mut writer = Writer::start(&server, &[&mounts[0], &mounts[1]], Duration::from_millis(2));
    writer.until(40);
    let acknowledged = writer.acknowledged();
    vault.replicate_now(web.id()).await.unwrap();
    let newest = scene.vaulted.points.points(web.id()).await.unwrap().pop().unwrap();
    let images = scene.point(&web, newest.id).await;
    let protected = scene.prefix(&images);
    assert!(protected.count >= acknowledged, "{protected:?} of {acknowledged}");
    drop((writer, mounts, vault));
    returns.stop(SOON).await;
    scene.vaulted.stop().await;
}

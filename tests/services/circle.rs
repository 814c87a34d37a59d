//! The whole circle: a server with two disks under a live writer, three services, a vault.

use crate::hosts::{Ground, Writer, check_images, peers};
use crate::world::*;
use site_recovery::state::Direction;
use site_recovery::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// The images of a machine at the vault's site, in the order of its disks.
fn images(vaulted: &Vaulted, name: &str) -> Vec<PathBuf> {
    let dir = vaulted.dir.join("cloud").join(name);
    let described: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("machine.json")).unwrap()).unwrap();
    let disks = described["disks"].as_array().unwrap();
    disks.iter().map(|disk| dir.join(disk["file"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_d5_a_server_is_protected_and_fails_over_and_loses_nothing_that_a_point_has() {
    if !peers("services on hosts", &[]) {
        return;
    }
    let ground = Ground::new("circle");
    let store = ground.store(1 << 30);
    let disks = [store.disk("system", 48 * MIB), store.disk("data", 32 * MIB)];
    let server = Arc::new(ground.host("web"));
    let (processing, _landing) = (ground.host("ps"), ground.host("mt"));
    disks.iter().for_each(|disk| disk.format());
    let vaulted = Vaulted::new(&ground).await;

    let agent = agent(&ground, &server, &[disks[0].device(), disks[1].device()]);
    let _agent = enrolled(&vaulted, &server, &agent, agent_service()).await;
    let ps = process_server(&ground, &processing, "ps-1");
    let _ps = enrolled(&vaulted, &processing, &ps, process_server_service("ps-1")).await;

    let mounts = [disks[0].mount(&server, "system"), disks[1].mount(&server, "data")];
    let mut writer = Writer::start(&server, &[&mounts[0], &mounts[1]], Duration::from_millis(2));
    writer.until(50);

    let switch = {
        let off = Arc::downgrade(&server);
        Switch::new(move || off.upgrade().iter().for_each(|host| host.kill_all()), || ())
    };
    let keeper = vaulted.keeper(&server, &switch);
    let process_server = Arc::new(vaulted.process_server(&processing, "ps-1").await);
    let master_target = Arc::new(vaulted.master_target(&processing));
    let vault = vaulted.vault(&keeper, process_server, master_target).await;
    let policy = Policy::every(Duration::from_secs(300));
    let web = vault.protect(ProtectRequest::machine(SERVER).policy(policy)).await.unwrap();
    web.until_done().await.unwrap();
    let first = writer.acknowledged();
    for round in 1..4 {
        writer.until(first + round * 40);
        vault.replicate_now(web.id()).await.unwrap();
    }
    let points = vaulted.points.points(web.id()).await.unwrap();
    assert!(points.len() >= 4, "{points:?}");
    assert!(points.iter().all(|p| p.consistency == Consistency::FileSystem || p.consistency == Consistency::Crash));

    // A planned end: the writer is still at it when the power goes; what the newest point has is there.
    let sealed = writer.acknowledged();
    vault.replicate_now(web.id()).await.unwrap();
    let force = Force { operator: "jane".into(), reason: "the hall burns".into() };
    let request = FailoverRequest::unplanned(Direction::PrimaryToRecovery, force);
    web.failover(request).await.unwrap().done().await.unwrap();
    assert!(switch.is_off());
    let there = images(&vaulted, SERVER);
    let there: Vec<_> = there.iter().map(PathBuf::as_path).collect();
    let prefix = copied(&store, &there);
    assert!(prefix.count >= sealed, "{prefix:?} where {sealed} were acknowledged before the newest point");
    drop((vault, writer, mounts));
    vaulted.stop().await;
}

/// What stands on images that lie where nothing can be cloned.
fn copied(store: &crate::hosts::Store, images: &[&std::path::Path]) -> crate::hosts::Prefix {
    let copies: Vec<PathBuf> = (0..images.len()).map(|n| store.dir().join(format!("recovered-{n}.raw"))).collect();
    for (image, copy) in images.iter().zip(&copies) {
        std::fs::copy(image, copy).unwrap();
    }
    let copies: Vec<_> = copies.iter().map(PathBuf::as_path).collect();
    check_images(&copies).unwrap_or_else(|complaint| panic!("{complaint}"))
}


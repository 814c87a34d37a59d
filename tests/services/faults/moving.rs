//! A machine whose process server is gone for good.

use crate::hosts::{Writer, peers};
use crate::program::*;
use crate::scene::*;
use crate::world::*;
use site_recovery::*;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_machine_moves_to_another_process_server_and_back_by_deltas() {
    if !peers("services on hosts", &["blockdev"]) {
        return;
    }
    let mut scene = Scene::new("moving").await;
    let other = scene.ground.host("ps2");
    let program = process_server(&scene.ground, &other, "ps-2");
    let _runs = enrolled(&scene.vaulted, &other, &program, process_server_service("ps-2")).await;
    let (switch, server) = (scene.switch(), Arc::clone(&scene.server));
    let keeper = scene.vaulted.keeper(&server, &switch);
    let mounts = [scene.disks[0].mount(&server, "system"), scene.disks[1].mount(&server, "data")];
    let mut writer = Writer::start(&server, &[&mounts[0], &mounts[1]], Duration::from_millis(2));
    writer.until(50);

    let vault = scene.vault(&keeper).await;
    scene.protected(&vault).await;
    drop(vault);
    scene.process_server_runs.take().unwrap().kill();
    for (host, name) in [(&other, "ps-2"), (&scene.processing, "ps-1")] {
        if name == "ps-1" {
            scene.process_server_runs = Some(scene.process_server.start(&scene.processing));
        }
        let to = Arc::new(scene.vaulted.process_server(host, name).await);
        let sources = [RoleName::from(SITE), "points".into()];
        assert_eq!(to.knows(&sources).await.unwrap(), [], "{name} is ready for it");
        let landing = Arc::new(scene.vaulted.master_target(&scene.landing));
        let vault = scene.vaulted.vault(&keeper, to, landing).await;
        assert!(vault.resume().await.values().all(Result::is_ok));
        let web = vault.find(SERVER).unwrap();
        let (mut events, acknowledged) = (vault.events(), writer.acknowledged());
        writer.until(acknowledged + 10);
        vault.replicate_now(web.id()).await.unwrap();
        let newest = scene.vaulted.points.points(web.id()).await.unwrap().pop().unwrap();
        let prefix = scene.prefix(&scene.point(&web, newest.id).await);
        assert!(prefix.count >= acknowledged, "{prefix:?} where {acknowledged} were acknowledged");
        let changed = scene.changed(&mut events);
        assert!(changed < scene.size() / 4, "{changed} bytes by {name}");
    }
    drop((writer, mounts));

    // With nobody that writes, a point is the disks.
    let ps = Arc::new(scene.vaulted.process_server(&other, "ps-2").await);
    let landing = Arc::new(scene.vaulted.master_target(&scene.landing));
    let vault = scene.vaulted.vault(&keeper, ps, landing).await;
    let web = vault.find(SERVER).unwrap();
    vault.replicate_now(web.id()).await.unwrap();
    let newest = scene.vaulted.points.points(web.id()).await.unwrap().pop().unwrap();
    must_be(&scene.bytes_of(&web, newest.id).await, &scene.bytes(), "the newest point");
    drop(vault);
    scene.vaulted.stop().await;
}

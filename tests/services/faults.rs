//! What goes wrong between the hosts, one at a time: nothing that was acknowledged is lost, and what was not shipped comes
//! with the next cycle, by a delta.

mod authority;
mod clock;
mod disks;
mod full;
mod landing;
mod line;
mod moving;

use crate::hosts::{Writer, peers};
use crate::scene::*;
use site_recovery::*;
use std::time::Duration;

/// Protected, under a writer, and left to `what`; afterwards a cycle seals all that the writer had acknowledged before it, and
/// no fault made a full copy: the fault costs what changed, and a resync of nothing.
async fn through(label: &str, what: impl AsyncFnOnce(&mut Scene, &Vault, &ItemHandle)) {
    if !peers("services on hosts", &[]) {
        return;
    }
    let mut scene = Scene::new(label).await;
    let (switch, server) = (scene.switch(), std::sync::Arc::clone(&scene.server));
    let keeper = scene.vaulted.keeper(&server, &switch);
    let vault = scene.vault(&keeper).await;
    let mounts = [scene.disks[0].mount(&server, "system"), scene.disks[1].mount(&server, "data")];
    let mut writer = Writer::start(&server, &[&mounts[0], &mounts[1]], Duration::from_millis(2));
    writer.until(50);
    let web = scene.protected(&vault).await;
    let mut events = vault.events();
    what(&mut scene, &vault, &web).await;
    let acknowledged = writer.acknowledged();
    writer.until(acknowledged + 10);
    replicated(&vault, &web).await;
    let newest = scene.vaulted.points.points(web.id()).await.unwrap().pop().unwrap();
    let images = scene.point(&web, newest.id).await;
    let prefix = scene.prefix(&images);
    assert!(prefix.count >= acknowledged, "{prefix:?} where {acknowledged} were acknowledged");
    let changed = scene.changed(&mut events);
    assert!(changed < scene.size() / 2, "{changed} bytes changed, by what the points say");
    drop((vault, writer, mounts));
    scene.vaulted.stop().await;
}

/// Protected, with nothing that has a disk open, and left to `what`.
async fn still(label: &str, what: impl AsyncFnOnce(&mut Scene, &Vault, &ItemHandle)) {
    if !peers("services on hosts", &["blockdev"]) {
        return;
    }
    let mut scene = Scene::new(label).await;
    let keeper = scene.vaulted.keeper(&scene.server, &scene.switch());
    let vault = scene.vault(&keeper).await;
    let web = scene.protected(&vault).await;
    what(&mut scene, &vault, &web).await;
    drop((vault, web));
    scene.vaulted.stop().await;
}

/// A cycle, as often as it takes: what a fault left behind may cost the first ones.
async fn replicated(vault: &Vault, web: &ItemHandle) {
    let mut last = None;
    for _ in 0..10 {
        match vault.replicate_now(web.id()).await {
            Ok(()) => return,
            Err(error) => last = Some(error),
        }
    }
    panic!("no cycle came through: {last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_an_agent_that_is_killed_goes_on_where_it_was() {
    through("agent-killed", async |scene, vault, web| {
        scene.agent_runs.take().unwrap().kill();
        vault.replicate_now(web.id()).await.expect_err("nobody answers");
        let server = std::sync::Arc::clone(&scene.server);
        scene.agent_runs = Some(scene.agent.start(&server));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_process_server_that_is_killed_goes_on_where_it_was() {
    through("process-server-killed", async |scene, _, _| {
        scene.process_server_runs.take().unwrap().kill();
        scene.process_server_runs = Some(scene.process_server.start(&scene.processing));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_a_server_that_is_cut_off_is_not_off() {
    through("partition", async |scene, vault, web| {
        let instance = web.item().unwrap().active().clone();
        let keeper = scene.vaulted.keeper(&scene.server, &scene.switch());
        scene.server.unplug();
        vault.replicate_now(web.id()).await.expect_err("nobody answers");
        // Its controller says that it has power: nobody takes silence for off.
        assert_eq!(keeper.power(&instance).await.unwrap(), Power::Unknown);
        scene.server.plug();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_slow_line_is_slow_and_nothing_else() {
    through("slow-line", async |scene, _, _| scene.server.limit(20_000_000)).await;
}

//! Wall clocks that are set, on any of the hosts.

use crate::hosts::peers;
use crate::scene::*;
use futures_util::future::BoxFuture;
use site_recovery::*;
use site_recovery_transport::Pulse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAYS: Duration = Duration::from_secs(3 * 24 * 3600);

/// The engine's own, which is so many seconds ahead.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(Duration::from_secs(self.0.load(Ordering::SeqCst)))
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        SystemClock.sleep(span)
    }
}

/// All that was acknowledged so far, with the bytes that the disks had then.
struct Sealed<'a> {
    scene: &'a Scene,
    vault: &'a Vault,
    web: &'a ItemHandle,
    points: Vec<(PointId, Vec<Vec<u8>>)>,
}

impl Sealed<'_> {
    async fn another(&mut self) {
        let count = self.points.len() as u64;
        self.scene.write(1, (count + 1) * MIB, &[count as u8; 9000]);
        self.vault.replicate_now(self.web.id()).await.unwrap();
        self.points.push((self.scene.newest(self.web).await, self.scene.bytes()));
        let listed = self.scene.vaulted.points.points(self.web.id()).await.unwrap();
        for (point, _) in &self.points {
            assert!(listed.iter().any(|p| p.id == *point), "{point} is gone from {listed:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_clocks_that_are_days_ahead_for_a_while_lose_no_point_and_protection_goes_on_by_deltas() {
    if !peers("services on hosts", &["blockdev", "cc"]) {
        return;
    }
    let mut scene = Scene::new("clock").await;
    let server = Arc::clone(&scene.server);
    server.clock_ahead(Duration::ZERO);
    scene.processing.clock_ahead(Duration::ZERO);
    scene.agent_runs.take().unwrap().kill();
    scene.agent_runs = Some(scene.agent.start(&server));
    scene.process_server_runs.take().unwrap().kill();
    scene.process_server_runs = Some(scene.process_server.start(&scene.processing));
    let keeper = scene.vaulted.keeper(&server, &scene.switch());
    let process_server = Arc::new(scene.vaulted.process_server(&scene.processing, "ps-1").await);
    let landing = Arc::new(scene.vaulted.master_target(&scene.landing));
    let clock = Arc::new(Ahead::default());
    let vault = scene.vaulted.builder(&keeper, process_server, landing).await;
    let vault = vault.clock(clock.clone()).build().await.unwrap();
    let web = scene.protected(&vault).await;
    let mut events = vault.events();
    let mut runs = scene.process_server_runs.take();

    let mut sealed = Sealed { scene: &scene, vault: &vault, web: &web, points: vec![] };
    sealed.another().await;
    sealed.another().await;
    // The engine's: points would be three days old, and are kept for one.
    clock.0.store(DAYS.as_secs(), Ordering::SeqCst);
    sealed.another().await;
    sealed.another().await;
    clock.0.store(0, Ordering::SeqCst);
    sealed.another().await;

    // The server's, which its points bear: told, and of no other consequence.
    server.clock_ahead(2 * HOUR);
    let heard = scene.vaulted.agent(&server).heard().await.unwrap();
    assert!(heard.skew > HOUR, "{heard:?}");
    sealed.another().await;
    sealed.another().await;
    server.clock_ahead(Duration::ZERO);
    sealed.another().await;
    sealed.another().await;

    // By that much, it takes its certificate for expired: whoever connects now is turned away, until the clock is right.
    server.clock_ahead(DAYS);
    runs.take().unwrap().kill();
    runs = Some(scene.process_server.start(&scene.processing));
    let error = vault.replicate_now(web.id()).await.expect_err("it shows no certificate");
    assert!(error.to_string().contains("web-1"), "{error}");
    server.clock_ahead(Duration::ZERO);
    sealed.another().await;

    // A service that starts then does not serve, says why, and has lost nothing.
    runs.take().unwrap().kill();
    scene.processing.clock_ahead(DAYS);
    let mut refused = scene.process_server.start_in_vain(&scene.processing);
    assert!(!refused.wait().success());
    assert!(refused.output().contains("expired"), "{}", refused.output());
    scene.processing.clock_ahead(Duration::ZERO);
    runs = Some(scene.process_server.start(&scene.processing));
    sealed.another().await;

    for (point, bytes) in &sealed.points {
        must_be(&scene.bytes_of(&web, *point).await, bytes, &format!("{point}"));
    }
    let changed = scene.changed(&mut events);
    assert!(changed < scene.size() / 4, "{changed} bytes changed, by what the points say");
    drop((sealed.points, vault, web, runs));
    scene.vaulted.stop().await;
}

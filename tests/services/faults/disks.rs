//! Disks that go, and disks that grow.

use super::still;
use crate::scene::*;
use site_recovery::state::Resync;
use site_recovery::*;
use site_recovery_transport::Pulse;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_disk_that_is_pulled_is_named_and_comes_back_by_a_delta() {
    still("disk-pulled", async |scene, vault, web| {
        scene.write(1, 5 * MIB, &[1; 70_000]);
        vault.replicate_now(web.id()).await.unwrap();
        let (before, was) = (scene.newest(web).await, scene.bytes());
        let mut events = vault.events();

        let image = scene.disks[1].image().display().to_string();
        scene.disks[1].pull();
        let error = vault.replicate_now(web.id()).await.expect_err("a disk is missing");
        assert!(error.to_string().contains(&image), "{error}");
        let heard = scene.vaulted.agent(&scene.server).heard().await.unwrap();
        let told = heard.signs.findings.iter().find(|finding| finding.severity == Severity::Critical);
        assert!(told.is_some_and(|told| told.cause.contains(&image)), "{:?}", heard.signs.findings);
        must_be(&scene.bytes_of(web, before).await, &was, "the points are there as they were");

        scene.disks[1].put_back();
        scene.write(1, 20 * MIB, &[2; 70_000]);
        vault.replicate_now(web.id()).await.unwrap();
        let newest = scene.newest(web).await;
        must_be(&scene.bytes_of(web, newest).await, &scene.bytes(), "the newest point");
        let changed = scene.changed(&mut events);
        assert!((70_000..MIB).contains(&changed), "{changed} bytes");
        must_be(&scene.bytes_of(web, before).await, &was, "the point before");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_disk_that_grew_is_compared_and_its_new_end_is_in_the_next_point() {
    still("disk-grown", async |scene, vault, web| {
        let (before, was) = (scene.newest(web).await, scene.bytes());
        scene.disks[1].grow(48 * MIB);
        scene.write(1, 40 * MIB, &[3; 70_000]);
        let error = vault.replicate_now(web.id()).await.expect_err("what changed is not known");
        assert_eq!(error.fact("compare"), Some("needed"), "{error}");
        assert_eq!(web.item().unwrap().state.resync, Resync::Required);
        let mut events = vault.events();
        vault.watch_now().await.unwrap();
        web.until_done().await.unwrap();
        let changed = scene.changed(&mut events);
        assert!((70_000..MIB).contains(&changed), "{changed} bytes differed");
        assert_eq!(web.item().unwrap().state.resync, Resync::None);

        let newest = scene.newest(web).await;
        let now = scene.bytes();
        assert_eq!(now[1].len() as u64, 48 * MIB);
        must_be(&scene.bytes_of(web, newest).await, &now, "the newest point");
        must_be(&scene.bytes_of(web, before).await, &was, "an older point has the disk as it was");
        // From here on by deltas again, the new end among them.
        scene.write(1, 45 * MIB, &[4; 70_000]);
        vault.replicate_now(web.id()).await.unwrap();
        let changed = scene.changed(&mut events);
        assert!((70_000..MIB).contains(&changed), "{changed} bytes");

        web.test_failover(DrillRequest::default()).await.unwrap().done().await.unwrap();
        let drilled: Vec<_> =
            scene.recovered("web-1-test").iter().map(|i| std::fs::read(i).unwrap()).collect();
        must_be(&drilled, &scene.bytes(), "what starts there has the disk as large");
        web.clean_up_test().await.unwrap().done().await.unwrap();
    })
    .await;
}

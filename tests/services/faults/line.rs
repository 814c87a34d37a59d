//! Lines that swallow what is sent, and close nothing.

use super::through;
use crate::hosts::until;
use crate::scene::{MIB, cycle};
use site_recovery::*;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_a_black_hole_ends_the_cycle_and_the_next_one_carries_on_with_what_changed() {
    through("black-hole", async |scene, vault, web| {
        scene.write_bulk("data", 8);
        let before = scene.vaulted.points.points(web.id()).await.unwrap();
        // So slow that the black hole comes while it is under way.
        scene.processing.limit(8_000_000);
        let read = scene.processing.received();
        let cycle = cycle(vault, web);
        until("a mebibyte is read", || scene.processing.received() > read + MIB);
        let fell = SystemClock.now();
        scene.processing.black_hole();
        let error = cycle.await.unwrap().expect_err("nothing came through");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let took = SystemClock.now().since(fell);
        assert!(took < Duration::from_secs(60), "it took {took:?} to find out");
        // Half of a cut is no point, and what was there is there.
        assert_eq!(scene.vaulted.points.points(web.id()).await.unwrap(), before);
        scene.processing.unlimited();
        scene.processing.restore();
    })
    .await;
}

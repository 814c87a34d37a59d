//! Bytes per time, by a clock that is moved by hand.
#![allow(clippy::unwrap_used, reason = "tests")]

mod world;

use site_recovery::*;
use site_recovery_process_server::{Codec, ProcessServer, Throttle, Window};
use site_recovery_testkit::clock::{ManualClock, START};
use std::sync::Arc;
use std::time::Duration;
use world::*;

/// A batch ends with what was read in one go.
const BATCH: u64 = 256 * KIB;

async fn throttled(throttle: Throttle) -> (World, ManualClock) {
    let clock = ManualClock::new();
    let mut world = World::new(&[("a", 8 * MIB)]).await;
    let builder = ProcessServer::builder("ps").pool(POOL as usize).codec(Codec::Raw);
    world.server = builder.clock(Arc::new(clock.clone())).throttle(throttle).build().await.unwrap();
    (world, clock)
}

/// Ships while `each` is asked before the clock is moved on to the next sleeper; returns when it was done.
async fn ship(world: &World, clock: &ManualClock, mut each: impl FnMut(Duration, u64)) -> Duration {
    let capture = world.site.take("one");
    let mut ships = std::pin::pin!(world.ship("one", &capture, Basis::Delta));
    let (mut crossed, elapsed) = (0, || clock.now().since(START));
    for _ in 0..1_000_000 {
        // Real work goes on between two looks; nothing waits for the time to pass but for the throttle.
        let idle = tokio::time::timeout(Duration::from_millis(2), &mut ships).await;
        crossed += world.replica.crossed().iter().map(|c| c.1.len).sum::<u64>();
        if let Ok(shipped) = idle {
            sealed(shipped.unwrap());
            world.assert_points_are_captures();
            return elapsed();
        }
        if clock.sleepers() > 0 {
            each(elapsed(), crossed);
            clock.advance_to_next();
        }
    }
    panic!("it does not end");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_cross_at_the_rate() {
    let rate = 100_000;
    let (world, clock) = throttled(Throttle::to(rate)).await;
    world.site.write("a", 0, &Dice(1).bytes(4 * MIB));
    let most = |elapsed: Duration| (elapsed.as_secs_f64() * rate as f64) as u64 + rate + 2 * BATCH;
    let done = ship(&world, &clock, |elapsed, crossed| {
        assert!(crossed <= most(elapsed), "{crossed} bytes after {elapsed:?}");
    });
    let done = done.await;
    let fair = 4.0 * MIB as f64 / rate as f64;
    assert!((fair - 6.0..fair + 3.0).contains(&done.as_secs_f64()), "{done:?} for {fair} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_hour_has_another_rate() {
    let (slow, fast) = (1024, 65_536);
    let windows = vec![Window { days: vec![], from: 0, until: 1, rate: Some(slow) }];
    let (world, clock) = throttled(Throttle { rate: Some(fast), windows, utc_offset_minutes: 0 }).await;
    world.site.write("a", 0, &Dice(2).bytes(8 * MIB));
    let hour = 3600 * slow;
    let done = ship(&world, &clock, |elapsed, crossed| {
        if elapsed < Duration::from_secs(3600) {
            assert!(crossed <= hour + 2 * BATCH, "{crossed} bytes after {elapsed:?}");
        }
    });
    let done = done.await.as_secs_f64();
    let fair = 3600.0 + (8 * MIB - hour) as f64 / fast as f64;
    assert!((fair - 200.0..fair + 300.0).contains(&done), "{done} s for {fair} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_that_is_lifted_holds_nobody_back() {
    let (world, clock) = throttled(Throttle::to(1024)).await;
    world.site.write("a", 0, &Dice(3).bytes(8 * MIB));
    let refused = world.server.set_throttle(Throttle::to(0)).unwrap_err();
    assert_eq!(refused.fact("field"), Some("throttle.rate"));
    let done = ship(&world, &clock, |elapsed, crossed| {
        if crossed >= MIB {
            assert!(elapsed > Duration::from_secs(700), "{crossed} bytes after {elapsed:?}");
            world.server.set_throttle(Throttle::default()).unwrap();
        }
    });
    let done = done.await;
    assert!(done < Duration::from_secs(2000), "{done:?}: the rest took no time");
}

#[tokio::test]
async fn a_bad_throttle_builds_nothing() {
    let refused = ProcessServer::builder("ps").throttle(Throttle::to(3)).build().await.unwrap_err();
    assert_eq!(refused.fact("field"), Some("throttle.rate"));
}

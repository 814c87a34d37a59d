//! A whole life on a store that fails in every way, at any operation, once and for ever, and slowly: what was told is
//! true, what failed says why, and a call that is repeated on a sound store ends well.

mod support;

use object_store::memory::InMemory;
use site_recovery::*;
use site_recovery_points::Points;
use std::sync::Arc;
use support::faulty::{Death, Fault, Faulty};
use support::life::{Told, death, life, points_at, verify};
use support::*;

async fn whole_life(points: &Points, clock: &HandClock, told: &mut Told) -> Result<()> {
    life(points, told).await?;
    for (point, image) in
        told.sealed.values().filter(|(point, _)| !told.ending && !told.dropped.contains(&point.id))
    {
        assert!(image_at(points, point.id).await? == *image, "point {} has other bytes", point.id);
        points.scrub(&id(), point.id).await?;
    }
    death(points, clock, told).await
}

/// Fails at one operation after the other, `step` apart: each error is of one of these kinds. Returns how many lives failed.
async fn sweep(fault: Fault, once: bool, step: usize, kinds: &[ErrorKind]) -> usize {
    let mut failed = 0;
    for at in (u64::from(once)..).step_by(step) {
        let place = format!("{fault:?}, once: {once}, operation {at}");
        let (store, clock) = (Arc::new(InMemory::new()), Arc::new(HandClock::default()));
        let faulty = Arc::new(Faulty::hostile(Arc::clone(&store), at, fault, once));
        let (points, mut told) = (points_at(Arc::clone(&faulty) as _, &clock), Told::default());
        let result = whole_life(&points, &clock, &mut told).await;
        if let Err(error) = &result {
            failed += 1;
            assert!(kinds.contains(&error.kind()), "{place}: {error}");
        }
        if fault == Fault::Stale {
            // What is in no point yet is known by listings alone.
            told.landed = None;
        }
        verify(Arc::new(store.fork()), &told, &place).await;
        let again = if once { points } else { points_at(Arc::clone(&store) as _, &clock) };
        for _ in 0..2 {
            if told.ended || whole_life(&again, &clock, &mut told).await.is_ok() {
                break;
            }
        }
        assert!(told.ended, "{place}: it does not go on: {:?}", whole_life(&again, &clock, &mut told).await);
        verify(store, &told, &place).await;
        if !faulty.died() {
            assert!(at > 50, "{place}: only so many were tried");
            break;
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d2_o1_no_answer_before_or_after_the_effect() {
    for death in [Death::Before, Death::After] {
        for once in [true, false] {
            let failed = sweep(Fault::Silent(death), once, 5, &[ErrorKind::Unavailable]).await;
            assert!(failed > 20, "only {failed} lives failed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d2_o1_a_store_that_is_full_says_so() {
    for once in [true, false] {
        let failed = sweep(Fault::Full, once, 2, &[ErrorKind::OutOfSpace]).await;
        assert!(failed > 10, "only {failed} lives failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_create_that_was_sent_again_unseen_has_happened() {
    for once in [true, false] {
        assert_eq!(sweep(Fault::Exists, once, 5, &[]).await, 0);
        sweep(Fault::Precondition, once, 5, &[ErrorKind::Conflict]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_a_read_that_ends_early_is_no_other_bytes() {
    for once in [true, false] {
        let failed = sweep(Fault::Short, once, 2, &[ErrorKind::Corrupt]).await;
        assert!(failed > 10, "only {failed} lives failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_d2_a_listing_that_lags_loses_no_point() {
    let kinds = [ErrorKind::Busy, ErrorKind::Corrupt];
    for once in [true, false] {
        sweep(Fault::Stale, once, 4, &kinds).await;
    }
}

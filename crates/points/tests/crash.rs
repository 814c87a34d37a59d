//! Killed at every operation of the store, before and after its effect, and opened again.

mod support;

use object_store::memory::InMemory;
use site_recovery::*;
use std::sync::Arc;
use support::faulty::{Death, Faulty};
use support::life::{Told, life, points, verify};
use support::*;

#[tokio::test(flavor = "multi_thread")]
async fn d1_d2_killed_at_every_operation_nothing_acknowledged_is_lost_and_nothing_partial_is_listed() {
    let mut swept = 0;
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let store = Arc::new(InMemory::new());
            let faulty = Arc::new(Faulty::new(Arc::clone(&store), at, death));
            let mut told = Told::default();
            let result = life(&points(Arc::clone(&faulty) as _), &mut told).await;
            verify(store, &told, &format!("{death:?} operation {at}")).await;
            if !faulty.died() {
                result.expect("nothing was in the way");
                break;
            }
            swept += 1;
        }
    }
    assert!(swept > 60, "only {swept} places were tried");
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_call_whose_answer_was_lost_is_repeated_and_has_happened_once() {
    for at in 0.. {
        let store = Arc::new(InMemory::new());
        let faulty = Arc::new(Faulty::new(Arc::clone(&store), at, Death::After));
        let mut told = Told::default();
        let _ = life(&points(Arc::clone(&faulty) as _), &mut told).await;
        let again = points(Arc::clone(&store) as _);
        life(&again, &mut told).await.expect("the call that failed, again, and what comes after it");
        assert_eq!(told.dropped, [told.sealed["one"].0.id], "after operation {at}");
        let cuts: Vec<String> =
            again.points(&id()).await.expect("listed").into_iter().map(|p| p.cut.0).collect();
        assert_eq!(cuts, ["two", "three"], "after operation {at}");
        for (cut, (point, image)) in told.sealed.iter().filter(|(cut, _)| *cut != "one") {
            assert_eq!(&image_at(&again, point.id).await.expect("opens"), image, "{cut}, operation {at}");
        }
        if !faulty.died() {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_store_that_stumbles_once_costs_a_repeat_and_nothing_else() {
    for death in [Death::Before, Death::After] {
        for at in 0.. {
            let store = Arc::new(InMemory::new());
            let faulty = Arc::new(Faulty::stumbling(Arc::clone(&store), at, death));
            let (points, mut told) = (points(Arc::clone(&faulty) as _), Told::default());
            let place = format!("{death:?} operation {at}");
            if life(&points, &mut told).await.is_err() {
                life(&points, &mut told).await.expect(&place);
            }
            assert_eq!(told.dropped, [told.sealed["one"].0.id], "{place}");
            verify(store, &told, &place).await;
            if !faulty.died() {
                break;
            }
        }
    }
}

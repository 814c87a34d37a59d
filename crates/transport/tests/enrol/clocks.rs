//! Services whose clock jumps while they keep their credentials fresh.

use crate::support::SOON;
use crate::world::*;
use futures_util::future::BoxFuture;
use site_recovery::*;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_transport::enrol::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The authority's clock, which shows so many hours more. What sleeps does so by no wall clock.
#[derive(Debug, Clone)]
struct Ahead(ManualClock, Arc<AtomicU64>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().after(HOUR * self.1.load(Ordering::SeqCst) as u32)
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(span)
    }
}

#[tokio::test]
async fn c2_a_clock_that_was_ahead_for_a_while_leaves_a_service_in_touch_and_its_certificate_fresh() {
    let clock = ManualClock::new();
    let world = World::by(&clock).await;
    let hours = Arc::new(AtomicU64::new(0));
    let ahead = |by| hours.store(by, Ordering::SeqCst);
    let token = world.token(&agent("web-1")).await;
    let ours = Arc::new(Ahead(clock.clone(), Arc::clone(&hours)));
    let credentials = Credentials::at(world.place("web-1")).clock(ours).join(&token).await.unwrap();
    let renewal = credentials.keep(Keeping::default(), &TokioSpawner::current().unwrap()).unwrap();
    let mut failing = renewal.failing();
    failing.changed().await.unwrap();
    // A minute more, in which it does something.
    let mut minute = async || {
        until("it sleeps", || clock.sleepers() > 0).await;
        clock.advance(Duration::from_secs(61));
        tokio::time::timeout(SOON, failing.changed()).await.expect("it does something").unwrap();
        failing.borrow().as_ref().map(ToString::to_string)
    };

    // Ahead by most of a certificate's life: it is renewed, and taken to be good for longer than it is.
    let first = credentials.serial();
    ahead(20);
    assert_eq!(minute().await, None);
    let second = credentials.serial();
    assert_ne!(second, first);
    assert!(credentials.until() > clock.now().after(24 * HOUR));
    ahead(0);
    assert_eq!(minute().await, None);
    assert_ne!(credentials.serial(), second, "renewed, as nobody knows how long that one counts");
    assert!(credentials.until() <= clock.now().after(24 * HOUR));

    // Ahead by more than that: it reaches nobody, and is in touch again as soon as it is not.
    ahead(72);
    let said = minute().await.expect("what has expired is shown to nobody");
    assert!(said.contains("expired"), "{said}");
    ahead(0);
    assert_eq!(minute().await, None);
    drop(renewal);
}

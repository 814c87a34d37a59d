//! Machines in the making, and others that are made meanwhile.

use crate::given::{boot, materialise, op, recovery};
use crate::world::{ACCOUNT, World};
use async_trait::async_trait;
use fake_blob::{Fault, Gate, Match};
use futures_util::future::{Either, select};
use site_recovery::*;
use site_recovery_azure::{Azure, Builder, Images, Preparation};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn rol_4_a_drill_in_the_making_does_not_keep_the_failover_waiting() {
    let world = World::new().await;
    let drill = recovery(&world, Purpose::Drill, Settings::default()).await;
    let failover = recovery(&world, Purpose::Failover, Settings::default()).await;
    let copy = Match::any().method("PUT").path_contains("/work/");
    let held = world.blobs.faults().next(copy, Fault::Hang(Duration::from_secs(30)));
    let mut making = pin!(materialise(&world, "drill", &drill));
    let reached = matches!(select(making.as_mut(), pin!(held.reach(1))).await, Either::Right(_));
    assert!(reached, "it has ended, and no copy was asked for");
    // Nobody polls it any more.
    let made = materialise(&world, "failover", &failover);
    let made = tokio::time::timeout(Duration::from_secs(10), made).await;
    made.expect("the failover waits until the drill's disks are copied").expect("made");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_5_what_is_withdrawn_while_it_is_made_stops_and_leaves_nothing() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let gate = Gate::new();
    let copy = Match::any().method("PUT").path_contains("/work/");
    let held = world.blobs.faults().next(copy, Fault::Late(gate.clone()));
    let mut making = pin!(materialise(&world, "make", &what));
    let reached = matches!(select(making.as_mut(), pin!(held.reach(1))).await, Either::Right(_));
    assert!(reached, "it has ended, and no copy was asked for");
    let withdraw = async || world.site.withdraw(&op("withdraw"), &op("make").key, &what).await;
    assert_eq!(withdraw().await.expect_err("it is at it").kind(), ErrorKind::Busy);
    gate.open();
    assert_eq!(making.await.expect_err("withdrawn").kind(), ErrorKind::Refused);
    withdraw().await.expect("withdrawn");
    assert_eq!(world.names("Microsoft.Compute/disks"), [""; 0]);
    let left: Vec<_> = world
        .documents()
        .into_iter()
        .filter(|name| name.contains("/work/") || name.contains("/mark/"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn v19_a_drill_does_not_take_the_failovers_disk_names() {
    let world = World::new().await;
    let mut settings = Settings::default();
    settings.disks.insert("system".into(), DiskSettings { name: Some("web-os".into()), kind: None });
    let what = recovery(&world, Purpose::Drill, settings.clone()).await;
    materialise(&world, "drill", &what).await.expect("a drill");
    let what = recovery(&world, Purpose::Failover, settings).await;
    materialise(&world, "failover", &what).await.expect("the drill leaves it its names");
    let disks = world.names("Microsoft.Compute/disks");
    assert!(["web-os", "web-os-test"].iter().all(|name| disks.iter().any(|disk| disk == name)), "{disks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_3_a_late_repeat_arms_nothing_anew() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = materialise(&world, "make", &what).await.expect("made");
    assert_eq!(materialise(&world, "make", &what).await.expect("as before"), armed);
    boot(&world, &what, &armed).await;
    world.write(&armed.instance.name, 0, 0, &[9; 4096]);
    let mut snapshots = world.manager.world().into_iter().filter(|t| t.kind == "Microsoft.Compute/snapshots");
    let base = snapshots.next_back().expect("a base");
    world.manager.delete_from_outside(base.body["id"].as_str().expect("an id")).expect("it goes");
    let late = materialise(&world, "make", &what).await.expect("as before");
    assert_eq!((late.instance, late.cursor), (armed.instance, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_the_service_never_begins_is_given_up_with_its_words() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let fault = Fault::Status { code: 500, azure_code: "InternalError", retry_after: None };
    let asked =
        world.blobs.faults().next(Match::any().method("PUT").path_contains("/work/").times(1000), fault);
    let error = materialise(&world, "make", &what).await.expect_err("never begun");
    assert_eq!(
        (error.kind(), error.fact("code")),
        (ErrorKind::Unavailable, Some("InternalError")),
        "{error}"
    );
    assert!(asked.count() < 40, "asked {} times", asked.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_cannot_be_copied_at_the_service_are_refused_when_the_site_is_opened() {
    let world = World::new().await;
    let open = async |place| Azure::builder("other".into()).points(world.points.clone()).open(place).await;
    for (account, why) in [(ACCOUNT, "a signature"), ("elsewhere", "another account")] {
        let refused = open(world.place(world.by_signature(account))).await.expect_err(why);
        assert_eq!(
            (refused.kind(), refused.fact("field")),
            (ErrorKind::Invalid, Some("points")),
            "{refused}"
        );
        assert!(refused.message().contains(why), "{refused}");
    }
    open(world.place(world.container.clone())).await.expect("of one account");
    // No image is made in an account of another region, unless a guest is prepared on it.
    let far = World::far().await;
    let open =
        async |site: Builder| site.points(far.points.clone()).open(far.place(far.theirs.clone())).await;
    open(Azure::builder("other".into())).await.expect("nothing is copied");
    let prepares = Azure::builder("other".into()).preparation(Arc::new(Nothing));
    let refused = open(prepares).await.expect_err("another account");
    assert_eq!(refused.fact("field"), Some("points"), "{refused}");
}

#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Preparation for Nothing {
    async fn prepare(&self, _: &Machine, _: &Images) -> Result<()> {
        Ok(())
    }
}

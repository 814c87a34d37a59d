//! Taking back, setting aside and removing, when the same is asked for late or again.

use crate::given::{boot, materialise, op, recovery};
use crate::world::World;
use site_recovery::*;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn sit_10_destroy_of_an_older_generation_leaves_the_machine_that_has_its_name_now() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let first = materialise(&world, "first", &what).await.expect("made");
    world.site.destroy(&op("destroy"), &first.instance).await.expect("destroyed");
    let newer = Recovery { generation: Generation(3), ..what };
    let second = materialise(&world, "second", &newer).await.expect("made");
    boot(&world, &newer, &second).await;
    // The answer to the first call was lost; whoever asked repeats it.
    world.site.destroy(&op("destroy"), &first.instance).await.expect("it is gone");
    assert!(world.runs(&second.instance.name), "the repeat took the machine of a newer generation");
}

/// A failover that ran, was fenced and set aside.
async fn aside(world: &World) -> (Recovery, Armed, Instance) {
    let what = recovery(world, Purpose::Failover, Settings::default()).await;
    let armed = materialise(world, "first", &what).await.expect("made");
    boot(world, &what, &armed).await;
    world.site.fence(&op("fence"), &armed.instance, Duration::ZERO).await.expect("fenced");
    let kept = world.site.set_aside(&op("aside"), &armed.instance).await.expect("set aside");
    (what, armed, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn rol_1_a_repeat_of_set_aside_leaves_the_machine_that_has_the_name_now() {
    let world = World::new().await;
    let (what, armed, kept) = aside(&world).await;
    let newer = Recovery { generation: Generation(3), ..what };
    let second = materialise(&world, "second", &newer).await.expect("made");
    let again = world.site.set_aside(&op("aside"), &armed.instance).await;
    assert_eq!(again.expect("the same answer"), kept);
    assert!(world.site.power(&second.instance).await.is_ok(), "the newer machine was set aside instead");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_9_a_late_withdraw_keeps_what_was_set_aside() {
    let world = World::new().await;
    let (what, _, kept) = aside(&world).await;
    let withdrawn = world.site.withdraw(&op("withdraw"), &op("first").key, &what).await;
    assert_eq!(withdrawn.expect_err("it was booted").kind(), ErrorKind::Refused);
    let power = world.site.power(&kept).await;
    assert!(power.is_ok(), "what the machine had written is gone: {power:?}");
}

//! What is taken into care, and how it is given back.

use super::world::World;
use crate::{MODE, looked_at, open};
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite::op;
use site_recovery_vim::ConfigSpec;
use std::time::Duration;

async fn tracked(world: &World, name: &str) -> bool {
    world.eyes.machine(&world.moref(name).await).await.unwrap().details.unwrap().change_tracking
}

#[tokio::test(flavor = "multi_thread")]
async fn tracking_that_we_switched_on_goes_with_the_mark_and_theirs_stays() {
    let Some(world) = World::start(MODE, open).await else { return };
    let (ours, theirs) = (world.machine("ours", &[128]).await, world.machine("theirs", &[128]).await);
    let on = ConfigSpec { change_tracking: Some(true), ..ConfigSpec::default() };
    world.reconfigure(&theirs, on).await;
    for (name, id, left) in [(&ours, "m-ours", false), (&theirs, "m-theirs", true)] {
        let mut machine = world.discovered(name).await;
        machine.instance.machine = id.into();
        world.site.enrol(&op(id), &machine).await.unwrap();
        assert!(tracked(&world, name).await);
        world.site.dismiss(&op(&format!("{id}/dismiss")), &machine.instance).await.unwrap();
        assert_eq!(tracked(&world, name).await, left, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_machines_of_one_identifier_are_told_apart_before_anything_is_done_to_them() {
    let Some(world) = World::start(MODE, open).await else { return };
    let (web, copy) = (world.machine("web", &[128]).await, world.machine("copy", &[128]).await);
    let same = ConfigSpec { instance_uuid: Some(web.clone()), ..ConfigSpec::default() };
    world.reconfigure(&copy, same).await;
    let error = world.site.discover().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(
        error.to_string().contains("web and copy") || error.to_string().contains("copy and web"),
        "{error}"
    );
    assert!(error.to_string().contains(&web), "{error}");
    let instance =
        Instance { machine: "m-web".into(), site: world.site.name(), name: web, generation: Generation(0) };
    assert_eq!(world.site.power(&instance).await.unwrap_err().kind(), ErrorKind::Conflict);
    let fenced = world.site.fence(&op("fence"), &instance, Duration::ZERO).await;
    assert_eq!(fenced.unwrap_err().kind(), ErrorKind::Conflict);
    for name in ["web", "copy"] {
        assert!(world.is_running(name).await, "{name} was stopped as if it were the other one");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_of_a_fenced_machine_takes_nothing_over() {
    let Some(world) = World::start(MODE, open).await else { return };
    let (web, clone) = (world.machine("web", &[128]).await, world.machine("clone", &[128]).await);
    let machine = world.enrol(&web, "m-web").await;
    world.site.fence(&op("fence"), &machine.instance, Duration::ZERO).await.unwrap();
    let of = async |name: &str| world.eyes.machine(&world.moref(name).await).await.unwrap().details.unwrap();
    // A clone has its original's configuration.
    let ours = of(&web).await.extra.into_iter().filter(|(key, _)| key.starts_with("site-recovery."));
    let copied = ConfigSpec { extra: ours.collect(), ..ConfigSpec::default() };
    world.reconfigure(&clone, copied).await;
    let mut found = world.discovered(&clone).await;
    assert_ne!(found.id(), machine.id());
    found.instance.machine = "m-clone".into();
    world.site.enrol(&op("enrol-clone"), &found).await.unwrap();
    let notes = of(&clone).await.extra;
    assert!(notes["site-recovery.mark"].contains("m-clone"));
    assert!(!notes.contains_key("site-recovery.fence"), "{notes:?}");
    assert!(world.is_running("clone").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_the_server_forgot_is_none_and_a_new_one_is() {
    let Some(world) = World::start(MODE, open).await else { return };
    let web = world.machine("web", &[128]).await;
    let machine = world.enrol(&web, "m-web").await;
    let name = &machine.instance.name;
    let told = async || match world.site.power(&machine.instance).await.unwrap() {
        Power::Off { start } => start.stamp().expect("it tells of starts").clone(),
        power => panic!("{power:?}"),
    };
    world.site.fence(&op("fence"), &machine.instance, Duration::ZERO).await.unwrap();
    let before = told().await;
    world.sim.tell("events-forget", json!({})).await;
    assert_eq!(told().await, before, "what was forgotten looks like a start");
    world.power(name, "on").await;
    world.stop(name).await;
    let after = told().await;
    assert_ne!(after, before, "a start since then is not seen");
    assert_eq!(told().await, after);
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_an_appliance_that_is_gone_does_not_make_a_machine_look_gone() {
    let Some(world) = World::start(MODE, open).await else { return };
    let web = world.machine("web", &[128]).await;
    let machine = world.enrol(&web, "m-web").await;
    world.stop(&web).await;
    assert!(matches!(world.site.power(&machine.instance).await.unwrap(), Power::Off { .. }));
    let appliance = world.moref(&world.appliance).await;
    world.sim.tell("machine-destroy", json!({ "machine": appliance.id })).await;
    let error = world.site.power(&machine.instance).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("appliance"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_appliance_is_told_before_one_of_the_two_is_looked_at() {
    let Some(world) = World::start(MODE, open).await else { return };
    let copy = world.machine("copy", &[128]).await;
    let same = ConfigSpec { instance_uuid: Some(world.appliance.clone()), ..ConfigSpec::default() };
    world.reconfigure(&copy, same).await;
    let error = looked_at(&world.sim, Some(&world.appliance)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains(&world.appliance), "{error}");
    let error = world.site.check().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

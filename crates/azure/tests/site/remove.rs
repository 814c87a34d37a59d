//! Taking back, setting aside and removing, when the same is asked for late or again.

use crate::given::{boot, materialise, op, recovery};
use crate::world::{World, says};
use site_recovery::*;
use site_recovery_record::checksum;
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
    aside_with(world, Settings::default()).await
}

async fn aside_with(world: &World, settings: Settings) -> (Recovery, Armed, Instance) {
    let what = recovery(world, Purpose::Failover, settings).await;
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
async fn sit_9_a_disk_that_was_set_aside_keeps_its_name_and_the_next_one_has_one_like_it() {
    let world = World::new().await;
    let named = DiskSettings { name: Some("web-os".into()), ..DiskSettings::default() };
    let settings = Settings { disks: [("system".into(), named)].into(), ..Settings::default() };
    let (what, _, kept) = aside_with(&world, settings).await;
    let before = world.disks_of(&kept.name);
    assert_eq!(before[0], "web-os");
    let newer = Recovery { generation: Generation(3), ..what };
    let second = materialise(&world, "second", &newer).await.expect("made");
    let disks = world.disks_of(&second.instance.name);
    assert!(disks[0].starts_with("web-os-") && disks[0].len() == "web-os-".len() + 8, "{disks:?}");
    assert_eq!(materialise(&world, "second", &newer).await.expect("as before"), second);
    boot(&world, &newer, &second).await;
    assert_eq!(world.disks_of(&kept.name), before);
    world.site.destroy(&op("destroy"), &kept).await.expect("destroyed");
    let left = world.names("Microsoft.Compute/disks");
    assert!(left.len() == 2 && left.contains(&disks[0]), "{left:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recovered_and_dismissed_keeps_no_tracking_and_is_not_said_to_be_gone() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = materialise(&world, "make", &what).await.expect("made");
    boot(&world, &what, &armed).await;
    assert_eq!(world.names("Microsoft.Compute/snapshots").len(), 2, "the base");
    world.site.dismiss(&op("dismiss"), &armed.instance).await.expect("dismissed");
    assert_eq!(world.names("Microsoft.Compute/snapshots"), [""; 0]);
    let destroyed = world.site.destroy(&op("destroy"), &armed.instance).await;
    assert_eq!(destroyed.expect_err("it stands").kind(), ErrorKind::Refused);
    assert!(world.runs(&armed.instance.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_5_a_damaged_mark_of_another_machine_does_not_keep_withdraw_from_its_own() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = materialise(&world, "make", &what).await.expect("made");
    let other = world.container.document("s/azure/mark/other");
    other.create("no mark".into()).await.expect("written");
    world.site.withdraw(&op("withdraw"), &op("make").key, &what).await.expect("withdrawn");
    assert_eq!(world.names("Microsoft.Compute/disks"), [""; 0]);
    // Its own, it cannot do without.
    materialise(&world, "again", &what).await.expect("made");
    let own = world.container.document(&format!("s/azure/mark/{}", armed.instance.name));
    let (_, etag) = own.read().await.expect("read").expect("there");
    own.replace("no mark".into(), &etag).await.expect("written");
    let error = world.site.withdraw(&op("withdraw"), &op("again").key, &what).await.expect_err("unread");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_another_format_is_refused_by_whoever_looks_at_all() {
    let world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    materialise(&world, "make", &what).await.expect("made");
    let document = world.container.document("s/azure/mark/web");
    let (bytes, etag) = document.read().await.expect("read").expect("there");
    let json = std::str::from_utf8(&bytes).expect("text").split_once('\n').expect("a checksum before").1;
    let newer = json.replacen("\"format\":1", "\"format\":2", 1);
    assert_ne!(newer, json);
    let newer = format!("{:016x}\n{newer}", checksum(newer.as_bytes()));
    document.replace(newer.into(), &etag).await.expect("written");
    let refused = |error: Error| says(&error, ErrorKind::Unsupported, &["mark/web is of format 2", "newer"]);
    refused(world.site.discover().await.expect_err("discover"));
    refused(world.site.claim(&op("claim"), what.machine.id()).await.expect_err("claim"));
    refused(world.site.withdraw(&op("withdraw"), &op("make").key, &what).await.expect_err("withdraw"));
    assert_eq!(world.names("Microsoft.Compute/disks").len(), 2, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_10_what_was_destroyed_is_never_made_again_by_its_key() {
    let mut world = World::new().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    let armed = materialise(&world, "first", &what).await.expect("made");
    boot(&world, &what, &armed).await;
    world.site.fence(&op("fence"), &armed.instance, Duration::ZERO).await.expect("fenced");
    world.site.destroy(&op("destroy"), &armed.instance).await.expect("destroyed");
    // The first call comes again, and late: to this process and to another one.
    for _ in 0..2 {
        let late = materialise(&world, "first", &what).await;
        assert_eq!(late.expect_err("it was destroyed").kind(), ErrorKind::Refused);
        world.reopen().await;
    }
    assert_eq!(world.names("Microsoft.Compute/disks"), [""; 0]);
    assert!(world.mark("web").is_none(), "it is written down again");
    materialise(&world, "second", &what).await.expect("made under another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_10_what_was_set_aside_and_destroyed_is_never_made_again_by_its_key() {
    let world = World::new().await;
    let (what, _, kept) = aside(&world).await;
    world.site.destroy(&op("destroy"), &kept).await.expect("destroyed");
    let late = materialise(&world, "first", &what).await;
    assert_eq!(late.expect_err("it was destroyed").kind(), ErrorKind::Refused);
}

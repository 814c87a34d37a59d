use super::super::case::{drill_permit, in_time, must, must_be, op, permit, skip};
use super::super::content::{same, whole};
use super::{Ready, RecoverySiteFixture};
use site_recovery::{Consistency, ErrorKind, Purpose};

/// SIT-6: a permit that does not speak of this instance is `Refused`, and starts nothing.
pub async fn sit_6_a_permit_of_another_is_refused<F: RecoverySiteFixture>() {
    let rule = "SIT-6";
    let here = Ready::<F>::new(rule, 1).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let armed = here.materialise("materialise", &what).await;
    let mut other = what.machine.standing_as(armed.instance.clone());
    other.instance.machine = "another".into();
    let permits = [
        ("another machine", permit(&op("boot"), &other).await),
        ("another instance", permit(&op("boot"), &what.machine).await),
    ];
    for (whose, permit) in permits {
        let booted = here.site().boot(&op("boot"), &what, &armed, permit).await;
        must_be(rule, &format!("boot with the permit of {whose}"), ErrorKind::Refused, booted);
        assert!(!here.runs(&armed.instance).await, "{rule}: started by the permit of {whose}");
    }
}

/// SIT-6: with `Isolated`, the machine is in that network and in no other.
pub async fn sit_6_isolated_is_isolated<F: RecoverySiteFixture>() {
    let rule = "SIT-6";
    let here = Ready::<F>::new(rule, 2).await;
    if !here.can(here.site().capability().drills, "drills") {
        return;
    }
    let what = here.recovery(0, Purpose::Drill).await;
    let armed = here.materialise("drill", &what).await;
    let network = here.world.test_network();
    let permit = drill_permit(&network);
    must(rule, "boot", here.site().boot(&op("boot-drill"), &what, &armed, permit).await);
    assert!(here.runs(&armed.instance).await, "{rule}: the drill does not run");
    assert_eq!(here.world.networks(&armed.instance.name).await, [network], "{rule}: networks of the drill");
}

/// SIT-6: only a drill may use `Isolated`: for a failover it is `Refused`, and starts nothing.
pub async fn sit_6_leave_for_a_drill_is_no_leave_for_a_failover<F: RecoverySiteFixture>() {
    let rule = "SIT-6";
    let here = Ready::<F>::new(rule, 1).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let armed = here.materialise("materialise", &what).await;
    let permit = drill_permit(&here.world.test_network());
    let booted = here.site().boot(&op("boot"), &what, &armed, permit).await;
    must_be(rule, "boot of a failover with leave for a drill", ErrorKind::Refused, booted);
    assert!(!here.runs(&armed.instance).await, "{rule}: a failover started by leave for a drill");
}

/// SIT-6: a drill runs in an isolated network or not at all: by any other permit it is `Refused`.
pub async fn sit_6_leave_for_a_failover_is_no_leave_for_a_drill<F: RecoverySiteFixture>() {
    let rule = "SIT-6";
    let here = Ready::<F>::new(rule, 1).await;
    if !here.can(here.site().capability().drills, "drills") {
        return;
    }
    let what = here.recovery(0, Purpose::Drill).await;
    let armed = here.materialise("drill", &what).await;
    let permit = permit(&op("boot-drill"), &what.machine.standing_as(armed.instance.clone())).await;
    let booted = here.site().boot(&op("boot-drill"), &what, &armed, permit).await;
    must_be(rule, "boot of a drill with leave for a failover", ErrorKind::Refused, booted);
    assert!(!here.runs(&armed.instance).await, "{rule}: a drill started by leave for a failover");
}

/// SIT-7: a repeat reports what is, and starts nothing that already ran under that key.
pub async fn sit_7_a_repeat_starts_nothing_again<F: RecoverySiteFixture>() {
    let rule = "SIT-7";
    let mut here = Ready::<F>::new(rule, 1).await;
    let (what, armed) = here.booted(0).await;
    assert!(here.runs(&armed.instance).await, "{rule}: booted, and the platform does not run it");
    assert!(
        here.boot("boot", &what, &armed).await.running,
        "{rule}: the repeat does not report that it runs"
    );
    here.world.stop_outside(&armed.instance.name).await;
    here.world.reopen().await;
    let again = here.boot("boot", &what, &armed).await;
    assert!(
        !here.runs(&armed.instance).await,
        "{rule}: the repeat started what had run already under its key"
    );
    assert!(!again.running, "{rule}: the repeat reports as running what is off");
}

/// SIT-8: the machine goes on running, keeps its bytes, and needs nothing of the replica; a repeat is no error.
pub async fn sit_8_settle_leaves_the_machine_running<F: RecoverySiteFixture>() {
    let rule = "SIT-8";
    let here = Ready::<F>::new(rule, 3).await;
    let (_, armed) = here.booted(1).await;
    let then = here.write(&armed, 1).await;
    for _ in 0..2 {
        in_time(rule, "settle", || async { here.site().settle(&op("settle"), &armed).await }).await;
        assert!(here.runs(&armed.instance).await, "{rule}: settle stopped the machine");
        same(rule, "after settle", &here.line.machine, &here.truth(&armed.instance).await, &then);
    }
    if !here.world.lose_replica().await {
        return skip(rule, &here.site().name(), "of needing no replica: the fixture cannot lose it");
    }
    let then = here.write(&armed, 2).await;
    assert!(here.runs(&armed.instance).await, "{rule}: the machine needs the replica after settle");
    same(rule, "without the replica", &here.line.machine, &here.truth(&armed.instance).await, &then);
}

/// SIT-9: what the machine wrote is kept, byte for byte, openable as the returned instance.
pub async fn sit_9_what_the_machine_wrote_is_kept<F: RecoverySiteFixture>() {
    let rule = "SIT-9";
    let mut here = Ready::<F>::new(rule, 2).await;
    if !here.can(here.site().capability().branches, "branches") {
        return;
    }
    let (_, armed) = here.booted(0).await;
    let then = here.write(&armed, 1).await;
    here.fence(&armed.instance).await;
    here.world.reopen().await;
    here.tend(&armed).await;
    let aside = || async { here.site().set_aside(&op("set-aside"), &armed.instance).await };
    let kept = in_time(rule, "set_aside by a process that did not boot it", aside).await;
    same(rule, "set aside", &here.line.machine, &here.truth(&kept).await, &then);
    assert!(!here.runs(&kept).await, "{rule}: what was set aside runs");
    here.world.reopen().await;
    here.tend(&armed).await;
    let again = here.site().set_aside(&op("set-aside"), &armed.instance).await;
    assert_eq!(must(rule, "set_aside again", again), kept, "{rule}: the repeat returns another instance");
    let source = here.world.source();
    let captured = source.capture(&op("open-kept"), std::slice::from_ref(&kept), Consistency::Crash).await;
    let capture = must(rule, "capture of what was set aside", captured);
    let disks = must(rule, "disks", source.disks(&op("open-kept"), &capture, &kept.machine).await);
    let found = whole(rule, "read", &here.line.machine, &disks).await;
    same(rule, "opened after it was set aside", &here.line.machine, &found, &then);
}

/// SIT-9: a running machine is `Refused`, and goes on.
pub async fn sit_9_a_running_machine_is_refused<F: RecoverySiteFixture>() {
    let rule = "SIT-9";
    let here = Ready::<F>::new(rule, 1).await;
    if !here.can(here.site().capability().branches, "branches") {
        return;
    }
    let (_, armed) = here.booted(0).await;
    let aside = here.site().set_aside(&op("set-aside"), &armed.instance).await;
    must_be(rule, "set_aside of a machine that runs", ErrorKind::Refused, aside);
    assert!(here.runs(&armed.instance).await, "{rule}: refused, and stopped all the same");
}

/// SIT-10: what our keys made is gone afterwards, read back; gone already is no error.
pub async fn sit_10_destroy_removes_what_our_keys_made<F: RecoverySiteFixture>() {
    let rule = "SIT-10";
    let here = Ready::<F>::new(rule, 1).await;
    if !here.can(here.site().capability().drills, "drills") {
        return;
    }
    let before = here.everything().await;
    let what = here.recovery(0, Purpose::Drill).await;
    let armed = here.materialise("drill", &what).await;
    let permit = drill_permit(&here.world.test_network());
    must(rule, "boot", here.site().boot(&op("boot-drill"), &what, &armed, permit).await);
    here.fence(&armed.instance).await;
    for _ in 0..2 {
        must(rule, "destroy", here.site().destroy(&op("destroy"), &armed.instance).await);
        assert_eq!(here.everything().await, before, "{rule}: machines and disks at the site");
    }
    let power = here.world.source().power(&armed.instance).await;
    must_be(rule, "power of a machine that was destroyed", ErrorKind::NotFound, power);
}

/// SIT-10: what the user brought is `Refused`, and stays.
pub async fn sit_10_what_was_brought_stays<F: RecoverySiteFixture>() {
    let rule = "SIT-10";
    let world = F::new().await;
    let Some(theirs) = world.brought().await else {
        return skip(rule, &world.site().name(), "the fixture has no machine that was there before us");
    };
    let before = world.everything().await;
    let destroyed = world.site().destroy(&op("destroy"), &theirs).await;
    must_be(rule, "destroy of what the user brought", ErrorKind::Refused, destroyed);
    assert_eq!(world.everything().await, before, "{rule}: machines and disks at the site");
}

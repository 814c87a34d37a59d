use super::super::case::{drill_permit, must, must_be, op, permit};
use super::super::content::{covers, pattern};
use super::super::timeline::set_of;
use super::{Attached, LandingSiteFixture};
use site_recovery::{Changes, Consistency, ErrorKind, Run};
use std::time::Duration;

/// LND-6: the site's source tells everything written from `arm` on as changes since its cursor.
pub async fn lnd_6_all_that_is_written_is_in_the_changes<F: LandingSiteFixture>() {
    let rule = "LND-6";
    let mut here = Attached::<F>::new(rule).await;
    here.write(0, 1).await;
    let armed = here.arm().await;
    let Some(since) = armed.cursor else {
        return here.skip("the site armed without a cursor: it cannot track");
    };
    here.started("start").await;
    here.world.write(&here.instance.name, 0, 32 * 1024, &pattern(5, 8192)).await;
    here.world.reopen().await;
    here.world.write(&here.instance.name, 0, 96 * 1024, &pattern(6, 4096)).await;
    let source = here.world.source();
    let of = [armed.instance.clone()];
    let capture = must(rule, "capture", source.capture(&op("capture"), &of, Consistency::Crash).await);
    match must(rule, "changes", source.changes(&capture, &armed.instance.machine, &since).await) {
        Changes::Known(told) => {
            let needed = set_of(here.first(), Run::new(32 * 1024, 8192));
            let needed = needed.union(&set_of(here.first(), Run::new(96 * 1024, 4096)));
            covers(rule, "changes since arm", &told, &needed);
        }
        Changes::Lost { reason } => panic!("{rule}: armed with a cursor that is lost: {reason}"),
    }
}

/// LND-7: as SIT-6: a permit that does not speak of this instance is `Refused`, and starts nothing.
pub async fn lnd_7_a_permit_of_another_is_refused<F: LandingSiteFixture>() {
    let rule = "LND-7";
    let here = Attached::<F>::new(rule).await;
    must(rule, "detach", here.site().detach(&op("detach"), &here.instance).await);
    let mut other = here.machine.standing_as(here.instance.clone());
    other.instance.machine = "another".into();
    let leave = permit(&op("start"), &other).await;
    let started = here.site().start(&op("start"), &here.instance, &here.recovery(), leave).await;
    must_be(rule, "start with the permit of another machine", ErrorKind::Refused, started);
    assert!(!here.runs().await, "{rule}: started by the permit of another machine");
    let outside = here.world.start_outside(&here.instance.name).await;
    let stamp = must(rule, "stamp", here.site().stamp(&here.instance).await);
    assert!(!outside || stamp.is_some(), "{rule}: detached, free to be started, and nothing would tell");
}

/// LND-7: as SIT-6: leave for a drill is `Refused` for a failover, and starts nothing.
pub async fn lnd_7_leave_for_a_drill_is_refused<F: LandingSiteFixture>() {
    let rule = "LND-7";
    let here = Attached::<F>::new(rule).await;
    must(rule, "detach", here.site().detach(&op("detach"), &here.instance).await);
    let leave = drill_permit("isolated");
    let started = here.site().start(&op("start"), &here.instance, &here.recovery(), leave).await;
    must_be(rule, "start of a failover with leave for a drill", ErrorKind::Refused, started);
    assert!(!here.runs().await, "{rule}: started by leave for a drill");
}

/// LND-7: as SIT-7: a repeat reports what is, and starts nothing that already ran under that key.
pub async fn lnd_7_a_repeat_starts_nothing_again<F: LandingSiteFixture>() {
    let rule = "LND-7";
    let mut here = Attached::<F>::new(rule).await;
    assert!(here.started("start").await.running && here.runs().await, "{rule}: started and not running");
    assert!(here.start("start").await.running, "{rule}: the repeat does not report that it runs");
    must(rule, "stop", here.site().stop(&op("stop"), &here.instance, Duration::ZERO).await);
    assert!(!here.runs().await, "{rule}: it runs after stop");
    here.world.reopen().await;
    let again = here.start("start").await;
    assert!(!here.runs().await, "{rule}: the repeat started what had run already under its key");
    assert!(!again.running, "{rule}: the repeat reports as running what is off");
}

/// LND-8: what `attach` made goes, and gone already is no error; what was there before is `Refused`.
pub async fn lnd_8_only_what_we_made_is_removed<F: LandingSiteFixture>() {
    let rule = "LND-8";
    let here = Attached::<F>::new(rule).await;
    let site = here.site();
    let before = here.world.everything().await;
    let made = site.attach(&op("make"), &here.machine, None, &here.world.settings()).await;
    let made = must(rule, "attach of a new machine", made);
    for _ in 0..2 {
        must(rule, "remove of what attach made", site.remove(&op("remove"), &made).await);
        assert_eq!(here.world.everything().await, before, "{rule}: machines and disks at the site");
    }
    let removed = site.remove(&op("remove-existing"), &here.instance).await;
    must_be(rule, "remove of a machine that was there before", ErrorKind::Refused, removed);
    assert_eq!(here.world.everything().await, before, "{rule}: machines and disks at the site");
}

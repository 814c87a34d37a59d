use super::super::case::{key, must, must_fail, op, skip};
use super::super::content::{covers, differing, same};
use super::{Ready, RecoverySiteFixture};
use site_recovery::{Changes, Consistency, Purpose};

/// SIT-1: a setting that would make it fail is a critical finding that names it; good settings give none.
pub async fn sit_1_what_would_fail_is_a_critical_finding<F: RecoverySiteFixture>() {
    let rule = "SIT-1";
    let world = F::new().await;
    let machine = world.machine("web");
    let found = must(rule, "check", world.site().check(&machine, &world.settings()).await);
    assert!(!found.iter().any(|f| f.blocks()), "{rule}: good settings are refused: {found:?}");
    let (bad, field) = world.bad_settings();
    let found = must(rule, "check", world.site().check(&machine, &bad).await);
    let named = found.iter().any(|f| f.blocks() && (f.code.contains(field) || f.cause.contains(field)));
    assert!(named, "{rule}: no critical finding names {field}: {found:?}");
}

/// SIT-2: afterwards the disks hold exactly the point, and nothing runs.
pub async fn sit_2_the_disks_hold_exactly_the_point<F: RecoverySiteFixture>() {
    let rule = "SIT-2";
    for point in [0, 2] {
        let here = Ready::<F>::new(rule, 3).await;
        let what = here.recovery(point, Purpose::Failover).await;
        let armed = here.materialise("materialise", &what).await;
        let found = here.truth(&armed.instance).await;
        let expected = &here.line.sealed[point].1;
        same(rule, &format!("after materialise of point {point}"), &here.line.machine, &found, expected);
        assert!(!here.runs(&armed.instance).await, "{rule}: the machine runs");
        let told = (armed.point, armed.instance.generation, &armed.instance.machine, &armed.instance.site);
        let asked = (what.point, what.generation, what.machine.id(), &here.world.source().name());
        assert_eq!(told, asked, "{rule}: what is told of it");
    }
}

/// SIT-3: everything that the guest writes from its first boot on is in the changes since `Armed::cursor`.
pub async fn sit_3_what_the_guest_writes_is_in_the_changes<F: RecoverySiteFixture>() {
    let rule = "SIT-3";
    let here = Ready::<F>::new(rule, 2).await;
    let (_, armed) = here.booted(0).await;
    let Some(since) = armed.cursor.clone() else {
        return skip(rule, &here.site().name(), "the site armed without a cursor: it cannot track");
    };
    let before = here.line.sealed[0].1.clone();
    here.write(&armed, 1).await;
    let after = here.write(&armed, 2).await;
    let source = here.world.source();
    let of = [armed.instance.clone()];
    let capture = must(rule, "capture", source.capture(&op("capture"), &of, Consistency::Crash).await);
    match must(rule, "changes", source.changes(&capture, &armed.instance.machine, &since).await) {
        Changes::Known(told) => {
            covers(rule, "changes", &told, &differing(&here.line.machine, &before, &after));
        }
        Changes::Lost { reason } => panic!("{rule}: armed with a cursor that is lost: {reason}"),
    }
}

/// SIT-4: the replica's other points, newer ones too, open as before.
pub async fn sit_4_the_other_points_open_as_before<F: RecoverySiteFixture>() {
    let rule = "SIT-4";
    let here = Ready::<F>::new(rule, 3).await;
    let listed = here.line.listed(rule, &here.world.replica()).await;
    let what = here.recovery(1, Purpose::Failover).await;
    here.materialise("materialise", &what).await;
    assert_eq!(here.line.listed(rule, &here.world.replica()).await, listed, "{rule}: points that are listed");
    for point in [0, 2, 1] {
        here.line.opens(rule, &here.world.replica(), point).await;
    }
}

/// SIT-5: nothing of the key is left, disks in place are as before, and nothing made is no error.
pub async fn sit_5_withdraw_leaves_nothing<F: RecoverySiteFixture>() {
    let rule = "SIT-5";
    let here = Ready::<F>::new(rule, 3).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let before = here.everything().await;
    here.materialise("materialise", &what).await;
    let made_by = key("materialise");
    for _ in 0..2 {
        must(rule, "withdraw", here.site().withdraw(&op("withdraw"), &made_by, &what).await);
    }
    assert_eq!(here.everything().await, before, "{rule}: machines and disks at the site");
    here.line.opens(rule, &here.world.replica(), 2).await;
}

/// SIT-5: a late `materialise` of that key makes nothing, also after a restart.
pub async fn sit_5_a_late_materialise_makes_nothing<F: RecoverySiteFixture>() {
    let rule = "SIT-5";
    let mut here = Ready::<F>::new(rule, 2).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let before = here.everything().await;
    must(rule, "withdraw", here.site().withdraw(&op("withdraw"), &key("late"), &what).await);
    for _ in 0..2 {
        let made = here.try_materialise(&op("late"), &what).await;
        must_fail(rule, "materialise of a key that was withdrawn", made);
        assert_eq!(here.everything().await, before, "{rule}: machines and disks at the site");
        here.world.reopen().await;
    }
}

use super::super::case::{dropped, key, must, op, op_at, op_of_another, permit};
use super::super::content::same;
use super::{Ready, RecoverySiteFixture};
use site_recovery::{ErrorKind, Purpose};
use std::time::Duration;

/// ROL-1: `materialise` again, after a crash, is the same machine; there is no second one.
pub async fn rol_1_a_repeat_after_a_crash_is_the_same<F: RecoverySiteFixture>() {
    let rule = "ROL-1";
    let mut here = Ready::<F>::new(rule, 2).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let first = here.materialise("materialise", &what).await;
    let before = here.everything().await;
    here.world.reopen().await;
    let again = here.materialise("materialise", &what).await;
    assert_eq!(again, first, "{rule}: the repeat made another machine");
    assert_eq!(here.everything().await, before, "{rule}: machines and disks at the site");
}

/// ROL-2: a lower epoch, or the same number of another owner, is `StaleEpoch` and changes nothing, also after a restart;
/// the site's source shares the register.
pub async fn rol_2_a_stale_epoch_changes_nothing<F: RecoverySiteFixture>() {
    let rule = "ROL-2";
    let mut here = Ready::<F>::new(rule, 2).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let armed = here.materialise("materialise", &what).await;
    let before = here.everything().await;
    must(rule, "claim", here.site().claim(&op_at("claim", 5), what.machine.id()).await);
    here.world.reopen().await;
    for (whose, op) in [("a lower epoch", op_at("stale", 4)), ("another owner", op_of_another("stale", 5))] {
        let (site, instance) = (here.site(), &armed.instance);
        let permit = permit(&op, &what.machine.standing_as(instance.clone())).await;
        let calls = [
            ("claim", site.claim(&op, what.machine.id()).await.err()),
            ("materialise", here.try_materialise(&op, &what).await.err()),
            ("boot", site.boot(&op, &what, &armed, permit).await.err()),
            ("tend", site.tend(&op, &armed, &here.world.replica()).await.err()),
            ("settle", site.settle(&op, &armed).await.err()),
            ("set_aside", site.set_aside(&op, instance).await.err()),
            ("withdraw", site.withdraw(&op, &key("materialise"), &what).await.err()),
            ("destroy", site.destroy(&op, instance).await.err()),
        ];
        let branches = site.capability().branches;
        for (call, error) in calls {
            let kind = error.map(|e| e.kind());
            let unsupported = call == "set_aside" && !branches && kind == Some(ErrorKind::Unsupported);
            assert!(
                unsupported || kind == Some(ErrorKind::StaleEpoch),
                "{rule}: {call} under {whose} gave {kind:?}, not StaleEpoch"
            );
        }
        let source = here.world.source();
        if source.name() == site.name() {
            let fenced = source.fence(&op, instance, Duration::ZERO).await.map_err(|e| e.kind());
            let unsupported = !source.capability().fences && fenced == Err(ErrorKind::Unsupported);
            assert!(
                unsupported || fenced == Err(ErrorKind::StaleEpoch),
                "{rule}: fence of the source under {whose} gave {fenced:?}, not StaleEpoch"
            );
        }
        assert_eq!(here.everything().await, before, "{rule}: {whose} made or removed machines");
        assert!(!here.runs(instance).await, "{rule}: {whose} started the machine");
    }
}

/// ROL-4: a `materialise` and a `boot` that nobody waited for are settled by the same key, once.
pub async fn rol_4_a_dropped_call_is_settled_by_the_same_key<F: RecoverySiteFixture>() {
    let rule = "ROL-4";
    let here = Ready::<F>::new(rule, 2).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let before = here.everything().await.len();
    dropped(here.try_materialise(&op("materialise"), &what)).await;
    let armed = here.materialise("materialise", &what).await;
    let made = here.everything().await.len();
    assert!(made <= before + 1, "{rule}: the dropped call and its repeat made {} machines", made - before);
    same(rule, "disks", &here.line.machine, &here.truth(&armed.instance).await, &here.line.sealed[0].1);
    let permit = permit(&op("boot"), &what.machine.standing_as(armed.instance.clone())).await;
    dropped(here.site().boot(&op("boot"), &what, &armed, permit)).await;
    let booted = here.boot("boot", &what, &armed).await;
    assert!(booted.running && here.runs(&armed.instance).await, "{rule}: boot after a dropped boot");
}

/// ROL-7: destroying one machine leaves another of the same timeline, and its bytes.
pub async fn rol_7_destroy_leaves_other_machines<F: RecoverySiteFixture>() {
    let rule = "ROL-7";
    let here = Ready::<F>::new(rule, 2).await;
    if !here.can(here.site().capability().drills, "drills") {
        return;
    }
    let (_, armed) = here.booted(0).await;
    let then = here.write(&armed, 1).await;
    let with = here.everything().await;
    let drill = here.materialise("drill", &here.recovery(0, Purpose::Drill).await).await;
    must(rule, "destroy", here.site().destroy(&op("destroy"), &drill.instance).await);
    assert_eq!(here.everything().await, with, "{rule}: machines and disks at the site");
    assert!(here.runs(&armed.instance).await, "{rule}: the other machine does not run any more");
    same(rule, "the other machine", &here.line.machine, &here.truth(&armed.instance).await, &then);
}

/// ROL-8: when `claim` has returned, no call of an older epoch begins an effect, and each one begun is over.
pub async fn rol_8_after_claim_nothing_older_begins<F: RecoverySiteFixture>() {
    let rule = "ROL-8";
    let here = Ready::<F>::new(rule, 1).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let armed = here.materialise("materialise", &what).await;
    let site = here.site();
    let older = op("boot");
    let permit = permit(&older, &what.machine.standing_as(armed.instance.clone())).await;
    let claimed = async {
        must(rule, "claim", site.claim(&op_at("claim", 2), what.machine.id()).await);
        here.runs(&armed.instance).await
    };
    let (booted, at_claim) = futures_util::join!(site.boot(&older, &what, &armed, permit), claimed);
    let after = here.runs(&armed.instance).await;
    assert_eq!(after, at_claim, "{rule}: an older boot ({booted:?}) took effect after claim had returned");
}

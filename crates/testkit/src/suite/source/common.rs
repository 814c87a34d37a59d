use super::super::case::{must, must_be, must_fail, op, op_at, op_of_another, permit};
use super::super::content::same;
use super::{Enrolled, SourceFixture, described, discovered};
use site_recovery::{Consistency, ErrorKind, Fate, Start};
use std::time::Duration;

const AT_ONCE: Duration = Duration::ZERO;

/// ROL-2: a lower epoch, or the same number of another owner, is `StaleEpoch` and changes nothing, also after a restart.
pub async fn rol_2_a_stale_epoch_changes_nothing<F: SourceFixture>() {
    let rule = "ROL-2";
    let mut here = Enrolled::<F>::new(rule).await;
    let capture = here.capture("capture").await;
    let before = here.world.captures(here.name()).await;
    must(rule, "claim", here.source().claim(&op_at("claim", 5), here.machine.id()).await);
    here.world.reopen().await;
    for (whose, op) in [("a lower epoch", op_at("stale", 4)), ("another owner", op_of_another("stale", 5))] {
        let source = here.source();
        let of = [here.instance().clone()];
        let (machine, instance, id) = (&here.machine, here.instance(), here.machine.id());
        let permit = permit(&op, machine).await;
        let calls = [
            ("claim", source.claim(&op, id).await.err()),
            ("enrol", source.enrol(&op, machine).await.err()),
            ("capture", source.capture(&op, &of, Consistency::Crash).await.err()),
            ("release", source.release(&op, &capture, id, Fate::Abandoned).await.err()),
            ("disks", source.disks(&op, &capture, id).await.err()),
            ("sweep", source.sweep(&op, instance, &[]).await.err()),
            ("consolidate", source.consolidate(&op, instance).await.err()),
            ("fence", source.fence(&op, instance, AT_ONCE).await.err()),
            ("unfence", source.unfence(&op, instance, permit, Start::Run).await.err()),
            ("dismiss", source.dismiss(&op, instance).await.err()),
        ];
        for (call, error) in calls {
            let fenced = here.source().capability().fences || !call.ends_with("fence");
            let kind = error.map(|e| e.kind());
            let unsupported = call == "consolidate" && kind == Some(ErrorKind::Unsupported);
            let stale = kind == Some(ErrorKind::StaleEpoch) || (!fenced && kind.is_some());
            assert!(stale || unsupported, "{rule}: {call} under {whose} gave {kind:?}, not StaleEpoch");
        }
        assert!(here.runs().await, "{rule}: {whose} stopped the machine");
        let after = here.world.captures(here.name()).await;
        assert_eq!(after, before, "{rule}: {whose} made or removed captures");
        let told = discovered(rule, &here.world, here.name()).await;
        assert_eq!(told.id(), here.machine.id(), "{rule}: {whose} took the mark away");
    }
}

/// ROL-2: every changing method raises the register, not `claim` alone; `dismiss` leaves it.
pub async fn rol_2_every_call_raises_the_register<F: SourceFixture>() {
    let rule = "ROL-2";
    let here = Enrolled::<F>::new(rule).await;
    let source = here.source();
    let of = [here.instance().clone()];
    let captured = source.capture(&op_at("capture", 3), &of, Consistency::Crash).await;
    let capture = must(rule, "capture", captured);
    let stale = source.sweep(&op_at("stale", 2), here.instance(), &[]).await;
    must_be(rule, "sweep behind a capture's epoch", ErrorKind::StaleEpoch, stale);
    let released = source.release(&op_at("release", 4), &capture, here.machine.id(), Fate::Abandoned).await;
    must(rule, "release", released);
    let stale = source.capture(&op_at("stale", 3), &of, Consistency::Crash).await;
    must_be(rule, "capture behind a release's epoch", ErrorKind::StaleEpoch, stale);
    let captured = source.capture(&op_at("capture-again", 5), &of, Consistency::Crash).await;
    let capture = must(rule, "capture", captured);
    must(rule, "disks", source.disks(&op_at("disks", 6), &capture, here.machine.id()).await);
    let stale = source.sweep(&op_at("stale", 5), here.instance(), &[]).await;
    must_be(rule, "sweep behind the epoch of a read", ErrorKind::StaleEpoch, stale);
    here.world.stop_outside(here.name()).await;
    let released = source.release(&op_at("release", 6), &capture, here.machine.id(), Fate::Abandoned).await;
    must(rule, "release", released);
    match source.consolidate(&op_at("consolidate", 7), here.instance()).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {}
        consolidated => {
            must(rule, "consolidate", consolidated);
            let stale = source.sweep(&op_at("stale", 6), here.instance(), &[]).await;
            must_be(rule, "sweep behind the epoch of a merge", ErrorKind::StaleEpoch, stale);
        }
    }
    must(rule, "dismiss", source.dismiss(&op_at("dismiss", 8), here.instance()).await);
    let stale = source.enrol(&op_at("stale", 7), &here.machine).await;
    must_be(rule, "enrol behind a dismissal's epoch", ErrorKind::StaleEpoch, stale);
}

/// ROL-3: bad input is refused, naming the field, before anything changes.
pub async fn rol_3_bad_input_is_refused_before_anything_changes<F: SourceFixture>() {
    let rule = "ROL-3";
    let world = F::new().await;
    let mut wrong = described(rule, &world, 0).await;
    wrong.disks[0].size += 4096;
    let error = must_be(
        rule,
        "enrol of a machine that is not as described",
        ErrorKind::Invalid,
        world.source().enrol(&op("enrol"), &wrong).await,
    );
    assert!(error.fact("field").is_some(), "{rule}: the error names no field: {error}");
    let told = discovered(rule, &world, &wrong.instance.name).await;
    assert_ne!(told.id(), wrong.id(), "{rule}: refused, and the mark was written all the same");
}

/// ROL-7: `dismiss` removes mark and captures, and leaves machine and bytes as they are.
pub async fn rol_7_dismiss_leaves_the_machine<F: SourceFixture>() {
    let rule = "ROL-7";
    let here = Enrolled::<F>::new(rule).await;
    let others = here.world.captures(here.name()).await;
    let before = here.write(1).await;
    let capture = here.capture("capture").await;
    must(rule, "dismiss", here.source().dismiss(&op("dismiss"), here.instance()).await);
    assert!(here.runs().await, "{rule}: the machine does not run as before");
    same(rule, "its disks", &here.machine, &here.truth().await, &before);
    assert_eq!(here.world.captures(here.name()).await, others, "{rule}: captures that are left");
    let read = here.source().disks(&op("read"), &capture, here.machine.id()).await;
    must_fail(rule, "disks of a capture that was removed", read.map(|d| d.len()));
    let mut other = here.machine.clone();
    other.instance.machine = "suite-another".into();
    must(rule, "enrol after the mark was removed", here.source().enrol(&op("enrol-another"), &other).await);
}

/// ROL-8: when `claim` has returned, no call of an older epoch begins an effect, and each one begun is over.
pub async fn rol_8_after_claim_nothing_older_begins<F: SourceFixture>() {
    let rule = "ROL-8";
    let here = Enrolled::<F>::new(rule).await;
    if !here.fences() {
        return;
    }
    let source = here.source();
    let older = op("fence");
    let claimed = async {
        must(rule, "claim", source.claim(&op_at("claim", 2), here.machine.id()).await);
        here.runs().await
    };
    let (fenced, at_claim) = futures_util::join!(source.fence(&older, here.instance(), AT_ONCE), claimed);
    let after = here.runs().await;
    assert_eq!(after, at_claim, "{rule}: an older fence ({fenced:?}) took effect after claim had returned");
}

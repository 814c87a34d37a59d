use super::super::case::{drill_permit, must, must_be, op, op_at, permit, skip};
use super::super::content::same;
use super::{Enrolled, SourceFixture, discovered};
use site_recovery::{ErrorKind, Lifted, Power, Start, StartGuard};
use std::time::Duration;

const AT_ONCE: Duration = Duration::ZERO;

impl<F: SourceFixture> Enrolled<F> {
    async fn power(&self) -> Power {
        must(self.rule, "power", self.source().power(self.instance()).await)
    }

    pub(super) async fn fence(&self, key: &str) {
        must(self.rule, "fence", self.source().fence(&op(key), self.instance(), AT_ONCE).await);
    }

    async fn unfence(&self, key: &str, start: Start) -> Lifted {
        let permit = permit(&op(key), &self.machine).await;
        must(self.rule, "unfence", self.source().unfence(&op(key), self.instance(), permit, start).await)
    }

    pub(super) async fn runs(&self) -> bool {
        self.world.is_running(self.name()).await
    }

    async fn is_off_and_guarded(&self) {
        let rule = self.rule;
        assert!(!self.runs().await, "{rule}: the machine runs after fence");
        let guard = match self.power().await {
            Power::Off { start: StartGuard::Free } => panic!("{rule}: off, but free to be started"),
            Power::Off { start } => start,
            power => panic!("{rule}: power reads as {power:?} after fence"),
        };
        let started = self.world.start_outside(self.name()).await;
        match guard {
            StartGuard::Blocked { .. } => {
                assert!(!started && !self.runs().await, "{rule}: told as blocked, and started from outside");
            }
            StartGuard::Tells(before) => {
                self.world.stop_outside(self.name()).await;
                let after = self.power().await;
                let told = !matches!(&after, Power::Off { start } if start.stamp() == Some(&before));
                assert!(!started || told, "{rule}: a start from outside left the stamp as it was");
            }
            StartGuard::Free => unreachable!("refused above"),
        }
    }
}

/// SRC-10: read from the platform at the time of the call.
pub async fn src_10_power_is_read_now<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-10").await;
    for _ in 0..2 {
        assert_eq!(here.power().await, Power::On, "SRC-10: of a machine that runs");
        here.world.stop_outside(here.name()).await;
        let power = here.power().await;
        assert!(matches!(power, Power::Off { .. }), "SRC-10: {power:?} of a machine that somebody stopped");
        assert!(here.world.start_outside(here.name()).await, "SRC-10: nobody blocks it");
    }
}

/// SRC-10: no answer is `Unknown` or `Unavailable`, never off; `On` only where the machine can be seen to live without one.
pub async fn src_10_silence_is_never_off<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-10").await;
    here.power().await;
    if !here.world.silence(true).await {
        return here.skip("the fixture cannot silence the platform");
    }
    let power = here.source().power(here.instance()).await;
    let lives = here.runs().await;
    here.world.silence(false).await;
    let kind = power.as_ref().map_err(|e| e.kind());
    let seen = lives && matches!(kind, Ok(Power::On));
    let fair = seen || matches!(kind, Ok(Power::Unknown) | Err(ErrorKind::Unavailable));
    assert!(fair, "SRC-10: a platform that does not answer gives {kind:?}");
}

/// SRC-10: `NotFound` when neither machine nor disks exist, and only then.
pub async fn src_10_not_found_only_when_gone<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-10").await;
    here.world.stop_outside(here.name()).await;
    assert!(matches!(here.power().await, Power::Off { .. }), "SRC-10: off is not gone");
    if !here.world.remove_outside(here.name()).await {
        return here.skip("the fixture cannot remove a machine");
    }
    let power = here.source().power(here.instance()).await;
    must_be("SRC-10", "power of a machine that is gone", ErrorKind::NotFound, power);
}

/// SRC-11: after `Ok`, `power` reads as off and guarded, and that is true, also after a restart.
pub async fn src_11_after_fence_off_and_guarded<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("SRC-11").await;
    if !here.fences() {
        return;
    }
    here.fence("fence").await;
    here.world.reopen().await;
    here.is_off_and_guarded().await;
}

/// SRC-11: a machine that is off already is fenced all the same.
pub async fn src_11_a_machine_that_is_off_is_fenced<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-11").await;
    if !here.fences() {
        return;
    }
    here.world.stop_outside(here.name()).await;
    here.fence("fence").await;
    here.is_off_and_guarded().await;
}

/// SRC-12: a shutdown that was asked for strikes nobody after `claim` or `unfence` has returned.
pub async fn src_12_a_shutdown_that_was_asked_for_is_settled<F: SourceFixture>() {
    let rule = "SRC-12";
    let here = Enrolled::<F>::new(rule).await;
    if !here.fences() {
        return;
    }
    if !here.world.deafen(here.name()).await {
        return here.skip("the fixture cannot make a guest leave a shutdown unanswered");
    }
    let source = here.source();
    {
        let fence = std::pin::pin!(async {
            let fenced = source.fence(&op("fence"), here.instance(), Duration::from_secs(2)).await;
            fenced.is_ok()
        });
        let asked = std::pin::pin!(async {
            while !here.world.was_asked(here.name()).await {
                tokio::task::yield_now().await;
            }
        });
        futures_util::future::select(fence, asked).await;
    }
    must(rule, "claim", source.claim(&op_at("claim", 2), here.machine.id()).await);
    let at_claim = here.runs().await;
    here.world.hear(here.name()).await;
    assert_eq!(here.runs().await, at_claim, "{rule}: the shutdown struck after claim had returned");
    let lift = op_at("lift", 2);
    let permit = permit(&lift, &here.machine).await;
    let lifted = must(rule, "unfence", source.unfence(&lift, here.instance(), permit, Start::Run).await);
    assert!(lifted.running, "{rule}: started by unfence");
    here.world.hear(here.name()).await;
    assert!(here.runs().await, "{rule}: the shutdown struck after unfence had returned");
}

/// SRC-13: `AsBefore` starts what ran when the mark was made, however often it was fenced since.
pub async fn src_13_as_before_starts_what_ran<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("SRC-13").await;
    if !here.fences() {
        return;
    }
    here.fence("fence").await;
    here.world.reopen().await;
    here.fence("fence-again").await;
    let lifted = here.unfence("lift", Start::AsBefore).await;
    assert!(lifted.running && here.runs().await, "SRC-13: it ran when it was fenced, and is {lifted:?} now");
    let lifted = here.unfence("lift-again", Start::Stay).await;
    assert!(lifted.running && here.runs().await, "SRC-13: nothing to lift, and it is {lifted:?} now");
}

/// SRC-13: `AsBefore` leaves off what was off when the mark was made, and lifts the fence all the same.
pub async fn src_13_as_before_leaves_off_what_was_off<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-13").await;
    if !here.fences() {
        return;
    }
    here.world.stop_outside(here.name()).await;
    here.fence("fence").await;
    let lifted = here.unfence("lift", Start::AsBefore).await;
    assert!(!lifted.running && !here.runs().await, "SRC-13: it was off when it was fenced");
    let started = here.world.start_outside(here.name()).await;
    assert!(started && here.runs().await, "SRC-13: the fence is lifted, and nobody can start the machine");
}

/// SRC-13: a repeat reports what is and starts nothing that already ran under that key.
pub async fn src_13_a_repeat_starts_nothing_again<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("SRC-13").await;
    if !here.fences() {
        return;
    }
    here.fence("fence").await;
    here.unfence("lift", Start::Run).await;
    let again = here.unfence("lift", Start::Run).await;
    assert!(again.running, "SRC-13: the repeat does not report that it runs");
    here.world.stop_outside(here.name()).await;
    here.world.reopen().await;
    let again = here.unfence("lift", Start::Run).await;
    assert!(!here.runs().await, "SRC-13: the repeat started what had run already under its key");
    assert!(!again.running, "SRC-13: the repeat reports as running what is off");
}

/// SRC-13: a late repeat has been done already: it leaves a fence that was made since.
pub async fn src_13_a_late_repeat_leaves_a_newer_fence<F: SourceFixture>() {
    let rule = "SRC-13";
    for start in [Start::Stay, Start::AsBefore, Start::Run] {
        let mut here = Enrolled::<F>::new(rule).await;
        if !here.fences() {
            return;
        }
        here.fence("fence").await;
        here.unfence("lift", start).await;
        here.world.reopen().await;
        here.fence("fence-anew").await;
        let late = here.unfence("lift", start).await;
        assert!(!late.running, "{rule}: a late repeat ({start:?}) reports as running what is fenced");
        here.is_off_and_guarded().await;
    }
}

/// SRC-14: a permit that does not speak of this instance is `Refused`, and starts nothing.
pub async fn src_14_a_permit_of_another_is_refused<F: SourceFixture>() {
    let rule = "SRC-14";
    let here = Enrolled::<F>::new(rule).await;
    if !here.fences() {
        return;
    }
    here.fence("fence").await;
    let mut other = here.machine.clone();
    other.instance.machine = "another".into();
    let mut elsewhere = here.machine.clone();
    elsewhere.instance.name = "another".into();
    let older = permit(&op_at("older", 0), &here.machine).await;
    let permits = [
        ("another machine", permit(&op("lift"), &other).await),
        ("another instance", permit(&op("lift"), &elsewhere).await),
        ("an older authority", older),
    ];
    for (whose, permit) in permits {
        let lifted = here.source().unfence(&op("lift"), here.instance(), permit, Start::Run).await;
        must_be(rule, &format!("unfence with the permit of {whose}"), ErrorKind::Refused, lifted);
        assert!(!here.runs().await, "{rule}: started by the permit of {whose}");
    }
    here.is_off_and_guarded().await;
}

/// SRC-14: leave for a drill lifts no fence, whatever is to be started.
pub async fn src_14_leave_for_a_drill_is_refused<F: SourceFixture>() {
    let rule = "SRC-14";
    let here = Enrolled::<F>::new(rule).await;
    if !here.fences() {
        return;
    }
    here.fence("fence").await;
    for start in [Start::Run, Start::AsBefore, Start::Stay] {
        let leave = drill_permit("isolated");
        let lifted = here.source().unfence(&op("lift"), here.instance(), leave, start).await;
        must_be(rule, &format!("unfence ({start:?}) with leave for a drill"), ErrorKind::Refused, lifted);
        assert!(!here.runs().await, "{rule}: started by leave for a drill");
    }
    here.is_off_and_guarded().await;
}

/// ROL-6: an adapter's own note of a fence is a hint: a machine that runs is On, and is fenced anew.
pub async fn rol_6_the_platform_is_the_proof<F: SourceFixture>() {
    let here = Enrolled::<F>::new("ROL-6").await;
    if !here.fences() {
        return;
    }
    here.fence("fence").await;
    here.unfence("lift", Start::Run).await;
    assert_eq!(here.power().await, Power::On, "ROL-6: after it was started again");
    here.fence("fence-anew").await;
    assert!(!here.runs().await, "ROL-6: fenced once before, and the second fence did not look");
    here.unfence("lift-anew", Start::Stay).await;
    if !here.world.start_outside(here.name()).await {
        return skip("ROL-6", &here.source().name(), "the platform lets nobody start a machine past us");
    }
    assert_eq!(here.power().await, Power::On, "ROL-6: after it was started from outside");
    here.fence("fence-last").await;
    here.is_off_and_guarded().await;
}

/// SRC-15: snapshots are merged into a machine that is off, with the bytes of before, and a fence stays; one that runs is
/// `Refused`.
pub async fn src_15_snapshots_are_merged_and_the_bytes_stay<F: SourceFixture>() {
    let rule = "SRC-15";
    let here = Enrolled::<F>::new(rule).await;
    if !here.world.snapshot_outside(here.name()).await {
        return here.skip("the fixture cannot make a snapshot");
    }
    let with = here.world.captures(here.name()).await;
    here.write(1).await;
    let running = here.source().consolidate(&op("running"), here.instance()).await;
    if running.as_ref().is_err_and(|e| e.kind() == ErrorKind::Unsupported) {
        return here.skip("consolidate is Unsupported");
    }
    must_be(rule, "consolidate of a machine that runs", ErrorKind::Refused, running);
    assert_eq!(here.world.captures(here.name()).await, with, "{rule}: snapshots after a refusal");
    let fences = here.source().capability().fences;
    if fences {
        here.fence("fence").await;
    } else {
        here.skip("of a machine that is fenced: capability fences is false");
        here.world.stop_outside(here.name()).await;
    }
    let then = here.truth().await;
    for time in ["consolidate", "once more"] {
        must(rule, time, here.source().consolidate(&op(time), here.instance()).await);
        let told = discovered(rule, &here.world, here.name()).await.guest.snapshots;
        assert!(told.is_none_or(|n| n == 0), "{rule}: discover counts {told:?} snapshots");
        assert_eq!(here.world.captures(here.name()).await, with - 1, "{rule}: snapshots at the platform");
        same(rule, "the disks", &here.machine, &here.truth().await, &then);
    }
    if fences {
        here.is_off_and_guarded().await;
    }
}

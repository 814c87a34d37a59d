use super::super::case::{in_time, must, must_be, op, permit};
use super::super::content::{pattern, read, same_bytes};
use super::{Attached, GENERATION, LandingSiteFixture};
use bytes::Bytes;
use site_recovery::{Consistency, Disk, DiskRole, DiskSpec, ErrorKind, Instance};
use std::sync::Arc;
use std::time::Duration;

/// LND-1: `branch`, `part`, `merge` and `detach` end every handle given out before.
pub async fn lnd_1_older_handles_end<F: LandingSiteFixture>() {
    let rule = "LND-1";
    for act in ["detach", "branch", "merge", "part"] {
        let here = Attached::<F>::new(rule).await;
        if act != "detach" && !here.branches() {
            continue;
        }
        if matches!(act, "merge" | "part") {
            here.branch().await;
        }
        let (old, site, instance) = (here.disk().await, here.site(), &here.instance);
        let done = || async {
            match act {
                "detach" => site.detach(&op(act), instance).await,
                "branch" => site.branch(&op(act), instance).await,
                "merge" => site.merge(&op(act), instance).await,
                _ => site.part(&op(act), instance).await.map(drop),
            }
        };
        in_time(rule, act, done).await;
        let before = here.content().await;
        let written = old.write(0, Bytes::from(pattern(9, 4096))).await;
        let flushed = old.flush().await;
        let what = format!("after {act}, by a handle from before ({written:?}, {flushed:?})");
        same_bytes(rule, &what, &here.content().await, &before);
        assert!(
            written.is_err() || flushed.is_err(),
            "{rule}: a handle that ended says that it wrote, after {act}"
        );
    }
}

/// LND-2: every method names an instance that `attach` or `part` returned; any other is `NotFound`.
pub async fn lnd_2_what_was_not_attached_is_not_found<F: LandingSiteFixture>() {
    let rule = "LND-2";
    let here = Attached::<F>::new(rule).await;
    let nobody = Instance { name: "nobody".into(), ..here.instance.clone() };
    here.is_not_found("a machine that is not there", &nobody).await;
    let world = F::new().await;
    let machine = world.existing();
    let (name, instance) = (machine.instance.name.clone(), machine.instance.clone());
    let enrolled = Attached { world, machine, instance, rule };
    enrolled.is_not_found("one that runs, enrolled and never attached", &enrolled.instance).await;
    assert!(enrolled.runs().await, "{rule}: never attached, and stopped all the same");
    enrolled.world.stop_outside(&name).await;
    enrolled.is_not_found("one that is off, enrolled and never attached", &enrolled.instance).await;
    assert!(!enrolled.runs().await, "{rule}: never attached, and started all the same");
}

impl<F: LandingSiteFixture> Attached<F> {
    async fn is_not_found(&self, what: &str, instance: &Instance) {
        let (rule, site) = (self.rule, self.site());
        let leave = permit(&op("start"), &self.machine.standing_as(instance.clone())).await;
        let calls = [
            ("disk", site.disk(instance, self.first()).await.err()),
            ("stamp", site.stamp(instance).await.err()),
            ("branch", site.branch(&op("branch"), instance).await.err()),
            ("part", site.part(&op("part"), instance).await.err()),
            ("merge", site.merge(&op("merge"), instance).await.err()),
            ("arm", site.arm(&op("arm"), instance, GENERATION).await.err()),
            ("detach", site.detach(&op("detach"), instance).await.err()),
            ("start", site.start(&op("start"), instance, &self.recovery(), leave).await.err()),
            ("stop", site.stop(&op("stop"), instance, Duration::ZERO).await.err()),
        ];
        let can_branch = site.capability().branches;
        for (call, error) in calls {
            let kind = error.map(|e| e.kind());
            let unsupported = !can_branch && matches!(call, "branch" | "part" | "merge");
            assert!(
                unsupported || kind == Some(ErrorKind::NotFound),
                "{rule}: {call} of {what} gave {kind:?}"
            );
        }
    }
}

/// LND-3: an existing machine has to be off, otherwise `Refused`, and it goes on.
pub async fn lnd_3_a_running_machine_is_refused<F: LandingSiteFixture>() {
    let rule = "LND-3";
    let world = F::new().await;
    let machine = world.existing();
    let existing = Some(machine.instance.clone());
    let attached = world.landing_site().attach(&op("attach"), &machine, existing, &world.settings()).await;
    must_be(rule, "attach of a machine that runs", ErrorKind::Refused, attached);
    let name = &machine.instance.name;
    assert!(world.is_running(name).await, "{rule}: refused, and stopped all the same");
    world.write(name, 0, 0, &pattern(1, 4096)).await;
}

/// LND-3: the bytes of an existing machine are left as they are, and starting it is blocked.
pub async fn lnd_3_the_bytes_are_left_as_they_are<F: LandingSiteFixture>() {
    let rule = "LND-3";
    let world = F::new().await;
    let machine = world.existing();
    let name = &machine.instance.name;
    world.write(name, 0, 8192, &pattern(1, 8192)).await;
    let before = world.content(name, 0).await;
    world.stop_outside(name).await;
    let existing = Some(machine.instance.clone());
    let attached = world.landing_site().attach(&op("attach"), &machine, existing, &world.settings()).await;
    let instance = must(rule, "attach", attached);
    same_bytes(rule, "on the platform", &world.content(name, 0).await, &before);
    let disk = world.landing_site().disk(&instance, &machine.disks[0].id).await;
    let disk = must(rule, "disk", disk) as Arc<dyn Disk>;
    same_bytes(rule, "by the landing disk", &must(rule, "read", read(&disk).await), &before);
}

/// LND-3: a disk that is missing is made, one that is smaller grows, and the bytes that were there stay.
pub async fn lnd_3_a_disk_that_is_missing_or_smaller_is_made_or_grown<F: LandingSiteFixture>() {
    let rule = "LND-3";
    let world = F::new().await;
    let mut machine = world.existing();
    let name = machine.instance.name.clone();
    let before = world.content(&name, 0).await;
    world.stop_outside(&name).await;
    machine.disks[0].size += 64 * 1024;
    let missing = DiskSpec { id: "one-more".into(), size: 128 * 1024, role: DiskRole::Data, included: true };
    machine.disks.push(missing);
    let existing = Some(machine.instance.clone());
    let attached = world.landing_site().attach(&op("attach"), &machine, existing, &world.settings()).await;
    let instance = must(rule, "attach", attached);
    for spec in &machine.disks {
        let disk = must(rule, "disk", world.landing_site().disk(&instance, &spec.id).await);
        assert!(disk.size() >= spec.size, "{rule}: disk {} has {} bytes", spec.id, disk.size());
    }
    same_bytes(rule, "what was there", &world.content(&name, 0).await[..before.len()], &before);
    let site = world.landing_site();
    let made = site.attach(&op("make"), &machine, None, &world.settings()).await;
    let made = must(rule, "attach of a new machine", made);
    assert!(!made.is(&instance), "{rule}: a new machine under the name of one that is there");
    let disk = must(rule, "disk", site.disk(&made, &machine.disks[0].id).await) as Arc<dyn Disk>;
    let bytes = must(rule, "read", read(&disk).await);
    assert!(bytes.iter().all(|b| *b == 0), "{rule}: a disk that was made is not empty");
}

/// LND-3: while the disks are ours a start from outside is impossible, or the stamp tells of it.
pub async fn lnd_3_while_attached_no_start_goes_unseen<F: LandingSiteFixture>() {
    let rule = "LND-3";
    let mut here = Attached::<F>::new(rule).await;
    here.world.reopen().await;
    let before = must(rule, "stamp", here.site().stamp(&here.instance).await);
    if !here.world.start_outside(&here.instance.name).await {
        return assert!(!here.runs().await, "{rule}: told as kept off, and started from outside");
    }
    here.world.stop_outside(&here.instance.name).await;
    let after = must(rule, "stamp", here.site().stamp(&here.instance).await);
    assert!(before.is_some(), "{rule}: attached, free to be started, and nothing would tell");
    assert_ne!(after, before, "{rule}: attached, started from outside, and the stamp is as it was");
}

/// LND-4: our own acts leave the stamp.
pub async fn lnd_4_our_own_acts_leave_the_stamp<F: LandingSiteFixture>() {
    let rule = "LND-4";
    let here = Attached::<F>::new(rule).await;
    let site = here.site();
    let Some(before) = must(rule, "stamp", site.stamp(&here.instance).await) else {
        return here.skip("the platform has no stamp");
    };
    here.write(0, 1).await;
    if site.capability().branches {
        here.branch().await;
    }
    here.arm().await;
    here.started("start").await;
    must(rule, "stop", site.stop(&op("stop"), &here.instance, Duration::ZERO).await);
    let after = must(rule, "stamp", site.stamp(&here.instance).await);
    assert_eq!(after, Some(before), "{rule}: our own acts changed the stamp");
}

/// LND-4: a start past us changes the stamp for ever.
pub async fn lnd_4_a_start_past_us_changes_the_stamp<F: LandingSiteFixture>() {
    let rule = "LND-4";
    let mut here = Attached::<F>::new(rule).await;
    let Some(before) = must(rule, "stamp", here.site().stamp(&here.instance).await) else {
        return here.skip("the platform has no stamp");
    };
    if !here.world.start_outside(&here.instance.name).await {
        return here.skip("the platform lets nobody start a machine that is attached");
    }
    here.world.stop_outside(&here.instance.name).await;
    here.world.reopen().await;
    let after = must(rule, "stamp", here.site().stamp(&here.instance).await);
    assert_ne!(after, Some(before), "{rule}: a start past us left the stamp as it was");
}

/// LND-5: below the bytes are as before `branch`; above stays all that was written since, openable.
pub async fn lnd_5_part_goes_below_and_keeps_what_was_above<F: LandingSiteFixture>() {
    let rule = "LND-5";
    let mut here = Attached::<F>::new(rule).await;
    if !here.branches() {
        return;
    }
    let below = here.write(0, 1).await;
    here.branch().await;
    here.write(4096, 2).await;
    here.world.reopen().await;
    let above = here.write(64 * 1024, 3).await;
    let part = || async { here.site().part(&op("part"), &here.instance).await };
    let parted = in_time(rule, "part", part).await;
    same_bytes(rule, "below", &here.content().await, &below);
    same_bytes(rule, "above", &here.world.content(&parted.name, 0).await, &above);
    assert!(!parted.is(&here.instance), "{rule}: what was above has the name of what is below");
    here.world.reopen().await;
    let again = must(rule, "part again", here.site().part(&op("part"), &here.instance).await);
    assert_eq!(again, parted, "{rule}: the repeat is another instance");
    let source = here.world.source();
    let captured = source.capture(&op("open"), std::slice::from_ref(&parted), Consistency::Crash).await;
    let capture = must(rule, "capture of what was above", captured);
    let disks = must(rule, "disks", source.disks(&op("open"), &capture, &parted.machine).await);
    let disk = disks.get(here.first()).unwrap_or_else(|| panic!("{rule}: the first disk is missing"));
    same_bytes(rule, "opened above", &must(rule, "read", read(disk).await), &above);
}

/// LND-5: without a branch `part` is `Refused`, and changes nothing.
pub async fn lnd_5_without_a_branch_it_is_refused<F: LandingSiteFixture>() {
    let rule = "LND-5";
    let here = Attached::<F>::new(rule).await;
    if !here.branches() {
        return;
    }
    let before = here.write(0, 1).await;
    let parted = here.site().part(&op("part"), &here.instance).await;
    must_be(rule, "part without a branch", ErrorKind::Refused, parted);
    same_bytes(rule, "after a part that was refused", &here.content().await, &before);
}

/// LND-5: a second branch over the first is not made: `part` goes below the first.
pub async fn lnd_5_a_second_branch_is_not_made<F: LandingSiteFixture>() {
    let rule = "LND-5";
    let here = Attached::<F>::new(rule).await;
    if !here.branches() {
        return;
    }
    let below = here.write(0, 1).await;
    here.branch().await;
    here.write(4096, 2).await;
    must(rule, "branch again", here.site().branch(&op("branch-again"), &here.instance).await);
    in_time(rule, "part", || async { here.site().part(&op("part"), &here.instance).await }).await;
    same_bytes(rule, "below the first branch", &here.content().await, &below);
}

/// LND-5: what stands above is final after `merge`, also while the machine runs: there is no branch any more.
pub async fn lnd_5_merge_is_final<F: LandingSiteFixture>() {
    let rule = "LND-5";
    let here = Attached::<F>::new(rule).await;
    if !here.branches() {
        return;
    }
    here.branch().await;
    let above = here.write(0, 1).await;
    here.started("start").await;
    for _ in 0..2 {
        in_time(rule, "merge", || async { here.site().merge(&op("merge"), &here.instance).await }).await;
        same_bytes(rule, "after merge", &here.content().await, &above);
        assert!(here.runs().await, "{rule}: merge stopped the machine");
    }
    must(rule, "stop", here.site().stop(&op("stop"), &here.instance, Duration::ZERO).await);
    let parted = here.site().part(&op("part"), &here.instance).await;
    must_be(rule, "part after merge", ErrorKind::Refused, parted);
    same_bytes(rule, "after a part that was refused", &here.content().await, &above);
}

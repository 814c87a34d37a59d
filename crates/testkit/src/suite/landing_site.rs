//! `LandingSite`: LND-1 to LND-8, the roles' common rules, and the disks to land on.

use super::case::{must, must_be, op, op_at, op_of_another, permit, skip};
use super::content::{covers, pattern, read, same_bytes};
use super::disk::{self, disk_cases};
use super::timeline::set_of;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Armed, Booted, Changes, Consistency, Disk, DiskId, DiskMut, DiskRole, DiskSpec, ErrorKind, Generation,
    Instance, LandingSite, Machine, Purpose, Recovery, Result, Run, Settings, Source, Timestamp,
};
use std::sync::Arc;
use std::time::Duration;

const GENERATION: Generation = Generation(1);

/// A landing site, its `Source`, and the truth about its machines.
///
/// A disk is named by its place in the machine's disks.
#[async_trait]
pub trait LandingSiteFixture: Sized + Send + Sync {
    /// A new site with one machine of ours on it: it runs, and its source has enrolled it. Its disks hold something.
    async fn new() -> Self;

    /// The landing site.
    fn landing_site(&self) -> Arc<dyn LandingSite>;

    /// Its source, of the same name and register.
    fn source(&self) -> Arc<dyn Source>;

    /// A crash of its process.
    async fn reopen(&mut self);

    /// The machine that stands here.
    fn existing(&self) -> Machine;

    /// Settings that `attach` accepts.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// The guest of a machine that runs writes, at a multiple of 4096.
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]);

    /// What the disk holds now.
    async fn content(&self, name: &str, disk: usize) -> Vec<u8>;

    /// Whether the machine executes.
    async fn is_running(&self, name: &str) -> bool;

    /// The names of all machines and loose disks at the site, ours and others'.
    async fn everything(&self) -> Vec<String>;

    /// Somebody starts the machine past us. False where the platform did not let them.
    async fn start_outside(&self, name: &str) -> bool;

    /// The machine goes off past us.
    async fn stop_outside(&self, name: &str);

    /// A power cut: what was not flushed may be gone. The default is [`reopen`](Self::reopen).
    async fn power_cut(&mut self) {
        self.reopen().await;
    }
}

/// Makes one test per rule of a `LandingSite`.
#[macro_export]
macro_rules! landing_site_suite {
    ($fixture:ty) => {
        $crate::landing_site_suite!($crate::each_case, $fixture);
    };
    ($each:path, $fixture:ty) => {
        $each! { $fixture, landing_site,
            lnd_1_older_handles_end,
            lnd_2_what_was_not_attached_is_not_found,
            lnd_3_a_running_machine_is_refused,
            lnd_3_the_bytes_are_left_as_they_are,
            lnd_3_a_disk_that_is_missing_or_smaller_is_made_or_grown,
            lnd_4_our_own_acts_leave_the_stamp,
            lnd_4_a_start_past_us_changes_the_stamp,
            lnd_5_part_goes_below_and_keeps_what_was_above,
            lnd_5_without_a_branch_it_is_refused,
            lnd_5_a_second_branch_is_not_made,
            lnd_5_merge_is_final,
            lnd_6_all_that_is_written_is_in_the_changes,
            lnd_7_a_permit_of_another_is_refused,
            lnd_7_a_repeat_starts_nothing_again,
            lnd_8_only_what_we_made_is_removed,
            rol_1_a_repeat_after_a_crash_is_the_same,
            rol_2_a_stale_epoch_changes_nothing,
            dsk_1_size_never_changes,
            dsk_2_extents_cover_the_range,
            dsk_3_zero_extents_read_as_zeros,
            dsk_4_reads_are_exact_and_pooled,
            dsm_1_what_was_written_is_read_back,
            dsm_2_a_zeroed_run_reads_as_zeros,
            dsm_3_after_flush_it_survives_a_power_cut,
        }
    };
}

/// The machine that stands here, off and attached.
struct Attached<F> {
    world: F,
    machine: Machine,
    instance: Instance,
    rule: &'static str,
}

impl<F: LandingSiteFixture> Attached<F> {
    async fn new(rule: &'static str) -> Self {
        let world = F::new().await;
        let machine = world.existing();
        world.stop_outside(&machine.instance.name).await;
        let existing = Some(machine.instance.clone());
        let attached =
            world.landing_site().attach(&op("attach"), &machine, existing, &world.settings()).await;
        let instance = must(rule, "attach", attached);
        assert!(instance.is(&machine.instance), "{rule}: attached as another machine: {instance:?}");
        Self { world, machine, instance, rule }
    }

    fn site(&self) -> Arc<dyn LandingSite> {
        self.world.landing_site()
    }

    fn first(&self) -> &DiskId {
        &self.machine.disks[0].id
    }

    async fn disk(&self) -> Arc<dyn DiskMut> {
        must(self.rule, "disk", self.site().disk(&self.instance, self.first()).await)
    }

    async fn write(&self, at: u64, seed: u64) -> Vec<u8> {
        let disk = self.disk().await;
        must(self.rule, "write", disk.write(at, Bytes::from(pattern(seed, 8192))).await);
        must(self.rule, "flush", disk.flush().await);
        self.content().await
    }

    async fn content(&self) -> Vec<u8> {
        self.world.content(&self.instance.name, 0).await
    }

    async fn branch(&self) {
        must(self.rule, "branch", self.site().branch(&op("branch"), &self.instance).await);
    }

    async fn arm(&self) -> Armed {
        let armed = self.site().arm(&op("arm"), &self.instance, GENERATION).await;
        let armed = must(self.rule, "arm", armed);
        assert_eq!(armed.instance.generation, GENERATION, "{}: the generation it was given", self.rule);
        armed
    }

    fn recovery(&self) -> Recovery {
        Recovery {
            machine: self.machine.clone(),
            sidecars: vec![],
            point: site_recovery::PointId(1),
            taken: Timestamp(1),
            consistency: Consistency::Crash,
            generation: GENERATION,
            purpose: Purpose::Failover,
            settings: self.world.settings(),
        }
    }

    /// Hands the disks back to the machine and starts it.
    async fn started(&self, key: &str) -> Booted {
        must(self.rule, "detach", self.site().detach(&op("detach"), &self.instance).await);
        self.start(key).await
    }

    async fn start(&self, key: &str) -> Booted {
        let permit = permit(&op(key), &self.machine.standing_as(self.instance.clone())).await;
        let started = self.site().start(&op(key), &self.instance, &self.recovery(), permit).await;
        must(self.rule, "start", started)
    }

    async fn runs(&self) -> bool {
        self.world.is_running(&self.instance.name).await
    }

    /// Whether the site can branch; otherwise the rule is skipped.
    fn branches(&self) -> bool {
        let branches = self.site().capability().branches;
        if !branches {
            self.skip("capability branches is false");
        }
        branches
    }

    fn skip(&self, why: &str) {
        skip(self.rule, &self.site().name(), why);
    }
}

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
        let done = match act {
            "detach" => site.detach(&op(act), instance).await,
            "branch" => site.branch(&op(act), instance).await,
            "merge" => site.merge(&op(act), instance).await,
            _ => site.part(&op(act), instance).await.map(drop),
        };
        must(rule, act, done);
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
    let site = here.site();
    let nobody = Instance { name: "nobody".into(), ..here.instance.clone() };
    let leave = permit(&op("start"), &here.machine.standing_as(nobody.clone())).await;
    let calls = [
        ("disk", site.disk(&nobody, here.first()).await.err()),
        ("stamp", site.stamp(&nobody).await.err()),
        ("branch", site.branch(&op("branch"), &nobody).await.err()),
        ("part", site.part(&op("part"), &nobody).await.err()),
        ("merge", site.merge(&op("merge"), &nobody).await.err()),
        ("arm", site.arm(&op("arm"), &nobody, GENERATION).await.err()),
        ("detach", site.detach(&op("detach"), &nobody).await.err()),
        ("start", site.start(&op("start"), &nobody, &here.recovery(), leave).await.err()),
        ("stop", site.stop(&op("stop"), &nobody, Duration::ZERO).await.err()),
    ];
    let can_branch = site.capability().branches;
    for (call, error) in calls {
        let kind = error.map(|e| e.kind());
        let unsupported = !can_branch && matches!(call, "branch" | "part" | "merge");
        assert!(unsupported || kind == Some(ErrorKind::NotFound), "{rule}: {call} of nobody gave {kind:?}");
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
    let parted = must(rule, "part", here.site().part(&op("part"), &here.instance).await);
    same_bytes(rule, "below", &here.content().await, &below);
    same_bytes(rule, "above", &here.world.content(&parted.name, 0).await, &above);
    assert!(!parted.is(&here.instance), "{rule}: what was above has the name of what is below");
    here.world.reopen().await;
    let again = must(rule, "part again", here.site().part(&op("part"), &here.instance).await);
    assert_eq!(again, parted, "{rule}: the repeat is another instance");
    let source = here.world.source();
    let captured = source.capture(&op("open"), &[parted.clone()], Consistency::Crash).await;
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
    must(rule, "part", here.site().part(&op("part"), &here.instance).await);
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
        must(rule, "merge", here.site().merge(&op("merge"), &here.instance).await);
        same_bytes(rule, "after merge", &here.content().await, &above);
        assert!(here.runs().await, "{rule}: merge stopped the machine");
    }
    must(rule, "stop", here.site().stop(&op("stop"), &here.instance, Duration::ZERO).await);
    let parted = here.site().part(&op("part"), &here.instance).await;
    must_be(rule, "part after merge", ErrorKind::Refused, parted);
    same_bytes(rule, "after a part that was refused", &here.content().await, &above);
}

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
    let removed: Result<()> = site.remove(&op("remove-existing"), &here.instance).await;
    must_be(rule, "remove of a machine that was there before", ErrorKind::Refused, removed);
    assert_eq!(here.world.everything().await, before, "{rule}: machines and disks at the site");
}

/// ROL-1: `attach` again, after a crash, is the same machine; there is no second one.
pub async fn rol_1_a_repeat_after_a_crash_is_the_same<F: LandingSiteFixture>() {
    let rule = "ROL-1";
    let mut here = Attached::<F>::new(rule).await;
    let attach = op("make");
    let (machine, settings) = (here.machine.clone(), here.world.settings());
    let first = must(rule, "attach", here.site().attach(&attach, &machine, None, &settings).await);
    let before = here.world.everything().await;
    here.world.reopen().await;
    let again = must(rule, "attach again", here.site().attach(&attach, &machine, None, &settings).await);
    assert_eq!(again, first, "{rule}: the repeat made another machine");
    assert_eq!(here.world.everything().await, before, "{rule}: machines and disks at the site");
}

/// ROL-2: a lower epoch, or the same number of another owner, is `StaleEpoch` and changes nothing, also after a restart;
/// the site's source shares the register.
pub async fn rol_2_a_stale_epoch_changes_nothing<F: LandingSiteFixture>() {
    let rule = "ROL-2";
    let mut here = Attached::<F>::new(rule).await;
    let settings = here.world.settings();
    must(rule, "claim", here.site().claim(&op_at("claim", 5), here.machine.id()).await);
    here.world.reopen().await;
    let before = here.world.everything().await;
    for (whose, op) in [("a lower epoch", op_at("stale", 4)), ("another owner", op_of_another("stale", 5))] {
        let (site, instance) = (here.site(), &here.instance);
        let leave = permit(&op, &here.machine.standing_as(instance.clone())).await;
        let calls = [
            ("claim", site.claim(&op, here.machine.id()).await.err()),
            ("attach", site.attach(&op, &here.machine, None, &settings).await.err()),
            ("branch", site.branch(&op, instance).await.err()),
            ("part", site.part(&op, instance).await.err()),
            ("merge", site.merge(&op, instance).await.err()),
            ("arm", site.arm(&op, instance, GENERATION).await.err()),
            ("detach", site.detach(&op, instance).await.err()),
            ("start", site.start(&op, instance, &here.recovery(), leave).await.err()),
            ("stop", site.stop(&op, instance, Duration::ZERO).await.err()),
            ("remove", site.remove(&op, instance).await.err()),
            ("the source's fence", here.world.source().fence(&op, instance, Duration::ZERO).await.err()),
        ];
        let can_branch = site.capability().branches;
        for (call, error) in calls {
            let kind = error.map(|e| e.kind());
            let unsupported = !can_branch && matches!(call, "branch" | "part" | "merge");
            assert!(
                unsupported || kind == Some(ErrorKind::StaleEpoch),
                "{rule}: {call} under {whose}: {kind:?}"
            );
        }
        assert_eq!(here.world.everything().await, before, "{rule}: {whose} made or removed machines");
        assert!(!here.runs().await, "{rule}: {whose} started the machine");
    }
}

async fn a_landing_disk<F: LandingSiteFixture>(rule: &'static str) -> (F, Arc<dyn Disk>, Vec<u8>) {
    let here = Attached::<F>::new(rule).await;
    let truth = here.write(8192, 1).await;
    let disk = here.disk().await;
    (here.world, disk, truth)
}

disk_cases!(LandingSiteFixture, a_landing_disk);

/// DSM-1: what was written is read back, by this handle and by the next one.
pub async fn dsm_1_what_was_written_is_read_back<F: LandingSiteFixture>() {
    let here = Attached::<F>::new("DSM-1").await;
    disk::written_is_read_back(&here.disk().await, &here.disk().await).await;
}

/// DSM-2: a zeroed run reads as zeros, and nothing beside it changes.
pub async fn dsm_2_a_zeroed_run_reads_as_zeros<F: LandingSiteFixture>() {
    let here = Attached::<F>::new("DSM-2").await;
    disk::zeroed_reads_as_zeros(&here.disk().await).await;
}

/// DSM-3: what was written and zeroed before `flush` survives a power cut.
pub async fn dsm_3_after_flush_it_survives_a_power_cut<F: LandingSiteFixture>() {
    let rule = "DSM-3";
    let mut here = Attached::<F>::new(rule).await;
    let disk = here.disk().await;
    must(rule, "write", disk.write(0, Bytes::from(pattern(3, 16 * 1024))).await);
    must(rule, "zero", disk.zero(Run::new(4096, 4096)).await);
    must(rule, "flush", disk.flush().await);
    drop(disk);
    here.world.power_cut().await;
    let mut expected = pattern(3, 16 * 1024);
    expected[4096..8192].fill(0);
    same_bytes(rule, "after a power cut", &here.content().await[..16 * 1024], &expected);
}

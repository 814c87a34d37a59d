//! `RecoverySite`: SIT-1 to SIT-10, and the roles' common rules.

use super::case::{dropped, must, must_be, must_fail, op, op_at, op_of_another, permit, skip};
use super::content::{Image, covers, differing, pattern, same, whole};
use super::timeline::{self, Timeline};
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Changes, Consistency, ErrorKind, Generation, Instance, Machine, Op, PointId,
    Purpose, Record, Recovery, RecoverySite, Replica, Result, Settings, Source,
};
use std::sync::Arc;
use std::time::Duration;

/// A site that runs recovered machines, its `Source`, a replica to recover from, and the truth about its machines.
///
/// A disk is named by its place among the machine's included disks.
#[async_trait]
pub trait RecoverySiteFixture: Sized + Send + Sync {
    /// A new site, and an empty replica.
    async fn new() -> Self;

    /// The site.
    fn site(&self) -> Arc<dyn RecoverySite>;

    /// The source that reports and fences its machines: of the same name and register, but for a master target.
    fn source(&self) -> Arc<dyn Source>;

    /// Where the points come from; the suite fills it. For a master target: itself.
    fn replica(&self) -> Arc<dyn Replica>;

    /// A crash of the processes of site, source and replica.
    async fn reopen(&mut self);

    /// A machine that replica and site can take, under this id.
    fn machine(&self, id: &str) -> Machine {
        timeline::machine(id)
    }

    /// Settings with which it can be brought up, and its timeline be opened.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// Settings with which it cannot, and the field to be named. The default is a name that no site takes.
    fn bad_settings(&self) -> (Settings, &'static str) {
        (Settings { name: Some("-no-name-".into()), ..self.settings() }, "name")
    }

    /// Turns a plain record into the form that the replica takes.
    fn dress(record: Record) -> Record {
        record
    }

    /// A network for drills; must not be the production network.
    fn test_network(&self) -> String {
        "isolated".into()
    }

    /// The guest writes, at a multiple of 4096.
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]);

    /// What the disk holds now.
    async fn content(&self, name: &str, disk: usize) -> Vec<u8>;

    /// Whether the machine executes.
    async fn is_running(&self, name: &str) -> bool;

    /// The networks that the machine is attached to, if it runs.
    async fn networks(&self, name: &str) -> Vec<String>;

    /// The names of all machines and loose disks at the site, ours and others'.
    async fn everything(&self) -> Vec<String>;

    /// The machine goes off past us.
    async fn stop_outside(&self, name: &str);

    /// A machine that was there before us: not made by any of our keys. None where there is none.
    async fn brought(&self) -> Option<Instance> {
        None
    }

    /// Takes the replica away for good: every later call of it fails. False where that cannot be made, as in place.
    async fn lose_replica(&self) -> bool {
        false
    }
}

/// Makes one test per rule of a `RecoverySite`.
#[macro_export]
macro_rules! recovery_site_suite {
    ($fixture:ty) => {
        $crate::recovery_site_suite!($crate::each_case, $fixture);
    };
    ($each:path, $fixture:ty) => {
        $each! { $fixture, recovery_site,
            sit_1_what_would_fail_is_a_critical_finding,
            sit_2_the_disks_hold_exactly_the_point,
            sit_3_what_the_guest_writes_is_in_the_changes,
            sit_4_the_other_points_open_as_before,
            sit_5_withdraw_leaves_nothing,
            sit_5_a_late_materialise_makes_nothing,
            sit_6_a_permit_of_another_is_refused,
            sit_6_isolated_is_isolated,
            sit_7_a_repeat_starts_nothing_again,
            sit_8_settle_leaves_the_machine_running,
            sit_9_what_the_machine_wrote_is_kept,
            sit_9_a_running_machine_is_refused,
            sit_10_destroy_removes_what_our_keys_made,
            sit_10_what_was_brought_stays,
            rol_1_a_repeat_after_a_crash_is_the_same,
            rol_2_a_stale_epoch_changes_nothing,
            rol_4_a_dropped_call_is_settled_by_the_same_key,
            rol_7_destroy_leaves_other_machines,
            rol_8_after_claim_nothing_older_begins,
        }
    };
}

/// A timeline of points, and the site to recover at.
struct Ready<F> {
    world: F,
    line: Timeline,
    rule: &'static str,
}

impl<F: RecoverySiteFixture> Ready<F> {
    async fn new(rule: &'static str, points: u64) -> Self {
        let world = F::new().await;
        let (machine, settings) = (world.machine("web"), world.settings());
        let line = Timeline::with_points(rule, &world.replica(), machine, &settings, F::dress, points).await;
        Self { world, line, rule }
    }

    fn site(&self) -> Arc<dyn RecoverySite> {
        self.world.site()
    }

    async fn recovery(&self, point: usize, purpose: Purpose) -> Recovery {
        let id: PointId = self.line.id(point);
        let manifest = self.world.replica().manifest(self.line.machine.id(), id).await;
        let manifest = must(self.rule, "manifest", manifest);
        Recovery::of(manifest, id, Generation(1), purpose, self.world.settings())
    }

    async fn try_materialise(&self, op: &Op, what: &Recovery) -> Result<Armed> {
        self.site().materialise(op, what, &self.world.replica()).await
    }

    async fn materialise(&self, key: &str, what: &Recovery) -> Armed {
        must(self.rule, "materialise", self.try_materialise(&op(key), what).await)
    }

    async fn boot(&self, key: &str, what: &Recovery, armed: &Armed) -> Booted {
        let permit = permit(&op(key), &what.machine.standing_as(armed.instance.clone())).await;
        must(self.rule, "boot", self.site().boot(&op(key), what, armed, permit).await)
    }

    /// Prepares and boots the machine from a point.
    async fn booted(&self, point: usize) -> (Recovery, Armed) {
        let what = self.recovery(point, Purpose::Failover).await;
        let armed = self.materialise("materialise", &what).await;
        assert!(self.boot("boot", &what, &armed).await.running, "{}: booted and not running", self.rule);
        (what, armed)
    }

    /// The guest writes to every disk; returns what they hold then.
    async fn write(&self, armed: &Armed, seed: u64) -> Image {
        for disk in 0..self.line.machine.included().count() {
            let bytes = pattern(seed * 32 + disk as u64, 8192);
            self.world.write(&armed.instance.name, disk, (seed % 5 + disk as u64) * 4096, &bytes).await;
        }
        self.truth(&armed.instance).await
    }

    async fn truth(&self, instance: &Instance) -> Image {
        let mut image = vec![];
        for disk in 0..self.line.machine.included().count() {
            image.push(self.world.content(&instance.name, disk).await);
        }
        image
    }

    async fn runs(&self, instance: &Instance) -> bool {
        self.world.is_running(&instance.name).await
    }

    async fn everything(&self) -> Vec<String> {
        let mut names = self.world.everything().await;
        names.sort();
        names
    }

    /// Takes the machine's power by its source, as the engine does before `set_aside` and `destroy`.
    async fn fence(&self, instance: &Instance) {
        let fenced = self.world.source().fence(&op("fence"), instance, Duration::ZERO).await;
        must(self.rule, "fence", fenced);
    }

    /// Whether the capability holds; otherwise the rule is skipped.
    fn can(&self, can: bool, what: &str) -> bool {
        if !can {
            skip(self.rule, &self.site().name(), &format!("capability {what} is false"));
        }
        can
    }
}

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
    let made_by = "materialise".into();
    for _ in 0..2 {
        must(rule, "withdraw", here.site().withdraw(&op("withdraw"), &made_by, &what).await);
    }
    assert_eq!(here.everything().await, before, "{rule}: machines and disks at the site");
    for point in 0..3 {
        here.line.opens(rule, &here.world.replica(), point).await;
    }
}

/// SIT-5: a late `materialise` of that key makes nothing, also after a restart.
pub async fn sit_5_a_late_materialise_makes_nothing<F: RecoverySiteFixture>() {
    let rule = "SIT-5";
    let mut here = Ready::<F>::new(rule, 2).await;
    let what = here.recovery(0, Purpose::Failover).await;
    let before = here.everything().await;
    must(rule, "withdraw", here.site().withdraw(&op("withdraw"), &"late".into(), &what).await);
    for _ in 0..2 {
        let made = here.try_materialise(&op("late"), &what).await;
        must_fail(rule, "materialise of a key that was withdrawn", made);
        assert_eq!(here.everything().await, before, "{rule}: machines and disks at the site");
        here.world.reopen().await;
    }
}

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
    let permit = BootPermit::Isolated { network: network.clone() };
    must(rule, "boot", here.site().boot(&op("boot-drill"), &what, &armed, permit).await);
    assert!(here.runs(&armed.instance).await, "{rule}: the drill does not run");
    assert_eq!(here.world.networks(&armed.instance.name).await, [network], "{rule}: networks of the drill");
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
        settled(rule, &here.site(), &armed).await;
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

/// Asks until it is done: hydration may take its time.
async fn settled(rule: &str, site: &Arc<dyn RecoverySite>, armed: &Armed) {
    for _ in 0..100_000 {
        match site.settle(&op("settle"), armed).await {
            Err(error) if error.kind() == ErrorKind::Busy => tokio::task::yield_now().await,
            settled => return must(rule, "settle", settled),
        }
    }
    panic!("{rule}: settle is Busy for ever");
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
    let kept = here.site().set_aside(&op("set-aside"), &armed.instance).await;
    let kept = must(rule, "set_aside", kept);
    same(rule, "set aside", &here.line.machine, &here.truth(&kept).await, &then);
    assert!(!here.runs(&kept).await, "{rule}: what was set aside runs");
    here.world.reopen().await;
    let again = here.site().set_aside(&op("set-aside"), &armed.instance).await;
    assert_eq!(must(rule, "set_aside again", again), kept, "{rule}: the repeat returns another instance");
    let source = here.world.source();
    let captured = source.capture(&op("open-kept"), &[kept.clone()], Consistency::Crash).await;
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
    let permit = BootPermit::Isolated { network: here.world.test_network() };
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
            ("withdraw", site.withdraw(&op, &"materialise".into(), &what).await.err()),
            ("destroy", site.destroy(&op, instance).await.err()),
        ];
        for (call, error) in calls {
            let kind = error.map(|e| e.kind());
            assert_eq!(kind, Some(ErrorKind::StaleEpoch), "{rule}: {call} under {whose}");
        }
        let source = here.world.source();
        if source.name() == site.name() {
            let fenced = source.fence(&op, instance, Duration::ZERO).await;
            must_be(rule, &format!("fence of the source under {whose}"), ErrorKind::StaleEpoch, fenced);
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

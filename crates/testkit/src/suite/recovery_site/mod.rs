//! `RecoverySite`: SIT-1 to SIT-10, and the roles' common rules.

mod common;
mod prepare;
mod run;

pub use common::*;
pub use prepare::*;
pub use run::*;

use super::case::{in_time, must, op, permit, skip};
use super::content::{Image, pattern};
use super::timeline::{self, Timeline};
use async_trait::async_trait;
use site_recovery::{
    Armed, Booted, Generation, Instance, Machine, Op, PointId, Purpose, Record, Recovery, RecoverySite,
    Replica, Result, Settings, Source,
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
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, recovery_site,
            sit_1_what_would_fail_is_a_critical_finding,
            sit_2_the_disks_hold_exactly_the_point,
            sit_3_what_the_guest_writes_is_in_the_changes,
            sit_4_the_other_points_open_as_before,
            sit_5_withdraw_leaves_nothing,
            sit_5_a_late_materialise_makes_nothing,
            sit_6_a_permit_of_another_is_refused,
            sit_6_isolated_is_isolated,
            sit_6_leave_for_a_drill_is_no_leave_for_a_failover,
            sit_6_leave_for_a_failover_is_no_leave_for_a_drill,
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
    ($fixture:ty) => {
        $crate::recovery_site_suite!([$crate::each_case] $fixture);
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
        let op = op(key);
        in_time(self.rule, "materialise", || self.try_materialise(&op, what)).await
    }

    async fn boot(&self, key: &str, what: &Recovery, armed: &Armed) -> Booted {
        let permit = permit(&op(key), &what.machine.standing_as(armed.instance.clone())).await;
        must(self.rule, "boot", self.site().boot(&op(key), what, armed, permit).await)
    }

    /// As the engine does right before `boot`, `settle` and `set_aside`.
    async fn tend(&self, armed: &Armed) {
        let tended = self.site().tend(&op("tend"), armed, &self.world.replica()).await;
        must(self.rule, "tend", tended);
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

    /// Takes the machine's power by its source, as the engine does before `set_aside` and `destroy`; past us where the
    /// source cannot.
    async fn fence(&self, instance: &Instance) {
        if !self.world.source().capability().fences {
            skip(self.rule, &self.site().name(), "of a fence: the source's capability fences is false");
            return self.world.stop_outside(&instance.name).await;
        }
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

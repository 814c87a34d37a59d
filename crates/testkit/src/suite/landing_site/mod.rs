//! `LandingSite`: LND-1 to LND-8, the roles' common rules, and the disks to land on.

mod common;
mod land;
mod start;

pub use common::*;
pub use land::*;
pub use start::*;

use super::case::{must, op, permit, recovery, skip};
use super::content::pattern;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::{
    Armed, Booted, DiskId, DiskMut, Generation, Instance, LandingSite, Machine, Recovery, Settings, Source,
};
use std::sync::Arc;

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

    /// Takes away what was not flushed, as a power cut does, and reopens: the least is that whoever holds the disks is
    /// killed with all that it keeps in memory. False where that cannot be made.
    async fn power_cut(&mut self) -> bool {
        false
    }
}

/// Makes one test per rule of a `LandingSite`.
#[macro_export]
macro_rules! landing_site_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, landing_site,
            lnd_1_older_handles_end,
            lnd_2_what_was_not_attached_is_not_found,
            lnd_3_a_running_machine_is_refused,
            lnd_3_the_bytes_are_left_as_they_are,
            lnd_3_a_disk_that_is_missing_or_smaller_is_made_or_grown,
            lnd_3_while_attached_no_start_goes_unseen,
            lnd_4_our_own_acts_leave_the_stamp,
            lnd_4_a_start_past_us_changes_the_stamp,
            lnd_5_part_goes_below_and_keeps_what_was_above,
            lnd_5_without_a_branch_it_is_refused,
            lnd_5_a_second_branch_is_not_made,
            lnd_5_merge_is_final,
            lnd_6_all_that_is_written_is_in_the_changes,
            lnd_7_a_permit_of_another_is_refused,
            lnd_7_leave_for_a_drill_is_refused,
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
    ($fixture:ty) => {
        $crate::landing_site_suite!([$crate::each_case] $fixture);
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
        recovery(&self.machine, self.world.settings())
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

//! `Source`: SRC-1 to SRC-15, the roles' common rules, and the disks of a capture.

mod capture;
mod changes;
mod common;
mod discover;
mod power;

pub use capture::*;
pub use changes::*;
pub use common::*;
pub use discover::*;
pub use power::*;

use super::case::{must, op, skip};
use super::content::{Image, differing, pattern, whole};
use async_trait::async_trait;
use site_recovery::{
    Capture, ChangeSet, Changes, Consistency, Cursor, DiskId, Fate, Instance, Machine, Op, Source,
};
use std::sync::Arc;

/// A site, its machines, and the truth about them, read around the adapter.
///
/// A disk is named by its place in [`Machine::disks`](site_recovery::Machine), as `discover` tells it.
#[async_trait]
pub trait SourceFixture: Sized + Send + Sync {
    /// A new world with two machines that run and that nobody has enrolled. Each has at least one disk of at least
    /// 128 KiB, the first machine two.
    async fn new() -> Self;

    /// The adapter.
    fn source(&self) -> Arc<dyn Source>;

    /// A crash of the adapter's process: only what is on the platform and on disks stays.
    async fn reopen(&mut self);

    /// The names of the two machines at the site.
    fn machines(&self) -> [String; 2];

    /// The guest writes, at a multiple of 4096.
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]);

    /// What the disk holds now.
    async fn content(&self, name: &str, disk: usize) -> Vec<u8>;

    /// Whether the machine executes: neither off, nor paused, nor frozen.
    async fn is_running(&self, name: &str) -> bool;

    /// How many captures, snapshots and the like the platform has of the machine, ours and others'.
    async fn captures(&self, name: &str) -> usize;

    /// Somebody starts the machine past us. False where the platform did not let them.
    async fn start_outside(&self, name: &str) -> bool;

    /// Somebody switches the machine off past us.
    async fn stop_outside(&self, name: &str);

    /// Makes a machine that cannot be described. False where that cannot be made.
    async fn spoil(&self, _name: &str) -> bool {
        false
    }

    /// Removes a machine and its disks past us. False where that cannot be made.
    async fn remove_outside(&self, _name: &str) -> bool {
        false
    }

    /// Makes a snapshot that is not ours. False where that cannot be made.
    async fn snapshot_outside(&self, _name: &str) -> bool {
        false
    }

    /// Breaks change tracking as the platform may: a crash of the host, a bitmap that is gone. False where that cannot
    /// be made.
    async fn lose_tracking(&self, _name: &str) -> bool {
        false
    }

    /// Makes a disk larger, as an operator would. False where that cannot be made.
    async fn grow(&self, _name: &str, _disk: usize, _size: u64) -> bool {
        false
    }

    /// The platform stops or begins to answer; [`is_running`](Self::is_running) tells the truth meanwhile. False where
    /// that cannot be made.
    async fn silence(&self, _silent: bool) -> bool {
        false
    }

    /// The guest leaves requests to shut down unanswered from now on. False where that cannot be made.
    async fn deafen(&self, _name: &str) -> bool {
        false
    }

    /// Whether the guest was asked to shut down since `deafen`.
    async fn was_asked(&self, _name: &str) -> bool {
        false
    }

    /// The guest obeys what it is still asked to do.
    async fn hear(&self, _name: &str) {}
}

/// Makes one test per rule of a `Source`.
#[macro_export]
macro_rules! source_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, source,
            src_01_nothing_is_left_out_in_silence,
            src_02_an_enrolled_machine_is_told_with_its_ids,
            src_02_a_mark_is_not_written_over,
            src_02_captures_hold_the_included_disks_alone,
            src_03_all_disks_are_of_one_instant,
            src_03_if_one_member_fails_there_is_no_capture,
            src_03_a_machine_that_is_off_is_captured,
            src_04_captured_bytes_stay,
            src_04_the_release_of_another_leaves_the_bytes,
            src_04_a_start_changes_no_captured_byte,
            src_04_a_stop_changes_no_captured_byte,
            src_05_what_was_reached_is_told,
            src_06_a_repeat_returns_the_same_capture,
            src_07_changes_are_never_less,
            src_07_another_generations_cursor_is_lost,
            src_07_another_machines_cursor_is_lost,
            src_07_a_cursor_from_before_a_resize_is_lost,
            src_07_a_cursor_from_before_a_gap_is_lost,
            src_08_after_sealed_a_delta_is_possible,
            src_08_after_spooled_older_tracking_stays,
            src_08_after_abandoned_older_tracking_stays,
            src_09_a_sweep_leaves_what_is_kept_and_not_ours,
            src_09_a_sweep_leaves_tracking,
            src_10_power_is_read_now,
            src_10_silence_is_never_off,
            src_10_not_found_only_when_gone,
            src_11_after_fence_off_and_guarded,
            src_11_a_machine_that_is_off_is_fenced,
            src_12_a_shutdown_that_was_asked_for_is_settled,
            src_13_as_before_starts_what_ran,
            src_13_as_before_leaves_off_what_was_off,
            src_13_a_repeat_starts_nothing_again,
            src_13_a_late_repeat_leaves_a_newer_fence,
            src_14_a_permit_of_another_is_refused,
            src_14_leave_for_a_drill_is_refused,
            src_15_snapshots_are_merged_and_the_bytes_stay,
            rol_1_a_repeat_after_a_crash_is_the_same,
            rol_2_a_stale_epoch_changes_nothing,
            rol_2_every_call_raises_the_register,
            rol_3_bad_input_is_refused_before_anything_changes,
            rol_4_a_dropped_call_is_settled_by_the_same_key,
            rol_6_the_platform_is_the_proof,
            rol_7_dismiss_leaves_the_machine,
            rol_8_after_claim_nothing_older_begins,
            dsk_1_size_never_changes,
            dsk_2_extents_cover_the_range,
            dsk_3_zero_extents_read_as_zeros,
            dsk_4_reads_are_exact_and_pooled,
            dsk_5_reads_are_the_same_however_often,
        }
    };
    ($fixture:ty) => {
        $crate::source_suite!([$crate::each_case] $fixture);
    };
}

/// One enrolled machine in its world.
struct Enrolled<F> {
    world: F,
    machine: Machine,
    rule: &'static str,
}

impl<F: SourceFixture> Enrolled<F> {
    async fn new(rule: &'static str) -> Self {
        let world = F::new().await;
        let machine = enrol(rule, &world, 0).await;
        Self { world, machine, rule }
    }

    fn source(&self) -> Arc<dyn Source> {
        self.world.source()
    }

    fn instance(&self) -> &Instance {
        &self.machine.instance
    }

    fn name(&self) -> &str {
        &self.machine.instance.name
    }

    /// The guest writes two pages that were never there before; returns the disks afterwards.
    async fn write(&self, seed: u64) -> Image {
        for disk in 0..self.machine.disks.len() {
            let page = (seed * 3 + disk as u64) % 28;
            self.world.write(self.name(), disk, page * 4096, &pattern(seed * 16 + disk as u64, 8192)).await;
        }
        self.truth().await
    }

    async fn truth(&self) -> Image {
        truth(&self.world, &self.machine).await
    }

    async fn capture(&self, key: &str) -> Capture {
        let captured = self.source().capture(&op(key), &[self.instance().clone()], Consistency::Crash).await;
        must(self.rule, "capture", captured)
    }

    async fn read(&self, capture: &Capture) -> Image {
        let disks = self.source().disks(&op("read"), capture, self.machine.id()).await;
        let disks = must(self.rule, "disks", disks);
        let member = capture.member(self.machine.id()).expect("the member is in the capture");
        whole(self.rule, "read of a capture", &member.machine, &disks).await
    }

    async fn release(&self, capture: &Capture, fate: Fate) {
        let op = op(&format!("release/{}", capture.cut));
        must(self.rule, "release", self.source().release(&op, capture, self.machine.id(), fate).await);
    }

    fn cursor(&self, capture: &Capture) -> Cursor {
        let member = capture.member(self.machine.id()).expect("the member is in the capture");
        member.cursor.clone().unwrap_or_else(|| panic!("{}: a source that tracks gave no cursor", self.rule))
    }

    async fn changes(&self, capture: &Capture, since: &Cursor) -> Changes {
        must(self.rule, "changes", self.source().changes(capture, self.machine.id(), since).await)
    }

    /// The changes, which have to be known, and no less than what differs.
    async fn delta(&self, capture: &Capture, since: &Cursor, before: &Image, after: &Image) -> ChangeSet {
        let rule = self.rule;
        match self.changes(capture, since).await {
            Changes::Known(told) => {
                super::content::covers(rule, "changes", &told, &differing(&self.machine, before, after));
                told
            }
            Changes::Lost { reason } => panic!("{rule}: no delta is possible: {reason}"),
        }
    }

    /// Whether the source tracks; otherwise the rule is skipped.
    fn tracks(&self) -> bool {
        let tracks = self.source().capability().tracks;
        if !tracks {
            skip(self.rule, &self.source().name(), "capability tracks is false");
        }
        tracks
    }

    /// Whether the source fences; otherwise the rule is skipped.
    fn fences(&self) -> bool {
        let fences = self.source().capability().fences;
        if !fences {
            skip(self.rule, &self.source().name(), "capability fences is false");
        }
        fences
    }

    fn skip(&self, why: &str) {
        skip(self.rule, &self.source().name(), why);
    }
}

/// Takes the n-th machine into care, under ids of the suite's own.
async fn enrol<F: SourceFixture>(rule: &str, world: &F, number: usize) -> Machine {
    let machine = described(rule, world, number).await;
    must(rule, "enrol", world.source().enrol(&enrolment(number), &machine).await);
    machine
}

/// The n-th machine as discovered, with ids of the suite's own.
async fn described<F: SourceFixture>(rule: &str, world: &F, number: usize) -> Machine {
    let name = &world.machines()[number];
    let mut machine = discovered(rule, world, name).await;
    machine.instance.machine = format!("suite-{number}").into();
    for (at, disk) in machine.disks.iter_mut().enumerate() {
        disk.id = DiskId(format!("suite-disk-{at}"));
    }
    machine
}

async fn discovered<F: SourceFixture>(rule: &str, world: &F, name: &str) -> Machine {
    let machines = must(rule, "discover", world.source().discover().await);
    let found = machines.into_iter().find(|m| m.instance.name == name);
    found.unwrap_or_else(|| panic!("{rule}: {name} is not discovered"))
}

fn enrolment(number: usize) -> Op {
    op(&format!("enrol-{number}"))
}

async fn truth<F: SourceFixture>(world: &F, machine: &Machine) -> Image {
    let mut image = vec![];
    for disk in 0..machine.disks.len() {
        image.push(world.content(&machine.instance.name, disk).await);
    }
    image
}

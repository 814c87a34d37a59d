//! `Replica`: REP-1 to REP-16, the roles' common rules, and the disks of an opened point.

mod common;
mod ingest;
mod points;
mod prepare;

pub use common::*;
pub use ingest::*;
pub use points::*;
pub use prepare::*;

use super::case::skip;
use super::content::{hash, same_bytes};
use super::timeline::{self, Timeline};
use async_trait::async_trait;
use site_recovery::{HASH_BLOCK, Machine, PointId, Record, Replica, Run, Settings};
use std::sync::Arc;

/// A place where recovery points are kept.
#[async_trait]
pub trait ReplicaFixture: Sized + Send + Sync {
    /// A new, empty place.
    async fn new() -> Self;

    /// The replica.
    fn replica(&self) -> Arc<dyn Replica>;

    /// A crash of the replica's process: what it did not make durable is gone.
    async fn reopen(&mut self);

    /// A machine that this replica can take, under this id. Each disk has at least 64 KiB; one of them should be no
    /// multiple of 4096.
    fn machine(&self, id: &str) -> Machine {
        timeline::machine(id)
    }

    /// Settings that `prepare` accepts.
    fn settings(&self) -> Settings {
        Settings::default()
    }

    /// Turns a plain record into the form that this replica takes.
    fn dress(record: Record) -> Record {
        record
    }

    /// Changes one stored byte that this point needs, around the replica. False where that cannot be made.
    async fn damage(&self, _machine: &Machine, _point: PointId) -> bool {
        false
    }
}

/// Makes one test per rule of a `Replica`.
#[macro_export]
macro_rules! replica_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, replica,
            rep_1_fresh_is_empty_and_conflicts_with_points,
            rep_2_known_tells_the_distance,
            rep_2_unknown_leaves_no_cursor,
            rep_3_the_same_op_resumes,
            rep_3_what_landed_out_of_turn_is_above_the_mark,
            rep_3_another_op_takes_over_what_landed,
            rep_4_an_earlier_session_writes_nothing,
            rep_5_a_disk_may_grow_and_never_shrink,
            rep_6_what_is_acknowledged_is_durable,
            rep_6_a_record_that_does_not_match_is_corrupt,
            rep_6_a_record_outside_plan_or_disk_is_invalid,
            rep_6_a_batch_that_comes_again_counts_once,
            rep_6_batches_land_side_by_side,
            rep_7_a_point_is_listed_when_sealed_not_before,
            rep_7_a_repeat_returns_the_same_point,
            rep_7_numbers_follow_one_another,
            rep_8_what_does_not_match_complete_is_corrupt,
            rep_9_every_listed_point_opens,
            rep_9_a_damaged_point_is_not_skipped,
            rep_10_a_point_stays_while_the_head_moves,
            rep_10_an_open_point_stays_until_dropped,
            rep_11_hashes_are_of_what_stands_there,
            rep_12_changed_is_never_less,
            rep_12_changed_outlives_points_between,
            rep_13_pinned_and_newest_stay,
            rep_13_several_reasons_hold_one_point,
            rep_14_delete_forgets_all_but_the_register,
            rep_15_a_phase_record_is_durable,
            rep_15_a_lower_record_never_replaces_a_higher,
            rep_16_the_newest_is_the_last_that_is_listed,
            rol_1_a_repeat_gives_the_same_answer,
            rol_2_a_stale_epoch_changes_nothing,
            rol_2_every_call_raises_the_register,
            rol_3_bad_input_is_refused_before_anything_changes,
            rol_4_a_dropped_call_is_settled_by_the_same_key,
            rol_7_delete_leaves_other_machines,
            rol_8_after_claim_nothing_older_begins,
            dsk_1_size_never_changes,
            dsk_2_extents_cover_the_range,
            dsk_3_zero_extents_read_as_zeros,
            dsk_4_reads_are_exact_and_pooled,
            dsk_5_reads_are_the_same_however_often,
        }
    };
    ($fixture:ty) => {
        $crate::replica_suite!([$crate::each_case] $fixture);
    };
}

/// A new world and a timeline in it with this many points.
async fn with_points<F: ReplicaFixture>(rule: &str, points: u64) -> (F, Timeline) {
    let world = F::new().await;
    let (machine, settings) = (world.machine("web"), world.settings());
    let line = Timeline::with_points(rule, &world.replica(), machine, &settings, F::dress, points).await;
    (world, line)
}

/// Asserts that the working copy is hashed as these bytes.
async fn hashed(rule: &str, replica: &Arc<dyn Replica>, line: &Timeline, disk: usize, bytes: &[u8]) {
    let spec = &line.machine.disks[disk];
    let run = Run::new(0, bytes.len() as u64);
    let found = super::case::must(rule, "hashes", replica.hashes(line.machine.id(), &spec.id, run).await);
    let expected: Vec<_> = bytes.chunks(HASH_BLOCK as usize).map(hash).collect();
    assert_eq!(found, expected, "{rule}: hashes of disk {}", spec.id);
}

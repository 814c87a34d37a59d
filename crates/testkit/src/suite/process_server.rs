//! `ProcessServer`: PRS-1 to PRS-6, and the roles' common rules.

use super::case::{must, must_be, op, op_at, op_of_another, skip};
use super::content::{Image, pattern, same};
use super::double::{Failure, TinyReplica, TinySource};
use super::timeline::{machine, manifest};
use async_trait::async_trait;
use site_recovery::{
    Basis, Capture, ChangeSet, ErrorKind, HASH_BLOCK, Head, Machine, Op, Point, ProcessServer, Replica,
    Result, Shipment, Shipped, Source,
};
use std::sync::Arc;

/// A process server between the suite's own source and replica.
#[async_trait]
pub trait ProcessServerFixture: Sized + Send + Sync {
    /// A new one. One that calls roles by name across a network enters these in its table; any other is handed them.
    async fn new(source: Arc<dyn Source>, replica: Arc<dyn Replica>) -> Self;

    /// The process server.
    fn process_server(&self) -> Arc<dyn ProcessServer>;

    /// A crash of its process; its spool stays.
    async fn reopen(&mut self);

    /// The bound of its memory in flight, in bytes: at most 1 MiB, that disks of a few MiB are larger.
    fn memory(&self) -> u64;
}

/// Makes one test per rule of a `ProcessServer`.
#[macro_export]
macro_rules! process_server_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, process_server,
            prs_1_the_point_holds_the_bytes_of_the_capture,
            prs_2_the_set_is_widened_by_what_was_touched,
            prs_2_compare_sends_what_differs_and_no_more,
            prs_2_without_a_cursor_it_compares,
            prs_2_lost_changes_need_a_compare,
            prs_3_nothing_is_called_sealed_that_is_not,
            prs_3_the_spool_holds_what_is_not_sealed,
            prs_4_the_same_op_goes_on_where_it_broke,
            prs_5_memory_in_flight_is_bounded,
            prs_6_the_spool_is_drained_oldest_first,
            rol_1_a_repeat_gives_the_same_answer,
            rol_2_a_stale_epoch_changes_nothing,
            rol_5_an_effect_whose_reply_was_lost_counts_once,
        }
    };
    ($fixture:ty) => {
        $crate::process_server_suite!([$crate::each_case] $fixture);
    };
}

/// A process server between its two sides.
struct Between<F> {
    world: F,
    machine: Machine,
    source: Arc<TinySource>,
    replica: Arc<TinyReplica>,
    rule: &'static str,
}

impl<F: ProcessServerFixture> Between<F> {
    async fn new(rule: &'static str) -> Self {
        Self::with(rule, machine("web")).await
    }

    async fn with(rule: &'static str, machine: Machine) -> Self {
        let (source, replica) = (TinySource::new(machine.clone()), TinyReplica::new(machine.clone()));
        let world = F::new(source.clone(), replica.clone()).await;
        for disk in 0..machine.disks.len() {
            let half = machine.disks[disk].size as usize / 2;
            source.write(disk, 0, &pattern(disk as u64 + 1, half));
        }
        Self { world, machine, source, replica, rule }
    }

    async fn try_ship(&self, op: &Op, capture: &Capture, basis: Basis) -> Result<Shipped> {
        let control = manifest(&self.machine, &capture.cut, 1).control;
        let machine = self.machine.id().clone();
        let what = Shipment { capture: capture.clone(), machine, basis, control };
        let (source, replica): (Arc<dyn Source>, Arc<dyn Replica>) =
            (self.source.clone(), self.replica.clone());
        self.world.process_server().ship(op, &what, &source, &replica).await
    }

    /// Ships, which has to give a point; returns it with the bytes that crossed.
    async fn ship(&self, key: &str, capture: &Capture, basis: Basis) -> (Point, u64) {
        match must(self.rule, "ship", self.try_ship(&op(key), capture, basis).await) {
            Shipped::Sealed { point, shipped, .. } => (point, shipped),
            shipped => panic!("{}: ship of {} gave {shipped:?}, not Sealed", self.rule, capture.cut),
        }
    }

    async fn drain(&self, key: &str) -> Result<Vec<Point>> {
        let replica: Arc<dyn Replica> = self.replica.clone();
        self.world.process_server().drain(&op(key), self.machine.id(), &replica).await
    }

    /// The guest writes; returns an instant and the bytes that it holds.
    fn cut(&self, number: u64) -> (Capture, Image) {
        self.source.write(0, (number * 3 % 50 * 4096) as usize, &pattern(number * 8, 8192));
        self.source.write(1, (number % 10 * 4096) as usize, &pattern(number * 8 + 1, 4096));
        let image = self.source.now();
        let capture = self.source.cut(number);
        self.source.write(0, 0, &pattern(number * 8 + 2, 4096));
        (capture, image)
    }

    /// The first point, by comparing.
    async fn first(&self) -> Point {
        let (capture, _) = self.cut(1);
        self.ship("cycle-1", &capture, Basis::Compare).await.0
    }

    /// Asserts that the newest point holds these bytes.
    #[track_caller]
    fn newest(&self, points: usize, expected: &Image) {
        let sealed = self.replica.sealed();
        assert_eq!(sealed.len(), points, "{}: number of points at the replica", self.rule);
        same(self.rule, "the newest point", &self.machine, &sealed[points - 1].1, expected);
    }
}

/// PRS-1: the point holds exactly the bytes of the capture, first by comparing, then by deltas.
pub async fn prs_1_the_point_holds_the_bytes_of_the_capture<F: ProcessServerFixture>() {
    let here = Between::<F>::new("PRS-1").await;
    for number in 1..=4 {
        let (capture, image) = here.cut(number);
        let basis = if number == 1 { Basis::Compare } else { Basis::Delta };
        let (point, _) = here.ship(&format!("cycle-{number}"), &capture, basis).await;
        assert_eq!((&point.cut, point.taken), (&capture.cut, capture.taken), "PRS-1: the point's instant");
        here.newest(number as usize, &image);
        let head = must("PRS-1", "head", here.replica.head(here.machine.id()).await);
        let cursor = capture.members[0].cursor.clone();
        assert_eq!(head, Head::Sealed { point: point.id, cursor }, "PRS-1: the capture's cursor is sealed");
    }
}

/// PRS-2: the set is widened by what the replica has touched.
pub async fn prs_2_the_set_is_widened_by_what_was_touched<F: ProcessServerFixture>() {
    let here = Between::<F>::new("PRS-2").await;
    here.first().await;
    here.replica.disturb(0, 160 * 1024, &pattern(99, 12 * 1024));
    here.replica.disturb(1, 40 * 1024, &pattern(98, 4096));
    let (capture, image) = here.cut(2);
    here.ship("cycle-2", &capture, Basis::Delta).await;
    here.newest(2, &image);
}

/// PRS-2: with `Compare` every run is compared by hash, whatever changes are told, and only what differs is sent.
pub async fn prs_2_compare_sends_what_differs_and_no_more<F: ProcessServerFixture>() {
    let rule = "PRS-2";
    let here = Between::<F>::new(rule).await;
    here.first().await;
    let from = here.replica.landed().len();
    here.source.write(0, 200 * 1024, &pattern(7, 4096));
    let image = here.source.now();
    let capture = here.source.cut(2);
    here.ship("cycle-2", &capture, Basis::Compare).await;
    here.newest(2, &image);
    let crossed: u64 = here.replica.landed()[from..].iter().map(|(_, run)| run.len).sum();
    let most = 2 * HASH_BLOCK; // The first page and the one at 200 KiB differ: two blocks of hashes.
    assert!(crossed <= most, "{rule}: {crossed} bytes crossed, where at most {most} can differ");
}

/// PRS-2: without a cursor every run is compared, also as `Delta`, or a compare is asked for.
pub async fn prs_2_without_a_cursor_it_compares<F: ProcessServerFixture>() {
    let rule = "PRS-2";
    let here = Between::<F>::new(rule).await;
    here.first().await;
    here.replica.disturb(1, 0, &pattern(97, 8192));
    here.replica.forget_cursor();
    let (capture, image) = here.cut(2);
    if let Shipped::NeedsCompare { .. } =
        must(rule, "ship", here.try_ship(&op("cycle-2"), &capture, Basis::Delta).await)
    {
        here.ship("cycle-2-compare", &capture, Basis::Compare).await;
    }
    here.newest(2, &image);
    here.source.stop_tracking();
    let (capture, image) = here.cut(3);
    here.ship("cycle-3", &capture, Basis::Compare).await;
    here.newest(3, &image);
}

/// PRS-2: where the changes are unknown, a delta ships nothing and asks for a compare.
pub async fn prs_2_lost_changes_need_a_compare<F: ProcessServerFixture>() {
    let rule = "PRS-2";
    let here = Between::<F>::new(rule).await;
    here.first().await;
    let before = here.replica.landed().len();
    here.source.lose("the host crashed");
    let (capture, image) = here.cut(2);
    match must(rule, "ship", here.try_ship(&op("cycle-2"), &capture, Basis::Delta).await) {
        Shipped::NeedsCompare { .. } => {
            assert_eq!(here.replica.landed().len(), before, "{rule}: something was shipped all the same");
            here.ship("cycle-2-compare", &capture, Basis::Compare).await;
            here.newest(2, &image);
        }
        shipped => panic!("{rule}: changes are lost, and ship gave {shipped:?}"),
    }
}

/// PRS-3: nothing is called sealed that the replica has not acknowledged, wherever it fell silent or refused.
pub async fn prs_3_nothing_is_called_sealed_that_is_not<F: ProcessServerFixture>() {
    let rule = "PRS-3";
    let silences = [Failure::Away, Failure::AwayAfter(0), Failure::AwayAfter(1)];
    for failure in silences.into_iter().chain([Failure::SealAway, Failure::SealRefused]) {
        let here = Between::<F>::new(rule).await;
        let (capture, image) = here.cut(1);
        here.replica.fail(Some(failure));
        let shipped = here.try_ship(&op("cycle-1"), &capture, Basis::Compare).await;
        let silent = here.replica.sealed().is_empty();
        if silent {
            let sealed = matches!(shipped, Ok(Shipped::Sealed { .. }));
            assert!(!sealed, "{rule}: called sealed while the replica had nothing sealed ({failure:?})");
        }
        let spooled = matches!(shipped, Ok(Shipped::Spooled { .. }));
        here.replica.fail(None);
        if spooled {
            must(rule, "drain", here.drain("drain").await);
        } else {
            here.ship("cycle-1", &capture, Basis::Compare).await;
        }
        here.newest(1, &image);
    }
}

/// PRS-3: nor is what comes out of the spool; it holds a cut until the replica has acknowledged its point.
pub async fn prs_3_the_spool_holds_what_is_not_sealed<F: ProcessServerFixture>() {
    let rule = "PRS-3";
    for failure in [Failure::SealAway, Failure::SealRefused] {
        let here = Between::<F>::new(rule).await;
        here.first().await;
        here.replica.fail(Some(Failure::Away));
        let (capture, image) = here.cut(2);
        let shipped = here.try_ship(&op("cycle-2"), &capture, Basis::Delta).await;
        let process_server = here.world.process_server();
        if !matches!(shipped, Ok(Shipped::Spooled { .. })) {
            return skip(rule, &process_server.name(), "it does not spool");
        }
        here.replica.fail(Some(failure));
        if let Ok(told) = here.drain("drain-1").await {
            assert!(told.is_empty(), "{rule}: {told:?} came out, and no seal was acknowledged ({failure:?})");
        }
        let lag = must(rule, "lag", process_server.lag(here.machine.id()).await);
        assert_eq!(
            lag.spooled,
            std::slice::from_ref(&capture.cut),
            "{rule}: the spool without a seal ({failure:?})"
        );
        here.replica.fail(None);
        let told = must(rule, "drain", here.drain("drain-2").await);
        assert_eq!(
            told.iter().map(|p| &p.cut).collect::<Vec<_>>(),
            [&capture.cut],
            "{rule}: points of the spool"
        );
        here.newest(2, &image);
    }
}

/// PRS-4: the same op goes on where it broke, also after a crash: what has landed is not sent again, but for the rest of
/// the block of hashes in which each disk broke off.
pub async fn prs_4_the_same_op_goes_on_where_it_broke<F: ProcessServerFixture>() {
    let rule = "PRS-4";
    let mut large = machine("web");
    large.disks[0].size = 3 << 20;
    let mut here = Between::<F>::with(rule, large).await;
    let (capture, image) = here.cut(1);
    here.replica.fail(Some(Failure::AwayAfter(1 << 20)));
    let broken = here.try_ship(&op("cycle-1"), &capture, Basis::Compare).await;
    if !here.replica.sealed().is_empty() || matches!(broken, Ok(Shipped::Spooled { .. })) {
        return skip(
            rule,
            &here.world.process_server().name(),
            "the cycle went to the spool, or in one write",
        );
    }
    here.replica.fail(None);
    here.world.reopen().await;
    here.ship("cycle-1", &capture, Basis::Compare).await;
    here.newest(1, &image);
    let (mut seen, mut again) = (ChangeSet::new(), 0);
    for (disk, run) in here.replica.landed() {
        again += if seen.contains(&disk, run) { run.len } else { 0 };
        seen.add(&disk, run);
    }
    let most = here.machine.disks.len() as u64 * HASH_BLOCK;
    assert!(again <= most, "{rule}: {again} bytes had landed and were sent again");
}

/// PRS-5: while the replica takes nothing, no more is read than the pool holds.
pub async fn prs_5_memory_in_flight_is_bounded<F: ProcessServerFixture>() {
    let rule = "PRS-5";
    let mut large = machine("web");
    large.disks[0].size = 3 << 20;
    let here = Between::<F>::with(rule, large).await;
    let bound = here.world.memory();
    assert!(bound <= 1 << 20, "{rule}: the fixture gives {bound} bytes of memory, at most 1 MiB");
    let (capture, image) = here.cut(1);
    here.replica.close_gate();
    let watch = async {
        let mut most = 0;
        for _ in 0..20_000 {
            tokio::task::yield_now().await;
            most = most.max(here.source.read());
        }
        here.replica.open_gate();
        most
    };
    let (_, most) = futures_util::join!(here.ship("cycle-1", &capture, Basis::Compare), watch);
    assert!(most <= bound, "{rule}: {most} bytes were read and none taken, the pool has {bound}");
    here.newest(1, &image);
}

/// PRS-6: what the spool holds is shipped and sealed, oldest first, also after a crash; then it holds it no more.
pub async fn prs_6_the_spool_is_drained_oldest_first<F: ProcessServerFixture>() {
    let rule = "PRS-6";
    let mut here = Between::<F>::new(rule).await;
    here.first().await;
    here.replica.fail(Some(Failure::Away));
    let mut images = vec![];
    for number in 2..=3 {
        let (capture, image) = here.cut(number);
        match here.try_ship(&op(&format!("cycle-{number}")), &capture, Basis::Delta).await {
            Ok(Shipped::Spooled { .. }) => images.push((capture.cut, image)),
            _ => break,
        }
    }
    let (process_server, id) = (here.world.process_server(), here.machine.id().clone());
    if images.is_empty() {
        here.replica.fail(None);
        let drained = must(rule, "drain", here.drain("drain").await);
        assert!(drained.is_empty(), "{rule}: nothing was spooled, and {drained:?} came out");
        return skip(rule, &process_server.name(), "it does not spool");
    }
    let cuts: Vec<_> = images.iter().map(|(cut, _)| cut.clone()).collect();
    let lag = must(rule, "lag", process_server.lag(&id).await);
    assert_eq!(lag.spooled, cuts, "{rule}: cuts in the spool");
    drop(process_server);
    here.world.reopen().await;
    here.replica.fail(None);
    let process_server = here.world.process_server();
    let drained = must(rule, "drain", here.drain("drain").await);
    let told: Vec<_> = drained.iter().map(|p| p.cut.clone()).collect();
    assert_eq!(told, cuts, "{rule}: the points that were made, oldest first");
    let sealed = here.replica.sealed();
    assert_eq!(sealed.len(), 1 + cuts.len(), "{rule}: number of points at the replica");
    for ((_, found), (cut, expected)) in sealed[1..].iter().zip(&images) {
        same(rule, &format!("the point of {cut}"), &here.machine, found, expected);
    }
    let lag = must(rule, "lag", process_server.lag(&id).await);
    assert!(lag.spooled.is_empty(), "{rule}: {:?} is still in the spool", lag.spooled);
}

/// ROL-1: a repeat gives the same point, and makes no other.
pub async fn rol_1_a_repeat_gives_the_same_answer<F: ProcessServerFixture>() {
    let rule = "ROL-1";
    let mut here = Between::<F>::new(rule).await;
    let (capture, image) = here.cut(1);
    let (first, _) = here.ship("cycle-1", &capture, Basis::Compare).await;
    for _ in 0..2 {
        let (again, _) = here.ship("cycle-1", &capture, Basis::Compare).await;
        assert_eq!(again, first, "{rule}: the repeat gave another point");
        here.newest(1, &image);
        here.world.reopen().await;
    }
}

/// ROL-2: a lower epoch, or the same number of another owner, is `StaleEpoch`, and nothing is shipped.
pub async fn rol_2_a_stale_epoch_changes_nothing<F: ProcessServerFixture>() {
    let rule = "ROL-2";
    let here = Between::<F>::new(rule).await;
    let (process_server, id) = (here.world.process_server(), here.machine.id());
    must(rule, "claim", process_server.claim(&op_at("claim", 5), id).await);
    let (capture, _) = here.cut(1);
    for (whose, op) in [("a lower epoch", op_at("stale", 4)), ("another owner", op_of_another("stale", 5))] {
        let shipped = here.try_ship(&op, &capture, Basis::Compare).await;
        must_be(rule, &format!("ship under {whose}"), ErrorKind::StaleEpoch, shipped);
        let replica: Arc<dyn Replica> = here.replica.clone();
        let drained = process_server.drain(&op, id, &replica).await;
        must_be(rule, &format!("drain under {whose}"), ErrorKind::StaleEpoch, drained);
        must_be(
            rule,
            &format!("claim under {whose}"),
            ErrorKind::StaleEpoch,
            process_server.claim(&op, id).await,
        );
    }
    assert!(here.replica.landed().is_empty(), "{rule}: something was shipped");
}

/// ROL-5: an error may come after the effect: the point or the batch whose reply was lost counts once.
pub async fn rol_5_an_effect_whose_reply_was_lost_counts_once<F: ProcessServerFixture>() {
    let rule = "ROL-5";
    for failure in [Failure::SealReplyLost, Failure::WriteReplyLost(0), Failure::WriteReplyLost(1)] {
        let here = Between::<F>::new(rule).await;
        let (capture, image) = here.cut(1);
        here.replica.fail(Some(failure));
        let first = here.try_ship(&op("cycle-1"), &capture, Basis::Compare).await;
        here.replica.fail(None);
        if !matches!(first, Ok(Shipped::Sealed { .. })) {
            must(rule, "drain", here.drain("drain").await);
            here.ship("cycle-1", &capture, Basis::Compare).await;
        }
        here.newest(1, &image);
    }
}

use super::super::case::{dropped, key, must, must_be, must_fail, op, permit};
use super::super::content::{Image, image, read, same, same_bytes};
use super::super::disk::disk_cases;
use super::{Enrolled, SourceFixture, enrol};
use site_recovery::{Capture, Consistency, Disk, Disks, ErrorKind, Fate, Instance, Machine, Result, Start};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// SRC-3: all disks of all members are of one instant, while guests write to them in turn.
pub async fn src_03_all_disks_are_of_one_instant<F: SourceFixture>() {
    let rule = "SRC-3";
    let world = F::new().await;
    let mut members = vec![enrol(rule, &world, 0).await];
    if world.source().capability().groups {
        members.push(enrol(rule, &world, 1).await);
    } else {
        super::skip(rule, &world.source().name(), "over several machines: capability groups is false");
    }
    let done = AtomicBool::new(false);
    let captured = async {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        let of: Vec<Instance> = members.iter().map(|m| m.instance.clone()).collect();
        let capture = world.source().capture(&op("capture"), &of, Consistency::Crash).await;
        done.store(true, Ordering::Relaxed);
        must(rule, "capture", capture)
    };
    let (capture, ()) = futures_util::join!(captured, count_up(&world, &members, &done));
    if capture.consistency == Consistency::PerDisk {
        return super::skip(
            rule,
            &world.source().name(),
            "the capture is of each disk at an instant of its own",
        );
    }
    let mut counts = vec![];
    for machine in &members {
        let disks = world.source().disks(&op("read"), &capture, machine.id()).await;
        let image = image(rule, machine, &must(rule, "disks", disks)).await;
        counts.extend(must(rule, "read", image).iter().map(|bytes| count_in(bytes)));
    }
    let falls = counts.is_sorted_by(|earlier, later| earlier >= later);
    let close = counts.first().copied() <= counts.last().map(|last| last + 1);
    assert!(falls && close, "{rule}: disks written one after the other hold {counts:?}, no one instant");
}

/// Writes 1, then 2, then 3 … to every disk in turn, until the capture is done.
async fn count_up<F: SourceFixture>(world: &F, members: &[Machine], done: &AtomicBool) {
    let mut count = 0_u64;
    while !done.load(Ordering::Relaxed) {
        count += 1;
        for machine in members {
            for disk in 0..machine.disks.len() {
                world.write(&machine.instance.name, disk, 0, &count.to_le_bytes().repeat(512)).await;
                tokio::task::yield_now().await;
            }
        }
    }
}

fn count_in(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

/// SRC-3: if one member fails, there is no capture of any.
pub async fn src_03_if_one_member_fails_there_is_no_capture<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-3").await;
    if !here.source().capability().groups {
        return here.skip("capability groups is false");
    }
    let missing = Instance { machine: "nobody".into(), name: "nobody".into(), ..here.instance().clone() };
    let before = here.world.captures(here.name()).await;
    let of = [here.instance().clone(), missing];
    let captured = here.source().capture(&op("capture"), &of, Consistency::Crash).await;
    must_fail("SRC-3", "capture of a member that is not there", captured);
    let after = here.world.captures(here.name()).await;
    assert_eq!(after, before, "SRC-3: the failed capture of a group is still there for one member");
}

/// SRC-3: a machine that is off is captured as it stands.
pub async fn src_03_a_machine_that_is_off_is_captured<F: SourceFixture>() {
    let rule = "SRC-3";
    let here = Enrolled::<F>::new(rule).await;
    if !here.source().capability().captures_off {
        return here.skip("capability captures_off is false");
    }
    here.write(1).await;
    here.world.stop_outside(here.name()).await;
    let then = here.truth().await;
    let capture = here.capture("capture-off").await;
    same(rule, "captured while off", &here.machine, &here.read(&capture).await, &then);
    assert!(!here.runs().await, "{rule}: the capture started the machine");
}

/// SRC-4: captured bytes stay as they were, whatever the machine writes, through a restart, until `release`.
pub async fn src_04_captured_bytes_stay<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("SRC-4").await;
    let then = here.write(1).await;
    let capture = here.capture("capture").await;
    here.write(2).await;
    same("SRC-4", "after writes", &here.machine, &here.read(&capture).await, &then);
    here.world.reopen().await;
    here.write(3).await;
    same("SRC-4", "after a restart", &here.machine, &here.read(&capture).await, &then);
}

/// SRC-4: until its own `release`: that of a later capture leaves the bytes of the earlier one.
pub async fn src_04_the_release_of_another_leaves_the_bytes<F: SourceFixture>() {
    let rule = "SRC-4";
    let here = Enrolled::<F>::new(rule).await;
    let then = here.write(1).await;
    let earlier = here.capture("earlier").await;
    for (round, fate) in (2..).zip([Fate::Sealed, Fate::Spooled, Fate::Abandoned]) {
        let later_then = here.write(round).await;
        let later = here.capture(&format!("later-{round}")).await;
        same(rule, "the later capture", &here.machine, &here.read(&later).await, &later_then);
        here.release(&later, fate).await;
        let what = format!("after a later one was released as {fate:?}");
        same(rule, &what, &here.machine, &here.read(&earlier).await, &then);
    }
}

/// SRC-4: a capture of a machine that is off outlives its start, or is lost aloud: it never reads other bytes.
pub async fn src_04_a_start_changes_no_captured_byte<F: SourceFixture>() {
    let rule = "SRC-4";
    let here = Enrolled::<F>::new(rule).await;
    if !here.source().capability().captures_off {
        return here.skip("capability captures_off is false");
    }
    here.write(1).await;
    here.world.stop_outside(here.name()).await;
    let then = here.truth().await;
    let capture = here.capture("capture-off").await;
    let open = must(rule, "disks", here.open(&capture).await);
    if !here.start().await {
        return here.skip("nobody can start the machine: neither its source nor the fixture");
    }
    here.write(2).await;
    here.same_or_lost("after the machine started", &capture, &open, &then).await;
}

/// SRC-4: a capture of a machine that runs outlives its stop and its next start, or is lost aloud: it never reads other
/// bytes.
pub async fn src_04_a_stop_changes_no_captured_byte<F: SourceFixture>() {
    let rule = "SRC-4";
    let here = Enrolled::<F>::new(rule).await;
    let then = here.write(1).await;
    let capture = here.capture("capture").await;
    let open = must(rule, "disks", here.open(&capture).await);
    here.write(2).await;
    here.world.stop_outside(here.name()).await;
    here.same_or_lost("after the machine stopped", &capture, &open, &then).await;
    if !here.start().await {
        return here.skip("of a start afterwards: neither its source nor the fixture can start the machine");
    }
    here.write(3).await;
    here.same_or_lost("after the machine stopped and started", &capture, &open, &then).await;
}

impl<F: SourceFixture> Enrolled<F> {
    async fn open(&self, capture: &Capture) -> Result<Disks> {
        self.source().disks(&op("read"), capture, self.machine.id()).await
    }

    /// Whether the machine runs now: started by its source, or where that starts nothing, past us.
    async fn start(&self) -> bool {
        if !self.source().capability().fences {
            return self.world.start_outside(self.name()).await;
        }
        let permit = permit(&op("start"), &self.machine).await;
        let started = self.source().unfence(&op("start"), self.instance(), permit, Start::Run).await;
        must(self.rule, "start", started).running
    }

    /// What was opened before, and what is opened now, holds the bytes of the instant or is an error.
    async fn same_or_lost(&self, what: &str, capture: &Capture, open: &Disks, then: &Image) {
        let rule = self.rule;
        let lost = |found: &Result<Image>, kind: ErrorKind| match found {
            Ok(found) => same(rule, what, &self.machine, found, then),
            Err(e) => assert_eq!(e.kind(), kind, "{rule}: a capture that was lost {what}: {e}"),
        };
        lost(&image(rule, &self.machine, open).await, ErrorKind::Unavailable);
        match self.open(capture).await {
            Ok(disks) => lost(&image(rule, &self.machine, &disks).await, ErrorKind::Unavailable),
            Err(error) => lost(&Err(error), ErrorKind::NotFound),
        }
    }
}

/// SRC-5: what was reached is told, less than asked for with a reason, and the machine goes on.
pub async fn src_05_what_was_reached_is_told<F: SourceFixture>() {
    let rule = "SRC-5";
    let here = Enrolled::<F>::new(rule).await;
    let can = here.source().capability();
    let best = match (can.quiesces_applications, can.freezes) {
        (true, _) => Consistency::Application,
        (false, true) => Consistency::FileSystem,
        (false, false) => Consistency::Crash,
    };
    for want in [Consistency::Crash, Consistency::FileSystem, Consistency::Application] {
        let of = [here.instance().clone()];
        let captured = here.source().capture(&op(&format!("capture-{want:?}")), &of, want).await;
        let capture = must(rule, &format!("capture, wanted {want:?}"), captured);
        let reached = capture.consistency;
        assert!(reached <= want.min(best), "{rule}: {reached:?} is told, at most {best:?} can be");
        let explained = reached == want || capture.quiesce_failed.is_some();
        assert!(explained, "{rule}: {reached:?} is less than {want:?}, and no reason is told");
        assert!(here.world.is_running(here.name()).await, "{rule}: the machine is left frozen or paused");
        here.release(&capture, Fate::Abandoned).await;
    }
}

/// SRC-6: a repeat with the same key returns the same capture, not a later one.
pub async fn src_06_a_repeat_returns_the_same_capture<F: SourceFixture>() {
    let here = Enrolled::<F>::new("SRC-6").await;
    let then = here.write(1).await;
    let first = here.capture("capture").await;
    here.write(2).await;
    let again = here.capture("capture").await;
    assert_eq!(again, first, "SRC-6: the repeat is another capture");
    same("SRC-6", "bytes of the repeat", &here.machine, &here.read(&again).await, &then);
}

/// ROL-1: the same, after a crash of the adapter: there is one capture, and it is the first one.
pub async fn rol_1_a_repeat_after_a_crash_is_the_same<F: SourceFixture>() {
    let mut here = Enrolled::<F>::new("ROL-1").await;
    let then = here.write(1).await;
    let first = here.capture("capture").await;
    let count = here.world.captures(here.name()).await;
    here.world.reopen().await;
    here.write(2).await;
    let again = here.capture("capture").await;
    assert_eq!(again, first, "ROL-1: the repeat after a crash is another capture");
    same("ROL-1", "bytes of the repeat", &here.machine, &here.read(&again).await, &then);
    assert_eq!(here.world.captures(here.name()).await, count, "ROL-1: captures at the platform");
}

/// ROL-4: a capture that nobody waited for is found or made by the same key, once.
pub async fn rol_4_a_dropped_call_is_settled_by_the_same_key<F: SourceFixture>() {
    let here = Enrolled::<F>::new("ROL-4").await;
    let before = here.world.captures(here.name()).await;
    let of = [here.instance().clone()];
    let source = here.source();
    dropped(source.capture(&op("capture"), &of, Consistency::Crash)).await;
    let first = here.capture("capture").await;
    here.read(&first).await;
    here.release(&first, Fate::Abandoned).await;
    let after = here.world.captures(here.name()).await;
    assert_eq!(after, before, "ROL-4: the dropped call left a capture behind");
}

/// SRC-9: a sweep removes what is not kept, tells it, and leaves what is kept and what is not ours.
pub async fn src_09_a_sweep_leaves_what_is_kept_and_not_ours<F: SourceFixture>() {
    let rule = "SRC-9";
    let mut here = Enrolled::<F>::new(rule).await;
    if !here.world.snapshot_outside(here.name()).await {
        here.skip("of snapshots that are not ours: the fixture cannot make one");
    }
    let others = here.world.captures(here.name()).await;
    let then = here.write(1).await;
    let kept = here.capture("kept").await;
    let one = here.world.captures(here.name()).await;
    here.capture("swept").await;
    here.world.reopen().await;
    let (keep, none) = ([key("kept")], []);
    let swept = here.source().sweep(&op("sweep"), here.instance(), &keep).await;
    assert_eq!(must(rule, "sweep", swept), [key("swept")], "{rule}: what was removed");
    assert_eq!(here.world.captures(here.name()).await, one, "{rule}: captures left at the platform");
    same(rule, "the capture that is kept", &here.machine, &here.read(&kept).await, &then);
    must(rule, "sweep", here.source().sweep(&op("sweep-all"), here.instance(), &none).await);
    assert_eq!(here.world.captures(here.name()).await, others, "{rule}: captures left after all were swept");
}

async fn a_captured_disk<F: SourceFixture>(rule: &'static str) -> (F, Arc<dyn Disk>, Vec<u8>) {
    let here = Enrolled::<F>::new(rule).await;
    let truth = here.write(1).await.swap_remove(0);
    let capture = here.capture("capture").await;
    let disks = here.source().disks(&op("read"), &capture, here.machine.id()).await;
    let disk = must(rule, "disks", disks).remove(&here.machine.disks[0].id);
    (here.world, disk.unwrap_or_else(|| panic!("{rule}: the first disk is missing")), truth)
}

disk_cases!(SourceFixture, a_captured_disk);

/// DSK-5: one handle reads the same bytes however often, whatever is written meanwhile.
pub async fn dsk_5_reads_are_the_same_however_often<F: SourceFixture>() {
    let rule = "DSK-5";
    let (world, disk, truth) = a_captured_disk::<F>(rule).await;
    let [name, _] = world.machines();
    for time in 1..=8_u64 {
        let bytes = must(rule, "read", read(&disk).await);
        same_bytes(rule, &format!("read {time}"), &bytes, &truth);
        world.write(&name, 0, time * 8192, &super::pattern(time + 90, 8192)).await;
    }
    let past = site_recovery::Run::new(disk.size(), 4096);
    must_be(
        rule,
        "read past the end",
        ErrorKind::Invalid,
        disk.read(past, &super::super::content::pool()).await,
    );
}

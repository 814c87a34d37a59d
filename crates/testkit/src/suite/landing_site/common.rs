use super::super::case::{must, op, op_at, op_of_another, permit};
use super::super::content::{pattern, same_bytes};
use super::super::disk::{self, disk_cases};
use super::{Attached, GENERATION, LandingSiteFixture};
use bytes::Bytes;
use site_recovery::{Disk, ErrorKind, Run};
use std::sync::Arc;
use std::time::Duration;

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
        let can_fence = here.world.source().capability().fences;
        for (call, error) in calls {
            let kind = error.map(|e| e.kind());
            let unsupported = !can_branch && matches!(call, "branch" | "part" | "merge")
                || !can_fence && call == "the source's fence" && kind == Some(ErrorKind::Unsupported);
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
    must(rule, "zero", disk.zero(Run::new(12 * 1024, 4096)).await);
    must(rule, "flush", disk.flush().await);
    if !here.world.power_cut().await {
        here.skip("of a power cut: the fixture cannot make one; a crash of the process is tried");
        here.world.reopen().await;
    }
    let mut expected = pattern(3, 16 * 1024);
    expected[12 * 1024..].fill(0);
    same_bytes(rule, "after a power cut", &here.content().await[..16 * 1024], &expected);
}

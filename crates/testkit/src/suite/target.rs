//! `Target`: TGT-1.

use super::case::{in_time, must, op};
use super::recovery_site::RecoverySiteFixture;
use super::timeline::Timeline;
use async_trait::async_trait;
use site_recovery::{Generation, Purpose, Recovery, Target};
use std::sync::Arc;

/// A [`RecoverySiteFixture`] whose site proposes settings.
#[async_trait]
pub trait TargetFixture: RecoverySiteFixture {
    /// The target.
    fn target(&self) -> Arc<dyn Target>;
}

/// Makes one test per rule of a `Target` that a `RecoverySite` has not; use it besides `recovery_site_suite!`.
#[macro_export]
macro_rules! target_suite {
    ([$($each:tt)+] $fixture:ty) => {
        $($each)+! { $fixture, target,
            tgt_1_what_is_proposed_passes_check,
            tgt_1_what_is_proposed_can_be_made,
        }
    };
    ($fixture:ty) => {
        $crate::target_suite!([$crate::each_case] $fixture);
    };
}

/// TGT-1: what is proposed passes `check`, also for a machine whose name no site takes.
pub async fn tgt_1_what_is_proposed_passes_check<F: TargetFixture>() {
    let rule = "TGT-1";
    let world = F::new().await;
    let long = "x".repeat(80);
    for name in ["web", "Web Server_1 (old)", long.as_str()] {
        let mut machine = world.machine("web");
        machine.instance.name = name.into();
        let proposed = must(rule, "propose", world.target().propose(&machine).await);
        let found = must(rule, "check", world.site().check(&machine, &proposed).await);
        let blocking: Vec<_> = found.iter().filter(|f| f.blocks()).collect();
        assert!(blocking.is_empty(), "{rule}: what is proposed for {name:?} does not pass: {blocking:?}");
    }
}

/// TGT-1: what is proposed can be made.
pub async fn tgt_1_what_is_proposed_can_be_made<F: TargetFixture>() {
    let rule = "TGT-1";
    let world = F::new().await;
    let (machine, replica) = (world.machine("web"), world.replica());
    let line = Timeline::with_points(rule, &replica, machine, &world.settings(), F::dress, 1).await;
    let manifest = must(rule, "manifest", replica.manifest(line.machine.id(), line.id(0)).await);
    let proposed = must(rule, "propose", world.target().propose(&line.machine).await);
    let what = Recovery::of(manifest, line.id(0), Generation(1), Purpose::Failover, proposed);
    let (target, op) = (world.target(), op("materialise"));
    in_time(rule, "materialise as proposed", || target.materialise(&op, &what, &replica)).await;
}

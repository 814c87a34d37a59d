//! A machine that is landed on.

use crate::protected::Image;
use crate::support::*;
use site_recovery::*;
use site_recovery_testkit::suite::permit;
use std::sync::Arc;

/// A machine that was protected, and is landed on.
pub(crate) struct Landed {
    pub(crate) world: World,
    pub(crate) machine: Machine,
    pub(crate) instance: Instance,
}

impl Landed {
    pub(crate) async fn attached() -> Self {
        let world = World::new().await;
        world.enrolled("web").await;
        Self::attached_in(world).await
    }

    /// The machine called web of this world, which runs and is enrolled.
    pub(crate) async fn attached_in(world: World) -> Self {
        let machine = world.found("web").await;
        world.switch_off("web");
        let existing = Some(machine.instance.clone());
        let site = &world.site;
        let instance = site.attach(&op("attach"), &machine, existing, &Settings::default()).await.unwrap();
        Self { world, machine, instance }
    }

    pub(crate) async fn disk(&self, n: usize) -> Result<Arc<dyn DiskMut>> {
        self.world.site.disk(&self.instance, &self.machine.disks[n].id).await
    }

    pub(crate) async fn start(&self, key: &str) -> Booted {
        self.try_start(key).await.unwrap()
    }

    pub(crate) async fn try_start(&self, key: &str) -> Result<Booted> {
        let permit = permit(&op(key), &self.machine.standing_as(self.instance.clone())).await;
        let what = Recovery {
            machine: self.machine.clone(),
            sidecars: vec![],
            point: PointId(1),
            taken: Timestamp(1),
            consistency: Consistency::Crash,
            generation: Generation(1),
            purpose: Purpose::Failover,
            settings: Settings::default(),
        };
        self.world.site.start(&op(key), &self.instance, &what, permit).await
    }

    /// Merges to the end.
    pub(crate) async fn merge(&self, key: &str) -> Result<()> {
        answered("merge", || async { self.world.site.merge(&op(key), &self.instance).await }).await
    }

    /// Attaches it again.
    pub(crate) async fn again(&self, key: &str) {
        let existing = Some(self.machine.instance.clone());
        let attached = self.world.site.attach(&op(key), &self.machine, existing, &Settings::default()).await;
        assert!(attached.unwrap().is(&self.instance));
    }

    pub(crate) fn truth(&self) -> Image {
        (0..2).map(|n| self.world.content("web", n)).collect()
    }
}

/// The power reads off as soon as the last thread is gone, and never anything but on before.
pub(crate) async fn turns_off(site: &site_recovery_qemu::QemuSite, instance: &Instance) -> StartGuard {
    let end = now() + BOUND;
    loop {
        match site.power(instance).await.unwrap() {
            Power::Off { start } => return start,
            power => assert_eq!(power, Power::On),
        }
        assert!(now() < end, "it reads on for ever");
    }
}

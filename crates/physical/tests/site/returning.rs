//! The way back through the keeper: rescue systems that are left, that do not hear it, or that go off instead.

use crate::hall::{Floor, SITE};
use crate::support::*;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_physical::bare::{BareDisks, BareServer, Landing, Slot, Starter};
use site_recovery_physical::site::{Direct, Returning};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const AT_ONCE: Duration = Duration::ZERO;

/// How the fake server's rescue system is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    Restarts,
    GoesOff,
}

#[derive(Debug)]
struct Leaving(Arc<FakeServer>, Leaves);

#[async_trait]
impl Starter for Leaving {
    async fn runs(&self, _: &Landing) -> Result<Option<bool>> {
        Ok(Some(false))
    }
    async fn start(&self, _: &Landing) -> Result<Vec<String>> {
        self.0.unplug();
        if self.1 == Leaves::Restarts {
            self.0.press();
        }
        Ok(vec![])
    }
    async fn stop(&self, _: &Landing, _: Duration) -> Result<()> {
        Ok(())
    }
    async fn hold(&self, _: &Landing, _: bool) -> Result<()> {
        Ok(())
    }
    async fn stamp(&self, _: &Landing) -> Result<Option<Stamp>> {
        Ok(self.session().map(|life| Stamp(life.into_bytes())))
    }
    fn session(&self) -> Option<String> {
        Some(format!("life {}", self.0.truth().starts))
    }
}

/// What a rescue system serves: silent unless it runs, and deaf to the first words where it is told to be.
#[derive(Debug)]
struct RescueSystem {
    disks: BareDisks,
    server: Arc<FakeServer>,
    /// So many calls of `start` are lost on their way.
    lost: AtomicU32,
    refuses: bool,
}

impl RescueSystem {
    fn here(&self) -> Result<&BareDisks> {
        let truth = self.server.truth().clone();
        let here = truth.on && truth.rescue;
        here.then_some(&self.disks).ok_or_else(|| Error::new(ErrorKind::Unavailable, "connection refused"))
    }
}

#[async_trait]
impl Role for RescueSystem {
    fn name(&self) -> RoleName {
        self.disks.name()
    }
    fn capability(&self) -> Capability {
        self.disks.capability()
    }
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.here()?.claim(op, machine).await
    }
}

#[async_trait]
impl LandingSite for RescueSystem {
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        self.here()?.survey(machine, settings).await
    }
    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        self.here()?.attach(op, machine, existing, settings).await
    }
    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        self.here()?.disk(instance, disk).await
    }
    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        self.here()?.stamp(instance).await
    }
    async fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.branch(op, instance).await
    }
    async fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        self.here()?.part(op, instance).await
    }
    async fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.merge(op, instance).await
    }
    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        self.here()?.arm(op, instance, generation).await
    }
    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.detach(op, instance).await
    }
    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        if self.refuses {
            return Err(Error::new(ErrorKind::Refused, "something is in the way"));
        }
        let lost = |left: u32| left.checked_sub(1);
        if self.lost.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost).is_ok() {
            return Err(Error::new(ErrorKind::Unavailable, "the line broke"));
        }
        self.here()?.start(op, instance, what, permit).await
    }
    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.here()?.stop(op, instance, grace).await
    }
    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        self.here()?.remove(op, instance).await
    }
}

/// A server that was fenced, stands in its rescue system, and has something new on its disks.
struct Landed {
    floor: Floor,
    web: Machine,
    returning: Returning,
    armed: Instance,
    stamp: Option<Stamp>,
}

impl Landed {
    async fn new(leaves: Leaves, lost: u32, refuses: bool) -> Self {
        let floor = Floor::new(HOLDS).await;
        let web = floor.enrolled("web").await;
        floor.site.fence(&op("fence"), &web.instance, AT_ONCE).await.unwrap();
        assert!(!floor.server("web").press(), "held, it starts its rescue system");
        let slot = |disk: &DiskSpec| Slot {
            id: disk.id.0.clone(),
            path: floor.system("web").join(format!("{}.raw", disk.id)),
        };
        let server = Arc::clone(&floor.servers["web"]);
        let disks = BareDisks::builder(SITE.into(), floor.dir.path().join("rescue"), Arc::new(SystemClock));
        let disks = disks.server(BareServer {
            name: "web".into(),
            slots: web.disks.iter().map(slot).collect(),
            firmware: None,
            starter: Arc::new(Leaving(Arc::clone(&server), leaves)),
        });
        let disks = disks.open().unwrap();
        let rescue: Arc<dyn LandingSite> =
            Arc::new(RescueSystem { disks, server, lost: AtomicU32::new(lost), refuses });
        let rescues = Arc::new(BTreeMap::from([("web".to_owned(), rescue)]));
        let returning = floor.site.returning(rescues.clone());

        let existing = Some(web.instance.clone());
        let landing = returning.attach(&op("attach"), &web, existing, &Settings::default()).await.unwrap();
        // As a master target on another host does it.
        let direct = Direct::new(Arc::new(returning.clone()), rescues);
        let disk = direct.disk(&landing, &web.disks[0].id).await.unwrap();
        disk.write(8192, Bytes::from_static(b"landed")).await.unwrap();
        disk.flush().await.unwrap();
        let armed = returning.arm(&op("arm"), &landing, Generation(2)).await.unwrap().instance;
        let stamp = returning.stamp(&armed).await.unwrap();
        returning.detach(&op("detach"), &armed).await.unwrap();
        assert_eq!(returning.stamp(&armed).await.unwrap(), stamp, "nobody started it");
        Self { floor, web, returning, armed, stamp }
    }

    async fn start(&self, key: &str) -> Result<Booted> {
        let recovery = Recovery {
            machine: self.web.clone(),
            sidecars: vec![],
            point: PointId(1),
            taken: Timestamp(1),
            consistency: Consistency::Crash,
            generation: Generation(2),
            purpose: Purpose::Failover,
            settings: Settings::default(),
        };
        let op = op(key);
        let leave = permit(&op, &self.web.standing_as(self.armed.clone())).await;
        self.returning.start(&op, &self.armed, &recovery, leave).await
    }

    async fn runs_what_landed(&self) {
        let server = self.floor.server("web");
        assert!(server.runs() && !server.truth().held);
        assert_eq!(self.floor.site.power(&self.armed).await.unwrap(), Power::On);
        assert!(!self.floor.kept("web", "fence.json").exists());
        assert_eq!(self.floor.found("web").await.instance, self.armed, "of the generation that was armed");
        let image = self.floor.system("web").join(format!("{}.raw", self.web.disks[0].id));
        assert_eq!(&std::fs::read(image).unwrap()[8192..8198], b"landed");
    }
}

#[tokio::test]
async fn lnd7_a_server_leaves_its_rescue_system_and_a_repeat_starts_nothing_twice() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    assert!(landed.start("start").await.unwrap().running);
    landed.runs_what_landed().await;
    let starts = landed.floor.server("web").truth().starts;
    // A master target that lost the answer asks for all of it again.
    landed.returning.detach(&op("detach"), &landed.armed).await.unwrap();
    assert!(landed.start("start").await.unwrap().running);
    assert_eq!(landed.floor.server("web").truth().starts, starts);
    assert_ne!(landed.returning.stamp(&landed.armed).await.unwrap(), landed.stamp, "its own system runs");
}

#[tokio::test]
async fn lnd7_a_word_that_was_lost_is_said_again_by_the_same_key() {
    let landed = Landed::new(Leaves::Restarts, 1, false).await;
    let unheard = landed.start("start").await.unwrap_err();
    assert_eq!(unheard.kind(), ErrorKind::Unavailable, "{unheard}");
    assert!(!landed.floor.server("web").runs());
    assert!(landed.start("start").await.unwrap().running);
    landed.runs_what_landed().await;
}

#[tokio::test]
async fn lnd7_a_server_that_goes_off_where_it_should_restart_is_switched_on() {
    let landed = Landed::new(Leaves::GoesOff, 0, false).await;
    assert!(landed.start("start").await.unwrap().running);
    landed.runs_what_landed().await;
}

#[tokio::test]
async fn s2_a_rescue_system_that_refuses_to_leave_leaves_its_server_held() {
    let landed = Landed::new(Leaves::Restarts, 0, true).await;
    assert_eq!(landed.start("start").await.unwrap_err().kind(), ErrorKind::Refused);
    let server = landed.floor.server("web");
    assert!(!server.runs() && server.truth().held);
    assert!(landed.floor.kept("web", "fence.json").exists());
    assert_eq!(landed.returning.stamp(&landed.armed).await.unwrap(), landed.stamp);
}

#[tokio::test]
async fn lnd4_a_start_past_the_keeper_is_told_by_the_stamp() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    let server = landed.floor.server("web");
    server.unplug();
    server.truth().held = false;
    assert!(server.press(), "somebody took the hold away, and started it");
    assert_ne!(landed.returning.stamp(&landed.armed).await.unwrap(), landed.stamp);
}

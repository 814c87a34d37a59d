//! Calls of a landing that wait for somebody, and end when the server is fenced.

use crate::hall::Floor;
use crate::rescue::{Leaves, RescueSystem, Rescued};
use crate::support::*;
use site_recovery::*;
use site_recovery_physical::site::{PhysicalSite, Returning};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const AT_ONCE: Duration = Duration::ZERO;

/// A server in its rescue system, that nothing has landed on.
struct Scene {
    floor: Floor,
    web: Machine,
    rescue: Arc<RescueSystem>,
    returning: Returning,
}

impl Scene {
    async fn new(leaves: Leaves) -> Self {
        let floor = Floor::new(HOLDS).await;
        let web = floor.enrolled("web").await;
        floor.site.fence(&op("fence"), &web.instance, AT_ONCE).await.unwrap();
        floor.server("web").press();
        let rescue = RescueSystem::of(&floor, &web, leaves);
        let returning = floor.site.returning(Arc::new(Rescued(Arc::clone(&rescue))));
        Self { floor, web, rescue, returning }
    }

    async fn attach(&self) -> Result<Instance> {
        let existing = Some(self.web.instance.clone());
        self.returning.attach(&op("attach"), &self.web, existing, &Settings::default()).await
    }

    /// That this hangs at the rescue system, and a newer fence gets through all the same.
    async fn ends<T: std::fmt::Debug>(&self, what: &str, call: impl Future<Output = Result<T>>) {
        let before = self.rescue.taken.load(Ordering::SeqCst);
        self.rescue.hangs.store(true, Ordering::SeqCst);
        let fence = async {
            while self.rescue.taken.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
            let (op, web) = (op_of("engine", 2, what), &self.web.instance);
            self.floor.site.fence(&op, web, AT_ONCE).await
        };
        let both = async { tokio::join!(call, fence) };
        let (hung, fenced) = tokio::time::timeout(Duration::from_secs(20), both).await.expect(what);
        self.rescue.hangs.store(false, Ordering::SeqCst);
        fenced.unwrap();
        let error = hung.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rol8_a_rescue_system_that_hangs_holds_up_no_fence() {
    let scene = Scene::new(Leaves::Restarts).await;
    scene.ends("attach", scene.attach()).await;

    let scene = Scene::new(Leaves::Restarts).await;
    let landing = scene.attach().await.unwrap();
    scene.ends("arm", scene.returning.arm(&op("arm"), &landing, Generation(2))).await;

    let scene = Scene::new(Leaves::Restarts).await;
    let landing = scene.attach().await.unwrap();
    scene.ends("detach", scene.returning.detach(&op("detach"), &landing)).await;

    let scene = Scene::new(Leaves::Restarts).await;
    let landing = scene.attach().await.unwrap();
    let (op, standing) = (op("start"), scene.web.standing_as(landing.clone()));
    let (leave, recovery) = (permit(&op, &standing).await, recovery(&scene.web));
    scene.ends("start", scene.returning.start(&op, &landing, &recovery, leave)).await;
}

fn recovery(web: &Machine) -> Recovery {
    Recovery {
        machine: web.clone(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(2),
        purpose: Purpose::Failover,
        settings: Settings::default(),
    }
}

/// A site whose keeper waits for a quarter of an hour until a server answers that was switched on.
fn patient(floor: &Floor) -> PhysicalSite {
    let patience =
        site_recovery_physical::site::Patience { on: Duration::from_secs(900), ..crate::hall::PATIENCE };
    floor.with(patience)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rol8_a_server_that_is_awaited_holds_up_no_fence() {
    let floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await;
    let site = patient(&floor);
    site.fence(&op("f"), &web.instance, AT_ONCE).await.unwrap();
    floor.server("web").truth().agent_dead = true;
    let lift = op("u");
    let leave = permit(&lift, &web).await;
    let awaited = site.unfence(&lift, &web.instance, leave, Start::Run);
    let fence = async {
        while !floor.server("web").truth().on {
            tokio::task::yield_now().await;
        }
        site.fence(&op_of("engine", 2, "f2"), &web.instance, AT_ONCE).await
    };
    let both = async { tokio::join!(awaited, fence) };
    let (awaited, fenced) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("a fence");
    fenced.unwrap();
    assert_eq!(awaited.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(!floor.server("web").truth().on, "the fence came after the start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rol8_a_server_whose_power_does_not_go_holds_up_no_claim() {
    let floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await;
    let patience =
        site_recovery_physical::site::Patience { off: Duration::from_secs(900), ..crate::hall::PATIENCE };
    let site = floor.with(patience);
    floor.server("web").truth().stuck = true;
    let cut = async { site.fence(&op("f"), &web.instance, AT_ONCE).await };
    let claim = async {
        while !floor.server("web").truth().log.contains(&"force_off") {
            tokio::task::yield_now().await;
        }
        site.claim(&op_of("engine", 2, "c"), web.id()).await
    };
    let both = async { tokio::join!(cut, claim) };
    let (cut, claimed) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("a claim");
    claimed.unwrap();
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Unavailable);
    let mark = std::fs::read_to_string(floor.kept("web", "fence.json")).unwrap();
    assert!(mark.contains("\"asked\": true"), "{mark}");
}

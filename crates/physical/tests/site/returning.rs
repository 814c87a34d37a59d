//! The way back through the keeper: rescue systems that are left, that do not hear it, or that go off instead.

use crate::hall::{Floor, SITE};
use crate::rescue::{Leaves, RescueSystem, Rescued};
use crate::support::*;
use async_trait::async_trait;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_physical::site::{Direct, Rescues, Returning, WayBack};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const AT_ONCE: Duration = Duration::ZERO;

/// A server that was fenced, stands in its rescue system, and has something new on its disks.
struct Landed {
    floor: Floor,
    web: Machine,
    rescue: Arc<RescueSystem>,
    returning: Returning,
    armed: Instance,
    stamp: Option<Stamp>,
}

/// Where another host finds the rescue system, and no keeper at all.
#[derive(Debug)]
struct NoKeeper(Rescued);

#[async_trait]
impl Rescues for NoKeeper {
    async fn rescue(&self, server: &str) -> Result<Arc<dyn LandingSite>> {
        self.0.rescue(server).await
    }
}

#[async_trait]
impl WayBack for NoKeeper {
    async fn keeper(&self) -> Result<Arc<dyn LandingSite>> {
        Err(Error::new(ErrorKind::Unavailable, "connection refused"))
    }
}

impl Landed {
    async fn new(leaves: Leaves, lost: u32, refuses: bool) -> Self {
        let floor = Floor::new(HOLDS).await;
        let web = floor.enrolled("web").await;
        floor.site.fence(&op("fence"), &web.instance, AT_ONCE).await.unwrap();
        assert!(!floor.server("web").press(), "held, it starts its rescue system");
        let rescue = RescueSystem::of(&floor, &web, leaves);
        rescue.lost.store(lost, Ordering::SeqCst);
        rescue.refuses.store(refuses, Ordering::SeqCst);
        let returning = floor.site.returning(Arc::new(Rescued(Arc::clone(&rescue))));

        let existing = Some(web.instance.clone());
        let landing = returning.attach(&op("attach"), &web, existing, &Settings::default()).await.unwrap();
        // As a master target on another host does it: no byte goes through the keeper.
        let direct = Direct::new(floor.site.name(), Arc::new(NoKeeper(Rescued(Arc::clone(&rescue)))));
        assert_eq!(direct.stamp(&landing).await.unwrap_err().kind(), ErrorKind::Unavailable);
        let disk = direct.disk(&landing, &web.disks[0].id).await.unwrap();
        disk.write(8192, Bytes::from_static(b"landed")).await.unwrap();
        disk.flush().await.unwrap();
        let armed = returning.arm(&op("arm"), &landing, Generation(2)).await.unwrap().instance;
        let stamp = returning.stamp(&armed).await.unwrap();
        returning.detach(&op("detach"), &armed).await.unwrap();
        assert_eq!(returning.stamp(&armed).await.unwrap(), stamp, "nobody started it");
        Self { floor, web, rescue, returning, armed, stamp }
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
async fn lnd7_a_restored_system_that_answers_in_place_of_its_rescue_system_has_been_left_for() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    landed.rescue.is_gone.store(true, Ordering::SeqCst);
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

#[tokio::test]
async fn lnd7_a_repeat_of_a_start_starts_nothing_that_was_fenced_since() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    assert!(landed.start("start").await.unwrap().running);
    landed.returning.stop(&op("stop"), &landed.armed, AT_ONCE).await.unwrap();
    assert!(!landed.start("start").await.unwrap().running);
    let server = landed.floor.server("web");
    assert!(!server.truth().on && server.truth().held, "it is off, and held");
    assert!(landed.floor.kept("web", "fence.json").exists());
}

#[tokio::test]
async fn s1_the_register_of_the_keeper_counts_for_detach_and_a_claim_gets_to_the_rescue_system() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    let id = landed.web.id();
    landed.floor.site.claim(&op_of("new", 5, "c"), id).await.unwrap();
    let stale = landed.returning.detach(&op_of("old", 4, "d"), &landed.armed).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleEpoch, "the rescue system does not know the newer epoch yet");
    landed.returning.claim(&op_of("new", 6, "c"), id).await.unwrap();
    let there = landed.rescue.disks.detach(&op_of("old", 5, "d"), &landed.armed).await.unwrap_err();
    assert_eq!(there.kind(), ErrorKind::StaleEpoch, "now it does");
    // One that is silent holds up nobody.
    landed.floor.server("web").unplug();
    landed.returning.claim(&op_of("new", 7, "c"), id).await.unwrap();
    landed.rescue.hangs.store(true, Ordering::SeqCst);
    landed.floor.server("web").press();
    let last = op_of("new", 8, "c");
    let claimed = landed.returning.claim(&last, id);
    tokio::time::timeout(Duration::from_secs(20), claimed).await.expect("it waits for nobody").unwrap();
    landed.rescue.hangs.store(false, Ordering::SeqCst);
}

#[tokio::test]
async fn a_survey_looks_at_the_server_that_the_machine_returns_to() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    let survey = async |machine: &Machine, server: Option<&str>| {
        let mut settings = Settings::default();
        settings.site.extend(server.map(|server| ("server".to_owned(), server.to_owned())));
        landed.returning.survey(machine, &settings).await.unwrap()
    };
    let codes =
        |survey: &Survey| survey.findings.iter().map(|f| (f.code.clone(), f.severity)).collect::<Vec<_>>();
    // As it runs at the other site after a failover.
    let there = Instance { site: "cloud".into(), name: "web-dr".into(), ..landed.armed.clone() };
    let recovered = landed.web.standing_as(there);
    for server in [None, Some("web")] {
        let found = survey(&recovered, server).await;
        assert!(found.findings.iter().all(|f| f.severity != Severity::Critical), "{:?}", codes(&found));
        assert!(found.findings.iter().any(|f| f.code == "landing.slot"), "{:?}", codes(&found));
    }
    // What a master target asks for its offers, and servers that are none, or not this machine's, or not in a rescue system.
    let any = machine("any", "anywhere", "any", &[("any", 1)]);
    let stranger = machine("m-other", SITE, "web", &[("any", 1)]);
    for (machine, server, code) in [
        (&any, None, "landing.server"),
        (&recovered, Some("web-9"), "landing.server"),
        (&stranger, None, "landing.mark"),
        (&any, Some("db"), "landing.rescue"),
    ] {
        let found = survey(machine, server).await;
        assert_eq!(codes(&found), [(code.to_owned(), Severity::Critical)]);
        assert_eq!(found.offers, Offers::default());
    }
}

#[tokio::test]
async fn a_landing_that_its_rescue_system_refuses_leaves_no_mark() {
    let landed = Landed::new(Leaves::Restarts, 0, false).await;
    let fence = landed.floor.kept("web", "fence.json");
    std::fs::remove_file(&fence).unwrap();
    landed.floor.server("web").truth().held = false;
    let mut settings = Settings::default();
    settings.site.insert("colour".into(), "blue".into());
    let (web, existing) = (&landed.web, Some(landed.armed.clone()));
    let error = landed.returning.attach(&op("again"), web, existing, &settings).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Invalid && error.message().contains("colour"), "{error}");
    assert!(!fence.exists() && !landed.floor.server("web").truth().held);
}

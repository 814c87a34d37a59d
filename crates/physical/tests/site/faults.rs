//! Agents and controllers that fail, lie, or say nothing.

use crate::hall::{Floor, PATIENCE, SITE};
use crate::support::*;
use site_recovery::*;
use site_recovery_physical::power::PowerState;
use site_recovery_physical::site::{PhysicalSite, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const BLOCKED: Power = Power::Off { start: StartGuard::Blocked { until: None } };
const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
async fn s2_a_lost_heartbeat_is_never_a_fence() {
    let floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await.instance;
    floor.server("web").truth().agent_dead = true;
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown, "the controller says on");
    floor.server("web").truth().silent = true;
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown, "both are silent");
    floor.agent("web").hangs.store(true, Ordering::SeqCst);
    assert_eq!(
        floor.site.power(&web).await.unwrap(),
        Power::Unknown,
        "and one that hangs says nothing either"
    );

    let alone = Floor::without_power_control().await;
    let web = alone.enrolled("web").await.instance;
    assert_eq!(alone.site.power(&web).await.unwrap(), Power::On);
    alone.server("web").unplug();
    assert_eq!(alone.site.power(&web).await.unwrap(), Power::Unknown, "nobody is there to say off");
}

#[tokio::test]
async fn s2_a_controller_that_lies_once_proves_nothing() {
    let floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await.instance;
    let lie = |says: &[PowerState]| floor.server("web").truth().lies = says.to_vec();
    lie(&[PowerState::Off, PowerState::Off]);
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::On, "the server itself answers");
    floor.server("web").truth().agent_dead = true;
    lie(&[PowerState::Off]);
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown);
    lie(&[PowerState::Off, PowerState::Unknown]);
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown);
    floor.server("web").unplug();
    lie(&[PowerState::Unknown]);
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Unknown);
    assert!(matches!(floor.site.power(&web).await.unwrap(), Power::Off { start: StartGuard::Tells(_) }));
}

#[tokio::test]
async fn s2_a_server_whose_agent_is_dead_is_fenced_by_its_controller() {
    for keeps in [HOLDS, TELLS] {
        let mut floor = Floor::new(keeps).await;
        let web = floor.enrolled("web").await;
        floor.server("web").truth().agent_dead = true;
        floor.site.fence(&op("f"), &web.instance, AT_ONCE).await.unwrap();
        assert!(!floor.server("web").truth().on);
        floor.again().await;
        let power = floor.site.power(&web.instance).await.unwrap();
        assert!(matches!(power, Power::Off { ref start } if *start != StartGuard::Free), "{power:?}");
        // The proof of the engine goes through.
        let item = Item::new(web.clone(), op("p").epoch, Policy::default(), "out", "back");
        let sources: Sources = [(SITE.into(), Arc::new(floor.site.clone()) as Arc<dyn Source>)].into();
        let proof = Fenced::prove(&op("p"), &item, None, &sources, AT_ONCE).await.unwrap();
        assert_eq!(proof.observed()[0].instance, web.instance);
    }
}

#[tokio::test]
async fn s2_a_fence_that_cannot_be_read_back_is_no_fence() {
    let floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await.instance;
    let mark = || std::fs::read_to_string(floor.kept("web", "fence.json")).unwrap();
    // Power that is not taken, whatever the controller answers.
    floor.server("web").truth().stuck = true;
    let error = floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(mark().contains("\"asked\": true"), "{}", mark());
    // One that says off from the first look on, while the server answers.
    floor.server("web").truth().lies = vec![PowerState::Off; 20];
    let error = floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(floor.server("web").runs());
    // Silent from here on: asked for, and nobody knows.
    floor.server("web").truth().silent = true;
    let error = floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // Back, and well again: the same key brings it about.
    (floor.server("web").truth().silent, floor.server("web").truth().stuck) = (false, false);
    floor.server("web").truth().lies.clear();
    floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap();
    assert_eq!(floor.site.power(&web).await.unwrap(), BLOCKED);
    for part in ["\"asked\": false", "\"f\"", "\"engine\"", "\"ran_before\": true", "\"when\"", "unfence"] {
        assert!(mark().contains(part), "{part} in {}", mark());
    }
    // Whoever takes the block back changes what is read.
    floor.server("web").truth().held = false;
    assert_eq!(floor.site.power(&web).await.unwrap(), Power::Off { start: StartGuard::Free });
}

#[tokio::test]
async fn s2_without_a_control_that_keeps_it_off_nothing_is_fenced() {
    let floor = Floor::without_power_control().await;
    let web = floor.enrolled("web").await.instance;
    assert!(!floor.site.capability().fences);
    let error = floor.site.fence(&op("f"), &web, AT_ONCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(floor.server("web").runs() && !floor.kept("web", "fence.json").exists());
    assert!(Floor::new(TELLS).await.site.capability().fences);
}

#[tokio::test]
async fn s1_after_a_partition_the_older_engine_changes_nothing() {
    let mut floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await;
    let (old, new) = (|key| op_of("old", 4, key), |key| op_of("new", 5, key));
    let of = [web.instance.clone()];
    let capture = floor.site.capture(&old("c"), &of, Consistency::Crash).await.unwrap();
    // The server is cut off; the newer engine claims at the keeper.
    floor.server("web").truth().agent_dead = true;
    floor.site.claim(&new("claim"), web.id()).await.unwrap();
    floor.server("web").truth().agent_dead = false;
    floor.again().await;
    let before = floor.server("web").truth().log.len();
    for stale in [old("x"), op_of("other", 5, "x")] {
        let (site, of) = (&floor.site, [web.instance.clone()]);
        let leave = permit(&stale, &web).await;
        let refused = [
            site.claim(&stale, web.id()).await.err(),
            site.enrol(&stale, &web).await.err(),
            site.capture(&stale, &of, Consistency::Crash).await.err(),
            site.disks(&stale, &capture, web.id()).await.err(),
            site.release(&stale, &capture, web.id(), Fate::Sealed).await.err(),
            site.sweep(&stale, &web.instance, &[]).await.err(),
            site.fence(&stale, &web.instance, AT_ONCE).await.err(),
            site.unfence(&stale, &web.instance, leave, Start::Run).await.err(),
            site.dismiss(&stale, &web.instance).await.err(),
        ];
        for (at, error) in refused.into_iter().enumerate() {
            assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::StaleEpoch), "call {at} of {stale:?}");
        }
    }
    assert!(floor.server("web").runs());
    assert_eq!(floor.server("web").truth().log.len(), before, "no controller was asked anything");
    assert!(!floor.kept("web", "fence.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rol8_an_agent_that_hangs_holds_up_no_fence() {
    let floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await.instance;
    floor.agent("web").hangs.store(true, Ordering::SeqCst);
    let hung = {
        let (site, of) = (floor.site.clone(), [web.clone()]);
        async move { site.capture(&op("c"), &of, Consistency::Crash).await }
    };
    let fence = async {
        // The capture has its turn when nobody else gets one.
        let lock = floor.dir.path().join("state/epochs");
        for _ in 0..2000 {
            let locks = std::fs::read_dir(&lock).unwrap().map(|e| e.unwrap().path());
            let mut locks = locks.filter(|p| p.extension().is_some_and(|e| e == "lock"));
            if locks.any(|p| std::fs::File::open(p).unwrap().try_lock().is_err()) {
                break;
            }
            tokio::task::yield_now().await;
        }
        floor.site.fence(&op_of("engine", 2, "f"), &web, AT_ONCE).await
    };
    let both = async { tokio::join!(hung, fence) };
    let (hung, fenced) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("neither hangs for ever");
    assert_eq!(hung.unwrap_err().kind(), ErrorKind::Unavailable);
    fenced.unwrap();
    assert_eq!(floor.site.power(&web).await.unwrap(), BLOCKED);
    assert!(!floor.server("web").truth().on);
}

#[tokio::test]
async fn src12_a_deaf_system_loses_its_power_after_its_grace() {
    let floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await.instance;
    floor.server("web").truth().deaf = true;
    floor.site.fence(&op("f"), &web, Duration::from_millis(50)).await.unwrap();
    let log: Vec<_> =
        floor.server("web").truth().log.iter().copied().filter(|w| w.ends_with("off")).collect();
    assert_eq!(log, ["off", "force_off"]);
    floor.server("web").hear();
    assert!(!floor.server("web").truth().on && !floor.server("web").truth().asked);
}

#[tokio::test]
async fn src13_a_server_that_was_held_leaves_its_rescue_system() {
    let floor = Floor::new(HOLDS).await;
    let web = floor.enrolled("web").await;
    floor.site.fence(&op("f"), &web.instance, AT_ONCE).await.unwrap();
    assert!(!floor.server("web").press(), "somebody presses the button, and the rescue system comes up");
    assert!(floor.server("web").truth().on);
    assert_eq!(floor.site.power(&web.instance).await.unwrap(), BLOCKED);
    // A late fence leaves it there: its own system does not run.
    floor.site.fence(&op("f2"), &web.instance, AT_ONCE).await.unwrap();
    let lift = op("u");
    let leave = permit(&lift, &web).await;
    let lifted = floor.site.unfence(&lift, &web.instance, leave, Start::AsBefore).await.unwrap();
    assert!(lifted.running && floor.server("web").runs() && !floor.server("web").truth().held);
}

#[tokio::test]
async fn src13_a_server_that_was_switched_on_and_does_not_answer_is_started_once() {
    let floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await;
    floor.site.fence(&op("f"), &web.instance, AT_ONCE).await.unwrap();
    floor.server("web").truth().agent_dead = true;
    let lift = op("u");
    let unfence = async || {
        let leave = permit(&lift, &web).await;
        floor.site.unfence(&lift, &web.instance, leave, Start::Run).await
    };
    assert_eq!(unfence().await.unwrap_err().kind(), ErrorKind::Unavailable, "switched on, and nothing heard");
    assert!(floor.server("web").truth().on);
    assert!(!unfence().await.unwrap().running, "nobody can say that it runs");
    floor.server("web").truth().agent_dead = false;
    assert!(unfence().await.unwrap().running);
    let starts = floor.server("web").truth().log.iter().filter(|w| **w == "on").count();
    assert_eq!(starts, 1);
    assert!(!floor.kept("web", "fence.json").exists());
}

#[tokio::test]
async fn lnd4_our_own_start_leaves_the_stamp_and_another_does_not() {
    let mut floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await;
    let fenced = async |floor: &Floor, key: &str| {
        floor.site.fence(&op(key), &web.instance, AT_ONCE).await.unwrap();
        floor.site.power(&web.instance).await.unwrap()
    };
    let first = fenced(&floor, "f1").await;
    let lift = op("u");
    let leave = permit(&lift, &web).await;
    floor.site.unfence(&lift, &web.instance, leave, Start::Run).await.unwrap();
    assert_eq!(fenced(&floor, "f2").await, first, "it was us");
    floor.again().await;
    floor.server("web").press();
    floor.server("web").unplug();
    assert_ne!(fenced(&floor, "f3").await, first, "somebody else, while nobody looked");
}

#[tokio::test]
async fn d5_what_an_agent_could_not_be_told_it_is_told_first_when_it_answers() {
    let mut floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await;
    let of = [web.instance.clone()];
    let first = floor.site.capture(&op("c1"), &of, Consistency::Crash).await.unwrap();
    let since = first.members[0].cursor.clone().unwrap();
    // It goes down before the seal is told; the engine goes on.
    floor.server("web").unplug();
    floor.site.release(&op("r1"), &first, web.id(), Fate::Sealed).await.unwrap();
    assert!(floor.kept("web", "owed.json").exists());
    let lost = floor.site.disks(&op("d"), &first, web.id()).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::NotFound, "it ended with its system");
    floor.again().await;
    floor.server("web").press();
    let second = floor.site.capture(&op("c2"), &of, Consistency::Crash).await.unwrap();
    assert!(!floor.kept("web", "owed.json").exists());
    let changes = floor.site.changes(&second, web.id(), &since).await.unwrap();
    assert!(matches!(changes, Changes::Known(_)), "a delta from the sealed one: {changes:?}");
    // While nobody knows whether it is off, nothing is put off.
    floor.server("web").truth().agent_dead = true;
    let error = floor.site.release(&op("r2"), &second, web.id(), Fate::Sealed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn src1_a_silent_server_is_told_as_it_was_and_one_that_never_answered_is_named() {
    let floor = Floor::new(TELLS).await;
    let web = floor.enrolled("web").await;
    floor.server("web").unplug();
    assert_eq!(floor.found("web").await, web);
    floor.server("db").unplug();
    let error = floor.site.discover().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("db"), "{error}");
}

#[tokio::test]
async fn src1_an_agent_that_answers_as_another_is_not_taken_for_it() {
    let floor = Floor::new(TELLS).await;
    let swapped = Server {
        name: "web".into(),
        agent: Arc::clone(&floor.agents["db"]) as _,
        power: None,
        shutdown: None,
    };
    let state = floor.dir.path().join("another-state");
    let site = PhysicalSite::builder(SITE.into(), state, Arc::new(SystemClock)).server(swapped);
    let site = site.patience(PATIENCE).open().unwrap();
    let error = site.discover().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("answers as db"), "{error}");
}

#[tokio::test]
async fn servers_are_captured_one_at_a_time() {
    let floor = Floor::new(TELLS).await;
    let of = [floor.enrolled("web").await.instance, floor.enrolled("db").await.instance];
    let error = floor.site.capture(&op("c"), &of, Consistency::Crash).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(!floor.site.capability().groups);
    // A state directory is one site's.
    let other = PhysicalSite::builder("hall-2".into(), floor.dir.path().join("state"), Arc::new(SystemClock));
    assert_eq!(other.open().unwrap_err().kind(), ErrorKind::Conflict);
}

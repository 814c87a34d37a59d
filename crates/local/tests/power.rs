//! Power, fences, permits, epochs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use site_recovery::*;
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use support::*;

const BLOCKED: Power = Power::Off { start: StartGuard::Blocked { until: None } };

#[tokio::test]
async fn src10_power_is_read_and_silence_is_never_off() {
    let world = World::new();
    let web = world.enrolled("web").await;
    let power = async || world.site.power(&web).await;
    let off = power().await.unwrap();
    assert!(matches!(off, Power::Off { start: StartGuard::Tells(_) }), "{off:?}");
    world.site.switch_on("web").await.unwrap();
    assert_eq!(power().await.unwrap(), Power::On);
    world.site.switch_off("web").await.unwrap();
    assert_ne!(power().await.unwrap(), off, "a start from outside changes the stamp for ever");
    let state = world.path("web/.site-recovery/power.json");
    fs::write(&state, "{\"state\": \"perhaps\"}").unwrap();
    assert_eq!(power().await.unwrap(), Power::Unknown);
    fs::remove_file(&state).unwrap();
    let description = fs::read(world.path("web/machine.json")).unwrap();
    fs::write(world.path("web/machine.json"), "{").unwrap();
    assert_eq!(power().await.unwrap(), Power::Unknown);
    fs::write(world.path("web/machine.json"), description).unwrap();
    let stranger = Instance { machine: "other".into(), ..web.clone() };
    assert_eq!(world.site.power(&stranger).await.unwrap_err().kind(), ErrorKind::Conflict);
    fs::remove_file(world.path("web/machine.json")).unwrap();
    assert!(power().await.is_ok(), "its disks are still there");
    fs::remove_dir_all(world.path("web")).unwrap();
    assert_eq!(power().await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn src11_a_fence_stops_blocks_and_leaves_its_mark() {
    let world = World::new();
    let web = world.enrolled("web").await;
    world.site.switch_on("web").await.unwrap();
    for _ in 0..2 {
        world.site.fence(&op_at("f", 5, "engine"), &web, Duration::ZERO).await.unwrap();
        assert_eq!(world.again().power(&web).await.unwrap(), BLOCKED);
        let mark = fs::read_to_string(world.path("web/.site-recovery/fence.json")).unwrap();
        for part in ["\"f\"", "\"engine\"", "5", "\"ran_before\": true", "\"when\"", "unfence"] {
            assert!(mark.contains(part), "{part} in {mark}");
        }
    }
    let written = world.site.write_disk("web", &"root".into(), 0, bytes::Bytes::from_static(b"late")).await;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::Refused);
    assert!(!world.bytes("web/root.raw").starts_with(b"late"));
    let blocked = world.site.switch_on("web").await.unwrap_err();
    assert_eq!(blocked.kind(), ErrorKind::Refused);
    assert!(!world.is_on("web"));
    // Past us all the same: seen, and fenced again.
    world.site.start_outside("web").await.unwrap();
    assert_eq!(world.site.power(&web).await.unwrap(), Power::On);
    world.site.fence(&op_at("f", 5, "engine"), &web, Duration::ZERO).await.unwrap();
    assert_eq!(world.site.power(&web).await.unwrap(), BLOCKED);
    assert!(!world.is_on("web"));
}

#[tokio::test]
async fn src13_as_before_starts_exactly_what_ran_and_once() {
    for ran in [true, false] {
        let world = World::new();
        let web = world.enrolled("web").await;
        if ran {
            world.site.switch_on("web").await.unwrap();
        }
        world.site.fence(&op("f"), &web, Duration::ZERO).await.unwrap();
        world.site.fence(&op("f2"), &web, Duration::ZERO).await.unwrap();
        let unfence = async |key: &str, start: Start| {
            let op = op(key);
            let permit = permit(&op, &web).await;
            world.again().unfence(&op, &web, permit, start).await.unwrap().running
        };
        assert_eq!(unfence("u", Start::AsBefore).await, ran);
        assert_eq!(world.is_on("web"), ran);
        assert_ne!(world.site.power(&web).await.unwrap(), BLOCKED);
        // It was shut down from inside: a repeat reports that, and starts nothing.
        world.site.switch_off("web").await.unwrap();
        assert!(!unfence("u", Start::AsBefore).await);
        assert!(!world.is_on("web"));
        assert!(!unfence("stay", Start::Stay).await, "nothing to lift is no error");
        assert!(unfence("run", Start::Run).await && world.is_on("web"));
        // A late repeat does not lift a later fence.
        world.site.fence(&op("f3"), &web, Duration::ZERO).await.unwrap();
        for (key, start) in [("run", Start::Run), ("stay", Start::Stay), ("u", Start::AsBefore)] {
            assert!(!unfence(key, start).await);
            assert_eq!(world.site.power(&web).await.unwrap(), BLOCKED, "{key}");
        }
    }
}

#[tokio::test]
async fn src14_a_permit_for_another_is_refused() {
    let world = World::new();
    let (web, db) = (world.enrolled("web").await, world.enrolled("db").await);
    world.site.fence(&op("f"), &web, Duration::ZERO).await.unwrap();
    let op = op("u");
    let other = permit(&op, &db).await;
    let error = world.site.unfence(&op, &web, other, Start::Run).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(world.site.power(&web).await.unwrap(), BLOCKED);
    let older = permit(&op_at("u", 0, "engine"), &web).await;
    assert_eq!(
        world.site.unfence(&op, &web, older, Start::Run).await.unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert!(!world.is_on("web"));
}

#[tokio::test]
async fn s2_fenced_is_proven_by_reading_back() {
    let world = World::new();
    let web = world.enrolled("web").await;
    world.site.switch_on("web").await.unwrap();
    let machine = world.found("web").await;
    let item = Item::new(machine, op("x").epoch, Policy::default(), "out", "back");
    let sources: Sources = [("here".into(), Arc::new(world.site.clone()) as Arc<dyn Source>)].into();
    let proof = Fenced::prove(&op("p"), &item, None, &sources, Duration::ZERO).await.unwrap();
    assert_eq!(proof.observed()[0].instance, web);
    assert!(!world.is_on("web"));
}

fn scripted(world: &World, stop: &str, kill: Option<&str>) {
    let run = |script: &str| format!(r#"{{"run": ["/bin/sh", "-c", "{script}"]}}"#);
    let kill = kill.map_or(String::new(), |k| format!(r#", "kill": {}"#, run(k)));
    let commands = format!(
        r#""start": {}, "stop": {}, "is_running": {}{kill}"#,
        run("echo $SITE_RECOVERY_MACHINE $SITE_RECOVERY_NETWORK >> starts; touch running"),
        run(stop),
        run("test ! -e broken || exit 7; test -e running"),
    );
    world.machine_with("web", &commands);
}

#[tokio::test]
async fn the_users_own_commands_are_the_power() {
    let world = World::new();
    scripted(&world, "echo asked for $SITE_RECOVERY_GRACE >> stops; rm running", None);
    let web = world.enrol("web").await;
    assert_eq!(world.site.power(&web).await.unwrap(), Power::Off { start: StartGuard::Free });
    fs::write(world.path("web/running"), "").unwrap();
    assert_eq!(world.site.power(&web).await.unwrap(), Power::On, "started by hand, past power.json");
    world.site.fence(&op("f"), &web, Duration::from_secs(9)).await.unwrap();
    assert_eq!(world.bytes("web/stops"), b"asked for 9\n");
    assert_eq!(world.site.power(&web).await.unwrap(), BLOCKED);
    let op_u = op("u");
    let lifted = world.site.unfence(&op_u, &web, permit(&op_u, &web).await, Start::AsBefore).await.unwrap();
    assert!(lifted.running && world.path("web/running").exists());
    let again = world.site.unfence(&op_u, &web, permit(&op_u, &web).await, Start::AsBefore).await.unwrap();
    assert!(again.running);
    assert_eq!(world.bytes("web/starts"), b"web\n", "started once");
    fs::write(world.path("web/broken"), "").unwrap();
    assert_eq!(world.site.power(&web).await.unwrap(), Power::Unknown);
    world.site.fence(&op("f2"), &web, Duration::ZERO).await.expect_err("it never says that it is off");
}

#[tokio::test]
async fn src12_a_shutdown_that_hangs_is_ended_and_the_power_cut() {
    let world = World::new();
    scripted(&world, "exec sleep 1000", Some("rm running"));
    fs::write(world.path("web/running"), "").unwrap();
    let (site, web) = (&world.site, world.enrol("web").await);
    site.fence(&op("f"), &web, Duration::from_millis(50)).await.unwrap();
    assert_eq!(site.power(&web).await.unwrap(), BLOCKED);
    assert!(!world.path("web/running").exists());
    // Without a kill command, a machine that goes on running is no success.
    scripted(&world, "exit 0", None);
    fs::write(world.path("web/running"), "").unwrap();
    let error = site.fence(&op("f2"), &web, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(site.power(&web).await.unwrap(), Power::On);
}

#[tokio::test]
async fn a_start_that_fails_is_told_and_the_block_stays() {
    let world = World::new();
    world.machine_with("web", r#""start": {"run": ["/no/such/program"]}"#);
    let web = world.enrol("web").await;
    world.site.fence(&op("f"), &web, Duration::ZERO).await.unwrap();
    let op_u = op("u");
    let error = world.site.unfence(&op_u, &web, permit(&op_u, &web).await, Start::Run).await.unwrap_err();
    assert!(error.message().contains("/no/such/program"), "{error}");
    assert_eq!(world.site.power(&web).await.unwrap(), BLOCKED);
    // Nothing ran, so the same key may try again once it is mended.
    world.machine("web");
    let lifted = world.site.unfence(&op_u, &web, permit(&op_u, &web).await, Start::Run).await.unwrap();
    assert!(lifted.running && world.is_on("web"));
}

#[tokio::test]
async fn s1_rol2_a_stale_epoch_changes_nothing_anywhere() {
    let world = World::new();
    let web = world.enrolled("web").await;
    world.site.switch_on("web").await.unwrap();
    world.site.claim(&op_at("claim", 5, "new"), &web.machine).await.unwrap();
    for stale in [op_at("x", 4, "old"), op_at("x", 5, "other")] {
        let site = world.again();
        let machine = world.found("web").await;
        let settings = Settings::default();
        let refused = [
            site.claim(&stale, &web.machine).await.err(),
            site.enrol(&stale, &machine).await.err(),
            site.dismiss(&stale, &web).await.err(),
            site.capture(&stale, std::slice::from_ref(&web), Consistency::Crash).await.err(),
            site.sweep(&stale, &web, &[]).await.err(),
            site.fence(&stale, &web, Duration::ZERO).await.err(),
            site.unfence(&stale, &web, permit(&stale, &web).await, Start::Run).await.err(),
            site.destroy(&stale, &web).await.err(),
            site.set_aside(&stale, &web).await.err(),
            site.attach(&stale, &machine, Some(web.clone()), &settings).await.err(),
            site.attach(&stale, &machine, None, &settings).await.err(),
        ];
        for (at, error) in refused.into_iter().enumerate() {
            assert_eq!(error.map(|e| e.kind()), Some(ErrorKind::StaleEpoch), "call {at} of {stale:?}");
        }
        assert!(world.is_on("web"));
        assert!(!world.path("web/.site-recovery/fence.json").exists());
        assert_eq!(world.site.discover().await.unwrap(), [machine]);
    }
    // The register outlives the machine.
    fs::remove_dir_all(world.path("web")).unwrap();
    let error = world.again().claim(&op_at("x", 4, "old"), &web.machine).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StaleEpoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rol8_claim_waits_for_the_effect_that_has_begun() {
    let world = World::new();
    let wait = "while test ! -e go; do sleep 0.01; done; rm running";
    scripted(&world, &format!("touch asked; {wait}"), None);
    fs::write(world.path("web/running"), "").unwrap();
    let web = world.enrol("web").await;
    let fence = {
        let (site, web) = (world.site.clone(), web.clone());
        spawn(async move { site.fence(&op_at("f", 2, "old"), &web, Duration::from_secs(60)).await })
    };
    while !world.path("web/asked").exists() {
        assert!(!fence.is_finished());
        tokio::task::yield_now().await;
    }
    let claim = {
        let (site, machine) = (world.again(), web.machine.clone());
        spawn(async move { site.claim(&op_at("c", 3, "new"), &machine).await })
    };
    // Nobody waits for the fence any more; its effect goes on, and the claim waits for it.
    fence.abort();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!claim.is_finished());
    fs::write(world.path("web/go"), "").unwrap();
    claim.await.unwrap().unwrap();
    assert!(!world.path("web/running").exists());
    assert_eq!(world.site.power(&web).await.unwrap(), BLOCKED);
    let late = world.site.fence(&op_at("f", 2, "old"), &web, Duration::ZERO).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::StaleEpoch);
}

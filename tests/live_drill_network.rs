//! A drill reaches nobody in production, told by the frames of the networks themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod live;

use live::*;
use serde_json::json;
use site_recovery::{DrillRequest, ErrorKind, ItemHandle, Settings, state::DrillState};
use site_recovery_examples::live::{Emulator, Guest, GuestOptions, LAN, LiveStage};
use site_recovery_guest::{Lan, peers};
use site_recovery_qemu::{ISOLATED, Network};
use std::fs;

const NAME: &str = "web";
const IP: [u8; 4] = [10, 77, 0, 1];
/// A network that drills may run in, and that the host can listen to.
const APART: &str = "apart";
/// The ports of the production network, one at each site.
const PORTS: [&str; 2] = ["here", "cloud"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn o5_a_drill_is_heard_in_its_own_network_alone() {
    if !peers("a drill beside the production network", &PROGRAMS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for lan in [LAN, APART] {
        fs::create_dir(dir.path().join(lan)).unwrap();
    }
    let (mut lan, mut apart) = (Lan::new(&dir.path().join(LAN)), Lan::new(&dir.path().join(APART)));
    let production = PORTS.map(|port| (port, lan.backend(port).unwrap()));
    let drills = apart.backend("drill").unwrap();
    let emulator = Emulator::default();
    let stage = LiveStage::open_with(dir.path().join("sites"), &emulator, |name, site| {
        let (_, backend) = production.iter().find(|(port, _)| *port == name).unwrap();
        let site = site.network(LAN, Network::production(backend));
        if name == "cloud" { site.network(APART, Network::isolated(&drills)) } else { site }
    });
    let stage = stage.await.unwrap();
    let described = json!({ "nics": [{ "id": "n0", "network": LAN, "mac": "52:54:00:00:00:01" }] });
    let options = GuestOptions {
        words: "delay=50 ip=10.77.0.1".into(),
        described: described.as_object().unwrap().clone(),
        ..GuestOptions::default()
    };
    let a = stage.add_guest(NAME, &options).await.unwrap();
    a.writes(10).await.unwrap();
    until("the source is heard in production", || heard(&lan, "A-web") > 0).await;

    let vault = stage.builder().await.unwrap().build().await.unwrap();
    let web = protect(&vault, &stage, NAME).await;
    refused(&web, &stage).await;
    for network in [ISOLATED, APART] {
        let from = heard(&apart, "B-web");
        let drill = drill(&web, &stage, network, &lan).await;
        if network == APART {
            until("the drill is heard where it is", || heard(&apart, "B-web") > from).await;
            let pong = apart.ping(IP.into(), network, PATIENCE).unwrap();
            assert!(pong.starts_with("PONG apart B-web "), "{pong}");
        }
        let pong = lan.ping(IP.into(), network, PATIENCE).unwrap();
        assert!(pong.starts_with(&format!("PONG {network} A-web ")), "{pong}");
        assert!(drill.acknowledged() > 0);
        web.clean_up_test().await.unwrap().done().await.unwrap();
    }
    assert!(heard(&apart, "B-web") > 0, "whoever is there is heard");
    assert_eq!(heard(&apart, "A-web"), 0);
    assert_eq!((heard(&lan, "B-web"), lan.frames("cloud")), (0, 0), "production has heard of the drills");
}

/// What is not told to be apart from production takes no drill, whoever asks for it.
async fn refused(web: &ItemHandle, stage: &LiveStage) {
    for network in [LAN, "nowhere"] {
        let request = DrillRequest { network: Some(network.into()), ..DrillRequest::default() };
        let error = match web.test_failover(request).await {
            Ok(job) => job.done().await.unwrap_err(),
            Err(error) => error,
        };
        assert!([ErrorKind::Refused, ErrorKind::Invalid].contains(&error.kind()), "{error}");
        assert!(error.message().contains(network), "{error}");
        assert!(stage.machines.process("cloud", "web-test").is_err(), "it was started in {network}");
        if web.state().unwrap().drill != DrillState::None {
            web.clean_up_test().await.unwrap().done().await.unwrap();
        }
    }
    let settings = Settings { test_network: Some(LAN.into()), ..stage.settings(NAME) };
    let error = web.set_settings(settings).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("test_network"), "{error}");
}

/// Starts a drill and waits until it has written a good deal; the source is heard in production all the while.
async fn drill(web: &ItemHandle, stage: &LiveStage, network: &str, lan: &Lan) -> Guest {
    let request = DrillRequest { network: Some(network.into()), ..DrillRequest::default() };
    web.test_failover(request).await.unwrap().done().await.unwrap();
    let armed = web.item().unwrap().drill.unwrap().armed.unwrap();
    let guest = stage.guest_of(&armed.instance);
    guest.resumed().await.unwrap();
    for _ in 0..4 {
        let from = heard(lan, "A-web");
        guest.writes(10).await.unwrap();
        until("the source is heard beside the drill", || heard(lan, "A-web") > from).await;
    }
    guest
}

/// How often somebody was heard in a network.
fn heard(lan: &Lan, name: &str) -> usize {
    let beacon = format!("BEACON {name} ");
    lan.heard().iter().filter(|h| h.text.starts_with(&beacon)).count()
}

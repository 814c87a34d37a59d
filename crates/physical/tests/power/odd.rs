//! Controllers that misbehave: all answers come from a fake.

use crate::fake::{FakeController, Reply, Request, document, system};
use serde_json::json;
use site_recovery::{ErrorKind, Stamp, SystemClock};
use site_recovery_physical::power::redfish::{BootSource, Login, Settings, Trust};
use site_recovery_physical::power::{Keeps, PowerControl, PowerState, Redfish, SecretRef};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// An answer, and what it is taken for.
type Odd = (fn(&Request) -> Reply, ErrorKind);

const CANARY: &str = "canary-of-the-controller";

fn secret() -> (TempDir, SecretRef) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), format!("{CANARY}\n")).unwrap();
    let at = SecretRef::File(dir.path().join("password"));
    (dir, at)
}

fn settings(of: &FakeController, password: SecretRef) -> Settings {
    Settings {
        url: of.url.clone(),
        trust: Trust::Sha256(of.sha256.clone()),
        user: "operator".into(),
        password,
        login: Login::Basic,
        uuid: None,
        hold: None,
        tells: false,
        seconds: 2,
    }
}

fn redfish(settings: &Settings) -> Redfish {
    Redfish::new(settings, Arc::new(SystemClock)).unwrap()
}

fn of(controller: &FakeController) -> (TempDir, Redfish) {
    let (dir, password) = secret();
    let redfish = redfish(&settings(controller, password));
    (dir, redfish)
}

#[tokio::test]
async fn s2_what_is_no_answer_is_never_off() {
    let answers: Vec<Odd> = vec![
        (|_| Reply::Hang, ErrorKind::Unavailable),
        (|_| Reply::Say(503, vec![], b"{}".to_vec()), ErrorKind::Unavailable),
        (|_| Reply::Say(429, vec![], vec![]), ErrorKind::Unavailable),
        (|_| Reply::Say(200, vec![], b"\x16\x03\x01<html>".to_vec()), ErrorKind::Corrupt),
        (|_| Reply::Say(200, vec![], b"[\"Off\"]".to_vec()), ErrorKind::Corrupt),
        (|_| Reply::Endless, ErrorKind::Corrupt),
        (|_| Reply::Say(401, vec![], vec![]), ErrorKind::Denied),
        (|_| Reply::Say(404, vec![], vec![]), ErrorKind::Refused),
        (|_| Reply::Say(302, vec![("location", "https://127.0.0.1:1/".into())], vec![]), ErrorKind::Refused),
    ];
    for (at, (answer, kind)) in answers.into_iter().enumerate() {
        let controller = FakeController::answering(answer);
        let (_dir, redfish) = of(&controller);
        let error = redfish.state().await.unwrap_err();
        assert_eq!(error.kind(), kind, "answer {at}: {error}");
        assert!(!format!("{error} {error:?} {redfish:?}").contains(CANARY));
    }
    for said in [json!("PoweringOff"), json!("off"), json!(null), json!(0), json!({ "Off": true })] {
        let mut value = system();
        value["PowerState"] = said.clone();
        let controller = FakeController::answering(move |_| document(&value));
        let (_dir, redfish) = of(&controller);
        assert_eq!(redfish.state().await.unwrap(), PowerState::Unknown, "{said}");
    }
    let controller = FakeController::answering(|_| document(&system()));
    let (_dir, redfish) = of(&controller);
    drop(controller);
    assert_eq!(redfish.state().await.unwrap_err().kind(), ErrorKind::Unavailable, "nobody listens");
}

#[tokio::test]
async fn a_server_that_never_goes_down_is_waited_for_as_long_as_told() {
    let controller = FakeController::answering(|r| match r.method.as_str() {
        "GET" => document(&system()),
        _ => Reply::Say(204, vec![], vec![]),
    });
    let (_dir, redfish) = of(&controller);
    assert!(!redfish.off(Duration::from_secs(2)).await.unwrap());
    redfish.force_off().await.unwrap();
    assert_eq!(redfish.state().await.unwrap(), PowerState::On, "what it reads counts, not what it answered");
    let asked: Vec<_> = controller.asked("POST").iter().map(|r| r.body["ResetType"].clone()).collect();
    assert_eq!(asked, ["GracefulShutdown", "ForceOff"]);
    redfish.on().await.unwrap();
    assert_eq!(controller.asked("POST").len(), 2, "it is on already");
}

#[tokio::test]
async fn c1_nothing_goes_to_an_address_that_is_not_the_controllers() {
    for foreign in ["https://127.0.0.1:9/reset", "//elsewhere/reset", "http://elsewhere/"] {
        let mut value = system();
        value["Actions"]["#ComputerSystem.Reset"]["target"] = json!(foreign);
        let controller = FakeController::answering(move |_| document(&value));
        let (_dir, redfish) = of(&controller);
        assert_eq!(redfish.force_off().await.unwrap_err().kind(), ErrorKind::Corrupt, "{foreign}");
        assert!(controller.asked("POST").is_empty());
    }
}

#[tokio::test]
async fn c2_a_controller_is_known_by_its_certificate() {
    let controller = FakeController::answering(|_| document(&system()));
    let (dir, password) = secret();
    let pinned = settings(&controller, password);
    let other = crate::trust::Authority::new();
    let (ours, theirs) = (dir.path().join("ours.pem"), dir.path().join("theirs.pem"));
    std::fs::write(&ours, controller.authority.pem()).unwrap();
    std::fs::write(&theirs, other.pem()).unwrap();
    for (trust, trusted) in [
        (Trust::Sha256(controller.sha256.clone()), true),
        (Trust::Sha256(controller.sha256.replace(':', "").to_uppercase()), true),
        (Trust::Ca(ours), true),
        (Trust::Sha256(other.issue().sha256), false),
        (Trust::Ca(theirs), false),
    ] {
        let state = redfish(&Settings { trust: trust.clone(), ..pinned.clone() }).state().await;
        match trusted {
            true => assert_eq!(state.unwrap(), PowerState::On, "{trust:?}"),
            false => assert_eq!(state.unwrap_err().kind(), ErrorKind::Denied, "{trust:?}"),
        }
    }
    assert_eq!(controller.asked("GET").len(), 3, "who is not trusted is asked nothing");
    let refuse = |settings: Settings| Redfish::new(&settings, Arc::new(SystemClock)).unwrap_err();
    for pin in ["", "aa", "zz", &"0".repeat(63), &"é".repeat(32)] {
        let error = refuse(Settings { trust: Trust::Sha256(pin.into()), ..pinned.clone() });
        assert_eq!(error.fact("field"), Some("trust.sha256"), "{pin}");
    }
    let plain = refuse(Settings { url: pinned.url.replace("https", "http"), ..pinned.clone() });
    assert_eq!(plain.fact("field"), Some("url"));
    let in_address = format!("https://operator:{CANARY}@127.0.0.1/redfish/v1/Systems/1");
    let error = refuse(Settings { url: in_address, ..pinned });
    assert!(!error.to_string().contains(CANARY), "{error}");
}

#[tokio::test]
async fn a_controller_of_another_system_is_not_listened_to() {
    let controller = FakeController::answering(|_| document(&system()));
    let (_dir, password) = secret();
    let uuid = |text: &str| Settings { uuid: Some(text.into()), ..settings(&controller, password.clone()) };
    let same = redfish(&uuid("11111111-2222-3333-4444-555555555555"));
    assert_eq!(same.state().await.unwrap(), PowerState::On);
    let other = redfish(&uuid("99999999-2222-3333-4444-555555555555"));
    assert_eq!(other.state().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(other.force_off().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(controller.asked("POST").is_empty());
}

#[tokio::test]
async fn a_session_is_opened_once_and_anew_when_it_ended() {
    let number = Arc::new(AtomicU64::new(1));
    let controller = FakeController::answering({
        let number = Arc::clone(&number);
        move |r| {
            let token = format!("token-{}", number.load(Ordering::SeqCst));
            match (r.method.as_str(), r.path.as_str()) {
                ("POST", "/redfish/v1/SessionService/Sessions") => {
                    let right = r.body["UserName"] == "operator" && r.body["Password"] == CANARY;
                    Reply::Say(if right { 201 } else { 401 }, vec![("X-Auth-Token", token)], b"{}".to_vec())
                }
                _ if r.headers.get("x-auth-token") == Some(&token) => document(&system()),
                _ => Reply::Say(401, vec![], vec![]),
            }
        }
    });
    let (dir, password) = secret();
    let redfish = redfish(&Settings { login: Login::Session, ..settings(&controller, password) });
    for _ in 0..3 {
        assert_eq!(redfish.state().await.unwrap(), PowerState::On);
    }
    assert_eq!(controller.asked("POST").len(), 1);
    assert!(controller.asked("GET").iter().all(|r| !r.headers.contains_key("authorization")));
    number.store(2, Ordering::SeqCst);
    assert_eq!(redfish.state().await.unwrap(), PowerState::On);
    assert_eq!(controller.asked("POST").len(), 2);
    assert!(!format!("{redfish:?}").contains("token-"), "{redfish:?}");
    // The password is read when it is needed.
    number.store(3, Ordering::SeqCst);
    std::fs::write(dir.path().join("password"), "another").unwrap();
    let error = redfish.state().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(!format!("{error} {error:?}").contains("another"), "{error}");
}

#[tokio::test]
async fn the_reset_time_is_a_stamp_and_a_boot_source_that_is_overridden_holds() {
    let state = Arc::new(Mutex::new(json!({
        "PowerState": "Off",
        "LastResetTime": "2026-11-24T08:00:00Z",
        "Boot": { "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None" }
    })));
    let controller = FakeController::answering({
        let state = Arc::clone(&state);
        move |r| {
            let mut state = state.lock().unwrap();
            if r.method == "PATCH" {
                // The mark that the document bore has to come back.
                if r.headers.get("if-match").map(String::as_str) != Some("\"7\"") {
                    return Reply::Say(412, vec![], vec![]);
                }
                let boot = r.body["Boot"].as_object().unwrap().clone();
                state["Boot"] = boot.into();
                return Reply::Say(200, vec![], b"{}".to_vec());
            }
            Reply::Say(200, vec![("ETag", "\"7\"".into())], state.to_string().into_bytes())
        }
    });
    let (_dir, password) = secret();
    let wants = Settings { hold: Some(BootSource::Pxe), tells: true, ..settings(&controller, password) };
    let redfish = redfish(&wants);
    assert_eq!(redfish.keeps(), Keeps { holds: true, tells: true });
    assert_eq!(redfish.stamp().await.unwrap(), Some(Stamp(b"2026-11-24T08:00:00Z".to_vec())));
    assert_eq!(redfish.held().await.unwrap(), Some(false));
    redfish.hold(true).await.unwrap();
    assert_eq!(state.lock().unwrap()["Boot"]["BootSourceOverrideTarget"], "Pxe");
    assert_eq!(redfish.held().await.unwrap(), Some(true));
    state.lock().unwrap()["Boot"]["BootSourceOverrideEnabled"] = "Once".into();
    assert_eq!(redfish.held().await.unwrap(), Some(false), "the first start would use it up");
    redfish.hold(true).await.unwrap();
    redfish.hold(false).await.unwrap();
    assert_eq!(state.lock().unwrap()["Boot"]["BootSourceOverrideEnabled"], "Disabled");
    assert!(redfish.look().await.unwrap().is_empty());
    state.lock().unwrap()["LastResetTime"] = json!(null);
    state.lock().unwrap()["Boot"] = json!({});
    assert_eq!((redfish.stamp().await.unwrap(), redfish.held().await.unwrap()), (None, None));
    let found = redfish.look().await.unwrap();
    assert!(found.iter().any(|f| f.code == "power.tells" && f.blocks()), "{found:?}");
}

#[tokio::test]
async fn c1_a_password_in_an_address_is_shown_to_nobody_whatever_else_is_wrong_with_it() {
    let controller = FakeController::answering(|_| document(&system()));
    let (_dir, password) = secret();
    for address in
        ["https://operator:hunter2@bmc-1/", "http://operator:hunter2@bmc-1/", "https://operator:hunter2@[bmc"]
    {
        let settings = Settings { url: address.into(), ..settings(&controller, password.clone()) };
        let error = Redfish::new(&settings, Arc::new(SystemClock)).unwrap_err();
        assert_eq!(error.fact("field"), Some("url"));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

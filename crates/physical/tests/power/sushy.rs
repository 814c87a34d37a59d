//! Redfish against sushy-tools.

use crate::emulator::Sushy;
use crate::trust::Authority;
use site_recovery::{Clock, ErrorKind, SystemClock};
use site_recovery_physical::power::redfish::{Settings, Trust};
use site_recovery_physical::power::{PowerControl, PowerState, Redfish, SecretRef};
use std::sync::Arc;
use std::time::Duration;

fn redfish(settings: &Settings) -> Redfish {
    Redfish::new(settings, Arc::new(SystemClock)).unwrap()
}

async fn reads(redfish: &Redfish, state: PowerState) {
    for _ in 0..100 {
        if redfish.state().await.unwrap() == state {
            return;
        }
        SystemClock.sleep(Duration::from_millis(200)).await;
    }
    panic!("it never reads as {state:?}");
}

#[tokio::test]
async fn s2_a_server_is_switched_held_and_read_back() {
    let Some(sushy) = Sushy::start() else { return };
    let redfish = redfish(&sushy.settings());
    assert_eq!(redfish.state().await.unwrap(), PowerState::On);
    assert!(redfish.off(Duration::from_secs(30)).await.unwrap(), "it goes down in order");
    assert_eq!(redfish.state().await.unwrap(), PowerState::Off);
    redfish.on().await.unwrap();
    reads(&redfish, PowerState::On).await;
    redfish.force_off().await.unwrap();
    reads(&redfish, PowerState::Off).await;

    assert_eq!(redfish.held().await.unwrap(), Some(false));
    redfish.hold(true).await.unwrap();
    assert_eq!(redfish.held().await.unwrap(), Some(true));
    redfish.hold(false).await.unwrap();
    assert_eq!(redfish.held().await.unwrap(), Some(false));
    assert!(redfish.look().await.unwrap().is_empty());
}

#[tokio::test]
async fn c2_who_is_not_trusted_or_not_known_is_denied() {
    let Some(sushy) = Sushy::start() else { return };
    let right = sushy.settings();
    let denied = async |settings: Settings, why: &str| {
        let error = redfish(&settings).state().await.expect_err(why);
        assert_eq!(error.kind(), ErrorKind::Denied, "{why}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{why}: {error}");
    };
    let pinned = Settings { trust: Trust::Sha256(sushy.issued.sha256.clone()), ..right.clone() };
    assert_eq!(redfish(&pinned).state().await.unwrap(), PowerState::On);
    let other = Authority::new().issue().sha256;
    denied(Settings { trust: Trust::Sha256(other), ..right.clone() }, "another certificate").await;
    denied(Settings { user: "stranger".into(), ..right.clone() }, "another user").await;
    std::fs::write(sushy.dir.path().join("wrong"), "canary-of-another").unwrap();
    let wrong = SecretRef::File(sushy.dir.path().join("wrong"));
    denied(Settings { password: wrong, ..right.clone() }, "another password").await;
    // What it lacks is found when it is asked, not when it is needed.
    let found = redfish(&Settings { tells: true, ..right }).look().await.unwrap();
    assert!(found.iter().any(|f| f.code == "power.tells" && f.blocks()), "{found:?}");
}

//! Servers that are no vCenter, and hosts that do not answer theirs.

use crate::support::kept::Kept;
use crate::support::process::{Mode, Sim};
use crate::{looked_at, open_with};
use serde_json::json;
use site_recovery::{ErrorKind, Power, Role, Source};
use site_recovery_testkit::suite;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_no_vcenter() {
    let Some(sim) = Sim::start(Mode::Esxi) else { return };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let error = open_with(sim.settings.clone(), state.clone()).open().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("site_recovery_esxi"), "{error}");
    assert!(!state.exists(), "a state directory is left");
    let told = looked_at(&sim, None).await.unwrap();
    let told = told.iter().find(|f| f.code == "server.kind").expect("it is told");
    assert!(told.blocks() && told.remedy.contains("site_recovery_esxi"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s2_a_machine_whose_host_is_silent_is_never_off() {
    for state in ["notResponding", "disconnected"] {
        let Some(here) = Kept::new().await else { return };
        let capture = here.capture("before").await;
        for off in [false, true] {
            if off {
                here.world.stop(&here.name).await;
            }
            let host = async |state: &str| {
                here.world.sim.tell("host", json!({ "host": "DC0_H0", "state": state })).await;
            };
            host(state).await;
            match here.site().power(here.instance()).await {
                Ok(Power::Unknown) => {}
                Ok(other) => panic!("{state}: {other:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    assert!(error.to_string().contains("web is disconnected"), "{error}");
                }
            }
            let fence = suite::op(&format!("fence-{off}"));
            let error = here.site().fence(&fence, here.instance(), Duration::ZERO).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let error = here.try_capture("other").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let error = here.disks(&capture).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            // Nothing is left out, and nothing hidden: it is told as the server knew it.
            let told = here.site().discover().await.unwrap();
            let web = told.iter().find(|m| m.instance.is(here.instance())).unwrap();
            assert_eq!((web.id(), &web.disks), (here.machine.id(), &here.machine.disks));
            here.site().claim(&suite::op("claim"), here.machine.id()).await.unwrap();
            host("connected").await;
            let power = here.site().power(here.instance()).await.unwrap();
            assert_eq!(power == Power::On, !off, "{power:?}");
        }
        here.release(&capture).await;
    }
}

//! A simulator in trouble.

use crate::sim::{BOTH, Mode, Sim, machines};
use serde_json::json;
use site_recovery::ErrorKind;
use vmware_vsphere_rest::{Cardinality, Dialect, Error, Lost, MachineFilter, ObjectId, Power, Refusal};
use vmware_vsphere_rest::{SecretRef, TagWatch, Trust};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_at_any_time_and_nothing_is_done_twice() {
    for dialect in BOTH {
        let Some(sim) = Sim::start(Mode::VCenter) else { return };
        let vcenter = sim.connect(dialect).await;
        let id = machines(&vcenter).await.remove(0).id;
        let expire = async || drop(sim.tell("sessions-expire", json!({})).await);
        expire().await;
        assert_eq!(machines(&vcenter).await.len(), 2);
        expire().await;
        vcenter.stop(&id).await.unwrap();
        assert_eq!(vcenter.power(&id).await.unwrap(), Power::Off);
        let category = vcenter.create_category("dr", &Cardinality::Single, &[]).await.unwrap();
        expire().await;
        let tag = vcenter.create_tag(&category, "gold").await.unwrap();
        vcenter.attach(&tag, &ObjectId::from(&id)).await.unwrap();
        let mut watch = TagWatch::new(vcenter.clone(), "dr=gold".parse().unwrap());
        expire().await;
        assert_eq!(watch.look().await.unwrap().added, std::slice::from_ref(&id));
        expire().await;
        assert!(watch.look().await.unwrap().is_empty());
        assert_eq!(vcenter.tags(&category).await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_change_whose_answer_is_cut_off_was_done_once() {
    let Some(sim) = Sim::start(Mode::VCenter) else { return };
    let vcenter = sim.connect(Dialect::Api).await;
    let path = "/api/cis/tagging/category";
    let cut = json!({ "path": path, "method": "POST", "kind": "short", "bytes": 5, "count": 1 });
    sim.tell("http-fault", cut).await;
    let error = vcenter.create_category("dr", &Cardinality::Single, &[]).await.unwrap_err();
    assert!(error.may_have_been_done(), "{error:?}");
    assert_eq!(vcenter.categories().await.unwrap().len(), 1);
    for kind in ["reset", "short"] {
        let body = json!({ "path": "/api/vcenter/vm", "kind": kind, "bytes": 40, "count": 2 });
        sim.tell("http-fault", body).await;
        assert_eq!(machines(&vcenter).await.len(), 2, "a read comes through {kind}");
    }
    let cut = json!({ "path": "/api/vcenter/vm", "kind": "truncate", "bytes": 40, "count": 1 });
    sim.tell("http-fault", cut).await;
    let error = vcenter.machines(&MachineFilter::default()).await.unwrap_err();
    assert!(matches!(error, Error::Garbage { .. }), "{error:?}");
    let busy = json!({ "path": "/api/vcenter/vm", "kind": "status", "status": 503, "count": 0 });
    sim.tell("http-fault", busy).await;
    let error = vcenter.machines(&MachineFilter::default()).await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_strangers_and_wrong_passwords_are_told_apart_and_who_is_gone_is_absent() {
    let Some(mut sim) = Sim::start(Mode::VCenter) else { return };
    let right = sim.settings.clone();
    sim.settings.trust = Trust::Sha256("0".repeat(64));
    let error = sim.try_connect().await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Stranger { .. })), "{error:?}");
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("password");
    std::fs::write(&wrong, "canary").unwrap();
    sim.settings = right.clone();
    sim.settings.password = SecretRef::File(wrong);
    for dialect in BOTH {
        if dialect == Dialect::Rest {
            let gone = json!({ "path": "/api", "kind": "status", "status": 404, "count": 0 });
            sim.tell("http-fault", gone).await;
        }
        let error = sim.try_connect().await.unwrap_err();
        assert_eq!(error.refusal(), Some(&Refusal::Unauthenticated), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    sim.settings = right;
    let vcenter = sim.connect(Dialect::Rest).await;
    drop(sim);
    let error = vcenter.machines(&MachineFilter::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

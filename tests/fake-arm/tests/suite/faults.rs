//! Faults, and what is written down of the traffic.

use crate::wire::{PLACE, Site};
use fake_arm::{Config, Fault, What};
use serde_json::{Value, json};
use std::time::Duration;

fn empty() -> Value {
    json!({
        "location": PLACE,
        "properties": { "creationData": { "createOption": "Empty" }, "diskSizeGB": 1 },
    })
}

#[tokio::test]
async fn an_answer_is_replaced_and_nothing_happens() {
    let site = Site::new().await;
    let what = What::Status { status: 429, code: "TooManyRequests".into(), retry_after: Some(7) };
    let hits = site.fake.fault(Fault { nth: 2, ..Fault::next("PUT", "/disks/", what) });
    site.done(site.put("disks/a", &empty()).await).await;
    let said = site.put("disks/b", &empty()).await;
    assert_eq!((said.code(), said.header("retry-after")), ((429, "TooManyRequests"), "7"));
    assert!(site.fake.disk("b").is_none());
    site.done(site.put("disks/b", &empty()).await).await;
    assert_eq!(hits.count(), 1);
    site.fake.fault(Fault::next("GET", "/disks/", What::TokenExpired));
    assert_eq!(site.get("disks/b").await.code(), (401, "ExpiredAuthenticationToken"));
    assert_eq!(site.get("disks/b").await.status, 200);
}

#[tokio::test]
async fn a_connection_breaks_before_and_after_the_effect() {
    let site = Site::new().await;
    site.fake.fault(Fault::next("PUT", "/disks/before", What::DropBeforeEffect));
    assert!(site.send("PUT", &site.url("disks/before"), Some(&empty())).await.is_err());
    assert_eq!(site.get("disks/before").await.status, 404);
    site.fake.fault(Fault::next("PUT", "/disks/after", What::DropAfterAccept));
    assert!(site.send("PUT", &site.url("disks/after"), Some(&empty())).await.is_err());
    assert_eq!(site.get("disks/after").await.status, 200);
    let last =
        site.fake.recording().into_iter().rev().find(|line| line["request"]["method"] == "PUT").unwrap();
    assert!(last["response"].is_null(), "{last}");
}

#[tokio::test]
async fn nothing_is_done_in_silence() {
    let site = Site::new().await;
    site.fake.silence(true);
    assert!(site.send("PUT", &site.url("disks/a"), Some(&empty())).await.is_err());
    site.fake.silence(false);
    assert_eq!(site.get("disks/a").await.status, 404);
}

#[tokio::test]
async fn an_answer_never_comes() {
    let site = Site::new().await;
    for (what, there) in [(What::Hang, 404), (What::HangAfterAccept, 200)] {
        let hits = site.fake.fault(Fault::next("PUT", "/disks/d", what));
        let (url, body) = (site.url("disks/d"), empty());
        let hangs = site.send("PUT", &url, Some(&body));
        tokio::pin!(hangs);
        let arrives = async {
            while hits.count() == 0 || (there == 200 && site.fake.under_way() == 0) {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            said = &mut hangs => panic!("{:?}", said.map(|said| said.body)),
            arrived = tokio::time::timeout(Duration::from_secs(30), arrives) => arrived.expect("it arrives"),
        }
        assert_eq!(site.get("disks/d").await.status, there);
    }
}

#[tokio::test]
async fn an_operation_fails_at_its_end() {
    let site = Site::new().await;
    site.machine().await;
    let fails = |code: &str| What::FailAtEnd { code: code.into(), message: "as wanted".into() };
    site.fake.fault(Fault::next("PUT", "/disks/", fails("InternalExecutionError")));
    let end = site.end(site.put("disks/d", &empty()).await).await;
    assert_eq!((&end["status"], &end["error"]["code"]), (&json!("Failed"), &json!("InternalExecutionError")));
    assert_eq!(site.get("disks/d").await.ok()["properties"]["provisioningState"], "Failed");
    assert!(site.fake.disk("d").is_none());
    site.fake.fault(Fault::next("POST", "/deallocate", fails("VMAgentError")));
    let end = site.end(site.post("virtualMachines/m/deallocate", &Value::Null).await).await;
    assert_eq!(end["status"], "Failed");
    site.fake.machine("m").write("data", 0, &[1; 512]).unwrap();
    site.fake.fault(Fault::next("DELETE", "/disks/d", fails("Sticky")));
    let said = site.delete("disks/d").await;
    let url = said.header("location").to_owned();
    site.send("GET", &url, None).await.unwrap();
    assert_eq!(site.send("GET", &url, None).await.unwrap().code(), (409, "Sticky"));
    assert_eq!(site.get("disks/d").await.status, 200);
}

#[tokio::test]
async fn a_machine_that_fails_keeps_its_disks() {
    let site = Site::new().await;
    site.empty_disk("os", true).await;
    site.nic("n").await;
    let what = What::FailAtEnd { code: "AllocationFailed".into(), message: "no room".into() };
    site.fake.fault(Fault::next("PUT", "/virtualMachines/", what));
    let end = site.end(site.put("virtualMachines/m", &site.machine_body(&["os"], "n")).await).await;
    assert_eq!(end["error"]["code"], "AllocationFailed");
    assert_eq!(site.get("virtualMachines/m").await.ok()["properties"]["provisioningState"], "Failed");
    assert!(site.fake.machine("m").write("os", 0, &[1; 512]).is_err());
    assert_eq!(site.get("disks/os").await.ok()["managedBy"], site.id("virtualMachines/m"));
    site.done(site.delete("virtualMachines/m").await).await;
    assert!(site.get("disks/os").await.ok()["managedBy"].is_null());
}

#[tokio::test]
async fn what_was_said_is_kept_without_what_opens_doors() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("said.jsonl");
    let site = Site::with(Config { record: Some(record.clone()), ..Config::default() }).await;
    site.empty_disk("d", false).await;
    let sas = site.sas("disks/d", "Read").await;
    let signature = sas.split("sig=").nth(1).unwrap().split('&').next().unwrap();
    let text = std::fs::read_to_string(record).unwrap();
    assert!(text.contains("accessSAS") && text.contains("sig=hidden"), "{text}");
    assert!(!text.contains(signature) && !text.to_lowercase().contains("bearer"), "{text}");
    assert_eq!(text.lines().count(), site.fake.recording().len());
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["request"]["method"], &first["response"]["status"]), (&json!("PUT"), &json!(202)));
}

#[tokio::test]
async fn all_that_is_there_is_told() {
    let site = Site::new().await;
    site.machine().await;
    site.act("deallocate").await;
    site.sas("disks/data", "Read").await;
    site.delete("virtualMachines/m").await;
    let world = site.fake.world();
    let of = |name: &str| world.iter().find(|resource| resource.name == name).unwrap();
    assert!(of("data").granted && !of("os").granted);
    assert!(of("m").busy && site.fake.under_way() == 1);
    let kinds: Vec<_> =
        world.iter().map(|resource| (resource.kind.as_str(), resource.name.as_str())).collect();
    let all = [
        ("Microsoft.Compute/disks", "data"),
        ("Microsoft.Compute/disks", "os"),
        ("Microsoft.Compute/virtualMachines", "m"),
        ("Microsoft.Network/networkInterfaces", "n"),
        ("Microsoft.Network/virtualNetworks", "vnet"),
        ("Microsoft.Network/virtualNetworks/subnets", "servers"),
    ];
    assert_eq!(kinds, all);
}

#[tokio::test]
async fn a_fake_that_is_dropped_answers_no_more() {
    let site = Site::new().await;
    let (url, client) = (site.url("disks/d"), site.client.clone());
    drop(site);
    tokio::task::yield_now().await;
    assert!(client.get(&url).bearer_auth("t").send().await.is_err());
}

//! Faults: each is met once, and has the effect that it says.

use crate::client::{Got, HOUR, Site};
use fake_blob::{Fault, Gate, Match};
use std::time::Duration;

const BLOCK: (&str, &str) = ("x-ms-blob-type", "BlockBlob");

async fn put(site: &Site, body: &'static str) -> reqwest::Result<Got> {
    Got::tried(site.request("PUT", "vault/disks/a", &[BLOCK]).body(body)).await
}

fn held(site: &Site) -> Option<String> {
    let held = site.fake.blob("vault", "disks", "a")?;
    Some(String::from_utf8(held.bytes.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn an_answer_of_choice_has_no_effect() {
    let site = Site::ready().await;
    let busy = Fault::Status { code: 503, azure_code: "ServerBusy", retry_after: Some(7) };
    let hits = site
        .fake
        .faults()
        .next(Match::any().method("PUT").comp("").path_contains("/a").after(1).times(2), busy);
    assert_eq!(put(&site, "1").await.unwrap().status, 201);
    assert_eq!(site.get("vault/disks/a", &[]).await.status, 200);
    for _ in 0..2 {
        let got = put(&site, "2").await.unwrap();
        got.refused(503, "ServerBusy");
        assert_eq!(got.header("retry-after"), Some("7"));
    }
    assert_eq!((held(&site).as_deref(), hits.count(), site.fake.faults().waiting()), (Some("1"), 2, 0));
    assert_eq!(put(&site, "3").await.unwrap().status, 201);
    let statuses: Vec<_> = site.fake.log().into_iter().filter(|entry| entry.method == "PUT").collect();
    let last = &statuses[statuses.len() - 2];
    assert_eq!((last.status, last.code.as_deref(), last.received), (Some(503), Some("ServerBusy"), 1));
}

#[tokio::test]
async fn a_broken_connection_has_its_effect_or_not() {
    let site = Site::ready().await;
    let before = site.fake.faults().next(Match::any(), Fault::DropBeforeEffect);
    assert!(put(&site, "1").await.is_err());
    assert_eq!((before.count(), held(&site)), (1, None));
    let after = site.fake.faults().next(Match::any(), Fault::DropBeforeAnswer);
    assert!(put(&site, "2").await.is_err());
    assert_eq!((after.count(), held(&site).as_deref()), (1, Some("2")));
    let lost = site.fake.log().iter().filter(|entry| entry.status.is_none()).count();
    assert_eq!(lost, 2);
}

#[tokio::test]
async fn a_request_that_hangs_has_no_effect() {
    let site = Site::ready().await;
    let hits = site.fake.faults().next(Match::any(), Fault::Hang(Duration::from_millis(20)));
    assert!(put(&site, "1").await.is_err());
    assert_eq!((hits.count(), held(&site)), (1, None));
    let hits = site.fake.faults().next(Match::any(), Fault::Hang(HOUR));
    let slow = site
        .request("PUT", "vault/disks/a", &[BLOCK])
        .timeout(Duration::from_millis(100))
        .body("1")
        .send()
        .await;
    assert!(slow.unwrap_err().is_timeout());
    assert_eq!((hits.count(), held(&site)), (1, None));
}

#[tokio::test]
async fn a_late_request_lands_after_its_sender_gave_up() {
    let site = Site::ready().await;
    let gate = Gate::new();
    let hits = site.fake.faults().next(Match::any(), Fault::Late(gate.clone()));
    let first = site.request("PUT", "vault/disks/a", &[BLOCK]).body("old").send();
    tokio::select! {
        _ = first => panic!("answered before it was let"),
        () = hits.reach(1) => {}
    }
    assert_eq!(put(&site, "new").await.unwrap().status, 201);
    gate.open();
    gate.through().reach(1).await;
    assert_eq!(held(&site).as_deref(), Some("old"));
}

#[tokio::test]
async fn a_body_is_cut() {
    let site = Site::ready().await;
    site.document("a", "0123456789").await;
    site.page_blob("p", 4 << 20).await;
    for (path, bytes) in [("vault/disks/a", 4), ("vault/disks/p", (1 << 20) + 17)] {
        let hits = site.fake.faults().next(Match::any().method("GET"), Fault::CutBody(bytes));
        let mut response = site.request("GET", path, &[]).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let mut seen = 0;
        let ended = loop {
            match response.chunk().await {
                Ok(Some(piece)) => seen += piece.len() as u64,
                ended => break ended,
            }
        };
        assert!(ended.is_err(), "{path}: {seen}");
        assert_eq!((seen, hits.count()), (bytes, 1));
    }
}

#[tokio::test]
async fn tokens_expire_in_the_middle() {
    let site = Site::ready().await;
    let hits = site.fake.faults().next(Match::any().comp("list"), Fault::ExpireTokens);
    assert_eq!(put(&site, "1").await.unwrap().status, 201);
    let list = site.get("vault/disks?restype=container&comp=list", &[]).await;
    list.refused(401, "InvalidAuthenticationInfo");
    put(&site, "2").await.unwrap().refused(401, "InvalidAuthenticationInfo");
    assert_eq!((hits.count(), held(&site).as_deref()), (1, Some("1")));
    let fresh = site.bare("PUT", &site.url("vault/disks/a")).header(BLOCK.0, BLOCK.1);
    assert_eq!(Got::of(fresh.bearer_auth(site.fake.token(HOUR)).body("3")).await.status, 201);
}

#[tokio::test]
async fn a_fake_that_is_dropped_is_gone() {
    let site = Site::ready().await;
    let url = site.url("vault/disks?restype=container");
    let Site { fake, client, .. } = site;
    drop(fake);
    assert!(client.get(url).send().await.is_err());
}

//! Lists.

use crate::client::{Got, Site};
use fake_blob::Config;

async fn pages(site: &Site, query: &str) -> Vec<Got> {
    let mut all = vec![site.get(&format!("vault/disks?restype=container&comp=list{query}"), &[]).await];
    while let Some(marker) = all[all.len() - 1].all("NextMarker").pop().filter(|marker| !marker.is_empty()) {
        assert!(all.len() < 20);
        let marker = marker.replace('=', "%3D").replace('+', "%2B");
        let path = format!("vault/disks?restype=container&comp=list{query}&marker={marker}");
        all.push(site.get(&path, &[]).await);
    }
    all
}

fn names(pages: &[Got]) -> Vec<String> {
    pages.iter().flat_map(|page| page.all("Name")).collect()
}

#[tokio::test]
async fn a_list_comes_in_parts_and_in_order() {
    let site = Site::ready_with(Config::account("vault").list_page(2)).await;
    for name in ["m/2/state", "m/1/state", "m/1/plan/1", "n", "m/1/plan/2"] {
        site.document(name, "x").await;
    }
    let all = pages(&site, "").await;
    assert_eq!(all.len(), 3);
    assert_eq!(names(&all), ["m/1/plan/1", "m/1/plan/2", "m/1/state", "m/2/state", "n"]);
    assert_eq!(names(&pages(&site, "&prefix=m/1/").await), ["m/1/plan/1", "m/1/plan/2", "m/1/state"]);
    assert_eq!(pages(&site, "&prefix=m/1/&maxresults=1").await.len(), 3);
    let folded = pages(&site, "&prefix=m/&delimiter=/").await;
    assert_eq!(names(&folded), ["m/1/", "m/2/"]);
    assert_eq!(folded[0].all("BlobPrefix").len(), 2);
    assert_eq!(names(&pages(&site, "&prefix=m/1/&delimiter=/").await), ["m/1/plan/", "m/1/state"]);
    let path = "vault/disks?restype=container&comp=list&";
    site.get(&format!("{path}marker=x"), &[]).await.refused(400, "InvalidQueryParameterValue");
    site.get(&format!("{path}maxresults=0"), &[]).await.refused(400, "OutOfRangeQueryParameterValue");
    site.get(&format!("{path}include=snapshots&delimiter=/"), &[])
        .await
        .refused(400, "InvalidQueryParameterValue");
    site.get("vault/none?restype=container&comp=list", &[]).await.refused(404, "ContainerNotFound");
}

#[tokio::test]
async fn snapshots_metadata_and_properties_are_listed_when_asked_for() {
    let site = Site::ready_with(Config::account("vault").list_page(1)).await;
    site.page_blob("a.vhd", 1024).await;
    let first = site.snapshot("a.vhd", &[("x-ms-meta-op", "<1>")]).await;
    let second = site.snapshot("a.vhd", &[]).await;
    let all = pages(&site, "&include=snapshots,metadata,copy").await;
    let found: Vec<_> = all.iter().map(|page| (page.all("Snapshot"), page.all("op"))).collect();
    assert_eq!(found, [(vec![first], vec!["<1>".to_owned()]), (vec![second], vec![]), (vec![], vec![])]);
    let live = &all[2];
    assert_eq!(live.all("BlobType"), ["PageBlob"]);
    assert_eq!(live.all("Content-Length"), ["1024"]);
    assert_eq!(live.all("x-ms-blob-sequence-number"), ["0"]);
    assert_eq!(live.all("LeaseState"), ["available"]);
    let etag = site.head("vault/disks/a.vhd").await.header("etag").unwrap().replace('"', "");
    assert_eq!(live.all("Etag"), [etag]);
    assert_eq!(names(&pages(&site, "").await), ["a.vhd"]);
}

#[tokio::test]
async fn containers_are_listed() {
    let site = Site::ready_with(Config::account("vault").list_page(1)).await;
    assert_eq!(site.put("vault/other?restype=container", &[], "").await.status, 201);
    let first = site.get("vault/?comp=list", &[]).await;
    assert_eq!(first.all("Name"), ["disks"]);
    let marker = first.all("NextMarker").remove(0).replace('=', "%3D");
    let second = site.get(&format!("vault/?comp=list&marker={marker}"), &[]).await;
    assert_eq!(
        (second.all("Name"), second.all("NextMarker")),
        (vec!["other".to_owned()], vec![String::new()])
    );
    assert_eq!(site.get("vault/?comp=list&prefix=o", &[]).await.all("Name"), ["other"]);
}

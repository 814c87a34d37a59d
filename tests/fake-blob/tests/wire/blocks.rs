//! Block blobs in pieces.

use crate::client::Site;

fn list(ids: &[&str]) -> String {
    let ids: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{ids}</BlockList>")
}

#[tokio::test]
async fn blocks_become_a_blob_when_they_are_committed() {
    let site = Site::ready().await;
    assert_eq!(site.put("vault/disks/a?comp=block&blockid=MQ%3D%3D", &[], "one").await.status, 201);
    assert_eq!(site.put("vault/disks/a?comp=block&blockid=Mg%3D%3D", &[], "two").await.status, 201);
    site.get("vault/disks/a", &[]).await.refused(404, "BlobNotFound");
    let bad = site.put("vault/disks/a?comp=blocklist", &[], list(&["MQ==", "Mw=="])).await;
    bad.refused(400, "InvalidBlockList");
    let put =
        site.put("vault/disks/a?comp=blocklist", &[("If-None-Match", "*")], list(&["Mg==", "MQ=="])).await;
    assert_eq!(put.status, 201);
    assert_eq!(site.get("vault/disks/a", &[]).await.text(), "twoone");
    let again = site.put("vault/disks/a?comp=blocklist", &[], list(&["MQ=="])).await;
    again.refused(400, "InvalidBlockList");
    site.put("vault/disks/a?comp=block&blockid=%3F", &[], "x")
        .await
        .refused(400, "InvalidQueryParameterValue");
}

//! Leases.

use crate::client::{Got, Site};
use std::time::Duration;

const ONE: &str = "11111111-1111-4111-8111-111111111111";
const TWO: &str = "22222222-2222-4222-8222-222222222222";

async fn act(site: &Site, action: &str, headers: &[(&str, &str)]) -> Got {
    let all = [&[("x-ms-lease-action", action)], headers].concat();
    site.put("vault/disks/a?comp=lease", &all, "").await
}

async fn acquire(site: &Site, id: &str, seconds: &str) -> Got {
    act(site, "acquire", &[("x-ms-lease-duration", seconds), ("x-ms-proposed-lease-id", id)]).await
}

#[tokio::test]
async fn a_leased_blob_is_changed_by_its_holder_alone() {
    let site = Site::ready().await;
    site.page_blob("a", 1024).await;
    let got = acquire(&site, ONE, "-1").await;
    assert_eq!((got.status, got.header("x-ms-lease-id")), (201, Some(ONE)));
    acquire(&site, TWO, "-1").await.refused(409, "LeaseAlreadyPresent");
    assert_eq!(acquire(&site, ONE, "15").await.status, 201);
    site.write("a", 0, &[1; 512], &[]).await.refused(412, "LeaseIdMissing");
    let other = site.write("a", 0, &[1; 512], &[("x-ms-lease-id", TWO)]).await;
    other.refused(412, "LeaseIdMismatchWithBlobOperation");
    assert!(site.fake.blob("vault", "disks", "a").unwrap().image.unwrap().ranges().is_empty());
    assert_eq!(site.write("a", 0, &[1; 512], &[("x-ms-lease-id", ONE)]).await.status, 201);
    site.delete("vault/disks/a", &[]).await.refused(412, "LeaseIdMissing");
    let put = [("x-ms-blob-type", "BlockBlob")];
    site.put("vault/disks/a", &put, "x").await.refused(412, "LeaseIdMissing");
    let head = site.head("vault/disks/a").await;
    assert_eq!(head.header("x-ms-lease-state"), Some("leased"));
    assert_eq!(head.header("x-ms-lease-status"), Some("locked"));
    assert_eq!(head.header("x-ms-lease-duration"), Some("fixed"));
    act(&site, "release", &[("x-ms-lease-id", TWO)]).await.refused(409, "LeaseIdMismatchWithLeaseOperation");
    assert_eq!(act(&site, "release", &[("x-ms-lease-id", ONE)]).await.status, 200);
    assert_eq!(site.write("a", 0, &[2; 512], &[]).await.status, 201);
    let gone = site.write("a", 0, &[2; 512], &[("x-ms-lease-id", ONE)]).await;
    gone.refused(412, "LeaseNotPresentWithBlobOperation");
    act(&site, "renew", &[("x-ms-lease-id", ONE)]).await.refused(409, "LeaseNotPresentWithLeaseOperation");
}

#[tokio::test]
async fn a_lease_ends_by_time_and_is_renewed() {
    let site = Site::ready().await;
    site.page_blob("a", 1024).await;
    acquire(&site, ONE, "61").await.refused(400, "InvalidHeaderValue");
    assert_eq!(acquire(&site, ONE, "15").await.status, 201);
    site.fake.pass(Duration::from_secs(10));
    assert_eq!(act(&site, "renew", &[("x-ms-lease-id", ONE)]).await.status, 200);
    site.fake.pass(Duration::from_secs(10));
    site.write("a", 0, &[1; 512], &[]).await.refused(412, "LeaseIdMissing");
    site.fake.pass(Duration::from_secs(10));
    assert_eq!(site.head("vault/disks/a").await.header("x-ms-lease-state"), Some("expired"));
    site.write("a", 0, &[1; 512], &[("x-ms-lease-id", ONE)]).await.refused(412, "LeaseLost");
    assert_eq!(site.write("a", 0, &[1; 512], &[]).await.status, 201);
    assert_eq!(acquire(&site, TWO, "15").await.status, 201);
}

#[tokio::test]
async fn a_broken_lease_ends_after_its_period() {
    let site = Site::ready().await;
    site.page_blob("a", 1024).await;
    act(&site, "break", &[]).await.refused(409, "LeaseNotPresentWithLeaseOperation");
    assert_eq!(acquire(&site, ONE, "-1").await.status, 201);
    let got = act(&site, "break", &[("x-ms-lease-break-period", "20")]).await;
    assert_eq!((got.status, got.header("x-ms-lease-time")), (202, Some("20")));
    assert_eq!(site.head("vault/disks/a").await.header("x-ms-lease-state"), Some("breaking"));
    acquire(&site, TWO, "-1").await.refused(409, "LeaseAlreadyPresent");
    acquire(&site, ONE, "-1").await.refused(409, "LeaseIsBreakingAndCannotBeAcquired");
    act(&site, "renew", &[("x-ms-lease-id", ONE)]).await.refused(409, "LeaseIsBrokenAndCannotBeRenewed");
    site.fake.pass(Duration::from_secs(21));
    assert_eq!(site.head("vault/disks/a").await.header("x-ms-lease-state"), Some("broken"));
    assert_eq!(acquire(&site, TWO, "-1").await.status, 201);
    let changed = act(&site, "change", &[("x-ms-lease-id", TWO), ("x-ms-proposed-lease-id", ONE)]).await;
    assert_eq!((changed.status, changed.header("x-ms-lease-id")), (200, Some(ONE)));
    assert_eq!(
        act(&site, "break", &[("x-ms-lease-break-period", "0")]).await.header("x-ms-lease-time"),
        Some("0")
    );
    assert_eq!(site.write("a", 0, &[1; 512], &[]).await.status, 201);
}

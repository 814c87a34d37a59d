//! Containers and documents with conditions.

use crate::client::Site;

const BLOCK: (&str, &str) = ("x-ms-blob-type", "BlockBlob");

#[tokio::test]
async fn a_container_is_made_once_told_of_and_deleted() {
    let site = Site::new();
    let path = "vault/disks?restype=container";
    site.get(path, &[]).await.refused(404, "ContainerNotFound");
    let made = site.put(path, &[("x-ms-meta-owner", "a")], "").await;
    assert_eq!(made.status, 201);
    site.put(path, &[], "").await.refused(409, "ContainerAlreadyExists");
    site.put("vault/Disks?restype=container", &[], "").await.refused(400, "InvalidResourceName");
    let told = site.head(path).await;
    assert_eq!((told.status, told.header("x-ms-meta-owner")), (200, Some("a")));
    assert_eq!(told.header("etag"), made.header("etag"));
    assert_eq!(site.delete(path, &[]).await.status, 202);
    site.head(path).await.refused(404, "ContainerNotFound");
}

#[tokio::test]
async fn a_document_comes_back_as_it_was_put() {
    let site = Site::ready().await;
    let path = "vault/disks/m/a%20b/state";
    let put =
        site.put(path, &[BLOCK, ("x-ms-meta-op", "7"), ("Content-Type", "application/json")], "{}").await;
    assert_eq!(put.status, 201);
    let got = site.get(path, &[]).await;
    assert_eq!((got.status, got.text()), (200, "{}"));
    assert_eq!(got.header("x-ms-meta-op"), Some("7"));
    assert_eq!(got.header("content-type"), Some("application/json"));
    assert_eq!(got.header("x-ms-blob-type"), Some("BlockBlob"));
    assert_eq!(got.header("etag"), put.header("etag"));
    assert!(got.header("last-modified").is_some());
    let part = site.get(path, &[("Range", "bytes=1-9")]).await;
    assert_eq!((part.status, part.text(), part.header("content-range")), (206, "}", Some("bytes 1-1/2")));
    site.get(path, &[("Range", "bytes=2-3")]).await.refused(416, "InvalidRange");
    let head = site.head(path).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("2")));
    assert_eq!(site.fake.blobs("vault", "disks"), ["m/a b/state"]);
    assert_eq!(site.delete(path, &[]).await.status, 202);
    site.get(path, &[]).await.refused(404, "BlobNotFound");
    site.delete(path, &[]).await.refused(404, "BlobNotFound");
    site.put("vault/none/x", &[BLOCK], "{}").await.refused(404, "ContainerNotFound");
}

#[tokio::test]
async fn compare_and_set_lets_one_of_two_win() {
    let site = Site::ready().await;
    let path = "vault/disks/state";
    site.put(path, &[BLOCK, ("If-Match", "\"0x0\"")], "none").await.refused(412, "ConditionNotMet");
    let first = site.put(path, &[BLOCK, ("If-None-Match", "*")], "1").await;
    assert_eq!(first.status, 201);
    site.put(path, &[BLOCK, ("If-None-Match", "*")], "2").await.refused(409, "BlobAlreadyExists");
    let etag = first.header("etag").unwrap();
    let second = site.put(path, &[BLOCK, ("If-Match", etag)], "2").await;
    assert_eq!(second.status, 201);
    assert_ne!(second.header("etag"), Some(etag));
    site.put(path, &[BLOCK, ("If-Match", etag)], "3").await.refused(412, "ConditionNotMet");
    site.delete(path, &[("If-Match", etag)]).await.refused(412, "ConditionNotMet");
    assert_eq!(site.get(path, &[]).await.text(), "2");
    let now = second.header("etag").unwrap();
    assert_eq!(site.get(path, &[("If-None-Match", now)]).await.status, 304);
    site.get(path, &[("If-Match", etag)]).await.refused(412, "ConditionNotMet");
    assert_eq!(site.delete(path, &[("If-Match", now)]).await.status, 202);
}

#[tokio::test]
async fn dates_are_conditions_too() {
    let site = Site::ready().await;
    site.document("a", "1").await;
    let (old, new) = ("Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT");
    assert_eq!(site.get("vault/disks/a", &[("If-Modified-Since", old)]).await.status, 200);
    assert_eq!(site.get("vault/disks/a", &[("If-Modified-Since", new)]).await.status, 304);
    assert_eq!(site.get("vault/disks/a", &[("If-Unmodified-Since", new)]).await.status, 200);
    site.get("vault/disks/a", &[("If-Unmodified-Since", old)]).await.refused(412, "ConditionNotMet");
    site.get("vault/disks/a", &[("If-Unmodified-Since", "soon")]).await.refused(400, "InvalidHeaderValue");
}

#[tokio::test]
async fn metadata_is_replaced_and_moves_the_tag() {
    let site = Site::ready().await;
    let etag = site.document("a", "1").await;
    let set = site.put("vault/disks/a?comp=metadata", &[("x-ms-meta-x", "1"), ("If-Match", &etag)], "").await;
    assert_eq!(set.status, 200);
    assert_eq!(site.head("vault/disks/a").await.header("x-ms-meta-x"), Some("1"));
    let again = site.put("vault/disks/a?comp=metadata", &[("If-Match", &etag)], "").await;
    again.refused(412, "ConditionNotMet");
    assert_eq!(site.put("vault/disks/a?comp=metadata", &[], "").await.status, 200);
    assert_eq!(site.head("vault/disks/a").await.header("x-ms-meta-x"), None);
    assert_eq!(site.get("vault/disks/a", &[]).await.text(), "1");
}

#[tokio::test]
async fn what_is_not_faked_says_so() {
    let site = Site::ready().await;
    site.put("vault/disks/a", &[("x-ms-blob-type", "AppendBlob")], "").await.refused(501, "NotFaked");
    site.put("vault/disks/a?comp=tier", &[], "").await.refused(501, "NotFaked");
    site.put("vault/disks/a", &[], "").await.refused(400, "MissingRequiredHeader");
    site.put("vault/disks/a", &[("x-ms-blob-type", "Other")], "").await.refused(400, "InvalidHeaderValue");
    assert!(site.fake.blobs("vault", "disks").is_empty());
}

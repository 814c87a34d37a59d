//! Copies of blobs and of pages.

use crate::client::{Got, HOUR, Site};
use fake_blob::Config;

const MIB: u64 = 1 << 20;

async fn copy(site: &Site, to: &str, from: &str, headers: &[(&str, &str)]) -> Got {
    let source = site.url(from);
    let all = [&[("x-ms-copy-source", &*source)], headers].concat();
    site.put(&format!("vault/disks/{to}"), &all, "").await
}

/// A blob `a` with 1 s in front, and a snapshot of it; then 2 s.
async fn scene(config: Config) -> (Site, String) {
    let site = Site::ready_with(config).await;
    site.page_blob("a", MIB).await;
    site.write("a", 0, &[1; 512], &[]).await;
    let at = site.snapshot("a", &[("x-ms-meta-op", "1")]).await;
    site.write("a", 0, &[2; 512], &[]).await;
    (site, at)
}

#[tokio::test]
async fn a_copy_of_a_snapshot_is_pending_and_then_whole() {
    let (site, at) = scene(Config::account("vault")).await;
    site.fake.copies_take(2);
    let from = format!("vault/disks/a?snapshot={at}");
    let started = copy(&site, "b", &from, &[("If-None-Match", "*")]).await;
    assert_eq!((started.status, started.header("x-ms-copy-status")), (202, Some("pending")));
    assert!(site.fake.blob("vault", "disks", "b").unwrap().image.unwrap().ranges().is_empty());
    copy(&site, "b", &from, &[("If-None-Match", "*")]).await.refused(409, "BlobAlreadyExists");
    copy(&site, "b", &from, &[]).await.refused(409, "PendingCopyOperation");
    site.write("b", 0, &[3; 512], &[]).await.refused(409, "PendingCopyOperation");
    site.delete("vault/disks/b", &[]).await.refused(409, "PendingCopyOperation");
    for _ in 0..2 {
        let head = site.head("vault/disks/b").await;
        assert_eq!(head.header("x-ms-copy-status"), Some("pending"));
        assert_eq!(head.header("x-ms-copy-progress"), Some("0/1048576"));
    }
    let head = site.head("vault/disks/b").await;
    assert_eq!(head.header("x-ms-copy-status"), Some("success"));
    assert_eq!(head.header("x-ms-copy-id"), started.header("x-ms-copy-id"));
    assert_eq!(head.header("x-ms-copy-progress"), Some("1048576/1048576"));
    assert_eq!(head.header("x-ms-copy-source"), Some(&*site.url(&from.replace(':', "%3A"))));
    assert!(head.header("x-ms-copy-completion-time").is_some());
    assert_eq!(head.header("x-ms-meta-op"), Some("1"));
    let image = site.fake.blob("vault", "disks", "b").unwrap().image.unwrap();
    assert_eq!((image.size(), image.read(0, 512)), (MIB, vec![1; 512]));
    let listed = site.get("vault/disks?restype=container&comp=list&include=copy&prefix=b", &[]).await;
    assert_eq!(listed.all("CopyStatus"), ["success"]);
    assert_eq!(site.write("b", 0, &[3; 512], &[]).await.status, 201);
    assert_eq!(
        site.fake.snapshots("vault", "disks", "a")[0].1.image.as_ref().unwrap().read(0, 512),
        [1; 512]
    );
}

#[tokio::test]
async fn a_copy_can_be_done_at_once_aborted_or_fail() {
    let (site, _) = scene(Config::account("vault")).await;
    let done = copy(&site, "b", "vault/disks/a", &[]).await;
    assert_eq!((done.status, done.header("x-ms-copy-status")), (202, Some("success")));
    let id = done.header("x-ms-copy-id").unwrap();
    let abort = async |name: &str, id: &str| {
        let path = format!("vault/disks/{name}?comp=copy&copyid={id}");
        site.put(&path, &[("x-ms-copy-action", "abort")], "").await
    };
    abort("b", id).await.refused(409, "NoPendingCopyOperation");
    site.fake.copies_take(1);
    let started = copy(&site, "c", "vault/disks/a", &[]).await;
    abort("c", id).await.refused(409, "CopyIdMismatch");
    assert_eq!(abort("c", started.header("x-ms-copy-id").unwrap()).await.status, 204);
    let head = site.head("vault/disks/c").await;
    assert_eq!(head.header("x-ms-copy-status"), Some("aborted"));
    assert_eq!(head.header("content-length"), Some("0"));
    site.fake.copies_fail(1);
    assert_eq!(copy(&site, "d", "vault/disks/a", &[]).await.header("x-ms-copy-status"), Some("pending"));
    site.head("vault/disks/d").await;
    let head = site.head("vault/disks/d").await;
    assert_eq!(head.header("x-ms-copy-status"), Some("failed"));
    assert!(head.header("x-ms-copy-status-description").unwrap().starts_with("500"));
    assert_eq!(site.fake.blob("vault", "disks", "d").unwrap().image.unwrap().size(), 0);
    site.fake.copies_take(0);
    assert_eq!(copy(&site, "e", "vault/disks/a", &[]).await.header("x-ms-copy-status"), Some("success"));
}

#[tokio::test]
async fn a_source_has_to_be_there_and_let() {
    let (site, _) = scene(Config::account("vault").with(fake_blob::Account::new("other"))).await;
    copy(&site, "b", "vault/disks/none", &[]).await.refused(404, "CannotVerifyCopySource");
    assert_eq!(site.put("other/disks?restype=container", &[], "").await.status, 201);
    let put = [("x-ms-blob-type", "BlockBlob")];
    assert_eq!(site.put("other/disks/x", &put, "text").await.status, 201);
    copy(&site, "b", "other/disks/x", &[]).await.refused(401, "CannotVerifyCopySource");
    copy(&site, "b", "other/disks/x?sig=guess", &[]).await.refused(403, "CannotVerifyCopySource");
    let sas = site.fake.sas("other", "disks", Some("x"), "r", HOUR);
    let from = format!("other/disks/x?{sas}");
    copy(&site, "b", &from, &[("x-ms-source-if-match", "\"0x0\"")])
        .await
        .refused(412, "SourceConditionNotMet");
    assert_eq!(copy(&site, "b", &from, &[]).await.status, 202);
    let got = site.get("vault/disks/b", &[]).await;
    assert_eq!((got.text(), got.header("x-ms-copy-source")), ("text", Some(&*site.url("other/disks/x"))));
}

#[tokio::test]
async fn pages_are_put_from_a_url() {
    let (site, at) = scene(Config::account("vault")).await;
    site.page_blob("b", MIB).await;
    let sas = site.fake.sas("vault", "disks", Some("a"), "r", HOUR);
    let source = site.url(&format!("vault/disks/a?snapshot={at}&{sas}"));
    let headers = |source: &str, range: &str| {
        vec![
            ("x-ms-copy-source", source.to_owned()),
            ("x-ms-source-range", range.to_owned()),
            ("x-ms-range", "bytes=512-1535".to_owned()),
            ("x-ms-page-write", "update".to_owned()),
        ]
    };
    let put = async |headers: Vec<(&str, String)>| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        site.put("vault/disks/b?comp=page", &headers, "").await
    };
    put(headers(&source, "bytes=0-511")).await.refused(400, "InvalidHeaderValue");
    put(headers(&site.url("vault/disks/a"), "bytes=0-1023")).await.refused(401, "CannotVerifyCopySource");
    put(headers(&source, "bytes=1048576-1049599")).await.refused(416, "InvalidRange");
    assert_eq!(put(headers(&source, "bytes=0-1023")).await.status, 201);
    let image = site.fake.blob("vault", "disks", "b").unwrap().image.unwrap();
    assert_eq!(image.read(0, 2048), [vec![0; 512], vec![1; 512], vec![0; 1024]].concat());
    let mut own = headers(&site.url("vault/disks/a"), "bytes=0-1023");
    own.push(("x-ms-copy-source-authorization", format!("Bearer {}", site.fake.token(HOUR))));
    assert_eq!(put(own).await.status, 201);
    assert_eq!(site.fake.blob("vault", "disks", "b").unwrap().image.unwrap().read(512, 512), [2; 512]);
}

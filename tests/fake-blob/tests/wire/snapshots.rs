//! Snapshots, and what differs between them.

use crate::client::Site;
use fake_blob::Config;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_snapshot_stays_as_it_was() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    site.write("a", 0, &[1; 512], &[]).await;
    let set = site.put("vault/disks/a?comp=metadata", &[("x-ms-meta-op", "old")], "").await;
    assert_eq!(set.status, 200);
    let first = site.snapshot("a", &[]).await;
    let second = site.snapshot("a", &[("x-ms-meta-op", "new")]).await;
    assert!(first < second);
    site.write("a", 0, &[2; 512], &[]).await;
    for (at, op) in [(&first, "old"), (&second, "new")] {
        let got = site.get(&format!("vault/disks/a?snapshot={at}"), &[("Range", "bytes=0-511")]).await;
        assert_eq!((got.status, got.header("x-ms-meta-op")), (206, Some(op)));
        assert_eq!(got.body, [1; 512].as_slice());
    }
    assert_eq!(site.get("vault/disks/a", &[("Range", "bytes=0-511")]).await.body, [2; 512].as_slice());
    let path = format!("vault/disks/a?snapshot={first}&comp=page");
    let write = [("x-ms-page-write", "update"), ("x-ms-range", "bytes=0-511")];
    site.put(&path, &write, vec![3; 512]).await.refused(400, "InvalidOperation");
    site.head("vault/disks/a?snapshot=2001-01-01T00:00:00.0000000Z").await.refused(404, "BlobNotFound");
}

#[tokio::test]
async fn a_blob_with_snapshots_is_deleted_only_with_them() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    let first = site.snapshot("a", &[]).await;
    site.snapshot("a", &[]).await;
    site.delete("vault/disks/a", &[]).await.refused(409, "SnapshotsPresent");
    let one = format!("vault/disks/a?snapshot={first}");
    assert_eq!(site.delete(&one, &[]).await.status, 202);
    site.delete(&one, &[]).await.refused(404, "BlobNotFound");
    assert_eq!(site.fake.snapshots("vault", "disks", "a").len(), 1);
    assert_eq!(site.delete("vault/disks/a", &[("x-ms-delete-snapshots", "only")]).await.status, 202);
    assert!(site.fake.snapshots("vault", "disks", "a").is_empty());
    assert_eq!(site.head("vault/disks/a").await.status, 200);
    site.snapshot("a", &[]).await;
    assert_eq!(site.delete("vault/disks/a", &[("x-ms-delete-snapshots", "include")]).await.status, 202);
    assert!(site.fake.blob("vault", "disks", "a").is_none());
}

#[tokio::test]
async fn a_difference_tells_written_and_cleared_pages_as_they_lie() {
    let site = Site::ready_with(Config::account("vault").range_page(2)).await;
    site.page_blob("a", MIB).await;
    site.write("a", 0, &[1; 8192], &[]).await;
    site.write("a", 131_072, &[1; 4096], &[]).await;
    let base = site.snapshot("a", &[]).await;
    site.write("a", 512, &[2; 512], &[]).await;
    site.clear("a", 1024, 512).await;
    site.write("a", 1536, &[1; 512], &[]).await;
    site.clear("a", 131_072, 4096).await;
    let next = site.snapshot("a", &[]).await;
    site.write("a", 0, &[9; 512], &[]).await;
    let wanted = [('P', 512, 1023), ('C', 1024, 1535), ('P', 1536, 2047), ('C', 131_072, 135_167)];
    let path = format!("vault/disks/a?comp=pagelist&snapshot={next}&prevsnapshot={base}");
    let first = site.get(&path, &[]).await;
    assert_eq!(first.ranges(), wanted[..2]);
    let marker = first.all("NextMarker").remove(0).replace('=', "%3D");
    let second = site.get(&format!("{path}&marker={marker}"), &[]).await;
    assert_eq!((second.ranges(), second.all("NextMarker")), (wanted[2..].to_vec(), vec![String::new()]));
    let live = site.get(&format!("vault/disks/a?comp=pagelist&prevsnapshot={next}"), &[]).await;
    assert_eq!(live.ranges(), [('P', 0, 511)]);
    let cut = site.get(&path, &[("Range", "bytes=1024-2047")]).await;
    assert_eq!(cut.ranges(), wanted[1..3]);
    let turned =
        site.get(&format!("vault/disks/a?comp=pagelist&snapshot={base}&prevsnapshot={next}"), &[]).await;
    turned.refused(400, "PreviousSnapshotCannotBeNewer");
    let none = "vault/disks/a?comp=pagelist&prevsnapshot=2001-01-01T00:00:00.0000000Z";
    site.get(none, &[]).await.refused(409, "PreviousSnapshotNotFound");
    let managed = [("x-ms-previous-snapshot-url", "https://x/y")];
    let got = site.get("vault/disks/a?comp=pagelist", &managed).await;
    got.refused(409, "PreviousSnapshotOperationNotSupported");
}

#[tokio::test]
async fn no_difference_is_told_across_a_blob_that_was_put_anew() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    let base = site.snapshot("a", &[]).await;
    site.page_blob("a", MIB).await;
    let got = site.get(&format!("vault/disks/a?comp=pagelist&prevsnapshot={base}"), &[]).await;
    got.refused(409, "BlobOverwritten");
    assert_eq!(site.fake.snapshots("vault", "disks", "a").len(), 1);
}

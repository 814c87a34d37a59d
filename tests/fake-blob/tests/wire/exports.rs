//! Exported disks.

use crate::client::{Got, Site};
use fake_blob::{Access, Image, vhd};
use std::time::Duration;
use url::Url;

const MIB: u64 = 1 << 20;

fn disk(byte: u8) -> Image {
    let mut disk = Image::new(2 * MIB);
    disk.write(4096, &[byte; 4096]);
    disk
}

async fn ask(site: &Site, method: &str, url: &Url, extra: &str, headers: &[(&str, &str)]) -> Got {
    let request = site.bare(method, &format!("{url}{extra}"));
    Got::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

async fn write(site: &Site, url: &Url, at: usize, bytes: Vec<u8>) -> Got {
    let range = format!("bytes={at}-{}", at + bytes.len() - 1);
    let request = site.bare("PUT", &format!("{url}&comp=page")).header("x-ms-page-write", "update");
    Got::of(request.header("x-ms-range", range).body(bytes)).await
}

#[tokio::test]
async fn a_disk_is_read_behind_its_signature() {
    let site = Site::new();
    let url = site.fake.export("disk", &disk(5), Access::read());
    let head = ask(&site, "HEAD", &url, "", &[]).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("2097664")));
    assert_eq!(head.header("x-ms-blob-type"), Some("PageBlob"));
    let got = ask(&site, "GET", &url, "", &[("Range", "bytes=4096-8191")]).await;
    assert_eq!((got.status, &got.body[..]), (206, [5; 4096].as_slice()));
    let footer = ask(&site, "GET", &url, "", &[("Range", "bytes=2097152-2097663")]).await;
    assert_eq!(&footer.body[..], vhd::footer(2 * MIB));
    let list = ask(&site, "GET", &url, "&comp=pagelist", &[]).await;
    assert_eq!(list.ranges(), [('P', 4096, 8191), ('P', 2 * MIB, 2 * MIB + 511)]);
    write(&site, &url, 0, vec![1; 512]).await.refused(403, "AuthorizationPermissionMismatch");
    let bare = Url::parse(&url.as_str().replace("&sig=", "&sig=0")).unwrap();
    ask(&site, "GET", &bare, "", &[]).await.refused(403, "AuthenticationFailed");
    let mut none = url.clone();
    none.set_query(None);
    ask(&site, "GET", &none, "", &[]).await.refused(403, "AuthenticationFailed");
    assert_eq!(vhd::disk(&site.fake.exported("disk").unwrap()).unwrap().read(4096, 512), [5; 512]);
    assert!(site.fake.log().iter().all(|entry| !entry.path.contains("sig") && !entry.path.contains('?')));
}

#[tokio::test]
async fn the_difference_of_two_disks_comes_in_parts() {
    let site = Site::with(fake_blob::Config::default().range_page(2));
    let old = disk(5);
    let mut new = old.clone();
    new.write(0, &[6; 512]);
    new.clear(4096, 512);
    new.write(4608, &[6; 512]);
    let before = site.fake.export("before", &old, Access::read());
    let after = site.fake.export("after", &new, Access::read());
    let previous = [("x-ms-previous-snapshot-url", before.as_str())];
    let first = ask(&site, "GET", &after, "&comp=pagelist", &previous).await;
    assert_eq!(first.ranges(), [('P', 0, 511), ('C', 4096, 4607)]);
    let marker = first.all("NextMarker").remove(0).replace('=', "%3D");
    let second = ask(&site, "GET", &after, &format!("&comp=pagelist&marker={marker}"), &previous).await;
    // The footer was written twice, once for each.
    assert_eq!(second.ranges(), [('P', 4608, 5119), ('P', 2 * MIB, 2 * MIB + 511)]);
    site.fake.revoke("before");
    let refused = ask(&site, "GET", &after, "&comp=pagelist", &previous).await;
    refused.refused(403, "AuthenticationFailed");
    let none = site.url("md-none/x/abcd?sig=x");
    let gone = ask(&site, "GET", &after, "&comp=pagelist", &[("x-ms-previous-snapshot-url", &none)]).await;
    gone.refused(409, "PreviousSnapshotNotFound");
}

#[tokio::test]
async fn a_disk_is_uploaded_by_pages_alone() {
    let site = Site::new();
    let url = site.fake.export_upload("new", MIB, Duration::from_secs(60));
    let head = ask(&site, "HEAD", &url, "", &[]).await;
    assert_eq!(head.header("content-length"), Some("1049088"));
    let anew =
        [("x-ms-blob-type", "PageBlob"), ("x-ms-blob-content-length", "1049088"), ("content-length", "0")];
    ask(&site, "PUT", &url, "", &anew).await.refused(409, "OperationNotAllowed");
    ask(&site, "DELETE", &url, "", &[]).await.refused(409, "OperationNotAllowed");
    assert_eq!(vhd::disk(&site.fake.exported("new").unwrap()).unwrap_err(), vhd::NotVhd::Cookie);
    assert_eq!(write(&site, &url, 512, vec![7; 1024]).await.status, 201);
    assert_eq!(write(&site, &url, 1 << 20, vhd::footer(MIB).to_vec()).await.status, 201);
    let disk = vhd::disk(&site.fake.exported("new").unwrap()).unwrap();
    assert_eq!(disk.size(), MIB);
    assert!(matches!(&disk.ranges()[..], [range] if *range == (512..1536)));
    assert_eq!(disk.read(512, 1024), [7; 1024]);
    write(&site, &url, (1 << 20) + 512, vec![7; 512]).await.refused(416, "InvalidPageRange");
    site.fake.pass(Duration::from_secs(61));
    write(&site, &url, 512, vec![8; 512]).await.refused(403, "AuthenticationFailed");
}

#[tokio::test]
async fn an_access_ends_by_time_by_revocation_and_by_the_next() {
    let site = Site::new();
    let url = site.fake.export("disk", &disk(1), Access::read().valid_for(Duration::from_secs(60)));
    assert_eq!(ask(&site, "HEAD", &url, "", &[]).await.status, 200);
    site.fake.pass(Duration::from_secs(61));
    ask(&site, "HEAD", &url, "", &[]).await.refused(403, "AuthenticationFailed");
    let url = site.fake.export("disk", &disk(1), Access::read());
    site.fake.revoke("disk");
    ask(&site, "GET", &url, "", &[]).await.refused(403, "AuthenticationFailed");
    assert!(site.fake.exported("disk").is_some());
    let next = site.fake.export("disk", &disk(2), Access::read());
    assert_ne!(ask(&site, "GET", &url, "", &[]).await.status, 200);
    assert_eq!(ask(&site, "GET", &next, "", &[("Range", "bytes=4096-4607")]).await.body, [2; 512].as_slice());
}

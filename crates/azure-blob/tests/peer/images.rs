//! Managed disks behind a signed address.

use crate::fake::Fake;
use crate::{limits, say};
use bytes::Bytes;
use site_recovery_azure_blob::{Change, Error, Image, Run, Secret};

fn image(fake: &Fake) -> Image {
    let sas = Secret::new(format!("{}/abcd?sv=2018-03-28&sr=b&sig=canary%2Bsas%3D", fake.settings.url));
    Image::new(&sas, &fake.settings.trust, limits()).expect("an address")
}

#[tokio::test]
async fn what_has_changed_is_put_together_from_all_pages() {
    let fake = Fake::answering(|request| {
        if request.headers["x-ms-previous-snapshot-url"] != "https://md-0/previous?sig=canary-previous" {
            return say(409, &[("x-ms-error-code", "PreviousSnapshotNotFound")], "");
        }
        let range = |kind: &str, from: u64, to: u64| {
            format!("<{kind}><Start>{from}</Start><End>{}</End></{kind}>", to - 1)
        };
        let body = if request.path.contains("marker=2%2180") {
            [range("ClearRange", 2048, 4096), range("PageRange", 8192, 8704), "<NextMarker/>".into()].concat()
        } else {
            let next = "<NextMarker>2!80</NextMarker>".to_owned();
            [range("PageRange", 0, 512), range("ClearRange", 512, 1024), range("PageRange", 1024, 1536), next]
                .concat()
        };
        say(
            200,
            &[],
            &format!("\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><PageList>{body}</PageList>"),
        )
    });
    let previous = Secret::new("https://md-0/previous?sig=canary-previous".into());
    let changed = image(&fake).changed(&previous).await.expect("changes");
    let wanted = [
        (Run::new(0, 512), Change::Written),
        (Run::new(512, 512), Change::Cleared),
        (Run::new(1024, 512), Change::Written),
        (Run::new(2048, 2048), Change::Cleared),
        (Run::new(8192, 512), Change::Written),
    ];
    assert_eq!(changed, wanted);
    for request in fake.requests() {
        assert!(request.path.starts_with("/abcd?comp=pagelist"), "{}", request.path);
        assert!(request.path.ends_with("&sv=2018-03-28&sr=b&sig=canary%2Bsas%3D"), "{}", request.path);
    }
    let other = Secret::new("https://md-0/other?sig=canary-previous".into());
    let error = image(&fake).changed(&other).await.expect_err("of another disk");
    assert!(matches!(error, Error::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn a_disk_that_is_uploaded_is_written_by_pages_alone() {
    let fake = Fake::answering(|request| {
        let len = "x".repeat(1536);
        if request.verb == "HEAD" {
            say(200, &[("etag", "\"1\"")], &len)
        } else {
            say(201, &[("etag", "\"1\"")], "")
        }
    });
    let image = image(&fake);
    assert_eq!(image.size().await.expect("asked"), 1536);
    image.write(512, Bytes::from(vec![b'y'; 512])).await.expect("written");
    image.clear(Run::new(0, 512)).await.expect("cleared");
    let requests = fake.requests();
    for (request, (kind, range)) in
        requests[1..].iter().zip([("update", "bytes=512-1023"), ("clear", "bytes=0-511")])
    {
        assert!(request.path.starts_with("/abcd?comp=page&"), "{}", request.path);
        assert_eq!(
            (request.headers["x-ms-page-write"].as_str(), request.headers["range"].as_str()),
            (kind, range)
        );
        assert!(!request.headers.contains_key("x-ms-if-sequence-number-eq"));
        assert!(!request.headers.contains_key("authorization"));
    }
    assert_eq!(requests.len(), 3);
}

#[test]
fn c1_what_is_no_signed_address_is_refused_without_being_shown() {
    let trust = site_recovery_azure_blob::Trust::Sha256("00".repeat(32));
    for bad in [
        "https://md-0/abcd",
        "http://md-0/abcd?sig=canary",
        "https://md-0/?sig=canary",
        "canary",
        "https://canary@md-0/a?b",
    ] {
        let error = Image::new(&Secret::new(bad.into()), &trust, limits()).expect_err(bad).to_string();
        assert!(error.starts_with("sas is") && !error.contains("canary"), "{error}");
    }
}

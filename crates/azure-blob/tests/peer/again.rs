//! What is sent again, and what is not.

use crate::fake::{Fake, Reply};
use crate::{container, limits, say, script, settings};
use bytes::Bytes;
use site_recovery_azure_blob::{Container, CopyState, Error, Etag, Limits, Lost, Run, Trust, Who};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const ETAG: (&str, &str) = ("etag", "\"0x1\"");

fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_sent_again_with_the_same_bytes() {
    let fake = script(|n| match n {
        0 => Reply::Break,
        1 => say(503, &[("x-ms-error-code", "ServerBusy"), ("retry-after", "0")], ""),
        _ => say(201, &[ETAG], ""),
    });
    container(&fake).pages("d/os.vhd").write(1024, Bytes::from(vec![b'w'; 512]), 7).await.expect("written");
    let requests = fake.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(
            (request.verb.as_str(), request.path.as_str()),
            ("PUT", "/account/points/d/os.vhd?comp=page")
        );
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        assert_eq!((header("range"), header("x-ms-page-write")), (Some("bytes=1024-1535"), Some("update")));
        assert_eq!(
            (header("x-ms-if-sequence-number-eq"), header("content-length")),
            (Some("7"), Some("512"))
        );
        assert_eq!(request.body, "w".repeat(512));
    }
}

#[tokio::test]
async fn tries_end() {
    let fake = script(|_| say(503, &[("x-ms-error-code", "ServerBusy"), ("retry-after", "0")], ""));
    let error = container(&fake).pages("d").clear(Run::new(0, 512), 0).await.expect_err("busy");
    let after = Some(Duration::ZERO);
    assert!(matches!(&error, Error::Throttled { after: asked, .. } if *asked == after), "{error:?}");
    assert_eq!(fake.requests().len(), limits().tries as usize);
}

#[tokio::test]
async fn what_would_not_end_the_same_is_sent_once() {
    let fake = script(|_| Reply::Break);
    let container = container(&fake);
    let (disk, document) = (container.pages("d"), container.document("m"));
    let source = container.url("other");
    let errors = [
        disk.create(512, &none()).await.expect_err("lost"),
        disk.snapshot(&none()).await.expect_err("lost"),
        disk.copy_from(&source, None).await.expect_err("lost"),
        document.create(Bytes::from_static(b"m")).await.expect_err("lost"),
        document.replace(Bytes::from_static(b"m"), &Etag::new("\"1\"")).await.expect_err("lost"),
    ];
    for (n, error) in errors.iter().enumerate() {
        let broken = matches!(error, Error::Lost { lost: Lost::Broken { .. }, .. });
        assert!(broken && error.may_have_been_done(), "{n}: {error:?}");
    }
    assert_eq!(fake.requests().len(), errors.len());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_gone_on_with_where_it_did() {
    let fake = Fake::answering(|request| {
        let range = request.headers["range"].strip_prefix("bytes=").expect("a range");
        let (from, to) = range.split_once('-').expect("a range");
        let (from, to): (usize, usize) = (from.parse().expect("from"), to.parse().expect("to"));
        let bytes: Vec<u8> = (from..=to).map(|at| (at / 1000) as u8).collect();
        let headers = vec![("content-range", format!("bytes {from}-{to}/1048576"))];
        match from {
            100 => Reply::Part(206, headers, bytes.len(), bytes[..40_000].to_vec()),
            _ => Reply::Say(206, headers, bytes),
        }
    });
    let mut into = vec![0; 100_000];
    container(&fake).pages("d").read(None, Run::new(100, 100_000), &mut into).await.expect("read");
    assert!(into.iter().enumerate().all(|(n, byte)| *byte == ((n + 100) / 1000) as u8));
    let ranges: Vec<String> = fake.requests().iter().map(|r| r.headers["range"].clone()).collect();
    assert_eq!(ranges[0], "bytes=100-100099");
    // What came before it broke off may be less than what was sent, and is never asked for again.
    let again: u64 = ranges[1]
        .strip_prefix("bytes=")
        .and_then(|r| r.split_once('-'))
        .expect("a range")
        .0
        .parse()
        .expect("from");
    assert!(
        again > 100 && again <= 40_100 && ranges[1].ends_with("-100099") && ranges.len() == 2,
        "{ranges:?}"
    );
}

#[tokio::test]
async fn another_range_more_bytes_or_none_are_no_answer() {
    let cases = [
        (206, "bytes 512-1023/4096", 512),
        (206, "bytes 0-511/4096", 513),
        (206, "bytes 0-511/4096", 511),
        (206, "", 512),
        (200, "bytes 0-511/4096", 512),
    ];
    for (status, range, len) in cases {
        let fake = script(move |_| say(status, &[("content-range", range)], &"x".repeat(len)));
        let mut into = [0; 512];
        let error =
            container(&fake).pages("d").read(None, Run::new(0, 512), &mut into).await.expect_err(range);
        assert!(matches!(error, Error::Garbage { .. }), "{status} {range} {len}: {error:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let fake = script(|n| if n == 0 { say(401, &[], "") } else { say(201, &[ETAG], "") });
    container(&fake).pages("d").create(512, &none()).await.expect("made");
    let tokens: Vec<String> = fake.requests().iter().map(|r| r.headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["Bearer canary-token-0", "Bearer canary-token-1"]);
    let fake = script(|_| say(401, &[("x-ms-error-code", "InvalidAuthenticationInfo")], ""));
    let error = container(&fake).pages("d").properties().await.expect_err("refused");
    assert!(matches!(error, Error::Denied(_)), "{error:?}");
    assert_eq!(fake.requests().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_not_argued_with() {
    let fake =
        script(|_| say(403, &[("x-ms-error-code", "AuthorizationFailure"), ("x-ms-request-id", "1-2")], ""));
    let error = container(&fake).pages("d").properties().await.expect_err("refused");
    let Error::Denied(answer) = &error else { panic!("{error:?}") };
    assert_eq!(
        (answer.code.as_deref(), answer.request.as_deref()),
        (Some("AuthorizationFailure"), Some("1-2"))
    );
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test]
async fn a_service_that_says_nothing_is_waited_for_so_long() {
    let fake = script(|_| Reply::Hang);
    let mut settings = settings(&fake);
    settings.limits = Limits { answer_ms: 200, tries: 1, ..limits() };
    let container =
        Container::new(&settings, Who::Signed(Arc::new(crate::Tokens::default()))).expect("settings");
    let error = container.pages("d").create(512, &none()).await.expect_err("silent");
    let silent = matches!(error, Error::Lost { lost: Lost::Silent { .. }, .. });
    assert!(silent && error.may_have_been_done(), "{error:?}");
}

#[tokio::test]
async fn nothing_is_sent_to_a_stranger() {
    let fake = script(|_| say(201, &[ETAG], ""));
    let mut settings = settings(&fake);
    settings.trust = Trust::Sha256("00".repeat(32));
    let container =
        Container::new(&settings, Who::Signed(Arc::new(crate::Tokens::default()))).expect("settings");
    let error = container.pages("d").raise_sequence(1).await.expect_err("a stranger");
    let stranger = matches!(error, Error::Lost { lost: Lost::Stranger { .. }, .. });
    assert!(stranger && !error.may_have_been_done(), "{error:?}");
    assert!(!site_recovery::Error::from(error).is_temporary());
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn what_breaks_a_rule_is_not_sent() {
    let fake = script(|_| say(201, &[ETAG], ""));
    let container = container(&fake);
    let (disk, etag) = (container.pages("d"), Etag::new("\"0x1\""));
    let bytes = |len: usize| Bytes::from(vec![0; len]);
    let named = |name: &str| BTreeMap::from([(name.to_owned(), "x".to_owned())]);
    let valued = |value: &str| BTreeMap::from([("x".to_owned(), value.to_owned())]);
    let mut short = [0; 511];
    let errors = [
        disk.write(0, bytes((4 << 20) + 512), 0).await,
        disk.write(0, bytes(511), 0).await,
        disk.write(1, bytes(512), 0).await,
        disk.write(0, bytes(0), 0).await,
        disk.write(u64::MAX - 511, bytes(512), 0).await,
        disk.write(0, bytes(512), u64::MAX).await,
        disk.clear(Run::new(0, 100), 0).await,
        disk.clear(Run::new(0, 0), 0).await,
        disk.resize(513, &etag).await,
        disk.resize((8 << 40) + 512, &etag).await,
        disk.take_sequence(u64::MAX, &etag).await.map(drop),
        disk.create(100, &none()).await.map(drop),
        disk.create(512, &named("Upper")).await.map(drop),
        disk.create(512, &named("1a")).await.map(drop),
        disk.snapshot(&valued("a\r\nx-ms-lease-id: b")).await.map(drop),
        disk.snapshot(&valued("")).await.map(drop),
        disk.read(None, Run::new(0, 512), &mut short).await,
        container.pages("a/../b").raise_sequence(1).await,
        container.pages("").raise_sequence(1).await,
        container.pages("a//b").raise_sequence(1).await,
        container.pages("a\\b").raise_sequence(1).await,
        container.document("a/.").delete().await,
        container.read_sas("d", Duration::from_secs(8 * 24 * 3600)).await.map(drop),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        let error = error.expect_err("a broken rule");
        assert!(matches!(error, Error::Invalid(_)), "{n}: {error:?}");
        assert!(site_recovery::Error::from(error).fact("field").is_some(), "{n}");
    }
    assert!(fake.requests().is_empty());
}

#[tokio::test]
async fn a_copy_is_in_one_of_four_states() {
    let cases = [
        ("pending", "3/9", "", CopyState::Pending { done: 3, total: 9 }),
        ("success", "9/9", "", CopyState::Success),
        ("aborted", "", "", CopyState::Aborted),
        (
            "failed",
            "",
            "404 BlobNotFound \"Copy failed: https://a/b?sig=c\"",
            CopyState::Failed("404 BlobNotFound".into()),
        ),
    ];
    for (status, progress, why, wanted) in cases {
        let fake = script(move |_| {
            let headers = [
                ETAG,
                ("x-ms-copy-id", "1-2"),
                ("x-ms-copy-status", status),
                ("x-ms-copy-progress", progress),
                ("x-ms-copy-status-description", why),
                ("x-ms-blob-sequence-number", "9"),
                ("x-ms-lease-status", "locked"),
                ("x-ms-meta-machine", "web"),
            ];
            say(200, &headers, &"x".repeat(512))
        });
        let found = container(&fake).pages("d").properties().await.expect("asked").expect("there");
        assert_eq!((found.size, found.sequence, found.leased), (512, 9, true));
        assert_eq!(found.metadata["machine"], "web");
        let copy = found.copy.expect("it is a copy");
        assert_eq!((copy.id.as_str(), copy.state), ("1-2", wanted));
    }
}

#[tokio::test]
async fn a_list_without_end_is_no_list() {
    let page = "<EnumerationResults><Blobs/><NextMarker>again</NextMarker></EnumerationResults>";
    let fake = script(move |_| say(200, &[], page));
    let error = container(&fake).list("").await.expect_err("no end");
    assert!(matches!(error, Error::Garbage { .. }), "{error:?}");
    assert_eq!(fake.requests().len(), 2);
}

//! Files on datastores: strictly this range, or a typed error.

use crate::fake::{Fake, Reply, Request};
use bytes::Bytes;
use site_recovery::ErrorKind;
use site_recovery_vim::{DatastoreFile, DatastorePath, Error, FileRefusal, Lost};
use std::sync::atomic::{AtomicUsize, Ordering};

const BYTES: &[u8] = b"0123456789abcdefghij";

fn path() -> DatastorePath {
    DatastorePath::new("fast 1", "웹/50% \"a\"'s.vmdk").unwrap()
}

fn range(from: usize, to: usize) -> Vec<(&'static str, String)> {
    vec![("content-range", format!("bytes {from}-{to}/{}", BYTES.len()))]
}

/// As a host that behaves.
fn right(r: &Request) -> Reply {
    let asked = r.headers["range"].strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    let (from, to): (usize, usize) = (asked.0.parse().unwrap(), asked.1.parse().unwrap());
    Reply::Say(206, range(from, to), BYTES[from..=to].to_vec())
}

async fn file(script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> (Fake, DatastoreFile) {
    let fake = Fake::new(script);
    let file = fake.connect().await.file("Berlin/DC0", path());
    (fake, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_read_in_the_session_whatever_the_name() {
    let (fake, file) = file(|r| match r.verb.as_str() {
        "GET" => Some(right(r)),
        "HEAD" => Some(Reply::Say(200, vec![], BYTES.to_vec())),
        _ => None,
    })
    .await;
    let mut buffer = [0; 6];
    file.read(7, &mut buffer).await.unwrap();
    assert_eq!(&buffer, b"789abc");
    assert_eq!(file.size().await.unwrap(), 20);
    file.read(0, &mut []).await.unwrap();
    let asked = &fake.seen("GET")[0];
    let wanted = "/folder/%EC%9B%B9/50%25%20%22a%22%27s.vmdk?dcPath=Berlin%2FDC0&dsName=fast%201";
    assert_eq!((asked.path.as_str(), asked.headers["range"].as_str()), (wanted, "bytes=7-12"));
    assert_eq!(asked.headers["cookie"], "vmware_soap_session=\"cookie-1\"");
    assert!(!asked.headers.contains_key("authorization"), "the password goes nowhere else");
    assert_eq!(fake.seen("GET").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_whatever_is_not_this_range_is_a_typed_error() {
    type Make = fn() -> Reply;
    let cases: [(Make, FileRefusal, ErrorKind); 12] = [
        (|| Reply::Say(200, vec![], BYTES.to_vec()), FileRefusal::RangeIgnored, ErrorKind::Unsupported),
        (|| Reply::Say(200, vec![], vec![]), FileRefusal::RangeIgnored, ErrorKind::Unsupported),
        (|| Reply::Say(416, vec![], vec![]), FileRefusal::BeyondEnd, ErrorKind::Invalid),
        (|| Reply::Say(206, range(0, 5), BYTES[..6].to_vec()), FileRefusal::WrongRange, ErrorKind::Corrupt),
        (|| Reply::Say(206, vec![], BYTES[7..13].to_vec()), FileRefusal::WrongRange, ErrorKind::Corrupt),
        (
            || Reply::Say(206, range(7, 99), BYTES[7..13].to_vec()),
            FileRefusal::WrongRange,
            ErrorKind::Corrupt,
        ),
        (
            || Reply::Say(206, range(7, 12), BYTES[7..11].to_vec()),
            FileRefusal::WrongLength { wanted: 6, got: 4 },
            ErrorKind::Corrupt,
        ),
        (
            || Reply::Say(206, range(7, 12), BYTES[7..14].to_vec()),
            FileRefusal::WrongLength { wanted: 6, got: 7 },
            ErrorKind::Corrupt,
        ),
        (|| Reply::Say(404, vec![], vec![]), FileRefusal::NotFound, ErrorKind::NotFound),
        (|| Reply::Say(403, vec![], vec![]), FileRefusal::Denied(403), ErrorKind::Denied),
        (|| Reply::Say(500, vec![], vec![]), FileRefusal::Locked(500), ErrorKind::Busy),
        (|| Reply::Say(423, vec![], vec![]), FileRefusal::Locked(423), ErrorKind::Busy),
    ];
    for (make, wanted, kind) in cases {
        let (fake, file) = file(move |r| (r.verb == "GET").then(make)).await;
        match file.read(7, &mut [0; 6]).await.unwrap_err() {
            error @ Error::File { why, .. } => assert_eq!((why, error.kind()), (wanted, kind)),
            other => panic!("{other:?} for {wanted:?}"),
        }
        assert_eq!(fake.seen("GET").len(), 1, "{wanted:?} is no trouble of the network");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_goes_on_after_a_session_a_503_and_a_body_that_breaks_off() {
    let times = AtomicUsize::new(0);
    let (fake, file) = file(move |r| {
        (r.verb == "GET").then(|| match times.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::Say(401, vec![], vec![]),
            1 => Reply::Say(503, vec![], vec![]),
            2 => Reply::Part(206, range(7, 12), 6, BYTES[7..9].to_vec()),
            _ => right(r),
        })
    })
    .await;
    let mut buffer = [0; 6];
    file.read(7, &mut buffer).await.unwrap();
    assert_eq!(&buffer, b"789abc");
    assert_eq!((fake.seen("GET").len(), fake.seen("Login").len()), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_each_time_is_given_up() {
    let (fake, file) =
        file(|r| (r.verb == "GET").then(|| Reply::Part(206, range(7, 12), 6, BYTES[7..9].to_vec()))).await;
    let error = file.read(7, &mut [0; 6]).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Broken { .. })), "{error:?}");
    assert_eq!(fake.seen("GET").len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_denied_after_one_more_login() {
    let (fake, file) = file(|r| (r.verb == "GET").then(|| Reply::Say(401, vec![], vec![]))).await;
    let error = file.read(0, &mut [0]).await.unwrap_err();
    assert!(matches!(error, Error::File { why: FileRefusal::Denied(401), .. }), "{error:?}");
    assert_eq!((fake.seen("GET").len(), fake.seen("Login").len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_is_written_once() {
    let (fake, file) = file(|r| (r.verb == "PUT").then(|| Reply::Say(201, vec![], vec![]))).await;
    file.put(Bytes::from_static(b"mark")).await.unwrap();
    assert_eq!(fake.seen("PUT")[0].body, "mark");
    let error = file.put(vec![0; (1 << 20) + 1].into()).await.unwrap_err();
    assert_eq!((error.kind(), fake.seen("PUT").len()), (ErrorKind::Invalid, 1));
    for make in [(|| Reply::Break) as fn() -> Reply, || Reply::Say(503, vec![], vec![])] {
        let (fake, file) = self::file(move |r| (r.verb == "PUT").then(make)).await;
        let error = file.put(Bytes::from_static(b"mark")).await.unwrap_err();
        assert!(error.may_have_been_done(), "{error:?}");
        assert_eq!(fake.seen("PUT").len(), 1);
    }
}

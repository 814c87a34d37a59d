//! What a network and a server in trouble do: each a clear error, and nothing that changes something is done twice.

use crate::fake::{Fake, Reply, answer, envelope, fault};
use site_recovery::ErrorKind;
use site_recovery_vim::{Error, Fault, Lost, Moref};
use std::sync::atomic::{AtomicUsize, Ordering};

fn machine() -> Moref {
    Moref::new("VirtualMachine", "vm-1")
}

fn time() -> Reply {
    answer("CurrentTime", "<returnval>2026-11-29T08:00:00Z</returnval>")
}

/// A server that does this to the first so many calls of a kind.
fn at_first(call: &'static str, times: usize, make: impl Fn() -> Reply + Send + Sync + 'static) -> Fake {
    let left = AtomicUsize::new(times);
    Fake::new(move |r| {
        let spoilt = r.call() == call
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if spoilt {
            return Some(make());
        }
        (r.call() == "CurrentTime").then(time)
    })
}

fn busy() -> Reply {
    Reply::Say(503, vec![], b"no healthy upstream".to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_comes_through_503_and_broken_connections() {
    for make in [busy as fn() -> Reply, || Reply::Break] {
        let fake = at_first("CurrentTime", 3, make);
        fake.connect().await.time().await.unwrap();
        assert_eq!(fake.seen("CurrentTime").len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_given_up_after_the_limit() {
    let fake = at_first("CurrentTime", 100, busy);
    let error = fake.connect().await.time().await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error:?}");
    assert_eq!((error.kind(), fake.seen("CurrentTime").len()), (ErrorKind::Unavailable, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_change_whose_answer_is_lost_is_never_repeated() {
    let cut = || Reply::Part(200, vec![], 5000, envelope("<PowerOffVM_TaskResponse")[..120].to_vec());
    let early = || {
        let mut whole =
            envelope("<PowerOffVM_TaskResponse xmlns=\"urn:vim25\"><returnval type=\"Task\">t</returnval>");
        whole.truncate(whole.len() - 40);
        Reply::Say(200, vec![], whole)
    };
    for make in [busy as fn() -> Reply, || Reply::Break, cut, early] {
        let fake = at_first("PowerOffVM_Task", 1, make);
        let error = fake.connect().await.power_off(&machine()).await.unwrap_err();
        assert!(error.may_have_been_done(), "{error:?}");
        assert!(error.to_string().contains("unknown whether it was done"), "{error}");
        assert_eq!(fake.seen("PowerOffVM_Task").len(), 1);
        let error = site_recovery::Error::from(error);
        assert_eq!((error.kind(), error.fact("outcome")), (ErrorKind::Unavailable, Some("unknown")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_silent_after_the_limit() {
    let mut fake = Fake::new(|r| match r.call() {
        "CurrentTime" | "PowerOffVM_Task" => Some(Reply::Hang),
        _ => None,
    });
    fake.settings.limits.answer_ms = 2_000;
    let vim = fake.connect().await;
    let error = vim.time().await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Silent { .. })), "{error:?}");
    assert_eq!((error.kind(), fake.seen("CurrentTime").len()), (ErrorKind::Unavailable, 1));
    assert!(vim.power_off(&machine()).await.unwrap_err().may_have_been_done());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_absent_and_a_change_was_not_made() {
    let fake = Fake::new(|_| None);
    let vim = fake.connect().await;
    drop(fake);
    let error = vim.time().await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Absent { .. })), "{error:?}");
    let error = vim.shut_down_guest(&machine()).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Absent { .. })) && !error.may_have_been_done(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_make_no_sense_are_named() {
    let laughs = r#"<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>"#;
    let bad: Vec<(Vec<u8>, &str)> = vec![
        (laughs.into(), "defines what XML of this protocol does not"),
        ("<a>".repeat(100_000).into(), "too deep"),
        (envelope("<CurrentTimeResponse>").split_off(60), "no XML"),
        (
            {
                let mut cut = envelope("<CurrentTimeResponse/>");
                cut.truncate(200);
                cut
            },
            "XML",
        ),
        (envelope("<OtherResponse/>"), "does not answer CurrentTime"),
        (envelope("<CurrentTimeResponse/>"), "its time is no time"),
        (envelope(""), "no SOAP"),
        (b"<html><body>Sorry</body></html>".to_vec(), "no SOAP"),
        (vec![0xff, 0xfe], "UTF-8"),
        (vec![], "XML"),
    ];
    for (body, what) in bad {
        let fake =
            Fake::new(move |r| (r.call() == "CurrentTime").then(|| Reply::Say(200, vec![], body.clone())));
        let error = fake.connect().await.time().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert!(error.to_string().contains(what), "{error} is not about {what}");
        assert_eq!(fake.seen("CurrentTime").len(), 1, "nothing is gained by asking again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut() {
    let mut fake = Fake::new(|r| (r.call() == "CurrentTime").then_some(Reply::Endless));
    fake.settings.limits.answer_bytes = 65_536;
    let error = fake.connect().await.time().await.unwrap_err();
    assert!(error.to_string().contains("longer than 65536 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_answers_of_http_are_told_by_their_number() {
    for status in [302, 403, 404, 502] {
        let fake = Fake::new(move |r| {
            let elsewhere = ("location", "https://127.0.0.1:1/sdk".to_owned());
            (r.call() == "CurrentTime").then(|| Reply::Say(status, vec![elsewhere], b"<html>".to_vec()))
        });
        let error = fake.connect().await.time().await.unwrap_err();
        assert!(matches!(error, Error::Status { status: found, .. } if found == status), "{error:?}");
    }
    // A proxy's page with the status of a fault.
    let fake =
        Fake::new(|r| (r.call() == "CurrentTime").then(|| Reply::Say(500, vec![], b"<html><p>".to_vec())));
    let error = fake.connect().await.time().await.unwrap_err();
    assert!(matches!(error, Error::Status { status: 500, .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_apart_by_type() {
    let wanted = [
        ("RestrictedVersion", Fault::RestrictedVersion, ErrorKind::Unsupported),
        ("TaskInProgress", Fault::TaskInProgress, ErrorKind::Busy),
        ("ToolsUnavailable", Fault::ToolsUnavailable, ErrorKind::Refused),
        ("NotSupported", Fault::NotSupported, ErrorKind::Unsupported),
        ("MethodNotFound", Fault::MethodNotFound, ErrorKind::Unsupported),
        ("ResourceInUse", Fault::ResourceInUse, ErrorKind::Busy),
        ("InvalidPowerState", Fault::InvalidPowerState { existing: None }, ErrorKind::Refused),
        ("ManagedObjectNotFound", Fault::ManagedObjectNotFound { object: None }, ErrorKind::NotFound),
        ("FromTheFuture", Fault::Other("FromTheFuture".into()), ErrorKind::Refused),
    ];
    for (kind, wanted, as_kind) in wanted {
        let fake = Fake::new(move |r| (r.call() == "ShutdownGuest").then(|| fault(kind, "")));
        let error = fake.connect().await.shut_down_guest(&machine()).await.unwrap_err();
        assert_eq!((error.fault(), error.kind()), (Some(&wanted), as_kind));
        assert_eq!(fake.seen("ShutdownGuest").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_no_xml_can_hold_are_refused_before_anything_is_sent() {
    let fake = Fake::new(|_| None);
    let vim = fake.connect().await;
    let error = vim.create_snapshot(&machine(), "a\x08b", "", false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(fake.seen("CreateSnapshot_Task").is_empty());
}

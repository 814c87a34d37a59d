//! What a network and a server in trouble do: each a clear error, and nothing that changes something is done twice.

use crate::fake::{Fake, Reply, answer, part, refused, say};
use site_recovery::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use vmware_vsphere_rest::{Error, Lost, MachineFilter, MachineId, Refusal};

const MACHINES: &str = "GET /api/vcenter/vm";
const STOP: &str = "POST /api/vcenter/vm/vm-1/power?action=stop";

fn all() -> MachineFilter {
    MachineFilter::default()
}

fn machine() -> MachineId {
    MachineId::new("vm-1")
}

/// A server that does this to the first so many requests of a line.
fn at_first(line: &'static str, times: usize, make: impl Fn() -> Reply + Send + Sync + 'static) -> Fake {
    let left = AtomicUsize::new(times);
    Fake::new(move |r| {
        let spoilt =
            r.is(line) && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        spoilt.then(&make)
    })
}

fn busy() -> Reply {
    say(503, "no healthy upstream".into())
}

fn unavailable() -> Reply {
    refused(503, "SERVICE_UNAVAILABLE", "it starts")
}

fn cut() -> Reply {
    part(5_000, "[{\"vm\":\"vm-1\",".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_comes_through_503_and_broken_connections() {
    for make in [busy as fn() -> Reply, unavailable, cut, || Reply::Break] {
        for line in [MACHINES, "POST /api/session"] {
            let fake = at_first(line, 3, make);
            fake.connect().await.machines(&all()).await.unwrap();
            assert_eq!(fake.seen(line).len(), 4);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_given_up_after_the_limit() {
    for make in [busy as fn() -> Reply, unavailable] {
        let fake = at_first(MACHINES, 100, make);
        let error = fake.connect().await.machines(&all()).await.unwrap_err();
        assert_eq!((error.kind(), fake.seen(MACHINES).len()), (ErrorKind::Unavailable, 4), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn o1_a_change_whose_answer_is_lost_is_never_repeated() {
    let late = || refused(500, "TIMED_OUT", "too slow");
    let other = || say(502, "<html>bad gateway</html>".into());
    for make in [busy as fn() -> Reply, || Reply::Break, cut, late, other] {
        let fake = at_first(STOP, 1, make);
        let error = fake.connect().await.stop(&machine()).await.unwrap_err();
        assert!(error.may_have_been_done(), "{error:?}");
        assert!(error.to_string().contains("unknown whether it was done"), "{error}");
        assert_eq!(fake.seen(STOP).len(), 1);
        let error = site_recovery::Error::from(error);
        assert_eq!((error.kind(), error.fact("outcome")), (ErrorKind::Unavailable, Some("unknown")));
    }
    let line = "POST /api/cis/tagging/tag";
    let fake = at_first(line, 1, || say(201, "{}".into()));
    let category = vmware_vsphere_rest::CategoryId::new("urn:c");
    let error = fake.connect().await.create_tag(&category, "gold").await.unwrap_err();
    assert!(error.may_have_been_done() && fake.seen(line).len() == 1, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_refused_was_not_made_and_says_why() {
    let cases = [
        (400, "ALREADY_IN_DESIRED_STATE", Refusal::AlreadyInDesiredState, ErrorKind::Refused),
        (400, "NOT_ALLOWED_IN_CURRENT_STATE", Refusal::NotAllowedInCurrentState, ErrorKind::Refused),
        (403, "UNAUTHORIZED", Refusal::Unauthorized, ErrorKind::Denied),
        (404, "NOT_FOUND", Refusal::NotFound, ErrorKind::NotFound),
        (500, "RESOURCE_BUSY", Refusal::ResourceBusy, ErrorKind::Busy),
        (503, "SERVICE_UNAVAILABLE", Refusal::ServiceUnavailable, ErrorKind::Unavailable),
        (500, "BRAND_NEW", Refusal::Other("BRAND_NEW".into()), ErrorKind::Refused),
    ];
    for (status, word, refusal, kind) in cases {
        let fake = at_first(STOP, 1, move || refused(status, word, "그렇다"));
        let error = fake.connect().await.stop(&machine()).await.unwrap_err();
        assert_eq!((error.refusal(), error.kind()), (Some(&refusal), kind), "{error:?}");
        assert_eq!(error.to_string(), format!("stop machine: {word}: [\"그렇다\"]"));
        assert_eq!((error.is_already(), fake.seen(STOP).len()), (word.starts_with("ALREADY"), 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_is_silent_after_the_limit() {
    let mut fake = Fake::new(|r| (!r.is_login()).then_some(Reply::Hang));
    fake.settings.limits.answer_ms = 2_000;
    let vcenter = fake.connect().await;
    let error = vcenter.machines(&all()).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Silent { .. })), "{error:?}");
    assert_eq!((error.kind(), fake.seen(MACHINES).len()), (ErrorKind::Unavailable, 1));
    assert!(vcenter.stop(&machine()).await.unwrap_err().may_have_been_done());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_is_absent_and_a_change_was_not_made() {
    let fake = Fake::new(|_| None);
    let vcenter = fake.connect().await;
    drop(fake);
    let error = vcenter.machines(&all()).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Absent { .. })), "{error:?}");
    let error = vcenter.shut_down_guest(&machine()).await.unwrap_err();
    assert!(matches!(error, Error::Lost(Lost::Absent { .. })) && !error.may_have_been_done(), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_bounded_and_what_makes_no_sense_is_named() {
    let mut fake = Fake::new(|r| r.is(MACHINES).then_some(Reply::Endless));
    fake.settings.limits.answer_bytes = 100_000;
    let error = fake.connect().await.machines(&all()).await.unwrap_err();
    assert!(error.to_string().contains("longer than 100000 bytes"), "{error}");
    for bad in ["", "<html>Sorry</html>", "{\"value\":[]}", "[{\"vm\":1}]", "[{\"vm\":\"vm-1\"", "[{}]"] {
        let fake = Fake::new(move |r| r.is(MACHINES).then(|| answer(bad)));
        let error = fake.connect().await.machines(&all()).await.unwrap_err();
        assert!(matches!(error, Error::Garbage { call: "list machines", .. }), "{error:?}");
        assert_eq!((error.kind(), fake.seen(MACHINES).len()), (ErrorKind::Corrupt, 1));
    }
    for bad in ["5", "\"\"", "\"a\\nb\""] {
        let fake = Fake::new(move |r| r.is_login().then(|| answer(bad)));
        assert!(matches!(fake.try_connect().await.unwrap_err(), Error::Garbage { call: "log in", .. }));
    }
}

//! Sessions: opened below `/api` or `/rest`, lost, opened anew; and what is never shown.

use crate::fake::{Fake, PASSWORD, answer, connect, refused, say};
use site_recovery::ErrorKind;
use vmware_vsphere_rest::{
    Dialect, Error, Filter, Lost, MachineFilter, MachineId, Refusal, SecretRef, Trust,
};

const MACHINES: &str = "GET /api/vcenter/vm";
const START: &str = "POST /api/vcenter/vm/vm-1/power?action=start";

fn machine() -> MachineId {
    MachineId::new("vm-1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_lost_is_opened_anew_for_reads_and_changes() {
    for lost in [|| refused(401, "UNAUTHENTICATED", "gone"), || say(401, "gone".into())] {
        let fake = Fake::new(move |r| (!r.is_login() && r.is_in(1)).then(lost));
        let vcenter = fake.connect().await;
        assert!(vcenter.machines(&MachineFilter::default()).await.unwrap().is_empty());
        assert_eq!((fake.logins(), fake.seen(MACHINES).len()), (2, 2));
        assert!(fake.seen(MACHINES)[1].is_in(2));
        // A change without a session did not happen.
        let fake = Fake::new(move |r| (!r.is_login() && r.is_in(1)).then(lost));
        fake.connect().await.start(&machine()).await.unwrap();
        assert_eq!((fake.logins(), fake.seen(START).len()), (2, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_never_let_in_is_told_so_after_one_more_try() {
    let fake = Fake::new(|r| (!r.is_login()).then(|| refused(401, "UNAUTHENTICATED", "gone")));
    let error = fake.connect().await.machines(&MachineFilter::default()).await.unwrap_err();
    assert_eq!((error.refusal(), error.kind()), (Some(&Refusal::Unauthenticated), ErrorKind::Denied));
    assert_eq!((fake.logins(), fake.seen(MACHINES).len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_that_find_no_session_one_logs_in() {
    let fake = Fake::new(|r| (!r.is_login() && r.is_in(1)).then(|| refused(401, "UNAUTHENTICATED", "")));
    let vcenter = fake.connect().await;
    let (filter, all) = (Filter::default(), MachineFilter::default());
    let (a, b, c) = tokio::join!(vcenter.machines(&all), vcenter.hosts(&filter), vcenter.folders(&filter));
    assert!(a.unwrap().is_empty() && b.unwrap().is_empty() && c.unwrap().is_empty());
    assert_eq!(fake.logins(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_is_not_used_again() {
    let fake = Fake::new(|_| None);
    let vcenter = fake.connect().await;
    vcenter.log_out().await.unwrap();
    vcenter.log_out().await.unwrap();
    assert!(fake.seen("DELETE /api/session")[0].is_in(1));
    vcenter.machines(&MachineFilter::default()).await.unwrap();
    assert!(fake.seen(MACHINES)[0].is_in(2));
    assert_eq!(fake.lines().iter().filter(|l| l.starts_with("DELETE")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_servers_are_found_by_their_login_and_spoken_to_in_their_way() {
    for (status, body) in [(404, ""), (404, "<html/>"), (405, ""), (400, "{\"a\":1}")] {
        let fake = Fake::new(move |r| match r.path.as_str() {
            "/api/session" => Some(say(status, body.into())),
            "/rest/vcenter/vm/vm-1/power" => Some(answer(r#"{"value":{"state":"POWERED_ON"}}"#)),
            _ => None,
        });
        let vcenter = fake.connect().await;
        assert_eq!(vcenter.dialect(), Dialect::Rest);
        assert_eq!(vcenter.power(&machine()).await.unwrap().as_str(), "POWERED_ON");
        vcenter.shut_down_guest(&machine()).await.unwrap();
        vcenter.log_out().await.unwrap();
        let lines = [
            "POST /api/session",
            "POST /rest/com/vmware/cis/session",
            "GET /rest/vcenter/vm/vm-1/power",
            "POST /rest/vcenter/vm/vm-1/guest/power?action=shutdown",
            "DELETE /rest/com/vmware/cis/session",
        ];
        assert_eq!(fake.lines(), lines);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_has_no_such_api() {
    let fake = Fake::new(|_| Some(say(404, String::new())));
    let error = fake.try_connect().await.unwrap_err();
    assert!(matches!(error, Error::NoApi { .. }), "{error:?}");
    assert_eq!((error.kind(), fake.lines().len()), (ErrorKind::Unsupported, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_no_error_and_no_debug_shows_password_or_token() {
    // A server that repeats whatever it is told.
    let fake = Fake::new(|r| {
        let told = r.headers.get("vmware-api-session-id").cloned().unwrap_or_default();
        (!r.is_login()).then(|| refused(500, "INTERNAL_SERVER_ERROR", &format!("{told} is odd")))
    });
    let vcenter = fake.connect().await;
    let failed = vcenter.machines(&MachineFilter::default()).await.unwrap_err();
    assert_eq!(failed.to_string(), "list machines: INTERNAL_SERVER_ERROR");
    let shown = format!("{vcenter:?} {failed} {failed:?} {:?}", fake.settings);
    assert!(!shown.contains(PASSWORD) && !shown.contains("canary") && !shown.contains("token-"), "{shown}");

    let fake = Fake::new(|r| {
        let sent = r.headers.get("authorization").cloned().unwrap_or_default();
        r.is_login().then(|| refused(401, "UNAUTHENTICATED", &format!("{sent} is wrong")))
    });
    let mut settings = fake.settings.clone();
    settings.password = SecretRef::File(fake.write("wrong", "wrong-canary\n"));
    let denied = connect(&settings).await.unwrap_err();
    assert_eq!(denied.refusal(), Some(&Refusal::Unauthenticated));
    assert_eq!(fake.logins(), 1, "a wrong password is tried once");
    let error = site_recovery::Error::from(denied);
    assert_eq!((error.kind(), error.fact("refusal")), (ErrorKind::Denied, Some("UNAUTHENTICATED")));
    assert!(!format!("{error} {error:?}").contains("Basic"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_stranger_gets_nothing() {
    let (fake, other) = (Fake::new(|_| None), Fake::new(|_| None));
    let mut settings = fake.settings.clone();
    for trust in [Trust::Sha256("ab".repeat(32)), Trust::Ca(fake.write("other.pem", &other.authority.pem()))]
    {
        settings.trust = trust;
        let error = connect(&settings).await.unwrap_err();
        assert!(matches!(error, Error::Lost(Lost::Stranger { .. })), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
    assert!(fake.lines().is_empty(), "nothing was said");
    settings.trust = Trust::Ca(fake.write("ours.pem", &fake.authority.pem()));
    connect(&settings).await.unwrap();
    // The right authority, for another name.
    settings.url = settings.url.replace("127.0.0.1", "localhost");
    assert!(matches!(connect(&settings).await.unwrap_err(), Error::Lost(Lost::Stranger { .. })));
    for trust in [Trust::Sha256("abc".into()), Trust::Ca(fake.write("none.pem", "nothing"))] {
        settings.trust = trust;
        assert!(matches!(connect(&settings).await.unwrap_err(), Error::Invalid(_)));
    }
}

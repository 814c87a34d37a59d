//! Against a server that answers as a test tells it: why no answer comes, or not whole.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/fake.rs"]
mod fake;
#[path = "../support/trust.rs"]
mod trust;

use fake::{Fake, Reply};
use reqwest::Method;
use site_recovery::ErrorKind;
use site_recovery_https::{Https, Lost, Settings, Trust};

/// The whole body of an answer to this one request.
async fn ask(settings: &Settings) -> Result<Option<Vec<u8>>, Lost> {
    let https = Https::new(settings, "/").unwrap();
    let (span, url) = (https.limits().answer(), https.base().clone());
    let response = https.send(https.request(Method::GET, url), span).await?;
    https.whole(response, span).await
}

fn say(body: &[u8]) -> Reply {
    Reply::Say(200, vec![], body.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_comes_whole_or_not_at_all() {
    let mut fake = Fake::answering(|_| say(&[7; 5000]));
    fake.settings.limits.answer_bytes = 5000;
    assert_eq!(ask(&fake.settings).await.unwrap(), Some(vec![7; 5000]));
    fake.settings.limits.answer_bytes = 4999;
    assert_eq!(ask(&fake.settings).await.unwrap(), None);
    let fake = Fake::answering(|_| Reply::Endless);
    assert_eq!(ask(&fake.settings).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_stranger_gets_nothing() {
    let (fake, other) = (Fake::answering(|_| say(b"")), Fake::answering(|_| say(b"")));
    let mut settings = fake.settings.clone();
    for trust in [Trust::Sha256("ab".repeat(32)), Trust::Ca(fake.write("other.pem", &other.authority.pem()))]
    {
        settings.trust = trust;
        let lost = ask(&settings).await.unwrap_err();
        assert!(matches!(lost, Lost::Stranger { .. }), "{lost:?}");
        assert_eq!((lost.kind(), lost.may_pass(), lost.may_have_come()), (ErrorKind::Denied, false, false));
    }
    assert!(fake.requests().is_empty(), "nothing was said");
    settings.trust = Trust::Ca(fake.write("ours.pem", &fake.authority.pem()));
    ask(&settings).await.unwrap();
    // The right authority, for another name.
    settings.url = settings.url.replace("127.0.0.1", "localhost");
    assert!(matches!(ask(&settings).await.unwrap_err(), Lost::Stranger { .. }));
    assert_eq!(fake.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_told_apart_by_what_to_do_about_it() {
    let mut hanging = Fake::answering(|_| Reply::Hang);
    hanging.settings.limits.answer_ms = 500;
    let lost = ask(&hanging.settings).await.unwrap_err();
    assert!(matches!(lost, Lost::Silent { .. }), "{lost:?}");
    assert_eq!((lost.kind(), lost.may_pass(), lost.may_have_come()), (ErrorKind::Unavailable, false, true));

    let part = || Reply::Part(200, vec![], 100, vec![7; 10]);
    for make in [part as fn() -> Reply, || Reply::Break] {
        let fake = Fake::answering(move |_| make());
        let lost = ask(&fake.settings).await.unwrap_err();
        assert!(matches!(lost, Lost::Broken { .. }), "{lost:?}");
        assert_eq!(
            (lost.kind(), lost.may_pass(), lost.may_have_come()),
            (ErrorKind::Unavailable, true, true)
        );
    }

    let fake = Fake::answering(|_| say(b""));
    let settings = fake.settings.clone();
    drop(fake);
    let lost = ask(&settings).await.unwrap_err();
    assert!(matches!(lost, Lost::Absent { .. }), "{lost:?}");
    assert!(lost.to_string().starts_with(settings.url.strip_prefix("https://").unwrap()), "{lost}");
    assert_eq!((lost.kind(), lost.may_pass(), lost.may_have_come()), (ErrorKind::Unavailable, true, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_leads_elsewhere_is_not_followed() {
    let elsewhere = Fake::answering(|_| say(b"password, please"));
    let to = elsewhere.settings.url.clone();
    let fake = Fake::answering(move |_| Reply::Say(302, vec![("location", to.clone())], vec![]));
    assert_eq!(ask(&fake.settings).await.unwrap(), Some(vec![]));
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "an answer of the server panicked")]
async fn an_answer_that_panics_fails_its_test() {
    let fake = Fake::answering(|request| panic!("{} was not looked for", request.path));
    assert!(matches!(ask(&fake.settings).await, Err(Lost::Broken { .. })));
}

/// What the child process of the test below asks, and its parent's answer to it.
const ASKED: &str = "SITE_RECOVERY_TEST_SYSTEM_ASKS";

#[tokio::test(flavor = "multi_thread")]
async fn c2_the_system_is_trusted_with_those_whom_it_trusts() {
    if let Ok(url) = std::env::var(ASKED) {
        let mut fake = Fake::answering(|_| say(b""));
        fake.settings.trust = Trust::System;
        let lost = ask(&fake.settings).await.unwrap_err();
        assert!(matches!(lost, Lost::Stranger { .. }), "{lost:?}");
        assert!(fake.requests().is_empty(), "nothing was said");
        fake.settings.url = url;
        assert_eq!(ask(&fake.settings).await.unwrap(), Some(b"known".to_vec()));
        return;
    }
    let fake = Fake::answering(|_| say(b"known"));
    let run = |authorities: std::path::PathBuf| {
        // What a system trusts is the same for all of a process.
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "c2_the_system_is_trusted_with_those_whom_it_trusts"]);
        child.env(ASKED, &fake.settings.url).env("SSL_CERT_FILE", authorities).env_remove("SSL_CERT_DIR");
        child.output().unwrap()
    };
    let known = run(fake.write("ours.pem", &fake.authority.pem()));
    assert!(known.status.success(), "{known:?}");
    assert_eq!(fake.requests().len(), 1);
    let none = run(fake.write("none.pem", ""));
    let said = format!("{none:?}");
    assert!(
        !none.status.success() && said.contains("trust.system") && said.contains("ca-certificates"),
        "{said}"
    );
    assert_eq!(fake.requests().len(), 1);
}

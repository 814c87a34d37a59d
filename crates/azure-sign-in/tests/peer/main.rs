//! Against a service that gives tokens out as a test tells it.

#[path = "../../../https/tests/support/fake.rs"]
mod fake;
#[path = "../../../https/tests/support/trust.rs"]
mod trust;

use azure_core::http::{Method, Request};
use fake::{Fake, Reply};
use site_recovery_azure_sign_in::{
    Cloud, Limits, Lost, SecretRef, SignIn, Trust, http, legacy_credential, legacy_http,
};
use std::error::Error;
use url::Url;

const SCOPE: &str = "https://storage.azure.com/.default";

/// A cloud whose tokens this service gives out.
fn cloud(fake: &Fake) -> Cloud {
    Cloud { authority: fake.settings.url.clone(), ..Cloud::public() }
}

fn giving() -> Fake {
    let count = std::sync::atomic::AtomicU64::new(0);
    Fake::answering(move |request| {
        if !request.path.ends_with("/oauth2/v2.0/token") {
            return Reply::Say(404, vec![], b"{}".to_vec());
        }
        let token = format!("canary-token-{}", count.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let body = format!(
            r#"{{"token_type":"Bearer","expires_in":86400,"ext_expires_in":86400,"access_token":"{token}"}}"#
        );
        Reply::Say(200, vec![("content-type", "application/json".into())], body.into_bytes())
    })
}

#[tokio::test]
async fn c1_a_service_principal_is_known_by_its_secret_as_it_stands_now() {
    let fake = giving();
    let path = fake.write("secret", "canary-first\n");
    let who = SignIn::ServicePrincipal {
        tenant: "tenant".into(),
        client: "client".into(),
        secret: SecretRef::File(path.clone()),
    };
    let credential = who.credential(&cloud(&fake), &fake.settings.trust).expect("settings");
    for _ in 0..2 {
        let token = credential.get_token(&[SCOPE], None).await.expect("a token");
        assert_eq!(token.token.secret(), "canary-token-0", "it is kept");
    }
    std::fs::write(&path, "canary-second\n").expect("written");
    let token = legacy_credential(credential.clone()).get_token(&[SCOPE]).await.expect("a token");
    assert_eq!(token.token.secret(), "canary-token-1");
    let requests = fake.requests();
    assert_eq!(requests.len(), 2);
    for (request, secret) in requests.iter().zip(["canary-first", "canary-second"]) {
        assert_eq!(request.path, "/tenant/oauth2/v2.0/token");
        assert!(
            request.body.contains(&format!("client_secret={secret}"))
                && request.body.contains("client_id=client")
        );
    }
    std::fs::remove_file(&path).expect("removed");
    let error = credential.get_token(&[SCOPE], None).await.expect_err("no secret");
    let shown = format!("{who:?} {credential:?} {token:?} {error} {error:?}");
    assert!(shown.contains("client") && !shown.contains("canary"), "{shown}");
}

#[tokio::test]
async fn a_workload_is_known_by_the_token_in_its_file() {
    let fake = giving();
    let path = fake.write("assertion", "canary-assertion");
    let who = SignIn::WorkloadIdentity {
        tenant: Some("tenant".into()),
        client: Some("client".into()),
        token_file: Some(path),
    };
    let credential = who.credential(&cloud(&fake), &fake.settings.trust).expect("settings");
    assert_eq!(credential.get_token(&[SCOPE], None).await.expect("a token").token.secret(), "canary-token-0");
    assert!(fake.requests()[0].body.contains("client_assertion=canary-assertion"));
    assert!(!format!("{credential:?}").contains("canary"));
}

#[tokio::test]
async fn no_token_is_asked_of_a_stranger() {
    let fake = giving();
    let secret = SecretRef::File(fake.write("secret", "canary-secret"));
    let who = SignIn::ServicePrincipal { tenant: "tenant".into(), client: "client".into(), secret };
    let credential = who.credential(&cloud(&fake), &Trust::Sha256("00".repeat(32))).expect("settings");
    let error = credential.get_token(&[SCOPE], None).await.expect_err("a stranger");
    let root: &(dyn Error + 'static) = &error;
    let mut causes = std::iter::successors(Some(root), |cause: &&(dyn Error + 'static)| (*cause).source());
    let lost = causes.find_map(|cause| cause.downcast_ref::<Lost>());
    assert!(matches!(lost, Some(Lost::Stranger { .. })), "{error:?}");
    assert!(fake.requests().is_empty());
}

#[test]
fn settings_name_who_asks_and_nothing_else() {
    let text = r#"{"service_principal":{"tenant":"t","client":"c","secret":{"env":"A_SECRET"}}}"#;
    let who: SignIn = serde_json::from_str(text).expect("settings");
    assert_eq!(serde_json::to_string(&who).expect("text"), text);
    assert_eq!(serde_json::from_str::<SignIn>("\"cli\"").expect("settings"), SignIn::Cli);
    let managed = serde_json::from_str::<SignIn>(r#"{"managed_identity":{}}"#).expect("settings");
    assert_eq!(managed, SignIn::ManagedIdentity { client_id: None });
    for bad in [
        r#"{"service_principal":{"tenant":"t","client":"c","secret":"hunter2"}}"#,
        r#"{"managed_identity":{"id":"x"}}"#,
    ] {
        assert!(serde_json::from_str::<SignIn>(bad).is_err(), "{bad}");
    }
    let trust = Trust::Sha256("00".repeat(32));
    let error = who.credential(&Cloud::public(), &trust).expect_err("no such variable").to_string();
    assert!(error.contains("A_SECRET"), "{error}");
    let managed = managed.credential(&Cloud::public(), &trust);
    assert!(managed.is_ok(), "{managed:?}");
}

#[tokio::test]
async fn both_lines_of_the_sdk_go_over_the_same_https() {
    let fake = Fake::answering(|request| match request.path.as_str() {
        "/endless" => Reply::Endless,
        "/part" => Reply::Part(200, vec![], 100, b"ten bytes.".to_vec()),
        "/elsewhere" => Reply::Say(307, vec![("location", "/".into())], vec![]),
        _ => Reply::Say(
            404,
            vec![("x-ms-request-id", "7".into())],
            request.headers["x-ms-version"].clone().into_bytes(),
        ),
    });
    let limits = Limits { answer_bytes: 1 << 20, ..Limits::default() };
    let now = http(&fake.settings.trust, limits).expect("a client");
    let old = legacy_http(&fake.settings.trust, limits).expect("a client");
    let url =
        |path: &str| Url::parse(&fake.settings.url).expect("an address").join(path).expect("an address");
    for (path, status) in [("/a", 404), ("/elsewhere", 307)] {
        let mut request = Request::new(url(path), Method::Get);
        request.insert_header("x-ms-version", "2026");
        let answer = now.execute_request(&request).await.expect("an answer");
        assert_eq!(u16::from(answer.status()), status);
        let mut request = azure_core_legacy::Request::new(url(path), azure_core_legacy::Method::Get);
        request.insert_header("x-ms-version", "2026");
        let legacy = old.execute_request(&request).await.expect("an answer");
        assert_eq!(legacy.status() as u16, status);
        if status == 404 {
            assert_eq!(answer.headers().get_optional_str(&"x-ms-request-id".into()), Some("7"));
            assert_eq!(&answer.into_body().collect().await.expect("whole")[..], b"2026");
            assert_eq!(legacy.headers().get_optional_str(&"x-ms-request-id".into()), Some("7"));
            assert_eq!(&legacy.into_body().collect().await.expect("whole")[..], b"2026");
        }
    }
    for path in ["/endless", "/part"] {
        let answer = now.execute_request(&Request::new(url(path), Method::Get)).await.expect("it begins");
        let error = answer.into_body().collect().await.expect_err(path);
        assert!(matches!(error.downcast_ref::<Lost>(), Some(Lost::Broken { .. })), "{error:?}");
        let request = azure_core_legacy::Request::new(url(path), azure_core_legacy::Method::Get);
        let answer = old.execute_request(&request).await.expect("it begins");
        assert!(answer.into_body().collect().await.is_err(), "{path}");
    }
    let mut plain = url("/a");
    plain.set_scheme("http").expect("a scheme");
    let before = fake.requests().len();
    let error = now.execute_request(&Request::new(plain, Method::Get)).await.expect_err("no TLS");
    assert!(error.to_string().contains("without TLS"), "{error}");
    assert_eq!(fake.requests().len(), before);
}

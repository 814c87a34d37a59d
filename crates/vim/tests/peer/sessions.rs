//! Sessions: opened, lost in both forms, opened anew; and what is never shown.

use crate::fake::{Fake, PASSWORD, Reply, Request, answer, fault, value};
use site_recovery_vim::{Error, Fault, Lost, Moref, SecretRef, Trust};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

fn machine() -> Moref {
    Moref::new("VirtualMachine", "vm-1")
}

/// Whether a request is in the session with this number.
fn is_in(request: &Request, number: usize) -> bool {
    let cookie = format!("vmware_soap_session=\"cookie-{number}\"");
    request.headers.get("cookie") == Some(&cookie)
}

fn power(state: &str) -> Reply {
    let set = format!(
        "<propSet><name>runtime.powerState</name><val xsi:type=\"VirtualMachinePowerState\">{state}</val></propSet>"
    );
    answer(
        "RetrievePropertiesEx",
        &format!("<returnval><objects><obj type=\"VirtualMachine\">vm-1</obj>{set}</objects></returnval>"),
    )
}

/// As a server that has forgotten the session says of properties.
fn forgotten() -> Reply {
    let fault = "<fault xsi:type=\"NotAuthenticated\"><privilegeId>System.View</privilegeId></fault>";
    let set = format!(
        "<missingSet><path>runtime.powerState</path><fault>{fault}<localizedMessage/></fault></missingSet>"
    );
    answer(
        "RetrievePropertiesEx",
        &format!("<returnval><objects><obj type=\"VirtualMachine\">vm-1</obj>{set}</objects></returnval>"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_lost_as_a_fault_is_opened_anew() {
    let fake = Fake::new(|r| match r.call() {
        "CurrentTime" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        "CurrentTime" => Some(answer("CurrentTime", "<returnval>2026-11-29T08:00:00Z</returnval>")),
        _ => None,
    });
    let vim = fake.connect().await;
    assert_eq!(vim.time().await.unwrap().to_string(), "2026-11-29T08:00:00.000Z");
    assert_eq!(fake.seen("Login").len(), 2);
    assert!(is_in(&fake.seen("CurrentTime")[1], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_lost_as_missing_properties_is_opened_anew() {
    let fake = Fake::new(|r| match r.call() {
        "RetrievePropertiesEx" if is_in(r, 1) => Some(forgotten()),
        "RetrievePropertiesEx" => Some(power("poweredOff")),
        _ => None,
    });
    let vim = fake.connect().await;
    assert_eq!(vim.power(&machine()).await.unwrap(), site_recovery_vim::Power::Off);
    assert_eq!(fake.seen("Login").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_without_a_session_did_not_happen_and_is_repeated_once() {
    let fake = Fake::new(|r| match r.call() {
        "PowerOffVM_Task" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        _ => None,
    });
    let vim = fake.connect().await;
    vim.power_off(&machine()).await.unwrap().wait(Duration::from_secs(20)).await.unwrap();
    assert_eq!(fake.seen("PowerOffVM_Task").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_never_let_in_is_told_so_after_one_more_try() {
    let fake = Fake::new(|r| match r.call() {
        "CurrentTime" => Some(fault("NotAuthenticated", "")),
        "RetrievePropertiesEx" => Some(forgotten()),
        _ => None,
    });
    let vim = fake.connect().await;
    assert_eq!(vim.time().await.unwrap_err().fault(), Some(&Fault::NotAuthenticated));
    assert_eq!(fake.seen("CurrentTime").len(), 2);
    assert_eq!(vim.power(&machine()).await.unwrap_err().fault(), Some(&Fault::NotAuthenticated));
    assert_eq!(fake.seen("RetrievePropertiesEx").len(), 2);
}

/// The view is of the first session, and with it the token: all is begun anew.
#[tokio::test(flavor = "multi_thread")]
async fn pages_begin_anew_where_their_session_ends_between_two() {
    let object = |n: usize| {
        format!(
            "<objects><obj type=\"VirtualMachine\">vm-{n}</obj><propSet><name>name</name><val>m{n}</val></propSet></objects>"
        )
    };
    let views = AtomicUsize::new(0);
    let fake = Fake::new(move |r| match r.call() {
        "CreateContainerView" => {
            Some(value(r.call(), "ContainerView", &format!("view-{}", views.fetch_add(1, Ordering::SeqCst))))
        }
        "RetrievePropertiesEx" => {
            let inside = format!("<returnval><token>t</token>{}{}</returnval>", object(1), object(2));
            Some(answer(r.call(), &inside))
        }
        "ContinueRetrievePropertiesEx" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        "ContinueRetrievePropertiesEx" => {
            Some(answer(r.call(), &format!("<returnval>{}</returnval>", object(3))))
        }
        _ => None,
    });
    let vim = fake.connect().await;
    let found = vim.machines(&vim.content().root_folder).await.unwrap();
    assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["m1", "m2", "m3"]);
    let asked = fake.seen("RetrievePropertiesEx");
    assert!(asked[1].body.contains("view-1") && is_in(&asked[1], 2), "{:?}", fake.calls());
    assert_eq!(fake.seen("DestroyView").len(), 2);
}

/// The token is of a session that ended, and nobody says so: another call has opened the next one already.
#[tokio::test(flavor = "multi_thread")]
async fn pages_begin_anew_where_another_call_has_renewed_the_session() {
    let logins = Arc::new((Mutex::new(0), Condvar::new()));
    let fake = Fake::new(move |r| match r.call() {
        "Login" => {
            *logins.0.lock().unwrap() += 1;
            logins.1.notify_all();
            None
        }
        "CurrentTime" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        "CurrentTime" => Some(answer(r.call(), "<returnval>2026-11-29T08:00:00Z</returnval>")),
        "RetrievePropertiesEx" if is_in(r, 1) => {
            let limit = Duration::from_secs(15);
            let renewed = logins.1.wait_timeout_while(logins.0.lock().unwrap(), limit, |n| *n < 2).unwrap();
            assert!(!renewed.1.timed_out());
            Some(answer(r.call(), "<returnval><token>of the first</token></returnval>"))
        }
        "ContinueRetrievePropertiesEx" => {
            Some(fault("InvalidArgument", "<invalidProperty>token</invalidProperty>"))
        }
        _ => None,
    });
    let vim = fake.connect().await;
    let (found, time) = tokio::join!(vim.machines(&vim.content().root_folder), async {
        // Not before the other has sent its request.
        while fake.seen("RetrievePropertiesEx").is_empty() {
            tokio::task::yield_now().await;
        }
        vim.time().await
    });
    time.unwrap();
    assert!(found.unwrap().is_empty());
    assert_eq!((fake.seen("RetrievePropertiesEx").len(), fake.seen("Login").len()), (2, 2));
}

/// The collector of events is of the first session: in the next one the server does not know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_of_events_that_went_with_its_session_is_made_anew() {
    let collectors = AtomicUsize::new(0);
    let event = "<propSet><name>latestPage</name><val xsi:type=\"ArrayOfEvent\"><Event xsi:type=\"VmPoweredOnEvent\">\
                 <key>7</key><createdTime>2026-11-29T08:00:00Z</createdTime></Event></val></propSet>";
    let page = format!(
        "<returnval><objects><obj type=\"EventHistoryCollector\">events-2</obj>{event}</objects></returnval>"
    );
    let fake = Fake::new(move |r| match r.call() {
        "CreateCollectorForEvents" => {
            let id = format!("events-{}", collectors.fetch_add(1, Ordering::SeqCst) + 1);
            Some(value(r.call(), "EventHistoryCollector", &id))
        }
        "RetrievePropertiesEx" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        "RetrievePropertiesEx" if r.body.contains("events-1") => {
            Some(fault("ManagedObjectNotFound", "<obj type=\"EventHistoryCollector\">events-1</obj>"))
        }
        "RetrievePropertiesEx" => Some(answer(r.call(), &page)),
        _ => None,
    });
    let start = fake.connect().await.newest_start(&machine()).await.unwrap().unwrap();
    assert_eq!((start.key, fake.seen("Login").len()), (7, 2));
}

/// The key that is asked with is of a session that ended, and nobody says so: another call has opened the next one already.
#[tokio::test(flavor = "multi_thread")]
async fn rights_are_asked_anew_where_another_call_has_renewed_the_session() {
    let logins = Arc::new((Mutex::new(0), Condvar::new()));
    let granted = "<returnval><entity type=\"VirtualMachine\">vm-1</entity><privAvailability><privId>System.Read</privId>\
                   <isGranted>true</isGranted></privAvailability></returnval>";
    let fake = Fake::new(move |r| match r.call() {
        "Login" => {
            *logins.0.lock().unwrap() += 1;
            logins.1.notify_all();
            None
        }
        "CurrentTime" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        "CurrentTime" => Some(answer(r.call(), "<returnval>2026-11-29T08:00:00Z</returnval>")),
        "HasPrivilegeOnEntities" if r.text("sessionId").as_deref() == Some("key-1") => {
            let limit = Duration::from_secs(15);
            let renewed = logins.1.wait_timeout_while(logins.0.lock().unwrap(), limit, |n| *n < 2).unwrap();
            assert!(!renewed.1.timed_out());
            Some(fault("InvalidArgument", "<invalidProperty>sessionId</invalidProperty>"))
        }
        "HasPrivilegeOnEntities" => Some(answer(r.call(), granted)),
        _ => None,
    });
    let (vim, machine) = (fake.connect().await, machine());
    let (lacking, time) = tokio::join!(vim.lacking(&machine, &["System.Read"]), async {
        // Not before the other has sent its request.
        while fake.seen("HasPrivilegeOnEntities").is_empty() {
            tokio::task::yield_now().await;
        }
        vim.time().await
    });
    time.unwrap();
    assert!(lacking.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_calls_that_find_no_session_one_logs_in() {
    let fake = Fake::new(|r| match r.call() {
        "CurrentTime" if is_in(r, 1) => Some(fault("NotAuthenticated", "")),
        "CurrentTime" => Some(answer("CurrentTime", "<returnval>2026-11-29T08:00:00Z</returnval>")),
        _ => None,
    });
    let vim = fake.connect().await;
    let (a, b, c, d) = tokio::join!(vim.time(), vim.time(), vim.time(), vim.time());
    for one in [a, b, c, d] {
        one.unwrap();
    }
    assert_eq!(fake.seen("Login").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_no_error_and_no_debug_shows_password_or_cookie() {
    // A server that repeats whatever it is told.
    let fake = Fake::new(|r| match r.call() {
        "CurrentTime" => Some(fault("SystemError", "")),
        "Login" if r.text("password").as_deref() != Some(PASSWORD) => {
            let said = r.text("password").unwrap_or_default();
            let fault = format!(
                "<soapenv:Fault><faultcode>x</faultcode><faultstring>{said} is wrong</faultstring><detail>\
                 <InvalidLoginFault xmlns=\"urn:vim25\" xsi:type=\"InvalidLogin\"/></detail></soapenv:Fault>"
            );
            Some(Reply::Say(500, vec![], crate::fake::envelope(&fault)))
        }
        _ => None,
    });
    let vim = fake.connect().await;
    let failed = vim.time().await.unwrap_err();
    let shown = format!("{vim:?} {failed} {failed:?} {:?}", fake.settings);
    assert!(!shown.contains("s3cret") && !shown.contains("canary") && !shown.contains("cookie-"), "{shown}");
    let mut settings = fake.settings.clone();
    settings.password = SecretRef::File(fake.write("wrong", "wrong-canary\n"));
    let denied = site_recovery_vim::Vim::connect(&settings, Arc::new(site_recovery::SystemClock)).await;
    let denied = denied.unwrap_err();
    assert_eq!(denied.fault(), Some(&Fault::InvalidLogin));
    assert_eq!(fake.seen("Login").len(), 2, "a wrong password is tried once");
    let error = site_recovery::Error::from(denied);
    assert_eq!((error.kind(), error.fact("fault")), (site_recovery::ErrorKind::Denied, Some("InvalidLogin")));
    assert!(!format!("{error} {error:?}").contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_a_stranger_gets_nothing() {
    let (fake, other) = (Fake::new(|_| None), Fake::new(|_| None));
    let mut settings = fake.settings.clone();
    let connect = async |settings: &site_recovery_vim::Settings| {
        site_recovery_vim::Vim::connect(settings, Arc::new(site_recovery::SystemClock)).await
    };
    settings.trust = Trust::Sha256("ab".repeat(32));
    for trust in [settings.trust.clone(), Trust::Ca(fake.write("other.pem", &other.authority.pem()))] {
        settings.trust = trust;
        let error = connect(&settings).await.unwrap_err();
        assert!(matches!(error, Error::Lost(Lost::Stranger { .. })), "{error:?}");
        assert_eq!(error.kind(), site_recovery::ErrorKind::Denied);
    }
    assert!(fake.calls().is_empty(), "nothing was said");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_ended_is_not_used_again() {
    let fake = Fake::new(|r| {
        (r.call() == "CurrentTime").then(|| answer(r.call(), "<returnval>2026-11-29T08:00:00Z</returnval>"))
    });
    let vim = fake.connect().await;
    vim.log_out().await.unwrap();
    vim.log_out().await.unwrap();
    assert_eq!(fake.seen("Logout").len(), 1);
    vim.time().await.unwrap();
    assert!(is_in(&fake.seen("CurrentTime")[0], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_another_program_is_told_of_the_certificate_that_was_trusted_and_shows_no_password() {
    let fake = Fake::new(|r| (r.verb == "HEAD").then(|| Reply::Say(302, vec![], vec![])));
    let login = fake.connect().await.login().await.unwrap();
    let (_, port) = fake.settings.url.rsplit_once(':').unwrap();
    assert_eq!((login.server.as_str(), login.port.to_string().as_str()), ("127.0.0.1", port));
    assert_eq!((login.user.as_str(), login.password.expose()), ("dr@vsphere.local", PASSWORD));
    assert!(!format!("{login:?}").contains("canary"));
    // What OpenSSL says of the very certificate, asked past our own client.
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join("openssl").is_file()) {
        println!("SKIPPED the digest of a certificate: openssl is absent");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "openssl is required");
        return;
    }
    let show = format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null");
    let digest = "openssl x509 -noout -fingerprint -sha1";
    let said = std::process::Command::new("sh").args(["-c", &format!("{show} | {digest}")]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let (_, wanted) = said.trim().split_once('=').expect("openssl tells a fingerprint");
    assert_eq!(login.thumbprint, wanted);
}

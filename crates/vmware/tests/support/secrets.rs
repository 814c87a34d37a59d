//! C1: the password and the sessions' cookies stand nowhere, whatever goes wrong.

use super::kept::Kept;
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite;
use site_recovery_vim::{Limits, SecretRef};
use std::fmt::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps all that anybody logs, at any level.
#[derive(Clone, Default)]
struct Everything(Arc<Mutex<String>>);

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = self.0.lock().unwrap();
        text.push_str(span.metadata().name());
        span.record(&mut Words(&mut text));
        text.push('\n');
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&mut self.0.lock().unwrap()));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = self.0.lock().unwrap();
        text.push_str(event.metadata().target());
        event.record(&mut Words(&mut text));
        text.push('\n');
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What is shown of an error, in every form.
fn shown(what: &str, error: &Error) -> (String, String) {
    let mut text = format!("{error} {error:?} {error:#?} {}", error.message());
    for (name, value) in error.facts() {
        let _ = write!(text, " {name}={value}");
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let _ = write!(text, " {inner} {inner:?}");
        source = inner.source();
    }
    (format!("the error of {what}"), text)
}

fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_password_and_cookie_stand_nowhere() {
    let log = Everything::default();
    // Of the whole process: adapters work on threads of their own.
    tracing::subscriber::set_global_default(log.clone()).expect("no other test sets one");
    let Some(mut here) = Kept::new().await else { return };
    let canary = "canary-Zx81-<&>\"'-비밀";
    let password = here.world.dir.path().join("canary");
    let mut places: Vec<(String, String)> = vec![];

    // A login that fails in every way, also by a server that repeats what it was sent.
    std::fs::write(&password, canary).unwrap();
    let echo = "<soapenv:Envelope xmlns:soapenv=\"http://schemas.xmlsoap.org/soap/envelope/\"><soapenv:Body><soapenv:Fault>\
        <faultcode>ServerFaultCode</faultcode><faultstring>no such password: canary-Zx81</faultstring></soapenv:Fault>\
        </soapenv:Body></soapenv:Envelope>";
    for (what, body) in [
        ("a wrong password", json!(null)),
        ("a fault that repeats it", json!({ "kind": "body", "body": echo, "status": 500 })),
        ("a page that repeats it", json!({ "kind": "body", "body": "canary-Zx81", "status": 500 })),
        ("XML that repeats it", json!({ "kind": "body", "body": "<canary-Zx81/>" })),
        ("a cut", json!({ "kind": "reset" })),
        ("503", json!({ "kind": "status", "status": 503 })),
    ] {
        if let Some(body) = body.as_object() {
            let mut body = body.clone();
            body.extend([
                ("path".into(), json!("/sdk")),
                ("holds".into(), json!("<Login")),
                ("count".into(), json!(0)),
            ]);
            here.world.sim.tell("http-fault", body.into()).await;
        }
        let mut settings = here.world.sim.settings.clone();
        settings.password = SecretRef::File(password.clone());
        settings.limits = Limits { tries: 2, pause_ms: 1, ..Limits::default() };
        let builder = crate::open_with(settings.clone(), here.world.dir.path().join("other"));
        places.push((format!("the settings of {what}"), format!("{settings:?} {builder:?}")));
        places.push(shown(what, &builder.open().await.unwrap_err()));
        here.world.sim.tell("clear", json!({})).await;
    }

    // Work, with every session that it has.
    let mut cookies: Vec<String> = vec![];
    let mut look = async |here: &Kept| {
        let keys = here.world.sim.tell("sessions", json!({})).await;
        cookies.extend(keys.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()));
    };
    look(&here).await;
    let first = here.capture("first").await;
    let disks = here.disks(&first).await.unwrap();
    places.push(("what the site shows".into(), format!("{:?} {:#?} {disks:?}", here.site(), here.site())));
    here.release(&first).await;
    here.world.sim.tell("sessions-expire", json!({})).await;
    here.write(0, 3).await;
    let second = here.capture("second").await;
    look(&here).await;
    places.push(("a capture".into(), format!("{second:?} {}", serde_json::to_string(&second).unwrap())));
    for kind in ["reset", "truncate", "hang"] {
        here.world.sim_mut().settings.limits = Limits { answer_ms: 300, tries: 1, ..Limits::default() };
        here.world.reopen().await;
        look(&here).await;
        here.world.sim.tell("http-fault", json!({ "path": "/sdk", "kind": kind, "bytes": 100 })).await;
        places.push(shown(kind, &here.try_capture("third").await.unwrap_err()));
        places.push(shown(kind, &here.site().power(here.instance()).await.unwrap_err()));
        here.world.sim.tell("clear", json!({})).await;
    }
    here.release(&second).await;
    here.world.stop(&here.name).await;
    let state = here.world.dir.path().join("state");
    here.world.site = crate::open(&here.world.sim, state.clone()).open().await.unwrap();
    look(&here).await;
    let off = here.capture("off").await;
    let disks = here.disks(&off).await.unwrap();
    places.push(("disks over HTTPS".into(), format!("{disks:?}")));
    here.world.sim.tell("http-fault", json!({ "path": "/folder", "kind": "status", "status": 403 })).await;
    let disk = disks.values().next().unwrap();
    places.push(shown("a refused file", &disk.read(Run::new(0, 512), &Pool::new(4096)).await.unwrap_err()));
    here.world.sim.tell("clear", json!({})).await;
    here.site().sweep(&suite::op("sweep"), here.instance(), &[]).await.unwrap();

    // What stays.
    let moref = here.world.moref(&here.name).await;
    let machine = here.world.eyes.machine(&moref).await.unwrap();
    places.push(("the machine's configuration".into(), format!("{machine:?}")));
    let at = places.len();
    files(&state, &mut places);
    assert!(!here.world.dir.path().join("other").exists(), "a login that failed wrote something");
    assert!(places.len() > at + 2, "there are files of the register");
    let logged = log.0.lock().unwrap().clone();
    assert!(logged.contains("logged in"), "nothing was logged: {} bytes", logged.len());
    places.push(("the log".into(), logged));
    let words = std::fs::read_to_string(format!("/proc/{}/cmdline", std::process::id())).unwrap();
    places.push(("the arguments".into(), words));

    assert!(cookies.len() > 4, "{} sessions", cookies.len());
    let mut secrets: Vec<&str> = vec!["s3cret", "canary-Zx81"];
    secrets.extend(cookies.iter().map(String::as_str));
    for (place, text) in &places {
        for secret in &secrets {
            assert!(!text.contains(secret), "{place} holds {secret}:\n{}", &text[..text.len().min(4000)]);
        }
    }
}

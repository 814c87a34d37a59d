//! C1: tokens, signatures and keys stand nowhere, whatever goes wrong.

use crate::recovered::Recovered;
use crate::world::GROUP;
use fake_arm::{Fault, What};
use fake_blob::{Account, Config, Fake, Fault as BlobFault, Match};
use site_recovery::*;
use site_recovery_azure::PageBlobs;
use site_recovery_azure_arm::Access;
use site_recovery_azure_blob::{Container, Limits, Secret, Settings as Storage, Trust, Who};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::op;
use std::fmt::{self, Write};
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
        let mut text = self.0.lock().expect("whole");
        text.push_str(span.metadata().name());
        span.record(&mut Words(&mut text));
        text.push('\n');
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&mut self.0.lock().expect("whole")));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = self.0.lock().expect("whole");
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

/// The account's key, refused and taken.
async fn keyed(places: &mut Vec<(String, String)>) -> String {
    let key = b"canary-key-of-the-account";
    let blobs = Fake::start(Config::default().with(Account::new("keyed").key(key)));
    let dir = tempfile::tempdir().expect("a folder");
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, blobs.ca_pem()).expect("written");
    let settings = Storage {
        container: format!("{}/vault", blobs.endpoint().join("keyed").expect("a path")),
        trust: Trust::Ca(ca),
        limits: Limits { pause_ms: 1, tries: 2, ..Limits::default() },
    };
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
    let who = Who::Key { account: "keyed".into(), key: Secret::new(key.clone()) };
    let container = Container::new(&settings, who).expect("settings");
    let clock = Arc::new(ManualClock::default());
    let store = PageBlobs::open("keyed".into(), container, clock).await.expect("it opens");
    places.push(("a store by a key".into(), format!("{store:?} {store:#?} {settings:?}")));
    for (name, fault) in [
        ("denied", BlobFault::Status { code: 403, azure_code: "AuthenticationFailed", retry_after: None }),
        ("failed", BlobFault::Status { code: 500, azure_code: "InternalError", retry_after: None }),
        ("lost", BlobFault::DropBeforeEffect),
    ] {
        let hits = blobs.faults().next(Match::any().times(2), fault);
        places.push(shown(name, &store.claim(&op("c"), &"web".into()).await.expect_err(name)));
        assert!(hits.count() > 0, "{name}");
        blobs.faults().clear();
    }
    store.claim(&op("c"), &"web".into()).await.expect("taken");
    key
}

/// Addresses that disks are uploaded through, broken off and whole.
async fn uploaded(places: &mut Vec<(String, String)>, secrets: &mut Vec<String>) {
    let here = Recovered::far().await;
    let (world, site) = (&here.world, &here.world.site);
    here.upload_in_part("m").await;
    for disk in world.disks_of("web") {
        // The one that is out already is given again.
        let granted = world.arm.disks(GROUP).grant(&disk, Access::Write, 60).await.expect("asked for");
        let address = granted.done().await.expect("an address").expose().to_owned();
        let signature = address.rsplit_once("sig=").expect("a signature").1.to_owned();
        secrets.extend([address, signature]);
    }
    let words = format!("disk 'abcd' with blob {} is not a supported VHD", secrets[secrets.len() - 2]);
    let failed = || What::FailAtEnd { code: "InvalidVhd".into(), message: words.clone() };
    for (name, verb, what) in [
        ("its beginning fails", "beginGetAccess", failed()),
        ("its end fails", "endGetAccess", failed()),
        ("its end is lost", "endGetAccess", What::DropAfterAccept),
    ] {
        let hits = world.manager.fault(Fault::next("POST", verb, what));
        places.push(shown(name, &here.materialise("m").await.expect_err(name)));
        assert_eq!(hits.count(), 1, "{name}");
        world.manager.settle();
    }
    let put = |times| Match::any().method("PUT").path_contains("/md-").times(times);
    for (name, fault) in [
        (
            "a put that is refused",
            BlobFault::Status { code: 403, azure_code: "AuthenticationFailed", retry_after: None },
        ),
        ("a put that fails", BlobFault::Status { code: 500, azure_code: "InternalError", retry_after: None }),
        ("a put that is lost", BlobFault::DropBeforeEffect),
    ] {
        let key = format!("m {name}");
        let error = site.withdraw(&op(&format!("{key}, back")), &op("m").key, &here.what).await;
        error.expect("withdrawn");
        let hits = world.blobs.faults().next(put(1000), fault);
        places.push(shown(name, &here.materialise(&key).await.expect_err(name)));
        assert!(hits.count() > 0, "{name}");
        world.blobs.faults().clear();
        places.push((format!("the site, {name}"), format!("{site:?} {site:#?}")));
        site.withdraw(&op(&format!("{key}, again")), &op(&key).key, &here.what).await.expect("withdrawn");
    }
    let armed = here.materialise("whole").await.expect("materialised");
    places.push(("what was uploaded".into(), format!("{armed:?} {armed:#?}")));
    for name in world.blob_names() {
        let held = world.blobs.blob("replicas", "vault", &name).expect("it is there");
        let text = held.bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        places.push((name, text));
    }
    for thing in world.manager.world() {
        places.push((format!("the tags of {}", thing.name), thing.body["tags"].to_string()));
    }
    secrets.extend(world.tokens.lock().expect("whole").clone());
}

#[tokio::test]
async fn c1_tokens_signatures_and_keys_stand_nowhere() {
    let log = Everything::default();
    // Of the whole process: fakes and clients work on threads of their own.
    tracing::subscriber::set_global_default(log.clone()).expect("no other test sets one");
    let mut places: Vec<(String, String)> = vec![];
    let mut secrets = vec![keyed(&mut places).await];
    uploaded(&mut places, &mut secrets).await;
    let here = Recovered::new().await;
    let (world, site, machine) = (&here.world, &here.world.site, here.what.machine.id());

    // Work, with the addresses that it has.
    let armed = here.booted("x").await;
    world.write("web", 0, 4096, &[7; 4096]);
    let capture = here.capture("c", &armed.instance).await.expect("captured");
    let disks = site.disks(&op("d"), &capture, machine).await.expect("opened");
    let since = armed.cursor.clone().expect("a cursor");
    let changes = site.changes(&capture, machine, &since).await.expect("told");
    let snapshots = world.names("Microsoft.Compute/snapshots");
    for snapshot in &snapshots {
        // One that is out already is given again.
        let granted = world.arm.snapshots(GROUP).grant(snapshot, Access::Read, 60).await.expect("asked for");
        let address = granted.done().await.expect("an address").expose().to_owned();
        let signature = address.rsplit_once("sig=").expect("a signature").1.to_owned();
        secrets.extend([address, signature]);
    }
    places.push((
        "what the site shows".into(),
        format!("{site:?} {site:#?} {:?} {:#?}", world.points, world.points),
    ));
    let said = |value: &dyn fmt::Debug| format!("{value:?} {value:#?}");
    places.push(("disks".into(), said(&disks)));
    places.push(("clients".into(), format!("{:?} {:?}", world.arm, world.container)));
    let written = |capture: &Capture| serde_json::to_string(capture).expect("JSON");
    places.push(("a capture".into(), said(&capture) + &written(&capture) + &said(&changes)));
    let token = &capture.members[0].cursor.as_ref().expect("a cursor").token;
    places.push(("its cursor".into(), String::from_utf8_lossy(token).into_owned()));
    places.push(("what was armed".into(), said(&armed) + &serde_json::to_string(&armed).expect("JSON")));

    // Whatever goes wrong: Azure repeats an address in its words, too.
    let words = format!("cannot read '{}' now", secrets[secrets.len() - 2]);
    let failed = |code: &str| What::FailAtEnd { code: code.into(), message: words.clone() };
    let status = |status, code: &str| What::Status { status, code: code.into(), retry_after: None };
    for (name, what) in [
        ("fails at its end", failed("InternalError")),
        ("denied", status(403, "AuthorizationFailed")),
        ("in trouble", status(500, "InternalServerError")),
        ("expired", What::TokenExpired),
        ("lost reply", What::DropAfterAccept),
        ("lost request", What::DropBeforeEffect),
    ] {
        world.passes(crate::world::SPAN);
        let hits = world.manager.fault(Fault::next("PUT", "/snapshots/", what));
        places.push(shown(name, &here.capture(&format!("c {name}"), &armed.instance).await.expect_err(name)));
        assert_eq!(hits.count(), 1, "{name}");
    }
    let system = &disks[&here.what.machine.disks[0].id];
    let (pool, part) = (Pool::new(1 << 20), Run::new(0, 4096));
    for (name, fault, times) in [
        (
            "an address that is refused",
            BlobFault::Status { code: 403, azure_code: "AuthenticationFailed", retry_after: None },
            2,
        ),
        (
            "a read that fails",
            BlobFault::Status { code: 500, azure_code: "InternalError", retry_after: None },
            20,
        ),
        ("a read that breaks", BlobFault::CutBody(100), 20),
        ("a read that is lost", BlobFault::DropBeforeEffect, 20),
    ] {
        let hits =
            world.blobs.faults().next(Match::any().method("GET").path_contains("abcd").times(times), fault);
        places.push(shown(name, &system.read(part, &pool).await.expect_err(name)));
        assert!(hits.count() > 0, "{name}");
        world.blobs.faults().clear();
    }
    site.release(&op("r"), &capture, machine, Fate::Abandoned).await.expect("released");
    places.push(shown(
        "a capture that is gone",
        &site.disks(&op("d"), &capture, machine).await.expect_err("gone"),
    ));

    // What stays.
    let at = places.len();
    for name in world.blobs.blobs("replicas", "vault") {
        let held = world.blobs.blob("replicas", "vault", &name).expect("it is there");
        let text = held.bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        places.push((name, format!("{text} {:?}", held.metadata)));
    }
    assert!(places.len() > at + 3, "there are documents");
    for thing in world.manager.world() {
        places.push((format!("the tags of {}", thing.name), thing.body["tags"].to_string()));
    }
    let logged = log.0.lock().expect("whole").clone();
    assert!(logged.contains("asked again"), "nothing was logged: {} bytes", logged.len());
    places.push(("the log".into(), logged));
    let words = std::fs::read_to_string(format!("/proc/{}/cmdline", std::process::id())).expect("arguments");
    places.push(("the arguments".into(), words));

    let tokens = world.tokens.lock().expect("whole").clone();
    assert!(secrets.len() > 4 && !tokens.is_empty(), "{} secrets, {} tokens", secrets.len(), tokens.len());
    secrets.extend(tokens);
    secrets.extend(["canary-key".to_owned(), "sig=".to_owned()]);
    for (place, text) in &places {
        // As Azure's own client writes it.
        let text = text.replace("sig=REDACTED", "");
        for secret in &secrets {
            let Some(found) = text.find(secret) else { continue };
            let near: String = text.chars().skip(found.saturating_sub(200)).take(600).collect();
            panic!("{place} holds {secret}: {near}");
        }
    }
}

//! No secret is where it does not belong.

use crate::world::*;
use site_recovery_transport::enrol::*;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use tracing::field::{Field, Visit};
use tracing::span;

/// All that this program logs, from every level.
fn logged() -> &'static Mutex<String> {
    static LOGGED: OnceLock<Mutex<String>> = OnceLock::new();
    LOGGED.get_or_init(|| {
        tracing::subscriber::set_global_default(Log).unwrap();
        Mutex::default()
    })
}

struct Log;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut line = Line(String::new());
        attributes.record(&mut line);
        self.keep(line);
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        self.keep(line);
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        self.keep(line);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Log {
    fn keep(&self, line: Line) {
        if let Some(log) = LOG.get() {
            let mut log = log.lock().unwrap();
            log.push_str(&line.0);
            log.push('\n');
        }
    }
}

static LOG: OnceLock<&'static Mutex<String>> = OnceLock::new();

/// The files under here, and what is in them.
fn files(dir: &Path) -> Vec<(std::path::PathBuf, String)> {
    let mut all = vec![];
    for entry in dir.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            all.extend(files(&entry));
        } else {
            all.push((entry.clone(), String::from_utf8_lossy(&std::fs::read(&entry).unwrap()).into_owned()));
        }
    }
    all
}

/// A secret in every form that it may take by accident.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
    let list = format!("{secret:?}");
    vec![hex, list.trim_matches(['[', ']']).to_owned()]
}

#[tokio::test]
async fn c1_no_secret_is_in_a_log_an_error_a_debug_text_or_a_file_of_others() {
    LOG.get_or_init(logged);
    let world = World::now().await;
    let token = world.token(&agent("web-1")).await;
    let text = token.to_text();
    let secret = text.split('.').nth(2).unwrap().to_owned();
    let bytes: Vec<u8> = secret
        .as_bytes()
        .chunks(2)
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
        .collect();
    let credentials = world.at("web-1").join(&token).await.unwrap();
    credentials.renew().await.unwrap();
    credentials.refresh_revoked().await.unwrap();
    let mut said = vec![format!("{token:?} {credentials:?} {:?} {:?}", world.authority, world.server)];
    said.push(format!(
        "{:?} {:?}",
        credentials.server_tls(),
        credentials.client_tls(&agent("web-1")).unwrap()
    ));
    let again = world.at("other").join(&token).await.unwrap_err();
    said.push(format!("{again} {again:?}"));
    let broken = text.replacen(".", ",", 3).parse::<JoinToken>().unwrap_err();
    said.push(format!("{broken} {broken:?}"));
    world.authority.revoke(&agent("web-1")).await.unwrap();
    let revoked = credentials.renew().await.unwrap_err();
    said.push(format!("{revoked} {revoked:?}"));
    // Damaged files tell that they are.
    let path = world.place("web-1/identity.json");
    let record = std::fs::read_to_string(&path).unwrap();
    let of =
        |path: &Path| -> serde_json::Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let keys = [of(&path)["key"].clone(), of(&world.place("authority/authority.json"))["key"].clone()];
    let keys: Vec<String> =
        keys.iter().map(|key| key.as_str().unwrap().lines().nth(1).unwrap().to_owned()).collect();
    std::fs::write(&path, record.replace("\"from\": ", "\"from\": \"").replace("PRIVATE", "")).unwrap();
    let damaged = world.at("web-1").open().await.unwrap_err();
    said.push(format!("{damaged} {damaged:?}"));
    std::fs::write(&path, record.replace("\"version\": 1", "\"version\": \"x\"")).unwrap();
    let damaged = world.at("web-1").open().await.unwrap_err();
    said.push(format!("{damaged} {damaged:?}"));
    std::fs::write(&path, &record).unwrap();
    world.server.stop().await;

    let log = logged().lock().unwrap().clone();
    assert!(log.contains("joined") && log.contains("site_recovery_transport"), "the log is heard");
    said.push(log);
    let mut secrets = forms(&bytes);
    secrets.push(text.clone());
    secrets.extend(keys.iter().cloned());
    for said in &said {
        for secret in &secrets {
            assert!(!said.contains(&secret[..secret.len().min(40)]), "a secret was said");
        }
    }
    let mut seen = 0;
    for (path, content) in files(world.dir.path()) {
        for secret in forms(&bytes).iter().chain([&text]) {
            assert!(!content.contains(secret), "the token's secret is in {}", path.display());
        }
        for (key, home) in keys.iter().zip(["web-1/identity.json", "authority/authority.json"]) {
            let holds = content.contains(key);
            assert_eq!(holds, path.ends_with(home), "{}", path.display());
            seen += usize::from(holds);
        }
    }
    assert_eq!(seen, 2, "each key is where it belongs");
}

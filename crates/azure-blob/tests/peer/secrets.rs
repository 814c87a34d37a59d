//! Tokens, signatures and keys are shown to nobody.

use crate::fake::Fake;
use crate::{TOKEN, container, limits, say, settings};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use site_recovery_azure_blob::{Container, Error, Image, Run, Secret, Who};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All that is done with one container, for its errors.
async fn all(container: &Container) -> Vec<Error> {
    let (disk, document) = (container.pages("d"), container.document("m"));
    let none = BTreeMap::new();
    let (source, sas) = (container.url("s"), Secret::new("sig=canary-source".into()));
    let mut into = [0; 512];
    let run = Run::new(0, 512);
    let done = [
        container.make().await,
        container.list("").await.map(drop),
        container.read_sas("d", Duration::from_secs(60)).await.map(drop),
        document.read().await.map(drop),
        document.create(Bytes::from_static(b"canary-body")).await.map(drop),
        disk.create(512, &none).await.map(drop),
        disk.properties().await.map(drop),
        disk.write(0, Bytes::from("canary-body".repeat(512).into_bytes()), 0).await,
        disk.read(None, run, &mut into).await,
        disk.ranges(None, run).await.map(drop),
        disk.snapshot(&none).await.map(drop),
        disk.copy_from(&source, Some(&sas)).await,
        disk.abort_copy("1-2").await,
    ];
    done.into_iter().filter_map(Result::err).collect()
}

#[tokio::test]
async fn c1_no_error_no_log_and_no_debug_shows_token_signature_or_key() {
    let log = Log::default();
    let writer = log.clone();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    // It says all that it was told, where services say something at all.
    let fake = Fake::answering(|request| {
        let told = format!("{request:?}");
        let header: String = told.chars().filter(char::is_ascii_graphic).take(4_000).collect();
        let headers =
            [("x-ms-error-code", "Denied"), ("x-ms-copy-status-description", &header), ("warning", &header)];
        let status = if request.path.contains("comp=page") { 500 } else { 403 };
        say(status, &headers, &format!("<Error><Code>Denied</Code><Message>{told}</Message></Error>"))
    });
    let key = STANDARD.encode("canary-key, which no Base64 hides");
    let signature = "sv=2022-11-02&sr=c&sig=canary-signature";
    let sas = Secret::new(format!("{}/abcd?sig=canary-address", fake.settings.url));
    let image = Image::new(&sas, &fake.settings.trust, limits()).expect("an address");
    let keyed = Who::Key { account: "account".into(), key: Secret::new(key.clone()) };
    let containers = [
        container(&fake),
        Container::new(&settings(&fake), Who::Sas(Secret::new(signature.into()))).expect("settings"),
        Container::new(&settings(&fake), keyed).expect("settings"),
    ];
    let mut errors = vec![];
    for container in &containers {
        errors.extend(all(container).await);
    }
    let previous = Secret::new("https://md-0/previous?sig=canary-previous".into());
    errors.extend(image.changed(&previous).await.err());
    errors.extend(image.size().await.err());
    assert!(errors.len() > 30, "{}", errors.len());
    let mut shown = format!("{containers:?} {image:?} {:?}", containers[0].pages("d"));
    for error in errors {
        shown += &format!("\n{error} {error:?} ");
        let error = site_recovery::Error::from(error);
        shown += &format!("{error} {error:?}");
    }
    shown += &String::from_utf8_lossy(&log.0.lock().expect("whole"));
    assert!(shown.contains("asked again"), "what is logged is looked at");
    let sent: String = fake.requests().iter().map(|request| format!("{request:?}")).collect();
    let secrets =
        [TOKEN, "canary-signature", "canary-address", "canary-source", "canary-previous", "canary-body"];
    for secret in secrets {
        assert!(sent.contains(secret), "{secret} was sent");
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
    for request in fake.requests() {
        let Some(signed) =
            request.headers.get("authorization").and_then(|a| a.strip_prefix("SharedKey account:"))
        else {
            continue;
        };
        assert!(!shown.contains(signed), "a signature is shown: {shown}");
    }
    assert!(sent.contains("SharedKey account:") && !sent.contains(&key) && !shown.contains(&key));
}

//! Azurite, Microsoft's emulator of Azure Blob Storage, over HTTPS: one for all tests of a program, a container for each.

use crate::trust::{Authority, Issued};
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use site_recovery::{Clock, SystemClock};
use site_recovery_azure_blob::{Container, Limits, Secret, Settings, Trust, Who};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

const PROGRAM: &str = "azurite-blob";
/// Of every Azurite, and of nothing else.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Stops its child, by its pid, when standard input ends: that is when the test program ends, however it does.
const WITH_ME: &str = r#""$0" "$@" </dev/null & child=$!; exec >&-; read -r _; kill -KILL "$child""#;

/// Whether Azurite is here. Says so where not, and fails where it has to be.
pub(crate) fn is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(PROGRAM).is_file()) {
        return true;
    }
    println!("SKIPPED blobs on Azurite: {PROGRAM} is absent; tests/run --setup installs it");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{PROGRAM} is required");
    false
}

pub(crate) fn key() -> Who {
    Who::Key { account: ACCOUNT.into(), key: Secret::new(KEY.into()) }
}

pub(crate) fn signed() -> Who {
    Who::Signed(Arc::new(Token))
}

/// A container in it that is not made yet, by that name alone.
pub(crate) fn settings(name: &str) -> Settings {
    let azurite = azurite();
    let limits = Limits { pause_ms: 1, ..Limits::default() };
    Settings { container: format!("{}/{name}", azurite.endpoint), trust: azurite.trust.clone(), limits }
}

/// A name that no other test has.
pub(crate) fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("blobs-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A container in it, made, as one who signs in by a token has it.
pub(crate) async fn container() -> Container {
    let container = Container::new(&settings(&name()), signed()).expect("settings");
    container.make().await.expect("made");
    container
}

/// What nobody has signed: Azurite looks at what it says alone.
#[derive(Debug)]
struct Token;

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://storage.azure.com/.default"]);
        let now = SystemClock.now().0 / 1000;
        let id = "0b4b0b8a-1d5e-4f5c-9a53-1f2d3c4b5a69";
        let claims = serde_json::json!({
            "aud": "https://storage.azure.com", "iss": format!("https://sts.windows.net/{id}/"),
            "iat": now - 60, "nbf": now - 60, "exp": now + 3600, "oid": id, "tid": id,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(serde_json::json!({ "alg": "RS256", "typ": "JWT" }));
        let token = format!("{header}.{}.{}", part(claims), URL_SAFE_NO_PAD.encode("nobody"));
        let end = OffsetDateTime::from_unix_timestamp(now as i64 + 3600).expect("a time");
        Ok(AccessToken::new(token, end))
    }
}

struct Azurite {
    _child: Child,
    _folder: tempfile::TempDir,
    endpoint: String,
    trust: Trust,
}

/// The Azurite of this program, on loopback alone, and keeping nothing.
fn azurite() -> &'static Azurite {
    static AZURITE: OnceLock<Azurite> = OnceLock::new();
    AZURITE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new();
        let Issued { certificate, key, .. } = authority.issue();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let ca = write("ca.pem", &authority.pem());
        let (certificate, key) = (write("server.pem", &certificate), write("server.key", &key));
        let mut child = Command::new("sh")
            .args(["-c", WITH_ME, PROGRAM, "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"])
            .args(["--disableTelemetry", "--inMemoryPersistence", "--extentMemoryLimit", "1024"])
            .args(["--oauth", "basic", "--cert"])
            .arg(certificate)
            .arg("--key")
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (told, hears) = mpsc::channel();
        // Reads on to the end, so that Azurite may say what it likes.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("successfully listens on ") {
                    let _ = told.send(address.trim().to_owned());
                }
            }
        });
        let address = hears.recv_timeout(Duration::from_secs(120)).expect("Azurite listens");
        let endpoint = format!("{address}/{ACCOUNT}");
        assert!(endpoint.starts_with("https://127.0.0.1:"), "{endpoint}");
        Azurite { _child: child, _folder: folder, endpoint, trust: Trust::Ca(ca) }
    })
}

//! Azurite, Microsoft's emulator of Azure Blob Storage: one for all tests of a program, a container for each.

use object_store::ClientOptions;
use object_store::azure::{
    AzureAccessKey, AzureAuthorizer, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder,
};
use object_store::client::{HttpConnector, HttpRequest, HttpRequestBody};
use site_recovery_points::Https;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const PROGRAM: &str = "azurite-blob";
/// Of every Azurite, and of nothing else.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Stops its child, by its pid, when standard input ends: that is when the test program ends, however it does.
const WITH_ME: &str = r#""$0" "$@" </dev/null & child=$!; exec >&-; read -r _; kill -KILL "$child""#;

/// Whether Azurite is here. Says so where not, and fails where it has to be.
pub(crate) fn is_here() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|dir| dir.join(PROGRAM).is_file()) {
        return true;
    }
    println!("SKIPPED points on Azure Blob Storage: {PROGRAM} is absent; tests/run --setup installs it");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{PROGRAM} is required");
    false
}

/// A container in it.
#[derive(Debug)]
pub(crate) struct Container(String);

impl Container {
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("points-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = "PUT".parse().expect("a method");
        *request.uri_mut() = format!("{}/{name}?restype=container", endpoint()).parse().expect("a URI");
        request.headers_mut().insert("content-length", "0".parse().expect("a number"));
        let key = AzureCredential::AccessKey(AzureAccessKey::try_new(KEY).expect("a key"));
        AzureAuthorizer::new(&key, ACCOUNT).try_authorize(&mut request).expect("signed");
        let client = Https.connect(&ClientOptions::new().with_allow_http(true)).expect("a client");
        let response = client.execute(request).await.expect("Azurite answers");
        assert_eq!(response.status().as_u16(), 201, "container {name}: {response:?}");
        Self(name)
    }

    pub(crate) fn missing() -> Self {
        Self("never-made".into())
    }

    /// It, as a client that was just started has it.
    pub(crate) fn store(&self) -> MicrosoftAzure {
        MicrosoftAzureBuilder::new()
            .with_account(ACCOUNT)
            .with_access_key(KEY)
            .with_endpoint(endpoint().to_owned())
            .with_allow_http(true)
            .with_container_name(&self.0)
            .with_http_connector(Https)
            .build()
            .expect("a store")
    }
}

/// Where the Azurite of this program listens, on loopback alone, and keeping nothing.
fn endpoint() -> &'static str {
    static AZURITE: OnceLock<(Child, String)> = OnceLock::new();
    let (_, endpoint) = AZURITE.get_or_init(|| {
        let mut child = Command::new("sh")
            .args(["-c", WITH_ME, PROGRAM, "--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"])
            .args(["--disableTelemetry", "--inMemoryPersistence", "--extentMemoryLimit", "1024"])
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
        (child, format!("{address}/{ACCOUNT}"))
    });
    endpoint
}

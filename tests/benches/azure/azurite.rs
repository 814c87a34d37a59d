//! Azurite, Microsoft's emulator of Azure Blob Storage, over HTTPS, keeping all in memory.

use crate::Outcome;
use crate::account::Account;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use tempfile::TempDir;

/// Of every Azurite, and of nothing else.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Stops its child, by its pid, when standard input ends.
const WITH_ME: &str = r#""$0" "$@" </dev/null & child=$!; exec >&-; read -r _; kill -KILL "$child""#;
const LONGEST_START: Duration = Duration::from_secs(120);

/// It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Azurite {
    pub(crate) account: Account,
    requests: Arc<AtomicU64>,
    deleted: Receiver<()>,
    child: Child,
    _dir: TempDir,
}

fn program() -> Outcome<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/azurite/node_modules/.bin");
    let found = std::env::split_paths(&path).chain([own]).map(|dir| dir.join("azurite-blob"));
    let mut found = found.filter(|program| program.is_file());
    found.next().ok_or_else(|| "azurite-blob is absent: tests/run --setup installs it".into())
}

impl Azurite {
    pub(crate) fn start() -> Outcome<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let at = |name: &str| dir.path().join(name);
        certify(dir.path())?;
        let mut child = Command::new("sh")
            .args(["-c", WITH_ME])
            .arg(program()?)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry"])
            // The peer speaks a later version of the protocol than Azurite knows.
            .arg("--skipApiVersionCheck")
            .args(["--inMemoryPersistence", "--extentMemoryLimit", "4096", "--cert"])
            .arg(at("server.pem"))
            .arg("--key")
            .arg(at("server.key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let requests = Arc::new(AtomicU64::new(0));
        let (listens, deleted) = heard(&mut child, &requests)?;
        let address = listens.recv_timeout(LONGEST_START).map_err(|_| "Azurite does not come to listen")?;
        let account = Account {
            endpoint: format!("{address}/{ACCOUNT}"),
            name: ACCOUNT.into(),
            key: KEY.into(),
            authority: at("ca.pem"),
        };
        Ok(Self { account, requests, deleted, child, _dir: dir })
    }

    /// Requests since this was called last, by its own log of access, up to the deletion that was asked for last: before that
    /// stands in the log, not all may.
    pub(crate) fn take(&self) -> Outcome<u64> {
        self.deleted.recv_timeout(LONGEST_START).map_err(|_| "Azurite logs no deletion")?;
        Ok(self.requests.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Reads on to the end, counts requests, and tells where it listens, and of each deletion, which does not count.
fn heard(child: &mut Child, requests: &Arc<AtomicU64>) -> Outcome<(Receiver<String>, Receiver<()>)> {
    let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?).lines();
    let ((told, hears), (deletes, deleted)) = (mpsc::channel(), mpsc::channel());
    let requests = Arc::clone(requests);
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("successfully listens on ") {
                let _ = told.send(address.trim().to_owned());
            } else if line.contains("\"DELETE /") {
                let _ = deletes.send(());
            } else if line.contains(" HTTP/1.1\" ") {
                requests.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    Ok((hears, deleted))
}

/// An authority, and a server of this host.
fn certify(dir: &Path) -> Outcome<()> {
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // A certificate of the same name as its authority's is taken for self-signed by OpenSSL.
    params.distinguished_name.push(DnType::CommonName, "authority of a benchmark");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()])?.signed_by(&key, &authority)?;
    fs::write(dir.join("ca.pem"), authority.pem())?;
    fs::write(dir.join("server.pem"), certificate.pem())?;
    Ok(fs::write(dir.join("server.key"), key.serialize_pem())?)
}

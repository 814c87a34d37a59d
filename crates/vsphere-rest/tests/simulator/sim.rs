//! The simulator as a process of a test: started, told what to do, and ended.

use serde_json::{Value, json};
use site_recovery::SystemClock;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vmware_vsphere_rest::{Dialect, Limits, Machine, MachineFilter, SecretRef, Settings, Trust, VCenter};

const PROGRAM: &str = "vsphere-sim";

pub(crate) const BOTH: [Dialect; 2] = [Dialect::Api, Dialect::Rest];

pub(crate) struct Sim {
    pub(crate) settings: Settings,
    control: String,
    child: Child,
    _dir: TempDir,
}

/// Where the simulator stands. Says so where it does not, and fails where it has to.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin");
    let found =
        std::env::split_paths(&path).chain([tools]).map(|dir| dir.join(PROGRAM)).find(|p| p.is_file());
    if found.is_none() {
        println!(
            "SKIPPED vCenter's API on VMware's simulator: {PROGRAM} is absent; tests/run --setup builds it"
        );
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{PROGRAM} is required");
    }
    found
}

impl Sim {
    /// A vCenter, or a host in mode `esxi`.
    pub(crate) fn start(mode: &str) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "s3cret\n").unwrap();
        let mut child = Command::new(program)
            .args(["--mode", mode, "--machines", "2", "--disk-size", "4194304"])
            .arg("--password-file")
            .arg(&password)
            .arg("--dir")
            .arg(dir.path().join("site"))
            // It ends with this pipe.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: Value = serde_json::from_str(&ready).expect("it says where it is");
        let word = |name: &str| ready[name].as_str().unwrap().to_owned();
        let settings = Settings {
            url: word("url"),
            trust: Trust::Sha256(word("sha256")),
            user: "admin".into(),
            password: SecretRef::File(password),
            limits: Limits { answer_ms: 20_000, pause_ms: 5, ..Limits::default() },
        };
        Some(Self { settings, control: word("control"), child, _dir: dir })
    }

    pub(crate) async fn try_connect(&self) -> Result<VCenter, vmware_vsphere_rest::Error> {
        VCenter::connect(&self.settings, Arc::new(SystemClock)).await
    }

    /// In this dialect: where it is the older one, there is no session below `/api`.
    pub(crate) async fn connect(&self, dialect: Dialect) -> VCenter {
        if dialect == Dialect::Rest {
            let gone = json!({ "path": "/api", "kind": "status", "status": 404, "count": 0 });
            self.tell("http-fault", gone).await;
        }
        let vcenter = self.try_connect().await.unwrap();
        assert_eq!(vcenter.dialect(), dialect);
        vcenter
    }

    /// Does something to the site, around the client.
    pub(crate) async fn tell(&self, verb: &str, body: Value) -> Value {
        // As little HTTP as will do: the connection ends with the answer.
        let (address, path) = self.control.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let body = body.to_string();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let len = body.len();
        let request = format!("POST /{path}/{verb} HTTP/1.0\r\ncontent-length: {len}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, said) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{verb} {body}: {answer}");
        serde_json::from_str(said).unwrap()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// All machines, by name.
pub(crate) async fn machines(vcenter: &VCenter) -> Vec<Machine> {
    let mut all = vcenter.machines(&MachineFilter::default()).await.unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

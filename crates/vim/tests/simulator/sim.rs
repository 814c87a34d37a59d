//! The simulator as a process of a test: started, told what to do, and ended.

use serde_json::{Value, json};
use site_recovery::SystemClock;
use site_recovery_vim::{Limits, Machine, SecretRef, Settings, Trust, Vim};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROGRAM: &str = "vsphere-sim";
pub(crate) const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    VCenter,
    Esxi,
}

pub(crate) const BOTH: [Mode; 2] = [Mode::VCenter, Mode::Esxi];

pub(crate) struct Sim {
    pub(crate) mode: Mode,
    pub(crate) settings: Settings,
    /// Where the files of each datastore are.
    pub(crate) datastores: BTreeMap<String, PathBuf>,
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
        println!("SKIPPED VIM on VMware's simulator: {PROGRAM} is absent; tests/run --setup builds it");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{PROGRAM} is required");
    }
    found
}

impl Sim {
    pub(crate) fn start(mode: Mode) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "s3cret\n").unwrap();
        let mut child = Command::new(program)
            .args(["--mode", if mode == Mode::VCenter { "vcenter" } else { "esxi" }])
            .args(["--machines", "2", "--disk-size", "4194304"])
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
        let datastores = serde_json::from_value(ready["datastores"].clone()).unwrap();
        let control = word("control");
        Some(Self { mode, settings, datastores, control, child, _dir: dir })
    }

    pub(crate) async fn connect(&self) -> Vim {
        Vim::connect(&self.settings, Arc::new(SystemClock)).await.unwrap()
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

    /// The path of the datacenter, as files are named by.
    pub(crate) fn datacenter(&self) -> &'static str {
        if self.mode == Mode::VCenter { "DC0" } else { "ha-datacenter" }
    }

    /// The local file of a path on a datastore.
    pub(crate) fn local(&self, path: &site_recovery_vim::DatastorePath) -> PathBuf {
        self.datastores[path.datastore()].join(path.path())
    }

    pub(crate) async fn write(&self, machine: &str, offset: u64, len: usize) {
        // Base64 of zeros would be no change; of ones it is.
        let data = "/".repeat(len.div_ceil(3) * 4);
        self.tell("guest-write", json!({ "machine": machine, "key": 0, "offset": offset, "data": data }))
            .await;
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The first machine, whole.
pub(crate) async fn first(vim: &Vim) -> Machine {
    let mut all = vim.machines(&vim.content().root_folder).await.unwrap();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    vim.machine(&all[0].moref).await.unwrap()
}

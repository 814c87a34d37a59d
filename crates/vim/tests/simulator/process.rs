//! The simulator as a process of a test: started, told what to do, and ended. Clients add to [`Sim`] what they do there.
#![allow(dead_code, clippy::unwrap_used, reason = "each client uses a part; a test that cannot go on fails")]

use serde_json::Value;
use site_recovery_https::{Limits, SecretRef, Settings, Trust};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PROGRAM: &str = "vsphere-sim";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    VCenter,
    Esxi,
}

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
pub(crate) fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Of a crate, or of the tests that cross crates.
    let tools =
        ["../..", ".."].map(|up| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(up).join("target/tools/bin"));
    let found = std::env::split_paths(&path).chain(tools).map(|dir| dir.join(PROGRAM)).find(|p| p.is_file());
    if found.is_none() {
        let client = env!("CARGO_PKG_NAME");
        println!("SKIPPED {client} on VMware's simulator: {PROGRAM} is absent; tests/run --setup builds it");
        assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{PROGRAM} is required");
    }
    found
}

impl Sim {
    pub(crate) fn start(mode: Mode) -> Option<Self> {
        Self::start_with(mode, &["--machines", "2", "--disk-size", "4194304"])
    }

    pub(crate) fn start_with(mode: Mode, arguments: &[&str]) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, "s3cret\n").unwrap();
        let mut child = Command::new(program)
            .args(["--mode", if mode == Mode::VCenter { "vcenter" } else { "esxi" }])
            .args(arguments)
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

    /// Does something to the site, around the client.
    pub(crate) async fn tell(&self, verb: &str, body: Value) -> Value {
        let told = self.try_tell(verb, &body).await;
        told.unwrap_or_else(|why| panic!("{verb} {body}: {why}"))
    }

    /// The same, where it may refuse.
    pub(crate) async fn try_tell(&self, verb: &str, body: &Value) -> Result<Value, String> {
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
        if head.contains(" 200 ") { Ok(serde_json::from_str(said).unwrap()) } else { Err(said.to_owned()) }
    }
}

impl Sim {
    /// Ends it as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let ended = (0..2_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            !matches!(self.child.try_wait(), Ok(None))
        });
        if !ended {
            self.kill();
            // A second panic would end the whole program.
            assert!(std::thread::panicking(), "{PROGRAM} did not end with its pipe");
        }
    }
}

//! VMware's simulator as a process, and the settings that a child connects by.

use crate::Outcome;
use serde_json::{Value, json};
use site_recovery::SystemClock;
use site_recovery_vim::{Limits, SecretRef, Settings, Trust, Vim};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) const USER: &str = "admin";
pub(crate) const PASSWORD: &str = "s3cret";

/// A vCenter. It ends when this is dropped.
pub(crate) struct Site {
    dir: TempDir,
    pub(crate) settings: Settings,
    control: String,
    ready: Value,
    child: Child,
}

/// A file or a folder of the workspace.
pub(crate) fn place(path: &str) -> Outcome<PathBuf> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let found = place.canonicalize();
    found.map_err(|_| format!("{path} is absent: tests/run --setup makes it").into())
}

impl Site {
    pub(crate) fn start(machines: usize) -> Outcome<Self> {
        let program = place("target/tools/bin/vsphere-sim")?;
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (password, certificate, key) =
            (dir.path().join("password"), dir.path().join("certificate.pem"), dir.path().join("key.pem"));
        fs::write(&password, PASSWORD)?;
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()])?;
        fs::write(&certificate, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        let mut child = Command::new(program)
            .args(["--mode", "vcenter", "--user", USER, "--disk-size", "1048576", "--machines"])
            .arg(machines.to_string())
            .arg("--password-file")
            .arg(&password)
            .arg("--certificate")
            .arg(&certificate)
            .arg("--key")
            .arg(&key)
            .arg("--dir")
            .arg(dir.path().join("site"))
            // It ends with this pipe.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
        let ready: Value = serde_json::from_str(&line)?;
        let word =
            |name: &str| ready[name].as_str().map(str::to_owned).ok_or(format!("{line} has no {name}"));
        let settings = settings(&word("url")?, &word("sha256")?, &password);
        Ok(Self { dir, settings, control: word("control")?, ready, child })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("certificate.pem")
    }

    /// The local folder of a datastore.
    pub(crate) fn datastore(&self, name: &str) -> Outcome<PathBuf> {
        Ok(self.ready["datastores"][name].as_str().ok_or(format!("no datastore {name}"))?.into())
    }

    /// Address, user, file with the password, and pin.
    pub(crate) fn words(&self) -> Outcome<[String; 4]> {
        let (Trust::Sha256(pin), SecretRef::File(password)) = (&self.settings.trust, &self.settings.password)
        else {
            return Err("the site is pinned, and its password in a file".into());
        };
        let password = password.to_str().ok_or("a path in UTF-8")?;
        Ok([&self.settings.url, USER, password, pin].map(|word| word.to_owned()))
    }

    /// Does something to the site, around the client.
    pub(crate) fn tell(&self, verb: &str, body: &Value) -> Outcome<Value> {
        let (address, path) =
            self.control.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or("no address")?;
        let (mut stream, body) = (TcpStream::connect(address)?, body.to_string());
        let len = body.len();
        write!(stream, "POST /{path}/{verb} HTTP/1.0\r\ncontent-length: {len}\r\n\r\n{body}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, said)) if head.contains(" 200 ") => Ok(serde_json::from_str(said)?),
            _ => Err(format!("{verb} {body}: {answer}").into()),
        }
    }

    /// A machine that is off, with one disk of this size; gives the disk's local file too.
    pub(crate) fn machine(&self, name: &str, disks: &[u64]) -> Outcome<Vec<PathBuf>> {
        let body =
            json!({ "name": name, "datastore": "LocalDS_0", "disks": disks, "tracking": true, "on": false });
        self.tell("machine-create", &body)?;
        self.files(name)
    }

    /// The local files that a machine's disks are written to just now.
    pub(crate) fn files(&self, machine: &str) -> Outcome<Vec<PathBuf>> {
        let disks = self.tell("disks", &json!({ "machine": machine }))?;
        let disks = disks.as_array().ok_or("disks are a list")?;
        disks.iter().map(|disk| Ok(disk["file"].as_str().ok_or("a disk has a file")?.into())).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn settings(url: &str, pin: &str, password: &Path) -> Settings {
    Settings {
        url: url.into(),
        trust: Trust::Sha256(pin.into()),
        user: USER.into(),
        password: SecretRef::File(password.into()),
        limits: Limits::default(),
    }
}

/// Connects by the words of [`Site::words`], and gives what follows them.
pub(crate) async fn connect(words: &[String]) -> Outcome<(Vim, &[String])> {
    let [url, _, password, pin, rest @ ..] = words else {
        return Err("a child is told where the site is".into());
    };
    let settings = settings(url, pin, Path::new(password));
    Ok((Vim::connect(&settings, Arc::new(SystemClock)).await?, rest))
}

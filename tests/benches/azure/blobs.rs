//! `fake-blob` as a process of its own, so that what it costs is not ours: this program, started again as `--child serve`.

use crate::Outcome;
use crate::account::Account;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fake_blob::{Config, Entry, Fake};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

const ACCOUNT: &str = "vault";
const KEY: &[u8] = b"a key of an account of this fake";

/// Whether the bytes of pages are kept, or hashed and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    Kept,
    Dropped,
}

/// It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Blobs {
    pub(crate) account: Account,
    pub(crate) port: u16,
    asks: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    child: Child,
    _dir: TempDir,
}

/// Requests of one kind, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) requests: u64,
    pub(crate) received: u64,
}

/// What was asked of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked {
    pub(crate) all: Count,
    /// Pages written.
    pub(crate) pages: Count,
    pub(crate) clears: Count,
    pub(crate) notes: Count,
    /// Documents of points: the manifest, and what it changed.
    pub(crate) points: Count,
}

impl Blobs {
    pub(crate) fn start(bytes: Bytes) -> Outcome<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--child", "serve", &format!("{bytes:?}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let asks = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let ready = line(&mut answers)?;
        let word = |name: &str| ready[name].as_str().ok_or(format!("{ready} has no {name}"));
        let authority = dir.path().join("ca.pem");
        fs::write(&authority, word("ca")?)?;
        let endpoint: url::Url = word("endpoint")?.parse()?;
        let port = endpoint.port().ok_or("a port")?;
        let account = Account {
            endpoint: format!("https://127.0.0.1:{port}/{ACCOUNT}"),
            name: ACCOUNT.into(),
            key: BASE64_STANDARD.encode(KEY),
            authority,
        };
        Ok(Self { account, port, asks, answers, child, _dir: dir })
    }

    /// What was asked of it since this was called last.
    pub(crate) fn take(&mut self) -> Outcome<Asked> {
        let said = self.ask("take")?;
        let count = |kind: &str| Count {
            requests: said[kind][0].as_u64().unwrap_or_default(),
            received: said[kind][1].as_u64().unwrap_or_default(),
        };
        Ok(Asked {
            all: count("all"),
            pages: count("pages"),
            clears: count("clears"),
            notes: count("notes"),
            points: count("points"),
        })
    }

    /// The writes of pages that it hashed and dropped: offset, length and XXH3.
    pub(crate) fn dropped(&mut self, container: &str, blob: &str) -> Outcome<Vec<[u64; 3]>> {
        Ok(serde_json::from_value(self.ask(&format!("dropped {container} {blob}"))?)?)
    }

    fn ask(&mut self, what: &str) -> Outcome<Value> {
        let asks = self.asks.as_mut().ok_or("no pipe")?;
        writeln!(asks, "{what}")?;
        line(&mut self.answers)
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        drop(self.asks.take());
        let _ = self.child.wait();
    }
}

fn line(from: &mut impl BufRead) -> Outcome<Value> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|e| format!("the fake says {line:?}: {e}").into())
}

/// Serves until its input ends, and answers a line with a line.
pub(crate) fn serve(words: &[String]) -> Outcome<()> {
    let account = fake_blob::Account::new(ACCOUNT).key(KEY);
    let drops = words == [format!("{:?}", Bytes::Dropped)];
    let fake = Fake::start(Config::default().with(if drops { account.sink() } else { account }));
    println!("{}", json!({ "endpoint": fake.endpoint().as_str(), "ca": fake.ca_pem() }));
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let said = match words[..] {
            ["take"] => {
                let said = counted(&fake.log());
                fake.clear_log();
                said
            }
            ["dropped", container, blob] => fake
                .sunk(ACCOUNT, container, blob)
                .into_iter()
                .map(|write| json!([write.offset, write.len, write.xxh3]))
                .collect(),
            _ => return Err(format!("{line} is nothing that the fake is asked").into()),
        };
        println!("{said}");
    }
    Ok(())
}

fn counted(log: &[Entry]) -> Value {
    let of = |of: &dyn Fn(&Entry) -> bool| {
        let bytes: Vec<u64> = log.iter().filter(|entry| of(entry)).map(|entry| entry.received).collect();
        json!([bytes.len(), bytes.iter().sum::<u64>()])
    };
    let is_page = |entry: &Entry| entry.method == "PUT" && entry.comp == "page";
    let is_put = |entry: &Entry, part: &str| entry.method == "PUT" && entry.path.contains(part);
    Map::from_iter([
        ("all".to_owned(), of(&|_| true)),
        ("pages".to_owned(), of(&|entry| is_page(entry) && entry.received > 0)),
        ("clears".to_owned(), of(&|entry| is_page(entry) && entry.received == 0)),
        ("notes".to_owned(), of(&|entry| is_put(entry, "/note/"))),
        ("points".to_owned(), of(&|entry| is_put(entry, "/point/"))),
    ])
    .into()
}

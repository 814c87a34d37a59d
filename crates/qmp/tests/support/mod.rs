//! Peers by script, and the real programs.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by several test programs; a test that cannot go on fails"
)]

use serde_json::{Value, json};
use site_recovery_qmp::Limits;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than any step of a test takes.
pub const LONG: Duration = Duration::from_secs(30);

/// For waits that are to run out.
pub const SHORT: Duration = Duration::from_millis(150);

/// Limits under which nothing runs out that is to come.
pub fn patient() -> Limits {
    Limits { greeting: LONG, answer: LONG, ..Limits::default() }
}

/// For answers that are to run out, where others of the same connection are to come.
pub const SECOND: Duration = Duration::from_secs(1);

/// Limits under which an answer that does not come runs out.
pub fn hasty() -> Limits {
    Limits { answer: SECOND, ..patient() }
}

/// A peer that plays a script to the one client that it takes: not QEMU, and not its agent.
pub struct ScriptedPeer {
    pub socket: PathBuf,
    script: Option<JoinHandle<()>>,
    _dir: TempDir,
}

impl ScriptedPeer {
    pub fn new(script: impl FnOnce(Client) + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("peer.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let script = std::thread::spawn(move || script(Client::of(listener.accept().unwrap().0)));
        Self { socket, script: Some(script), _dir: dir }
    }

    /// A monitor that greets, is opened, and goes on by script.
    pub fn monitor(script: impl FnOnce(Client) + Send + 'static) -> Self {
        Self::new(move |mut client| {
            client.greet();
            script(client);
        })
    }

    /// An agent that is brought in step, and goes on by script.
    pub fn agent(script: impl FnOnce(Client) + Send + 'static) -> Self {
        Self::new(move |mut client| {
            client.synchronise();
            script(client);
        })
    }

    /// Waits for the end of the script; what failed in it fails here.
    pub fn end(mut self) {
        self.script.take().unwrap().join().unwrap();
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        assert!(
            self.script.is_none() || std::thread::panicking(),
            "the end of the script was not waited for"
        );
    }
}

/// What a script has of its client.
pub struct Client(BufReader<UnixStream>);

impl Client {
    pub fn of(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn say(&mut self, words: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(words.as_ref()).unwrap();
    }

    /// Says it over and over until the client is gone.
    pub fn say_for_ever(&mut self, words: &str) {
        let many = words.repeat(100);
        let failed = (0..).find_map(|_| self.0.get_mut().write_all(many.as_bytes()).err()).unwrap();
        assert!(matches!(failed.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{failed}");
    }

    /// The next line of the client.
    pub fn line(&mut self) -> Vec<u8> {
        let mut line = vec![];
        self.0.read_until(b'\n', &mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'), "the client is gone, or stopped in a line");
        line
    }

    pub fn command(&mut self) -> Value {
        serde_json::from_slice(&self.line()).unwrap()
    }

    /// The id of the next command, which has to be this one.
    pub fn asked(&mut self, command: &str) -> Value {
        let asked = self.command();
        assert_eq!(asked["execute"], command, "{asked}");
        asked["id"].clone()
    }

    pub fn answer(&mut self, id: &Value, value: Value) {
        self.say(format!("{}\n", json!({"return": value, "id": id})));
    }

    /// Reads until the client is gone.
    pub fn until_gone(&mut self) -> Vec<u8> {
        let mut rest = vec![];
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{e}"),
        }
        rest
    }

    pub fn greet(&mut self) {
        self.say(GREETING);
        for command in ["qmp_capabilities", "query-version"] {
            let id = self.asked(command);
            self.answer(&id, json!({}));
        }
    }

    /// The id of the synchronisation that the client asks for.
    pub fn asked_to_synchronise(&mut self) -> u64 {
        let line = self.line();
        assert_eq!(line[0], 0xff);
        let asked: Value = serde_json::from_slice(&line[1..]).unwrap();
        assert_eq!(asked["execute"], "guest-sync-delimited");
        asked["arguments"]["id"].as_u64().unwrap()
    }

    /// What the real agent says to a delimiter and a synchronisation.
    pub fn in_step(&mut self, id: u64) {
        self.say(concat!(
            r#"{"error": {"class": "GenericError", "desc": "JSON parse error, stray '\uFFFD'"}}"#,
            "\n"
        ));
        self.say([b"\xff", format!("{}\n", json!({"return": id})).as_bytes()].concat());
    }

    pub fn synchronise(&mut self) {
        let id = self.asked_to_synchronise();
        self.in_step(id);
    }
}

/// With a field and a capability that nobody knows.
pub const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 99}, "package": "new", "x": []}, "#,
    r#""capabilities": ["oob", "time-travel"]}, "more": true}"#,
    "\r\n"
);

/// Whether these programs are here. Says so where not, and fails where they have to be.
pub fn peers(what: &str, programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |program: &&&str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    let Some(absent) = programs.iter().find(|p| !here(p)) else { return true };
    println!("SKIPPED {what}: {absent} is absent");
    assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "{absent} is required");
    false
}

/// A program that serves a socket, killed by its id when this is dropped.
pub struct Program {
    child: Child,
    pub socket: PathBuf,
    _dir: TempDir,
}

impl Program {
    /// Starts it with `{socket}` and `{dir}` replaced, and waits until it listens.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("peer.sock");
        let fill = |argument: &&str| {
            let argument = argument.replace("{socket}", socket.to_str().unwrap());
            argument.replace("{dir}", dir.path().to_str().unwrap())
        };
        let mut child = Command::new(program)
            .args(arguments.iter().map(fill))
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut tries = 0;
        while !listens(&socket) {
            assert_eq!(child.try_wait().unwrap(), None, "{program} ended");
            tries += 1;
            assert!(tries < 3000, "{program} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, socket, _dir: dir }
    }

    /// Whether it ended by itself, well.
    pub fn ended_well(&mut self) -> bool {
        (0..3000)
            .find_map(|_| {
                std::thread::sleep(Duration::from_millis(10));
                self.child.try_wait().unwrap()
            })
            .expect("it does not end")
            .success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// By the system's table, since a connection would be taken for the one client.
fn listens(socket: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    // Flags of a socket that accepts.
    table.lines().any(|l| l.ends_with(socket.to_str().unwrap()) && l.contains(" 00010000 "))
}

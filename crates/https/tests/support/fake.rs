//! A server over HTTPS that answers as a test tells it: rightly, wrongly, late, in part, or never.
//!
//! For a client's own tests: `#[path]` it beside `trust.rs`, and add to [`Fake`] and [`Request`] what the protocol says.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; one that cannot go on fails")]

use crate::trust::{Authority, Issued};
use site_recovery_https::{Limits, SecretRef, Settings, Trust};
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use site_recovery_tls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use site_recovery_tls::{Clients, Identity};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const USER: &str = "dr@vsphere.local";
pub(crate) const PASSWORD: &str = "s3cret <&> \"canary\"";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

pub(crate) enum Reply {
    /// Status, headers, body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A length, and fewer bytes than that; then the connection ends.
    Part(u16, Vec<(&'static str, String)>, usize, Vec<u8>),
    /// A length, and fewer bytes than that; then nothing, until the other side gives up.
    Stall(u16, usize, Vec<u8>),
    /// Nothing, until the other side gives up.
    Hang,
    /// Nothing: the connection ends.
    Break,
    /// A body without end.
    Endless,
}

type Answers = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct Fake {
    /// As a client is told of this server.
    pub(crate) settings: Settings,
    pub(crate) authority: Authority,
    seen: Arc<Mutex<Vec<Request>>>,
    folder: tempfile::TempDir,
    address: SocketAddr,
    over: Arc<AtomicBool>,
    /// Whether no answer panicked.
    serving: Option<JoinHandle<bool>>,
}

impl Fake {
    /// A server with these answers. An answer that panics breaks its connection, and fails the test.
    pub(crate) fn answering(answers: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::new();
        let Issued { certificate, key, sha256 } = authority.issue();
        let identity = Identity { certificate: certificate.as_bytes(), key: key.as_bytes() };
        let config = site_recovery_tls::server(&[&TLS13, &TLS12], identity, Clients::Anyone).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let server = Server { config: Arc::new(config), answers: Arc::new(answers), seen: Arc::clone(&seen) };
        let serving = std::thread::spawn({
            let over = Arc::clone(&over);
            move || server.run(&listener, &over)
        });
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let settings = Settings {
            url: format!("https://{address}"),
            trust: Trust::Sha256(sha256),
            user: USER.into(),
            password: SecretRef::File(password),
            limits: Limits { answer_ms: 20_000, pause_ms: 1, ..Limits::default() },
        };
        Self { settings, authority, seen, folder, address, over, serving: Some(serving) }
    }

    /// A file of this test.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The requests so far, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let right = self.serving.take().is_some_and(|serving| serving.join().unwrap_or(false));
        if !std::thread::panicking() {
            assert!(right, "an answer of the server panicked");
        }
    }
}

#[derive(Clone)]
struct Server {
    config: Arc<ServerConfig>,
    answers: Arc<Answers>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn run(self, listener: &TcpListener, over: &AtomicBool) -> bool {
        let (mut streams, mut threads) = (vec![], vec![]);
        for stream in listener.incoming().map_while(Result::ok) {
            if over.load(Ordering::SeqCst) {
                break;
            }
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream.try_clone().unwrap());
            let server = self.clone();
            threads.push(std::thread::spawn(move || {
                let whole = stream.try_clone().unwrap();
                let served = catch_unwind(AssertUnwindSafe(|| server.serve(stream)));
                let _ = whole.shutdown(Shutdown::Both);
                served.is_ok()
            }));
        }
        for stream in streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let served: Vec<bool> = threads.into_iter().map(|t| t.join().unwrap_or(false)).collect();
        !served.contains(&false)
    }

    fn serve(&self, stream: TcpStream) {
        let connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        while let Some(request) = read(&mut tls) {
            self.seen.lock().unwrap().push(request.clone());
            let written = match (self.answers)(&request) {
                Reply::Break => return,
                Reply::Stall(status, len, body) => {
                    let _ = say(&mut tls, status, &[], len, &body);
                    wait(&mut tls);
                    return;
                }
                Reply::Hang => {
                    wait(&mut tls);
                    return;
                }
                Reply::Endless => {
                    let mut written = write!(tls, "HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n");
                    while written.is_ok() {
                        written = tls.write_all(&[b' '; 4096]);
                    }
                    return;
                }
                Reply::Say(status, headers, body) => {
                    let sent: &[u8] = if request.verb == "HEAD" { &[] } else { &body };
                    say(&mut tls, status, &headers, body.len(), sent)
                }
                Reply::Part(status, headers, len, body) => {
                    let _ = say(&mut tls, status, &headers, len, &body);
                    return;
                }
            };
            if written.is_err() {
                return;
            }
        }
    }
}

/// Until the other side is tired of it.
fn wait(from: &mut impl Read) {
    while matches!(from.read(&mut [0]), Ok(1)) {}
}

fn say(
    to: &mut impl Write,
    status: u16,
    headers: &[(&'static str, String)],
    len: usize,
    body: &[u8],
) -> std::io::Result<()> {
    let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    write!(to, "HTTP/1.1 {status} It\r\ncontent-length: {len}\r\n{headers}\r\n")?;
    to.write_all(body)?;
    to.flush()
}

fn read(from: &mut impl Read) -> Option<Request> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() > 65536 || !matches!(from.read(&mut byte), Ok(1)) {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (verb, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let len = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    from.read_exact(&mut body).ok()?;
    Some(Request { verb, path, headers, body: String::from_utf8(body).ok()? })
}

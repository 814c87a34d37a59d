//! A server over HTTPS that a test scripts. What a script has no answer to, it answers as a server that behaves.

use crate::trust::{Authority, Issued};
use site_recovery::SystemClock;
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use site_recovery_tls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use site_recovery_tls::{Clients, Identity};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vmware_vsphere_rest::{Error, Limits, SecretRef, Settings, Trust, VCenter};

pub(crate) const PASSWORD: &str = "s3cret <&> \"canary\"";
/// `dr@vsphere.local` with that password.
const BASIC: &str = "Basic ZHJAdnNwaGVyZS5sb2NhbDpzM2NyZXQgPCY+ICJjYW5hcnki";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// `GET /api/vcenter/vm`, with its query.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.verb, self.path)
    }

    pub(crate) fn is(&self, line: &str) -> bool {
        self.line() == line
    }

    /// Whether it is in the session with this number.
    pub(crate) fn is_in(&self, number: usize) -> bool {
        self.headers.get("vmware-api-session-id") == Some(&format!("token-{number}"))
    }

    pub(crate) fn is_login(&self) -> bool {
        self.verb == "POST" && self.path.ends_with("/session")
    }

    fn has_password(&self) -> bool {
        self.headers.get("authorization").is_some_and(|sent| sent == BASIC)
    }
}

pub(crate) enum Reply {
    /// Status and body.
    Say(u16, String),
    /// A length, and fewer bytes than that; then the connection ends.
    Part(usize, String),
    /// Nothing, until the other side gives up.
    Hang,
    /// Nothing: the connection ends.
    Break,
    /// A body without end.
    Endless,
}

pub(crate) fn answer(body: &str) -> Reply {
    Reply::Say(200, body.into())
}

/// A refusal as it is below `/api`.
pub(crate) fn refused(status: u16, kind: &str, words: &str) -> Reply {
    let message = format!("{{\"id\":\"x\",\"default_message\":{words:?},\"args\":[]}}");
    Reply::Say(status, format!("{{\"error_type\":{kind:?},\"messages\":[{message}]}}"))
}

/// What a server that behaves has to say.
fn usual(request: &Request, logins: &AtomicUsize) -> Reply {
    let rest = request.path.starts_with("/rest/");
    let open = || {
        let token = format!("\"token-{}\"", logins.fetch_add(1, Ordering::SeqCst) + 1);
        if rest { Reply::Say(200, format!("{{\"value\":{token}}}")) } else { Reply::Say(201, token) }
    };
    match request.verb.as_str() {
        "POST" if request.is_login() && request.has_password() => open(),
        "POST" if request.is_login() => refused(401, "UNAUTHENTICATED", "wrong"),
        "GET" if rest => answer("{\"value\":[]}"),
        "GET" => answer("[]"),
        _ => Reply::Say(204, String::new()),
    }
}

type Script = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

pub(crate) struct Fake {
    pub(crate) settings: Settings,
    pub(crate) authority: Authority,
    seen: Arc<Mutex<Vec<Request>>>,
    folder: tempfile::TempDir,
    address: SocketAddr,
    over: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Fake {
    /// A server with this script.
    pub(crate) fn new(script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let authority = Authority::new();
        let Issued { certificate, key, sha256 } = authority.issue();
        let identity = Identity { certificate: certificate.as_bytes(), key: key.as_bytes() };
        let config = site_recovery_tls::server(&[&TLS13, &TLS12], identity, Clients::Anyone).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let server = Server {
            config: Arc::new(config),
            script: Arc::new(script),
            logins: Arc::default(),
            seen: Arc::clone(&seen),
        };
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
            user: "dr@vsphere.local".into(),
            password: SecretRef::File(password),
            limits: Limits { answer_ms: 20_000, pause_ms: 1, ..Limits::default() },
        };
        Self { settings, authority, seen, folder, address, over, serving: Some(serving) }
    }

    /// A file of this test.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) async fn connect(&self) -> VCenter {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> Result<VCenter, Error> {
        connect(&self.settings).await
    }

    /// The requests, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(Request::line).collect()
    }

    /// The requests with this line.
    pub(crate) fn seen(&self, line: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|r| r.is(line)).cloned().collect()
    }

    pub(crate) fn logins(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|r| r.is_login()).count()
    }
}

pub(crate) async fn connect(settings: &Settings) -> Result<VCenter, Error> {
    VCenter::connect(settings, Arc::new(SystemClock)).await
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

#[derive(Clone)]
struct Server {
    config: Arc<ServerConfig>,
    script: Arc<Script>,
    logins: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn run(self, listener: &TcpListener, over: &AtomicBool) {
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
                server.serve(stream);
                let _ = whole.shutdown(std::net::Shutdown::Both);
            }));
        }
        for stream in streams {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn serve(&self, stream: TcpStream) {
        let connection = ServerConnection::new(Arc::clone(&self.config)).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        while let Some(request) = read(&mut tls) {
            self.seen.lock().unwrap().push(request.clone());
            let reply = (self.script)(&request).unwrap_or_else(|| usual(&request, &self.logins));
            let written = match reply {
                Reply::Break => return,
                Reply::Hang => {
                    // Until the other side is tired of it.
                    while matches!(tls.read(&mut [0]), Ok(1)) {}
                    return;
                }
                Reply::Endless => {
                    let mut written = write!(tls, "HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n");
                    while written.is_ok() {
                        written = tls.write_all(&[b' '; 4096]);
                    }
                    return;
                }
                Reply::Say(status, body) => say(&mut tls, status, body.len(), body.as_bytes()),
                Reply::Part(len, body) => {
                    let _ = say(&mut tls, 200, len, body.as_bytes());
                    return;
                }
            };
            if written.is_err() {
                return;
            }
        }
    }
}

fn say(to: &mut impl Write, status: u16, len: usize, body: &[u8]) -> std::io::Result<()> {
    write!(to, "HTTP/1.1 {status} It\r\ncontent-length: {len}\r\ncontent-type: application/json\r\n\r\n")?;
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

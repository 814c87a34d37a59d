//! A fake controller that speaks HTTPS: it answers as a test tells it, also wrongly, late, or never. What a controller
//! does that behaves is tried on sushy-tools.

use crate::trust::{Authority, Issued};
use serde_json::{Value, json};
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use site_recovery_tls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use site_recovery_tls::{Clients, Identity};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

pub(crate) enum Reply {
    /// Status, headers, body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Never.
    Hang,
    /// A body without end.
    Endless,
}

pub(crate) fn document(value: &Value) -> Reply {
    Reply::Say(200, vec![], value.to_string().into_bytes())
}

/// A system that is on, and can be reset.
pub(crate) fn system() -> Value {
    json!({
        "PowerState": "On",
        "UUID": "11111111-2222-3333-4444-555555555555",
        "Actions": { "#ComputerSystem.Reset": { "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset" } }
    })
}

type Answers = dyn Fn(&Request) -> Reply + Send + Sync;

pub(crate) struct FakeController {
    pub(crate) url: String,
    pub(crate) authority: Authority,
    pub(crate) sha256: String,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
    address: std::net::SocketAddr,
    over: Arc<Mutex<bool>>,
    serving: Option<JoinHandle<()>>,
}

impl FakeController {
    pub(crate) fn answering(answers: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let authority = Authority::new();
        let Issued { certificate, key, sha256 } = authority.issue();
        let identity = Identity { certificate: certificate.as_bytes(), key: key.as_bytes() };
        let config =
            Arc::new(site_recovery_tls::server(&[&TLS13, &TLS12], identity, Clients::Anyone).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, over) = (Arc::new(Mutex::new(vec![])), Arc::new(Mutex::new(false)));
        let answers: Arc<Answers> = Arc::new(answers);
        let serving = std::thread::spawn({
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            move || {
                let mut all = vec![];
                for stream in listener.incoming().map_while(Result::ok) {
                    if *over.lock().unwrap() {
                        break;
                    }
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    all.push(stream.try_clone().unwrap());
                    let (config, answers, seen) =
                        (Arc::clone(&config), Arc::clone(&answers), Arc::clone(&seen));
                    std::thread::spawn(move || serve(stream, config, &*answers, &seen));
                }
                for stream in all {
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                }
            }
        });
        let url = format!("https://{address}/redfish/v1/Systems/1");
        Self { url, authority, sha256, seen, address, over, serving: Some(serving) }
    }

    pub(crate) fn asked(&self, method: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|r| r.method == method).cloned().collect()
    }
}

impl Drop for FakeController {
    fn drop(&mut self) {
        *self.over.lock().unwrap() = true;
        let _ = TcpStream::connect(self.address);
        let _ = self.serving.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, answers: &Answers, seen: &Mutex<Vec<Request>>) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    while let Some(request) = read(&mut tls) {
        seen.lock().unwrap().push(request.clone());
        let written = match answers(&request) {
            Reply::Hang => loop {
                // Until the other side is tired of it.
                match tls.read(&mut [0]) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            },
            Reply::Endless => {
                let mut written = write!(tls, "HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n");
                while written.is_ok() {
                    written = tls.write_all(&[b' '; 4096]);
                }
                written
            }
            Reply::Say(status, headers, body) => {
                let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
                let head = format!("HTTP/1.1 {status} It\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
                tls.write_all(head.as_bytes()).and_then(|()| tls.write_all(&body))
            }
        };
        if written.and_then(|()| tls.flush()).is_err() {
            return;
        }
    }
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
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_lowercase(), v.to_owned()));
    let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
    let len = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    from.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

//! A server over HTTPS that a test scripts. What a script has no answer to, it answers as a server that behaves.

use crate::order;
use crate::trust::{Authority, Issued};
use site_recovery::SystemClock;
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use site_recovery_tls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use site_recovery_tls::{Clients, Identity};
use site_recovery_vim::{Error, Limits, SecretRef, Settings, Trust, Vim};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const PASSWORD: &str = "s3cret <&> \"canary\"";
const SOAP: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// The name of the SOAP call, or the verb of HTTP.
    pub(crate) fn call(&self) -> &str {
        let after = self.body.split_once("<soapenv:Body><").map(|(_, rest)| rest);
        after.and_then(|rest| rest.split([' ', '>']).next()).unwrap_or(&self.verb)
    }

    /// The text of the first element of this name.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let document = roxmltree::Document::parse(&self.body).ok()?;
        let found = document.descendants().find(|n| n.tag_name().name() == name)?;
        Some(found.text().unwrap_or_default().to_owned())
    }
}

pub(crate) enum Reply {
    /// Status, headers, body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// A length, and fewer bytes than that; then the connection ends.
    Part(u16, Vec<(&'static str, String)>, usize, Vec<u8>),
    /// Nothing, until the other side gives up.
    Hang,
    /// Nothing: the connection ends.
    Break,
    /// A body without end.
    Endless,
}

/// An answer to this call; the outermost element has the namespaces of ESXi, or of VMware's simulator.
pub(crate) fn answer(call: &str, inside: &str) -> Reply {
    Reply::Say(
        200,
        vec![],
        envelope(&format!("<{call}Response xmlns=\"urn:vim25\">{inside}</{call}Response>")),
    )
}

pub(crate) fn value(call: &str, kind: &str, id: &str) -> Reply {
    answer(call, &format!("<returnval type=\"{kind}\">{id}</returnval>"))
}

/// A fault of this type, with these elements in it.
pub(crate) fn fault(kind: &str, inside: &str) -> Reply {
    let detail = format!("<{kind}Fault xmlns=\"urn:vim25\" xsi:type=\"{kind}\">{inside}</{kind}Fault>");
    let fault = format!(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>*types.{kind}</faultstring>\
         <detail>{detail}</detail></soapenv:Fault>"
    );
    Reply::Say(500, vec![], envelope(&fault))
}

pub(crate) fn envelope(inside: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenv=\"{SOAP}\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n\
         <soapenv:Body>\n{inside}\n</soapenv:Body>\n</soapenv:Envelope>"
    )
    .into_bytes()
}

/// What a server that behaves has to say.
fn usual(request: &Request, logins: &AtomicUsize) -> Reply {
    let call = request.call();
    match call {
        "RetrieveServiceContent" => answer(call, CONTENT),
        "Login" if request.text("password").as_deref() == Some(PASSWORD) => {
            let number = logins.fetch_add(1, Ordering::SeqCst) + 1;
            let inside = format!("<returnval><key>key-{number}</key><userName>dr</userName></returnval>");
            let Reply::Say(status, _, body) = answer(call, &inside) else { unreachable!() };
            let cookie = format!("vmware_soap_session=\"cookie-{number}\"; Path=/; HttpOnly; Secure");
            Reply::Say(status, vec![("set-cookie", cookie)], body)
        }
        "Login" => fault("InvalidLogin", ""),
        "CreateContainerView" => value(call, "ContainerView", "view-1"),
        "CreatePropertyCollector" => value(call, "PropertyCollector", "collector-1"),
        "CreateFilter" => value(call, "PropertyFilter", "filter-1"),
        "WaitForUpdatesEx" => answer(call, &ended("task-1", "<state>success</state>")),
        task if task.ends_with("_Task") => value(call, "Task", "task-1"),
        _ => answer(call, ""),
    }
}

/// An update: how a task stands.
pub(crate) fn ended(task: &str, info: &str) -> String {
    format!(
        "<returnval><version>1</version><filterSet><filter type=\"PropertyFilter\">filter-1</filter><objectSet>\
         <kind>enter</kind><obj type=\"Task\">{task}</obj><changeSet><name>info</name><op>assign</op>\
         <val xsi:type=\"TaskInfo\">{info}</val></changeSet></objectSet></filterSet></returnval>"
    )
}

const CONTENT: &str = "<returnval>\
    <rootFolder type=\"Folder\">group-d1</rootFolder>\
    <propertyCollector type=\"PropertyCollector\">propertyCollector</propertyCollector>\
    <viewManager type=\"ViewManager\">ViewManager</viewManager>\
    <about><name>VMware vCenter Server</name><fullName>VMware vCenter Server 8.0.3 build-1</fullName>\
    <version>8.0.3</version><build>1</build><apiType>VirtualCenter</apiType><apiVersion>8.0.3.0</apiVersion></about>\
    <sessionManager type=\"SessionManager\">SessionManager</sessionManager>\
    <authorizationManager type=\"AuthorizationManager\">AuthorizationManager</authorizationManager>\
    <licenseManager type=\"LicenseManager\">LicenseManager</licenseManager>\
    <fileManager type=\"FileManager\">FileManager</fileManager>\
    <virtualDiskManager type=\"VirtualDiskManager\">virtualDiskManager</virtualDiskManager>\
    <storageResourceManager type=\"StorageResourceManager\">StorageResourceManager</storageResourceManager>\
    </returnval>";

type Script = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

pub(crate) struct Fake {
    pub(crate) settings: Settings,
    pub(crate) authority: Authority,
    seen: Arc<Mutex<Vec<Request>>>,
    wrong: Arc<Mutex<Vec<String>>>,
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
        let (seen, wrong) = (Arc::default(), Arc::default());
        let over = Arc::new(AtomicBool::new(false));
        let server = Server {
            config: Arc::new(config),
            script: Arc::new(script),
            logins: Arc::default(),
            seen: Arc::clone(&seen),
            wrong: Arc::clone(&wrong),
        };
        let serving = std::thread::spawn({
            let over = Arc::clone(&over);
            move || server.run(&listener, &over)
        });
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let limits = Limits { answer_ms: 20_000, pause_ms: 1, ..Limits::default() };
        let settings = Settings {
            url: format!("https://{address}"),
            trust: Trust::Sha256(sha256),
            user: "dr@vsphere.local".into(),
            password: SecretRef::File(password),
            limits,
        };
        Self { settings, authority, seen, wrong, folder, address, over, serving: Some(serving) }
    }

    /// A file of this test.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) async fn connect(&self) -> Vim {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> Result<Vim, Error> {
        Vim::connect(&self.settings, Arc::new(SystemClock)).await
    }

    /// The requests of this call.
    pub(crate) fn seen(&self, call: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|r| r.call() == call).cloned().collect()
    }

    /// The calls, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|r| r.call().to_owned()).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.serving.take().map(JoinHandle::join);
        let wrong = self.wrong.lock().unwrap();
        if !std::thread::panicking() {
            assert!(wrong.is_empty(), "requests out of the schema's order: {wrong:?}");
        }
    }
}

#[derive(Clone)]
struct Server {
    config: Arc<ServerConfig>,
    script: Arc<Script>,
    logins: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Request>>>,
    wrong: Arc<Mutex<Vec<String>>>,
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
            if request.path == "/sdk"
                && let Err(what) = order::check(&request.body)
            {
                self.wrong.lock().unwrap().push(what);
            }
            self.seen.lock().unwrap().push(request.clone());
            let reply = (self.script)(&request).unwrap_or_else(|| usual(&request, &self.logins));
            let bare = request.verb == "HEAD";
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
                Reply::Say(status, headers, body) => {
                    let len = body.len();
                    say(&mut tls, status, &headers, len, if bare { &[] } else { &body })
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

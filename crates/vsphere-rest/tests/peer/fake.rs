//! The scripted server as vCenter: what a script has no answer to, it answers as a server that behaves.

use site_recovery::SystemClock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vmware_vsphere_rest::{Error, Settings, VCenter};

pub(crate) use crate::server::{Fake, PASSWORD, Reply, Request};

/// `dr@vsphere.local` with that password.
const BASIC: &str = "Basic ZHJAdnNwaGVyZS5sb2NhbDpzM2NyZXQgPCY+ICJjYW5hcnki";

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

fn json() -> Vec<(&'static str, String)> {
    vec![("content-type", "application/json".into())]
}

pub(crate) fn say(status: u16, body: String) -> Reply {
    Reply::Say(status, json(), body.into_bytes())
}

/// The beginning of an answer that has so many bytes.
pub(crate) fn part(len: usize, body: String) -> Reply {
    Reply::Part(200, json(), len, body.into_bytes())
}

pub(crate) fn answer(body: &str) -> Reply {
    say(200, body.into())
}

/// A refusal as it is below `/api`.
pub(crate) fn refused(status: u16, kind: &str, words: &str) -> Reply {
    let message = format!("{{\"id\":\"x\",\"default_message\":{words:?},\"args\":[]}}");
    say(status, format!("{{\"error_type\":{kind:?},\"messages\":[{message}]}}"))
}

/// What a server that behaves has to say.
fn usual(request: &Request, logins: &AtomicUsize) -> Reply {
    let rest = request.path.starts_with("/rest/");
    let open = || {
        let token = format!("\"token-{}\"", logins.fetch_add(1, Ordering::SeqCst) + 1);
        if rest { say(200, format!("{{\"value\":{token}}}")) } else { say(201, token) }
    };
    match request.verb.as_str() {
        "POST" if request.is_login() && request.has_password() => open(),
        "POST" if request.is_login() => refused(401, "UNAUTHENTICATED", "wrong"),
        "GET" if rest => answer("{\"value\":[]}"),
        "GET" => answer("[]"),
        _ => say(204, String::new()),
    }
}

impl Fake {
    /// A server with this script.
    pub(crate) fn new(script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let logins = AtomicUsize::new(0);
        Self::answering(move |request| script(request).unwrap_or_else(|| usual(request, &logins)))
    }

    pub(crate) async fn connect(&self) -> VCenter {
        self.try_connect().await.unwrap()
    }

    pub(crate) async fn try_connect(&self) -> Result<VCenter, Error> {
        connect(&self.settings).await
    }

    /// The requests, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    /// The requests with this line.
    pub(crate) fn seen(&self, line: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.is(line)).collect()
    }

    pub(crate) fn logins(&self) -> usize {
        self.requests().iter().filter(|r| r.is_login()).count()
    }
}

pub(crate) async fn connect(settings: &Settings) -> Result<VCenter, Error> {
    VCenter::connect(settings, Arc::new(SystemClock)).await
}

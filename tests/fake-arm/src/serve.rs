//! Takes requests in, and gives answers out.

use crate::account::Reader;
use crate::answer::{Answer, Refusal, Ruled, refuse, without_nulls};
use crate::asked::{Asked, query};
use crate::fault::{Faults, What};
use crate::place::Target;
use crate::recording::{self, Recording};
use crate::world::World;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::identity;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

pub(crate) struct Shared {
    pub(crate) world: Mutex<World>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) silent: AtomicBool,
    pub(crate) recording: Mutex<Recording>,
    pub(crate) started: Instant,
    pub(crate) latency: Duration,
    pub(crate) reader: Reader,
    pub(crate) blobs: Arc<fake_blob::Fake>,
}

/// One lock; what a test that panicked left is looked at all the same.
pub(crate) fn hold<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The connection is to break.
#[derive(Debug, thiserror::Error)]
#[error("the connection breaks, as a fault wants it")]
struct Broken;

/// Serves until it is dropped, and with it all its connections.
pub(crate) async fn serve(listener: TcpListener, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (acceptor, shared) = (acceptor.clone(), shared.clone());
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |request| {
                        let shared = shared.clone();
                        async move { shared.request(request).await }
                    });
                    // An error is a client that went, or a fault that broke it.
                    let served = hyper::server::conn::http1::Builder::new();
                    served.serve_connection(TokioIo::new(stream), service).await.unwrap_or_default();
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    async fn request(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Broken> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(Broken);
        }
        let began = self.micros();
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let base = format!("https://{}", text(HOST).unwrap_or("127.0.0.1"));
        let bearer = text(AUTHORIZATION).is_some_and(|value| value.starts_with("Bearer ") && value.len() > 7);
        let headers =
            head.headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let asked = json!({
            "method": head.method.as_str(), "url": format!("{base}{}", head.uri),
            "headers": recording::headers(headers),
            "body": serde_json::from_slice::<Value>(&body).ok(),
        });
        let path = head.uri.path();
        let fault = hold(&self.faults).meet(head.method.as_str(), path);
        let said = match fault.as_ref().and_then(instead) {
            Some(Instead::Answer(answer)) => Some(answer),
            Some(Instead::Break) => None,
            Some(Instead::Hang) => pending().await,
            None => {
                let fails = fault.as_ref().and_then(end);
                let raw = head.uri.query().unwrap_or_default();
                let answer = self.answer(head.method.as_str(), base, path, raw, bearer, &body, fails).await;
                match fault {
                    Some(What::DropAfterAccept) => None,
                    Some(What::HangAfterAccept) => pending().await,
                    _ => Some(answer.map_or_else(|refusal| refusal.answer(), identity)),
                }
            }
        };
        let shown = said.as_ref().map(|answer| {
            let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            json!({ "status": answer.status, "headers": recording::headers(headers), "body": answer.body })
        });
        if !self.latency.is_zero() {
            let _ = timeout(self.latency, pending::<()>()).await;
        }
        let times = (began, self.micros());
        let line = json!({ "request": asked, "response": shown, "began": times.0, "ended": times.1 });
        hold(&self.recording).add(line);
        said.map(response).ok_or(Broken)
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one request, for one caller")]
    async fn answer(
        &self,
        method: &str,
        base: String,
        path: &str,
        raw: &str,
        bearer: bool,
        body: &[u8],
        fails: Option<Refusal>,
    ) -> Ruled<Answer> {
        if method == "POST" && path.ends_with("/oauth2/v2.0/token") {
            return self.token(body);
        }
        if !bearer {
            let message = "Authentication failed. The 'Authorization' header is missing.";
            return Err(refuse(401, "AuthenticationFailed", message));
        }
        let query = query(raw);
        let version = query.get("api-version").filter(|version| !version.is_empty()).ok_or_else(|| {
            let message = "The api-version query parameter (?api-version=) is required for all requests.";
            refuse(400, "MissingApiVersionParameter", message)
        })?;
        let target = Target::parse(path).ok_or_else(|| {
            refuse(404, "InvalidResourceType", format!("The resource type of {path} could not be found."))
        })?;
        let known = target.versions();
        if !known.is_empty() && !known.contains(&version.as_str()) {
            let message = format!(
                "No registered resource provider found for API version '{version}'. Known: {known:?}."
            );
            return Err(refuse(400, "NoRegisteredProviderFound", message));
        }
        let body = match body {
            [] => Value::Null,
            body => without_nulls(serde_json::from_slice(body).map_err(|why| {
                refuse(400, "InvalidRequestContent", format!("The request content was invalid: {why}"))
            })?),
        };
        let (method, path) = (method.to_owned(), path.to_owned());
        let data = &body["properties"]["creationData"];
        let imports = method == "PUT" && data["createOption"].as_str() == Some("Import");
        // Read now, as Azure takes its own snapshot of the blob when it accepts: what is written later is not in the disk.
        let imported = match data["sourceUri"].as_str().filter(|_| imports) {
            Some(uri) => Some(self.reader.disk(&self.blobs, uri).await),
            None => None,
        };
        let asked = Asked { method, base, path, query, target, body, imported, fails };
        hold(&self.world).answer(&asked)
    }
}

impl Shared {
    /// As the directory gives one to an application that shows its secret.
    fn token(&self, body: &[u8]) -> Ruled<Answer> {
        let said = query(std::str::from_utf8(body).unwrap_or_default());
        let shown = said.get("client_secret").map(String::as_str).unwrap_or_default();
        let expected = hold(&self.world).config.secret.clone();
        if shown.is_empty() || expected.is_some_and(|secret| secret != shown) {
            let body = json!({ "error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided." });
            return Ok(Answer::new(401, body));
        }
        let token = self.blobs.token(HOUR);
        Ok(Answer::new(
            200,
            json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token }),
        ))
    }
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

enum Instead {
    Answer(Answer),
    Break,
    Hang,
}

fn instead(what: &What) -> Option<Instead> {
    match what {
        What::Status { status, code, retry_after } => {
            let after = retry_after.map(|seconds| ("Retry-After".to_owned(), seconds.to_string()));
            let answer = refuse(*status, code, "As a fault of the test wants it.").answer();
            Some(Instead::Answer(answer.with(after.into_iter().collect())))
        }
        What::TokenExpired => {
            let message = "The access token expiry UTC time is earlier than current UTC time.";
            let header = "Bearer authorization_uri=\"https://login.windows.net/\", error=\"invalid_token\"";
            let answer = refuse(401, "ExpiredAuthenticationToken", message).answer();
            Some(Instead::Answer(answer.with(vec![("WWW-Authenticate".into(), header.into())])))
        }
        What::DropBeforeEffect => Some(Instead::Break),
        What::Hang => Some(Instead::Hang),
        What::DropAfterAccept | What::HangAfterAccept | What::FailAtEnd { .. } => None,
    }
}

fn end(what: &What) -> Option<Refusal> {
    match what {
        What::FailAtEnd { code, message } => Some(refuse(409, code, message)),
        _ => None,
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response =
        Response::builder().status(answer.status).header("x-ms-request-id", crate::random::uuid());
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let body = answer.body.map(|body| body.to_string()).unwrap_or_default();
    if !body.is_empty() {
        response = response.header("content-type", "application/json; charset=utf-8");
    }
    response.body(Full::new(body.into())).expect("headers of the fake are those of HTTP")
}

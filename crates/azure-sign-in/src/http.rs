//! What requests go over.

use crate::{Limits, Lost, Trust, Unusable};
use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};
use bytes::Bytes;
use futures_util::stream::unfold;
use reqwest::Response;
use reqwest::header;
use site_recovery_https::{because, builder};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use url::{Host, Url};

/// Connections that were idle for longer are not used again: a change that is sent while the server closes one is lost.
const IDLE: Duration = Duration::from_secs(15);

/// What the clients of `azure_core` 1.x send their requests over. Each request has to be answered whole within
/// [`answer_ms`](Limits::answer_ms), and no body may have more than [`answer_bytes`](Limits::answer_bytes); what goes wrong has a
/// [`Lost`] in it. Nothing is tried again here.
///
/// # Errors
/// For a trust or a limit that breaks a rule.
pub fn http(trust: &Trust, limits: Limits) -> Result<Arc<dyn HttpClient>, Unusable> {
    Ok(Arc::new(Transport::new(trust, limits)?))
}

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    client: reqwest::Client,
    /// Without TLS, for the addresses that a machine of Azure asks about itself.
    near: Option<reqwest::Client>,
    limits: Limits,
}

/// A request, as both lines of `azure_core` have it.
pub(crate) struct Asked<'a> {
    pub(crate) method: reqwest::Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: Bytes,
}

impl Transport {
    pub(crate) fn new(trust: &Trust, limits: Limits) -> Result<Self, Unusable> {
        let client = built(builder(trust)?, limits)?;
        Ok(Self { client, near: None, limits })
    }

    /// One that also asks the machine's own link, without TLS.
    pub(crate) fn with_near(trust: &Trust, limits: Limits) -> Result<Self, Unusable> {
        let near = Some(built(builder(trust)?.https_only(false), limits)?);
        Ok(Self { near, ..Self::new(trust, limits)? })
    }

    pub(crate) async fn send(&self, asked: Asked<'_>) -> Result<Response, Lost> {
        let server = server(asked.url);
        let span = self.limits.answer();
        let client = match (asked.url.scheme(), &self.near) {
            ("https", _) => &self.client,
            ("http", Some(near)) if is_near(asked.url) => near,
            _ => {
                let because = "it is not asked without TLS".into();
                return Err(Lost::Stranger { server, because });
            }
        };
        let Some(headers) = sent(&asked.headers) else {
            return Err(Lost::Stranger { server, because: "a header cannot be sent".into() });
        };
        let request = client.request(asked.method, asked.url.clone()).timeout(span).body(asked.body);
        request.headers(headers).send().await.map_err(|e| Lost::of(&e, &server, span))
    }

    /// The body as it comes, cut off with an error at the limit.
    pub(crate) fn chunks(
        &self,
        response: Response,
        server: String,
    ) -> impl futures_util::Stream<Item = Result<Bytes, Lost>> + Send + 'static {
        let (most, span) = (self.limits.answer_bytes, self.limits.answer());
        unfold(Some((response, 0)), move |state| {
            let server = server.clone();
            async move {
                let (mut response, got) = state?;
                match response.chunk().await {
                    Ok(Some(bytes)) if bytes.len() <= most - got => {
                        let got = got + bytes.len();
                        Some((Ok(bytes), Some((response, got))))
                    }
                    Ok(Some(_)) => {
                        let because = format!("an answer has more than {most} bytes");
                        Some((Err(Lost::Broken { server, because }), None))
                    }
                    Ok(None) => None,
                    Err(error) => Some((Err(Lost::of(&error, &server, span)), None)),
                }
            }
        })
    }
}

fn built(builder: reqwest::ClientBuilder, limits: Limits) -> Result<reqwest::Client, Unusable> {
    let builder = builder.connect_timeout(Duration::from_millis(limits.connect_ms)).pool_idle_timeout(IDLE);
    builder.build().map_err(|e| {
        let rule = "this program can speak HTTPS so";
        Unusable::new("trust", format!("not usable, {}", because(&e)), rule, "report it")
    })
}

/// Headers to send. What lets its holder in is marked, so that no layer below logs it, or keeps it in a table.
fn sent(headers: &[(&str, &str)]) -> Option<header::HeaderMap> {
    let secret = |name: &str| {
        // Of the last, the value is a signed address.
        [header::AUTHORIZATION.as_str(), "x-ms-previous-snapshot-url"].contains(&name)
            || name.contains("copy-source")
    };
    let mut all = header::HeaderMap::new();
    for (name, value) in headers {
        let name = header::HeaderName::from_bytes(name.as_bytes()).ok()?;
        let mut value = header::HeaderValue::from_str(value).ok()?;
        value.set_sensitive(secret(name.as_str()));
        all.append(name, value);
    }
    Some(all)
}

/// Host and port, for people.
pub(crate) fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Of this machine, or of its link alone: no router carries a request for it on.
fn is_near(url: &Url) -> bool {
    let near = |at: Ipv4Addr| at.is_loopback() || at.is_link_local();
    match url.host() {
        Some(Host::Ipv4(at)) => near(at),
        Some(Host::Ipv6(at)) => at.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Headers whose values are no text are none that are read.
pub(crate) fn headers(response: &Response) -> impl Iterator<Item = (String, String)> {
    response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().into(), value.to_str().ok()?.into())))
}

fn lost(lost: Lost) -> Error {
    let kind = if lost.may_have_come() { ErrorKind::Io } else { ErrorKind::Connection };
    let message = lost.to_string();
    Error::with_error(kind, lost, message)
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = match request.method() {
            Method::Delete => reqwest::Method::DELETE,
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Patch => reqwest::Method::PATCH,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
            _ => return Err(Error::with_message(ErrorKind::Other, "a method that is not sent")),
        };
        let Body::Bytes(body) = request.body().clone() else {
            return Err(Error::with_message(ErrorKind::Other, "a body is sent from memory"));
        };
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let asked = Asked { method, url: request.url(), headers, body };
        let response = self.send(asked).await.map_err(lost)?;
        let mut found = Headers::new();
        for (name, value) in self::headers(&response) {
            found.insert(HeaderName::from(name), HeaderValue::from(value));
        }
        let status = response.status().as_u16().into();
        let chunks = self.chunks(response, server(request.url()));
        let body = Box::pin(futures_util::StreamExt::map(chunks, |chunk| chunk.map_err(lost)));
        Ok(AsyncRawResponse::new(status, found, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn what_lets_its_holder_in_is_in_no_log_of_a_layer_below() {
        let secrets = [
            "authorization",
            "x-ms-copy-source",
            "x-ms-copy-source-authorization",
            "X-Ms-Previous-Snapshot-Url",
        ];
        let mut headers: Vec<_> = secrets.map(|name| (name, "canary")).into();
        headers.push(("x-ms-version", "2026"));
        let shown = format!("{:?}", sent(&headers).expect("headers"));
        assert!(!shown.contains("canary") && shown.contains("2026"), "{shown}");
        assert!(sent(&[("x-ms-meta", "a\nb")]).is_none());
    }

    #[test]
    fn what_no_router_carries_on_is_near() {
        for near in [
            "http://169.254.169.254/a",
            "http://127.0.0.1:41000/a",
            "http://[::1]/a",
            "http://localhost:40342/a",
        ] {
            assert!(is_near(&Url::parse(near).expect("an address")), "{near}");
        }
        for far in [
            "http://10.0.0.1/a",
            "http://login.example/a",
            "http://169.255.0.1/a",
            "http://localhost.example/a",
        ] {
            assert!(!is_near(&Url::parse(far).expect("an address")), "{far}");
        }
    }

    #[tokio::test]
    async fn a_machine_is_asked_about_itself_without_tls_and_nobody_else() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                head.push(byte[0]);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi")
                .expect("sent");
            String::from_utf8(head).expect("text")
        });
        let trust = Trust::Sha256("00".repeat(32));
        let near = Transport::with_near(&trust, Limits::default()).expect("a client");
        let mut request =
            Request::new(format!("http://{address}/metadata").parse().expect("an address"), Method::Get);
        request.insert_header("metadata", "true");
        let answer = near.execute_request(&request).await.expect("an answer");
        assert_eq!(&answer.into_body().collect().await.expect("whole")[..], b"hi");
        assert!(served.join().expect("served").contains("metadata: true"));
        let far = Request::new("http://192.0.2.1/metadata".parse().expect("an address"), Method::Get);
        assert!(near.execute_request(&far).await.expect_err("far").to_string().contains("without TLS"));
    }
}

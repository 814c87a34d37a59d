//! One exchange by HTTPS: what was sent, what came, and what it means that nothing came.

use crate::shape::refusal;
use crate::{Error, Limits, Settings};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Response, Url};
use site_recovery_tls::rustls;
use site_recovery_tls::rustls::version::{TLS12, TLS13};
use site_recovery_tls::settings::Secret;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

const SESSION: HeaderName = HeaderName::from_static("vmware-api-session-id");
/// Connections that were idle for longer are not used again: a change that is sent while the server closes one is lost.
const IDLE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    pub(crate) base: Url,
    /// Host and port, for people.
    pub(crate) server: String,
    limits: Limits,
}

/// What is sent, however often.
pub(crate) struct Message {
    pub(crate) call: &'static str,
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<Vec<u8>>,
}

/// By whom.
pub(crate) enum Who<'a> {
    Password(&'a str, &'a Secret),
    Session(&'a HeaderValue),
}

impl Who<'_> {
    /// Whether a server repeats it.
    fn is_in(&self, text: &str) -> bool {
        match self {
            // Also as it was encoded: nothing that is said of a login is shown.
            Self::Password(..) => true,
            Self::Session(token) => token.to_str().is_ok_and(|token| text.contains(token)),
        }
    }
}

impl Http {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        let (base, limits) = (settings.address()?, settings.limits);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.trust.client(&[&TLS13, &TLS12])?)
            .https_only(true)
            .no_proxy()
            // An answer that leads elsewhere would lead the password there.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(limits.connect_ms))
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|e| Error::garbage("connect", format!("no HTTPS can be spoken: {}", last(&e))))?;
        let server = base.host_str().unwrap_or_default().to_owned();
        let server = base.port().map_or_else(|| server.clone(), |port| format!("{server}:{port}"));
        Ok(Self { client, base, server, limits })
    }

    /// The body of a right answer.
    pub(crate) async fn exchange(&self, message: &Message, who: Who<'_>) -> Result<Vec<u8>, Error> {
        let mut request = self.client.request(message.method.clone(), message.url.clone());
        request = match &who {
            Who::Password(user, password) => request.basic_auth(user, Some(password.expose())),
            Who::Session(token) => request.header(SESSION, *token),
        };
        if let Some(body) = &message.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = request.timeout(self.limits.answer()).send().await.map_err(|e| self.lost(&e))?;
        let status = response.status();
        let body = self.whole(response).await?;
        if status.is_success() {
            let most = self.limits.answer_bytes;
            return body
                .ok_or_else(|| Error::garbage(message.call, format!("it is longer than {most} bytes")));
        }
        let call = message.call;
        Err(match body.as_deref().and_then(refusal) {
            Some((refusal, mut words)) => {
                words.retain(|text| !who.is_in(text));
                Error::Refused { call, refusal, words }
            }
            None => Error::Status { server: self.server.clone(), call, status: status.as_u16() },
        })
    }

    /// Nothing where it is longer than it may be.
    async fn whole(&self, mut response: Response) -> Result<Option<Vec<u8>>, Error> {
        let mut all = vec![];
        while let Some(part) = response.chunk().await.map_err(|e| self.lost(&e))? {
            if all.len() + part.len() > self.limits.answer_bytes {
                return Ok(None);
            }
            all.extend_from_slice(&part);
        }
        Ok(Some(all))
    }

    /// What it means that an answer did not come, or not whole.
    fn lost(&self, error: &reqwest::Error) -> Error {
        let (server, because) = (self.server.clone(), last(error));
        if is_stranger(error) {
            Error::Stranger { server, because }
        } else if error.is_connect() {
            Error::Absent { server, because }
        } else if error.is_timeout() {
            Error::Silent { server, span: self.limits.answer() }
        } else {
            Error::Broken { server, because }
        }
    }
}

/// The token as it is sent back: it stands for the password while the session lasts.
pub(crate) fn token(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok().filter(|_| !text.is_empty())?;
    value.set_sensitive(true);
    Some(value)
}

fn chain(error: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(error.source(), |e: &&(dyn StdError + 'static)| (*e).source())
}

fn is_stranger(error: &reqwest::Error) -> bool {
    chain(error).any(|cause| {
        // An `io::Error` is not the source of what it is made of.
        let mut cause = cause;
        while let Some(inner) = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            cause = inner;
        }
        matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
    })
}

/// The cause at the bottom, which names no address.
fn last(error: &reqwest::Error) -> String {
    match chain(error).last() {
        Some(cause) => cause.to_string(),
        None if error.is_timeout() => "it takes too long".into(),
        None => "no more is known".into(),
    }
}

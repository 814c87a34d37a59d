//! Requests to one controller, and what its answers mean.

use super::{Login, Settings};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_https::{Password, Secret, address, because, is_stranger, to, whole};
use std::time::Duration;
use tokio::sync::Mutex;

/// No answer is longer.
const MOST: usize = 1 << 20;
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Speaks to one controller.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    system: Url,
    user: String,
    login: Login,
    password: Password,
    /// Of the session that stands.
    token: Mutex<Option<HeaderValue>>,
}

/// An answer: its document, and the mark by which a change of it names what it changes.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) etag: Option<HeaderValue>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let system = address(&settings.url, "as https://bmc-1/redfish/v1/Systems/1")?;
        let password = Password::of(&settings.password)?;
        let http = site_recovery_https::builder(&settings.trust)?
            .timeout(Duration::from_secs(settings.seconds))
            .build()
            .map_err(|e| Error::new(ErrorKind::Unsupported, "no HTTPS can be spoken").caused_by(e))?;
        let (user, login) = (settings.user.clone(), settings.login);
        Ok(Self { http, system, user, login, password, token: Mutex::default() })
    }

    pub(crate) async fn system(&self) -> Result<Document> {
        let response = self.send(Method::GET, &self.system, None, None).await?;
        let etag = response.headers().get(reqwest::header::ETAG).cloned();
        Ok(Document { value: document(response).await?, etag })
    }

    pub(crate) async fn change_system(&self, body: Value, etag: Option<HeaderValue>) -> Result<()> {
        self.send(Method::PATCH, &self.system, Some(body), etag).await.map(drop)
    }

    /// Posts to a path that a document names.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<()> {
        self.send(Method::POST, &self.at(path)?, Some(body), None).await.map(drop)
    }

    /// A path on this very controller: whatever a document says, nothing goes to another.
    fn at(&self, path: &str) -> Result<Url> {
        to(&self.system, path).ok_or_else(|| {
            let message = "the controller names an address that is not its own";
            Error::new(ErrorKind::Corrupt, message).with("address", path)
        })
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        body: Option<Value>,
        etag: Option<HeaderValue>,
    ) -> Result<Response> {
        let mut tries = 0;
        loop {
            let mut request = self.http.request(method.clone(), url.clone());
            request = request.header("odata-version", "4.0");
            request = match self.login {
                Login::Basic => request.basic_auth(&self.user, Some(self.password.read()?.expose())),
                Login::Session => request.header(TOKEN, self.session().await?),
            };
            if let Some(body) = &body {
                request = request.json(body);
            }
            if let Some(etag) = &etag {
                request = request.header(reqwest::header::IF_MATCH, etag);
            }
            let response = request.send().await.map_err(no_answer)?;
            tries += 1;
            // A session ends when the controller likes. The password may have been changed meanwhile, too.
            if response.status() == StatusCode::UNAUTHORIZED && self.login == Login::Session && tries == 1 {
                *self.token.lock().await = None;
                continue;
            }
            return meaning(response).await;
        }
    }

    /// The token of the session that stands, or of a new one.
    async fn session(&self) -> Result<HeaderValue> {
        let mut token = self.token.lock().await;
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let password = self.password.read()?;
        let body = json!({ "UserName": self.user, "Password": password.expose() });
        let request = self.http.post(self.at(SESSIONS)?).json(&body);
        let response = meaning(request.send().await.map_err(no_answer)?).await?;
        let said = response.headers().get(TOKEN).and_then(|t| t.to_str().ok());
        let found = said.and_then(|t| Secret::new(t.to_owned()).header()).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "the controller opened a session and named no token")
        })?;
        *token = Some(found.clone());
        Ok(found)
    }
}

/// Nobody answered, or somebody who is not trusted.
fn no_answer(error: reqwest::Error) -> Error {
    let (kind, message) = match is_stranger(&error) {
        true => (ErrorKind::Denied, "the controller's certificate is not the one that is trusted"),
        false => (ErrorKind::Unavailable, "the controller does not answer"),
    };
    Error::new(kind, message).with("because", because(&error))
}

/// What a status means to a caller.
async fn meaning(response: Response) -> Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let (kind, message) = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            (ErrorKind::Denied, "the controller does not let this user in, or not do this")
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            (ErrorKind::Unavailable, "the controller is busy")
        }
        _ if status.is_server_error() => (ErrorKind::Unavailable, "the controller has trouble"),
        _ if status.is_redirection() => {
            (ErrorKind::Refused, "the controller leads elsewhere, which is not followed")
        }
        _ => (ErrorKind::Refused, "the controller refuses"),
    };
    let said = body(response).await.ok().and_then(|b| serde_json::from_slice::<Value>(&b).ok());
    let said = said.as_ref().and_then(|v| v["error"]["message"].as_str()).unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    Err(Error::new(kind, message).with("status", status.as_u16()).with("said", said))
}

async fn document(response: Response) -> Result<Value> {
    let bytes = body(response).await?;
    let read = serde_json::from_slice(&bytes);
    read.ok().filter(Value::is_object).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "the controller's answer makes no sense: it is no document")
    })
}

async fn body(response: Response) -> Result<Vec<u8>> {
    let all = whole(response, MOST).await.map_err(no_answer)?;
    all.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the controller's answer has no end"))
}

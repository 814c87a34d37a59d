//! Calls within a session: when one is opened anew, and what is tried again.
//!
//! | what happened | a read | a change |
//! |---|---|---|
//! | no session | a new one, then once more | the same: a call without a session did nothing |
//! | nobody is there | again, with pauses, a few times | an error |
//! | `SERVICE_UNAVAILABLE` | again, with pauses, a few times | an error: it was refused |
//! | HTTP 503 of something else | again, with pauses, a few times | *unknown whether it was done* |
//! | the connection broke | again, with pauses, a few times | *unknown whether it was done* |
//! | no answer in time, or one that makes no sense | an error | *unknown whether it was done* |

use crate::http::{Http, Message, Who};
use crate::shape::{Dialect, Request, value};
use crate::{Error, Refusal, Settings};
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::de::DeserializeOwned;
use site_recovery::Clock;
use site_recovery_https::{Password, Secret};
use std::fmt;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The most identifiers of one request, whatever the limits say: some stand in an address.
const MOST: u32 = 500;

/// A connection to one vCenter, with its session. Cheap to clone; all clones are in the one session.
///
/// Every call may be dropped: a read is then of no consequence, a change may have been made.
#[derive(Clone)]
pub struct VCenter(Arc<Inner>);

struct Inner {
    http: Http,
    clock: Arc<dyn Clock>,
    user: String,
    password: Password,
    dialect: Dialect,
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    token: Option<HeaderValue>,
    /// How many were opened.
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Read,
    Change,
}

impl VCenter {
    /// Connects and logs in: below `/api`, or below `/rest` where there is no `/api`.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for settings; [`Stranger`](crate::Lost::Stranger), before anything was sent;
    /// [`Refused`](Error::Refused) with [`Unauthenticated`](Refusal::Unauthenticated) for a wrong user or password;
    /// [`NoApi`](Error::NoApi); those of the connection.
    pub async fn connect(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let mut inner = Inner {
            http: Http::new(settings)?,
            clock,
            user: settings.user.clone(),
            password: Password::of(&settings.password)?,
            dialect: Dialect::Api,
            session: Mutex::default(),
        };
        let token = match inner.log_in().await {
            Err(error) if is_elsewhere(&error) => {
                inner.dialect = Dialect::Rest;
                inner.log_in().await.map_err(|error| match is_elsewhere(&error) {
                    true => Error::NoApi { server: inner.http.https.server().to_owned() },
                    false => error,
                })?
            }
            other => other?,
        };
        tracing::debug!(server = inner.http.https.server(), dialect = ?inner.dialect, "connected");
        *inner.session.get_mut() = Session { token: Some(token), number: 1 };
        Ok(Self(Arc::new(inner)))
    }

    /// Which form of the API the server speaks.
    pub fn dialect(&self) -> Dialect {
        self.0.dialect
    }

    /// Ends the session, of all clones; a later call opens another. One that is not ended ends by itself, and a server has few.
    ///
    /// # Errors
    /// Those of any call; the session is forgotten at any rate.
    pub async fn log_out(&self) -> Result<(), Error> {
        let Some(token) = self.0.session.lock().await.token.take() else { return Ok(()) };
        let message = self.0.message(self.0.session_call("log out", Method::DELETE))?;
        match self.0.exchange(&message, || Who::Session(&token), Effect::Read, |_| Ok(())).await {
            Err(e) if e.is_logged_out() => Ok(()),
            other => other,
        }
    }

    /// How many identifiers are in one request.
    pub(crate) fn batch(&self) -> usize {
        self.0.http.https.limits().page.min(MOST) as usize
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, Error> {
        let (call, dialect) = (request.call, self.0.dialect);
        self.call(request, Effect::Read, |body| value(dialect, call, body)).await
    }

    pub(crate) async fn list<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<Vec<T>, Error> {
        self.read::<Option<Vec<T>>>(request).await.map(Option::unwrap_or_default)
    }

    /// A change that answers with something.
    pub(crate) async fn make<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T, Error> {
        let (call, dialect) = (request.call, self.0.dialect);
        self.call(request, Effect::Change, |body| value(dialect, call, body)).await
    }

    pub(crate) async fn change(&self, request: Request<'_>) -> Result<(), Error> {
        self.call(request, Effect::Change, |_| Ok(())).await
    }

    async fn call<T>(
        &self,
        request: Request<'_>,
        effect: Effect,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let message = self.0.message(request)?;
        let mut once_more = true;
        loop {
            let (token, number) = self.0.session().await?;
            match self.0.exchange(&message, || Who::Session(&token), effect, &read).await {
                Err(error) if error.is_logged_out() => {
                    self.0.forget(number).await;
                    if !once_more {
                        return Err(error);
                    }
                    once_more = false;
                }
                other => return other,
            }
        }
    }
}

impl Inner {
    fn session_call(&self, call: &'static str, method: Method) -> Request<'static> {
        let path = if self.dialect == Dialect::Api { "session" } else { "cis/session" };
        Request::new(call, method, path)
    }

    fn message(&self, request: Request<'_>) -> Result<Message, Error> {
        let call = request.call;
        let (method, url, body) = request.shaped(self.dialect, self.http.https.base())?;
        Ok(Message { call, method, url, body: body.map(|body| body.to_string().into_bytes()) })
    }

    /// The session that stands, or a new one. The lock is held meanwhile, so that of many calls that find none one logs in.
    async fn session(&self) -> Result<(HeaderValue, u64), Error> {
        let mut session = self.session.lock().await;
        if let Some(token) = &session.token {
            return Ok((token.clone(), session.number));
        }
        let token = self.log_in().await?;
        (session.number, session.token) = (session.number + 1, Some(token.clone()));
        Ok((token, session.number))
    }

    /// The server says that this session is none any more.
    async fn forget(&self, number: u64) {
        let mut session = self.session.lock().await;
        if session.number == number {
            session.token = None;
        }
    }

    async fn log_in(&self) -> Result<HeaderValue, Error> {
        let password = self.password.read()?;
        let message = self.message(self.session_call("log in", Method::POST))?;
        let read = |body: &[u8]| {
            let text = Secret::new(value::<String>(self.dialect, message.call, body)?);
            text.header().ok_or_else(|| Error::garbage(message.call, "its token is none"))
        };
        let answer =
            self.exchange(&message, || Who::Password(&self.user, &password), Effect::Read, read).await;
        answer.map_err(|error| match error {
            // Nor is a word of the server's own shown.
            Error::Refused { call, refusal: Refusal::Other(_), words } => {
                Error::Refused { call, refusal: Refusal::Error, words }
            }
            Error::Status { call, status: 401, .. } => {
                Error::Refused { call, refusal: Refusal::Unauthenticated, words: vec![] }
            }
            other => other,
        })
    }

    async fn exchange<'a, T>(
        &self,
        message: &Message,
        who: impl Fn() -> Who<'a>,
        effect: Effect,
        read: impl Fn(&[u8]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut tried, limits) = (0, self.http.https.limits());
        loop {
            let answer = self.http.exchange(message, who()).await.and_then(|body| read(&body));
            tried += 1;
            match answer {
                Err(error) if effect == Effect::Change && is_open(&error) => {
                    return Err(Error::Unknown { call: message.call, cause: Box::new(error) });
                }
                Err(error) if effect == Effect::Read && passes(&error) && tried < limits.tries => {
                    tracing::debug!(call = message.call, %error, tried, "once more");
                    self.clock.sleep(limits.pause(tried)).await;
                }
                other => return other,
            }
        }
    }
}

/// Whether a read may come through a little later.
fn passes(error: &Error) -> bool {
    match error {
        Error::Lost(lost) => lost.may_pass(),
        Error::Status { status, .. } => *status == 503,
        Error::Refused { refusal, .. } => *refusal == Refusal::ServiceUnavailable,
        _ => false,
    }
}

/// Whether a change may have been made.
fn is_open(error: &Error) -> bool {
    match error {
        Error::Lost(lost) => lost.may_have_come(),
        Error::Garbage { .. } => true,
        Error::Status { status, .. } => !(400..500).contains(status),
        Error::Refused { refusal, .. } => *refusal == Refusal::TimedOut,
        _ => false,
    }
}

/// Whether a server does not know the address of a login: not what the API says of one.
fn is_elsewhere(error: &Error) -> bool {
    matches!(error, Error::Status { status: 400 | 404 | 405 | 501, .. })
        || matches!(error.refusal(), Some(Refusal::NotFound | Refusal::OperationNotFound))
}

// By hand: neither password nor token belong in a log.
impl fmt::Debug for VCenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { http, user, dialect, .. } = &*self.0;
        f.debug_struct("VCenter")
            .field("server", &http.https.server())
            .field("user", user)
            .field("dialect", dialect)
            .finish_non_exhaustive()
    }
}

//! Calls within a session: when one is opened anew, and what is tried again.
//!
//! | what happened | a read | a change |
//! |---|---|---|
//! | no session, as a fault or in `missingSet` | a new one, then once more | the same: a call without a session did nothing |
//! | nobody is there | again, with pauses, a few times | an error |
//! | HTTP 503 | again, with pauses, a few times | *unknown whether it was done* |
//! | the connection broke | again, with pauses, a few times | *unknown whether it was done* |
//! | no answer in time, or one that makes no sense | an error | *unknown whether it was done* |

use crate::fault::{Fault, words};
use crate::http::{Answer, Http};
use crate::xml::{Xml, child, children, list, moment, parse, text};
use crate::{About, Error, Limits, Moref, Product, ServiceContent, Settings};
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderValue;
use roxmltree::Node;
use site_recovery::{Clock, Timestamp};
use site_recovery_https::{Password, Secret};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// What calls are made with before the server has said its own version.
const OLDEST: &str = "6.5";

/// A connection to one server, with its session. Cheap to clone; all clones are in the one session.
///
/// Every call may be dropped: a read is then of no consequence, a change may have been made.
#[derive(Clone)]
pub struct Vim(Arc<Inner>);

struct Inner {
    wire: Wire,
    user: String,
    password: Password,
    content: ServiceContent,
    session: Mutex<Session>,
}

#[derive(Default)]
struct Session {
    open: Option<Open>,
    /// How many were opened.
    number: u64,
}

#[derive(Clone)]
struct Open {
    cookie: HeaderValue,
    key: String,
    number: u64,
}

/// What calls are made with, to a server of this version.
fn action(version: &str) -> String {
    let is_version = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    format!("urn:vim25/{}", if is_version { version } else { OLDEST })
}

/// How a call is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    /// A read of what ends with the session: whoever made it has to make it anew.
    Bound,
    Change,
}

pub(crate) struct Call<'a> {
    pub(crate) method: &'static str,
    pub(crate) this: &'a Moref,
    pub(crate) arguments: Xml,
    pub(crate) effect: Effect,
    /// What the server is told to wait before it answers.
    pub(crate) longer: Duration,
}

impl<'a> Call<'a> {
    pub(crate) fn read(method: &'static str, this: &'a Moref, arguments: Xml) -> Self {
        Self { method, this, arguments, effect: Effect::Read, longer: Duration::ZERO }
    }

    pub(crate) fn bound(method: &'static str, this: &'a Moref, arguments: Xml) -> Self {
        Self { effect: Effect::Bound, ..Self::read(method, this, arguments) }
    }

    pub(crate) fn change(method: &'static str, this: &'a Moref, arguments: Xml) -> Self {
        Self { effect: Effect::Change, ..Self::read(method, this, arguments) }
    }

    fn body(&self) -> Result<Bytes, Error> {
        let rule = "XML can hold it: no control characters";
        self.arguments.envelope(self.method, self.this).map(Bytes::from_owner).ok_or_else(|| {
            Error::invalid("argument", format!("one of {}", self.method), rule, "choose another name")
        })
    }
}

impl Vim {
    /// Connects, looks who is there, and logs in.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for settings; [`Stranger`](crate::Lost::Stranger), before anything was sent;
    /// [`Refused`](Error::Refused) with [`InvalidLogin`](Fault::InvalidLogin); those of the connection.
    pub async fn connect(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let password = Password::of(&settings.password)?;
        let mut wire = Wire { http: Http::new(settings)?, action: action(OLDEST), clock };
        let service = Moref::new("ServiceInstance", "ServiceInstance");
        let call = Call::read("RetrieveServiceContent", &service, Xml::new());
        let content = wire.exchange(&call, &call.body()?, None, |n| ServiceContent::of(returned(n)?)).await?;
        wire.action = action(&content.about.api_version);
        let vim = Self::over(wire, settings, password, content);
        vim.open().await?;
        Ok(vim)
    }

    /// A connection to a server that does not answer now, and that was `content` when it did. Asks it nothing: the first call
    /// opens the session.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for settings.
    pub fn known(settings: &Settings, clock: Arc<dyn Clock>, content: ServiceContent) -> Result<Self, Error> {
        let password = Password::of(&settings.password)?;
        let action = action(&content.about.api_version);
        let wire = Wire { http: Http::new(settings)?, action, clock };
        Ok(Self::over(wire, settings, password, content))
    }

    fn over(wire: Wire, settings: &Settings, password: Password, content: ServiceContent) -> Self {
        let (user, session) = (settings.user.clone(), Mutex::default());
        Self(Arc::new(Inner { wire, user, password, content, session }))
    }

    /// Which server this is.
    pub fn about(&self) -> &About {
        &self.0.content.about
    }

    /// Whether it is vCenter, which has clusters, DRS, storage pods and distributed switches.
    pub fn is_vcenter(&self) -> bool {
        self.about().product == Product::VCenter
    }

    /// The server's singletons.
    pub fn content(&self) -> &ServiceContent {
        &self.0.content
    }

    /// What time it is there. Privilege: none.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn time(&self) -> Result<Timestamp, Error> {
        let service = Moref::new("ServiceInstance", "ServiceInstance");
        let call = Call::read("CurrentTime", &service, Xml::new());
        let read = |node: Node<'_, '_>| {
            let found = text(node, "returnval").and_then(moment);
            found.ok_or_else(|| Error::garbage("its time is no time"))
        };
        self.call(call, read).await
    }

    /// How far the server's clock is ahead of ours, in milliseconds; negative where it is behind. Exact to the time that the
    /// call takes.
    ///
    /// # Errors
    /// As [`Vim::time`].
    pub async fn skew(&self) -> Result<i64, Error> {
        let before = self.clock().now().0;
        let there = self.time().await?.0;
        let now = before.midpoint(self.clock().now().0);
        Ok(i64::try_from(i128::from(there) - i128::from(now)).unwrap_or(i64::MAX))
    }

    /// Ends the session, of all clones. One that is not ended ends by itself, after half an hour by default; a server has few.
    ///
    /// # Errors
    /// Those of any call; the session is forgotten at any rate.
    pub async fn log_out(&self) -> Result<(), Error> {
        let Some(open) = self.0.session.lock().await.open.take() else { return Ok(()) };
        let call = Call::bound("Logout", &self.0.content.session_manager, Xml::new());
        match self.0.wire.exchange(&call, &call.body()?, Some(&open.cookie), |_| Ok(())).await {
            Err(e) if e.is_logged_out() => Ok(()),
            other => other,
        }
    }

    /// User, and password as it stands now.
    pub(crate) fn who(&self) -> Result<(&str, Secret), Error> {
        Ok((&self.0.user, self.0.password.read()?))
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.wire.clock
    }

    pub(crate) fn http(&self) -> &Http {
        &self.0.wire.http
    }

    pub(crate) fn limits(&self) -> Limits {
        self.0.wire.http.limits()
    }

    /// The cookie of the session that stands, or of a new one, and the session's number.
    pub(crate) async fn cookie(&self) -> Result<(HeaderValue, u64), Error> {
        self.open().await.map(|open| (open.cookie, open.number))
    }

    /// The key of the session that stands, or of a new one.
    pub(crate) async fn session_key(&self) -> Result<String, Error> {
        self.open().await.map(|open| open.key)
    }

    /// How many sessions were opened.
    async fn session_number(&self) -> u64 {
        self.0.session.lock().await.number
    }

    /// The server says that this session is none any more.
    pub(crate) async fn forget(&self, number: u64) {
        let mut session = self.0.session.lock().await;
        if session.open.as_ref().is_some_and(|open| open.number == number) {
            session.open = None;
        }
    }

    /// The lock is held meanwhile, so that of many calls that find no session one logs in.
    async fn open(&self) -> Result<Open, Error> {
        let mut session = self.0.session.lock().await;
        if let Some(open) = &session.open {
            return Ok(open.clone());
        }
        let number = session.number + 1;
        let open = self.log_in(number).await?;
        (session.number, session.open) = (number, Some(open.clone()));
        Ok(open)
    }

    async fn log_in(&self, number: u64) -> Result<Open, Error> {
        let password = self.0.password.read()?;
        let mut arguments = Xml::new();
        arguments.text("userName", &self.0.user).text("password", password.expose());
        let call = Call::read("Login", &self.0.content.session_manager, arguments);
        let key = |node: Node<'_, '_>| Ok(text(node, "returnval.key").unwrap_or_default().to_owned());
        let answer = self.0.wire.exchange_whole(&call, &call.body()?, None, key).await;
        let (key, cookie) = answer.map_err(|error| match error {
            // What a server says of a login may repeat it.
            Error::Refused { method, fault, .. } => Error::Refused { method, fault, words: String::new() },
            other => other,
        })?;
        let cookie = cookie.ok_or_else(|| Error::garbage("it opens a session without a cookie"))?;
        tracing::debug!(user = %self.0.user, "logged in");
        Ok(Open { cookie, key, number })
    }

    /// Makes a call in the session, and reads its answer, an element with `returnval` in it.
    pub(crate) async fn call<T>(
        &self,
        call: Call<'_>,
        mut read: impl FnMut(Node<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let body = call.body()?;
        let mut once_more = call.effect != Effect::Bound;
        loop {
            let (cookie, number) = self.cookie().await?;
            match self.0.wire.exchange(&call, &body, Some(&cookie), &mut read).await {
                Err(error) if error.is_logged_out() => {
                    self.forget(number).await;
                    if !once_more {
                        return Err(error);
                    }
                    once_more = false;
                }
                other => return other,
            }
        }
    }

    /// Does what begins and ends in one session, as views, pages and collectors do: once more from its beginning where that one
    /// ended meanwhile, whoever opened the next, and whatever the server says of what went with it.
    pub(crate) async fn in_one_session<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let (_, session) = self.cookie().await?;
        match work().await {
            Err(error) if error.is_logged_out() || self.session_number().await != session => work().await,
            other => other,
        }
    }

    /// Makes a call that gives an object.
    pub(crate) async fn call_for_object(&self, call: Call<'_>) -> Result<Moref, Error> {
        let read = |node: Node<'_, '_>| {
            Moref::of(returned(node)?).ok_or_else(|| Error::garbage("it names no object"))
        };
        self.call(call, read).await
    }
}

/// Without a session.
struct Wire {
    http: Http,
    action: String,
    clock: Arc<dyn Clock>,
}

impl Wire {
    async fn exchange<T>(
        &self,
        call: &Call<'_>,
        body: &Bytes,
        cookie: Option<&HeaderValue>,
        read: impl FnMut(Node<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.exchange_whole(call, body, cookie, read).await.map(|(found, _)| found)
    }

    /// With the cookie that the answer set.
    async fn exchange_whole<T>(
        &self,
        call: &Call<'_>,
        body: &Bytes,
        cookie: Option<&HeaderValue>,
        mut read: impl FnMut(Node<'_, '_>) -> Result<T, Error>,
    ) -> Result<(T, Option<HeaderValue>), Error> {
        let (mut tried, limits) = (0, self.http.limits());
        loop {
            let answer = self.http.post(body.clone(), &self.action, cookie, call.longer).await;
            let answer = answer.and_then(|a| Ok((self.interpret(call.method, &a, &mut read)?, a.cookie)));
            tried += 1;
            match answer {
                Err(error) if call.effect == Effect::Change && is_open(&error) => {
                    return Err(Error::Unknown { method: call.method, cause: Box::new(error) });
                }
                Err(error) if call.effect != Effect::Change && passes(&error) && tried < limits.tries => {
                    tracing::debug!(method = call.method, %error, tried, "once more");
                    self.clock.sleep(limits.pause(tried)).await;
                }
                other => return other,
            }
        }
    }

    fn interpret<T>(
        &self,
        method: &'static str,
        answer: &Answer,
        read: impl FnOnce(Node<'_, '_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let parsed = parse(&answer.text);
        // A page for people, of whatever stands before the server.
        let document = match parsed {
            Err(_) if answer.status != StatusCode::OK => return Err(self.http.status(answer.status)),
            other => other?,
        };
        let body = child(document.root_element(), "Body");
        let Some(inner) = body.and_then(|body| children(body).next()) else {
            return Err(Error::garbage("it is no SOAP"));
        };
        let name = inner.tag_name().name();
        if name == "Fault" {
            return Err(refused(method, inner));
        }
        match name.strip_suffix("Response") {
            Some(of) if of == method && answer.status == StatusCode::OK => read(inner),
            _ => Err(Error::garbage(format!("it does not answer {method}"))),
        }
    }
}

/// A SOAP fault, by the type of its detail.
fn refused(method: &'static str, node: Node<'_, '_>) -> Error {
    let detail = child(node, "detail").and_then(|detail| children(detail).next());
    let fault = detail.map_or_else(|| Fault::Other(String::new()), Fault::of);
    let words = words(text(node, "faultstring").unwrap_or_default());
    Error::Refused { method, fault, words }
}

/// The one value of an answer.
pub(crate) fn returned<'a, 'i>(node: Node<'a, 'i>) -> Result<Node<'a, 'i>, Error> {
    child(node, "returnval").ok_or_else(|| Error::garbage("it says nothing"))
}

/// All values of an answer.
pub(crate) fn all_returned<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    list(node, "returnval")
}

/// Whether a read may come through a little later.
fn passes(error: &Error) -> bool {
    match error {
        Error::Lost(lost) => lost.may_pass(),
        Error::Status { status, .. } => *status == 503,
        _ => false,
    }
}

/// Whether a change may have been made.
fn is_open(error: &Error) -> bool {
    match error {
        Error::Lost(lost) => lost.may_have_come(),
        Error::Garbage { .. } => true,
        Error::Status { status, .. } => !(400..500).contains(status),
        _ => false,
    }
}

// By hand: neither password nor cookie belong in a log.
impl fmt::Debug for Vim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Vim")
            .field("about", &inner.content.about)
            .field("user", &inner.user)
            .finish_non_exhaustive()
    }
}

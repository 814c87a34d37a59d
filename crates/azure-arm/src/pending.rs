//! What was accepted and is not at its end yet.

use crate::said::scrubbed;
use crate::watch::Watch;
use crate::wire::{Reply, Wire};
use crate::{Arm, Error};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use site_recovery_https::{Secret, Unusable};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// What ends an operation, as it is read from Azure's answer. Closed: the models of this crate, `()` and [`Secret`].
pub trait Outcome: Sized + sealed::Read {}

pub(crate) mod sealed {
    use serde_json::Value;

    pub trait Read: Sized {
        /// From the resource, or from what an operation put out; with what is missing.
        fn read(value: &Value) -> Result<Self, String>;
    }
}

impl Outcome for () {}
impl sealed::Read for () {
    fn read(_: &Value) -> Result<Self, String> {
        Ok(())
    }
}

impl Outcome for Secret {}
impl sealed::Read for Secret {
    fn read(value: &Value) -> Result<Self, String> {
        let sas = value["accessSAS"].as_str().filter(|sas| !sas.is_empty());
        sas.map(|sas| Self::new(sas.to_owned())).ok_or_else(|| "it has no accessSAS".into())
    }
}

/// What Azure has accepted and may still be doing. Dropping it undoes nothing: Azure goes on.
///
/// Whoever may crash keeps [`at`](Self::at) before [`done`](Self::done), and goes on with [`Arm::resume`].
#[must_use = "Azure has accepted it, and is not at its end"]
pub struct Pending<T> {
    wire: Arc<Wire>,
    at: At,
    over: Option<Value>,
    wait: Option<Duration>,
    what: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is over may hold the address of a disk with its signature.
        f.debug_struct("Pending")
            .field("at", &self.at)
            .field("over", &self.over.is_some())
            .finish_non_exhaustive()
    }
}

/// Where an operation is asked after: a hint to keep until its end is known. Azure's addresses of operations may hold a
/// signature that lets whoever has it look at this one operation: `Debug` does not show it, what is serialised has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    call: String,
    ends: Ends,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
}

/// What is looked at when the operation is over, or where Azure names none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Ends {
    /// The resource is there as it was asked for.
    As(String),
    /// The resource is gone.
    Gone(String),
    /// Nothing but what the operation puts out.
    Output,
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |url: &Option<String>| {
            url.as_ref().map(|url| scrubbed(url.split('?').next().unwrap_or_default()))
        };
        let mut shown = f.debug_struct("At");
        shown.field("call", &self.call).field("operation", &path(&self.operation));
        shown.field("location", &path(&self.location)).finish()
    }
}

/// What ends a call, for [`Pending::of`].
pub(crate) enum End {
    As(Url),
    Gone(Url),
    Output,
}

impl<T: Outcome> Pending<T> {
    /// What Azure answered a call with.
    pub(crate) fn of(wire: &Arc<Wire>, call: String, reply: &Reply, end: End) -> Result<Self, Error> {
        let link = |name| reply.header(name).map(str::to_owned);
        let ends = match end {
            End::As(url) => Ends::As(url.into()),
            End::Gone(url) => Ends::Gone(url.into()),
            End::Output => Ends::Output,
        };
        let at = At { call, ends, operation: link("azure-asyncoperation"), location: link("location") };
        let value = reply.json(&at.call)?;
        let named = at.operation.is_some() || (at.location.is_some() && reply.status == 202);
        let over = match (reply.status, named) {
            (202, _) | (_, true) => None,
            // Of a resource that is still being made the answer says so, whatever its status.
            _ => Watch::new(wire, &at.call).is_there(&value, reply)?.then_some(value),
        };
        // Made at once, and with nothing in the answer: it is looked at.
        let over = over.filter(|value| !matches!(at.ends, Ends::As(_)) || !value.is_null());
        if over.is_none() && !named && matches!(at.ends, Ends::Output) {
            let because = "it was accepted, and nothing tells where to ask after it".into();
            return Err(Error::Lost { call: at.call, may_have_been_done: true, because });
        }
        Ok(Self { wire: wire.clone(), at, over, wait: reply.after(), what: PhantomData })
    }

    /// Already over: nothing was to be done.
    pub(crate) fn over(wire: &Arc<Wire>, call: String) -> Self {
        let at = At { call, ends: Ends::Output, operation: None, location: None };
        Self { wire: wire.clone(), at, over: Some(Value::Null), wait: None, what: PhantomData }
    }

    /// Where to ask after it; nothing where it is over already.
    pub fn at(&self) -> Option<&At> {
        self.over.is_none().then_some(&self.at)
    }

    /// Waits for its end, at most [`Limits::longest_ms`](crate::Limits::longest_ms).
    ///
    /// # Errors
    /// [`Failed`](Error::Failed) where Azure says that it failed or was given up; [`TooLong`](Error::TooLong);
    /// [`Lost`](Error::Lost) where Azure does not know the operation any more and nothing else tells its end. While it is asked
    /// after, too many calls, a server in trouble and answers that do not come are waited out.
    ///
    /// # Cancel safety
    /// Azure goes on; [`Arm::resume`] takes it up.
    pub async fn done(self) -> Result<T, Error> {
        let Self { wire, at, over, wait, .. } = self;
        let value = match over {
            Some(value) => value,
            None => end(&wire, &at, wait).await?,
        };
        T::read(&value).map_err(|what| Error::unreadable(at.call, what))
    }
}

async fn end(wire: &Arc<Wire>, at: &At, wait: Option<Duration>) -> Result<Value, Error> {
    let url = |text: &str| {
        let url = Url::parse(text).ok().filter(|url| wire.trusts(url));
        url.ok_or_else(|| Error::unreadable(&at.call, "the address of its operation is on another server"))
    };
    let mut watch = Watch::new(wire, &at.call).waiting(wait);
    let output = if let Some(operation) = &at.operation {
        watch.operation(url(operation)?).await?
    } else if let Some(location) = &at.location {
        watch.location(url(location)?).await?
    } else {
        None
    };
    let named = at.operation.is_some() || at.location.is_some();
    match (&at.ends, output, &at.location) {
        (Ends::As(resource), _, _) => watch.resource(url(resource)?, named).await,
        (Ends::Gone(resource), None, _) => watch.gone(url(resource)?).await,
        (Ends::Gone(_), Some(_), _) => Ok(Value::Null),
        // What the operation tells is that it succeeded; what it put out stands at the other address.
        (Ends::Output, Some(Value::Null), Some(location)) if at.operation.is_some() => {
            Ok(watch.location(url(location)?).await?.unwrap_or_default())
        }
        (Ends::Output, Some(output), _) => Ok(output),
        (Ends::Output, None, _) => {
            let because = "the operation is not known any more".into();
            Err(Error::Lost { call: at.call.clone(), may_have_been_done: true, because })
        }
    }
}

impl Arm {
    /// Goes on with an operation that was begun before, by this program or an earlier run of it. Asks nothing yet. What ends it
    /// is what its [`Pending`] said.
    ///
    /// # Errors
    /// For a hint that leads to another server.
    pub fn resume<T: Outcome>(&self, at: &At) -> Result<Pending<T>, Error> {
        let resource = match &at.ends {
            Ends::As(url) | Ends::Gone(url) => Some(url),
            Ends::Output => None,
        };
        for url in [at.operation.as_ref(), at.location.as_ref(), resource].into_iter().flatten() {
            if !Url::parse(url).is_ok_and(|url| self.wire().trusts(&url)) {
                let rule = "an operation is asked after where it was begun";
                let remedy = "go on with the settings that it was begun with";
                return Err(Unusable::new("at", "on another server", rule, remedy).into());
            }
        }
        let wait = Some(Duration::ZERO);
        Ok(Pending { wire: self.wire().clone(), at: at.clone(), over: None, wait, what: PhantomData })
    }
}

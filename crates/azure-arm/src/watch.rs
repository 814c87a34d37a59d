//! Asks after what was begun, until its end is known.

use crate::Error;
use crate::said::Said;
use crate::wire::{Reply, Wire};
use bytes::Bytes;
use reqwest::{Method, Url};
use serde_json::Value;
use site_recovery::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// However often Azure wants to be asked: no closer one after another.
const LEAST: Duration = Duration::from_millis(20);

/// One look at an operation.
enum Look {
    /// An answer that is a success.
    Is(Reply),
    /// It is not there.
    Absent,
    /// Nothing is known; ask again.
    Again,
}

/// A wait for one end. Its time is bounded, and runs on over all that is looked at.
pub(crate) struct Watch<'a> {
    wire: &'a Arc<Wire>,
    call: &'a str,
    began: Timestamp,
    wait: Duration,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(wire: &'a Arc<Wire>, call: &'a str) -> Self {
        Self { wire, call, began: wire.clock.now(), wait: Duration::ZERO }
    }

    /// Waits so long before it first looks: as long as Azure said, else as the limits say.
    pub(crate) fn waiting(mut self, wait: Option<Duration>) -> Self {
        self.wait = wait.unwrap_or(self.wire.limits.poll());
        self
    }

    /// What `Azure-AsyncOperation` names: what the operation put out, or null, when it succeeded; nothing where Azure does not
    /// know it any more.
    pub(crate) async fn operation(&mut self, url: Url) -> Result<Option<Value>, Error> {
        let mut absent = 0;
        loop {
            self.pause().await?;
            let reply = match self.look(&url).await? {
                Look::Is(reply) => reply,
                Look::Again => continue,
                Look::Absent if self.is_new(&mut absent) => continue,
                Look::Absent => return Ok(None),
            };
            let mut value = reply.json(self.call)?;
            match value["status"].as_str() {
                Some("Succeeded") => {
                    self.wait = Duration::ZERO;
                    return Ok(Some(value["properties"]["output"].take()));
                }
                Some("Failed" | "Canceled" | "Cancelled") => return Err(self.failed(&value, &reply)),
                Some(_) => {}
                None if reply.status == 202 => {}
                None => return Err(Error::unreadable(self.call, "its operation has no status")),
            }
        }
    }

    /// What `Location` names: what is found there when the operation is over; nothing where Azure does not know it any more.
    pub(crate) async fn location(&mut self, mut url: Url) -> Result<Option<Value>, Error> {
        let mut absent = 0;
        loop {
            self.pause().await?;
            let reply = match self.look(&url).await? {
                Look::Is(reply) => reply,
                Look::Again => continue,
                Look::Absent if self.is_new(&mut absent) => continue,
                Look::Absent => return Ok(None),
            };
            if reply.status != 202 {
                self.wait = Duration::ZERO;
                let value = reply.json(self.call)?;
                return if failed(&value) { Err(self.failed(&value, &reply)) } else { Ok(Some(value)) };
            }
            if let Some(next) = reply.header("location") {
                url = Url::parse(next)
                    .map_err(|_| Error::unreadable(self.call, "its operation moves nowhere"))?;
            }
        }
    }

    /// The resource, when it is as it was asked for. One that is not there yet is waited for; not for long where its operation
    /// is over.
    pub(crate) async fn resource(&mut self, url: Url, over: bool) -> Result<Value, Error> {
        let mut absent = 0;
        loop {
            self.pause().await?;
            match self.look(&url).await? {
                Look::Is(reply) => {
                    let value = reply.json(self.call)?;
                    if self.is_there(&value, &reply)? {
                        return Ok(value);
                    }
                }
                Look::Absent if over && !self.is_new(&mut absent) => {
                    let message = "its operation is over, and it is not there".into();
                    return Err(Error::Absent {
                        call: self.call.to_owned(),
                        said: Box::new(Said { message, ..Said::default() }),
                    });
                }
                Look::Absent | Look::Again => {}
            }
        }
    }

    /// Null, when the resource is gone.
    pub(crate) async fn gone(&mut self, url: Url) -> Result<Value, Error> {
        loop {
            self.pause().await?;
            match self.look(&url).await? {
                Look::Absent => return Ok(Value::Null),
                // What state it is in says nothing: one that had failed before is deleted, too.
                Look::Is(_) | Look::Again => {}
            }
        }
    }

    /// Whether what an answer shows is at its end.
    pub(crate) fn is_there(&self, value: &Value, reply: &Reply) -> Result<bool, Error> {
        if failed(value) {
            return Err(self.failed(value, reply));
        }
        Ok(matches!(value["properties"]["provisioningState"].as_str(), None | Some("Succeeded")))
    }

    /// Whether what was not there may be so new that not all of Azure knows it.
    fn is_new(&self, absent: &mut u32) -> bool {
        *absent += 1;
        *absent < self.wire.limits.tries
    }

    /// Waits as long as Azure said last, where the time allows it.
    async fn pause(&mut self) -> Result<(), Error> {
        let (limits, clock) = (&self.wire.limits, &self.wire.clock);
        let (wait, longest) = (self.wait, limits.longest());
        if clock.now().since(self.began) + wait > longest {
            return Err(Error::TooLong { call: self.call.to_owned(), span: longest });
        }
        if !wait.is_zero() {
            clock.sleep(wait).await;
        }
        self.wait = limits.poll();
        Ok(())
    }

    async fn look(&mut self, url: &Url) -> Result<Look, Error> {
        match self.wire.exchange(Method::GET, url.clone(), Bytes::new()).await {
            Ok(reply) => {
                self.wait = reply.after().unwrap_or(self.wire.limits.poll()).max(LEAST);
                Ok(Look::Is(reply))
            }
            Err(Error::Absent { .. }) => Ok(Look::Absent),
            Err(error) if error.may_pass() || matches!(error, Error::Unsigned { .. }) => {
                if let Error::Throttled { after: Some(after), .. } = error {
                    self.wait = after.max(LEAST);
                }
                tracing::debug!(%error, wait = ?self.wait, "an operation is asked after again");
                Ok(Look::Again)
            }
            Err(error) => Err(error),
        }
    }

    fn failed(&self, value: &Value, reply: &Reply) -> Error {
        let id = |name| reply.header(name).map(str::to_owned);
        let ids = (id("x-ms-request-id"), id("x-ms-correlation-request-id"));
        let mut said = Said { request: ids.0, correlation: ids.1, ..Said::of(value) };
        if said.code.is_empty() {
            let state = value["status"].as_str().or(value["properties"]["provisioningState"].as_str());
            said.code = state.unwrap_or("Failed").to_owned();
        }
        Error::Failed { call: self.call.to_owned(), said: Box::new(said) }
    }
}

fn failed(value: &Value) -> bool {
    let state = value["properties"]["provisioningState"].as_str();
    matches!(state, Some("Failed" | "Canceled" | "Cancelled"))
}

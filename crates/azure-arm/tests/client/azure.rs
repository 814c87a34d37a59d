//! The scripted server as Resource Manager, a credential, and a clock that leaps.

use crate::server::Fake;
pub(crate) use crate::server::{Reply, Request};
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error as AzureError, ErrorKind as AzureErrorKind};
use serde_json::{Value, json};
use site_recovery::{Clock, Timestamp};
use site_recovery_azure_arm::{Arm, Limits, NewDisk, Origin, Settings, Tags};
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";
pub(crate) const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg";
pub(crate) const TOKEN: &str = "eyJ-canary-token";
pub(crate) const SAS: &str =
    "https://md-x.blob.core.windows.net/abc/abcd?sv=2018-03-28&sr=b&si=x&sig=canary%2Bsig%3D";

pub(crate) struct Azure {
    pub(crate) fake: Fake,
    pub(crate) arm: Arm,
    pub(crate) clock: Arc<Leap>,
    pub(crate) settings: Settings,
}

impl Azure {
    pub(crate) fn new(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with(|_| {}, script)
    }

    /// With other limits.
    pub(crate) fn with(
        change: impl Fn(&mut Limits),
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let fake = Fake::answering(script);
        let mut limits = Limits { answer_ms: 20_000, ..Limits::default() };
        change(&mut limits);
        let settings = Settings {
            resource_manager: fake.settings.url.parse().unwrap(),
            scope: "https://management.azure.com/.default".into(),
            subscription: SUBSCRIPTION.into(),
            trust: fake.settings.trust.clone(),
            limits,
        };
        let clock = Arc::new(Leap::default());
        let arm = Arm::with_clock(&settings, Arc::new(Token(Some(TOKEN))), clock.clone()).unwrap();
        Self { fake, arm, clock, settings }
    }

    /// The requests, in order, as `PUT disks/web`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.fake.requests().iter().map(Request::line).collect()
    }

    /// How many of these there were.
    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|seen| *seen == line).count()
    }
}

impl Request {
    /// `PUT disks/web`: without the group and the query.
    pub(crate) fn line(&self) -> String {
        let path = self.path.split('?').next().unwrap();
        let path = path.rsplit_once("/Microsoft.").map_or(path, |(_, rest)| rest.split_once('/').unwrap().1);
        format!("{} {path}", self.verb)
    }

    /// The address of an operation on this server, as Azure signs it.
    pub(crate) fn operation(&self, name: &str) -> String {
        let host = &self.headers["host"];
        format!(
            "https://{host}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/westeurope/{name}?p=1&api-version=2024-03-02&s=canary-of-operation"
        )
    }
}

pub(crate) fn say(status: u16, body: Value) -> Reply {
    saying(status, &[], body)
}

pub(crate) fn saying(status: u16, headers: &[(&'static str, &str)], body: Value) -> Reply {
    let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
    let mut all = vec![("content-type", "application/json".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Reply::Say(status, all, body)
}

/// Azure's error with its ids.
pub(crate) fn refused(status: u16, code: &str, message: &str) -> Reply {
    let ids = [("x-ms-request-id", "r-1"), ("x-ms-correlation-request-id", "c-1")];
    saying(status, &ids, json!({"error": {"code": code, "message": message}}))
}

pub(crate) fn absent() -> Reply {
    refused(404, "ResourceNotFound", "not found")
}

/// A disk in this state.
pub(crate) fn disk(state: &str) -> Value {
    json!({
        "id": format!("{GROUP}/providers/Microsoft.Compute/disks/web"), "name": "web", "location": "westeurope",
        "properties": {"provisioningState": state, "diskState": "Unattached", "diskSizeBytes": 1 << 30},
    })
}

pub(crate) fn new_disk() -> NewDisk {
    NewDisk {
        location: "westeurope".into(),
        zone: None,
        sku: "Premium_LRS".into(),
        tags: Tags::from([("sr-op".into(), "a".into())]),
        os_type: None,
        generation: None,
        from: Origin::Copy { source_id: format!("{GROUP}/providers/Microsoft.Compute/snapshots/s") },
    }
}

/// Gives this token, or none.
#[derive(Debug)]
pub(crate) struct Token(pub(crate) Option<&'static str>);

#[async_trait::async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        assert_eq!(scopes, ["https://management.azure.com/.default"]);
        let token =
            self.0.ok_or_else(|| AzureError::with_message(AzureErrorKind::Credential, "no such tenant"))?;
        let never = azure_core::time::parse_rfc3339("9999-01-01T00:00:00Z")?;
        Ok(AccessToken::new(token, never))
    }
}

/// Ends each pause at once, and moves on by it.
#[derive(Debug, Default)]
pub(crate) struct Leap(Mutex<Vec<Duration>>);

impl Leap {
    /// All pauses.
    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.0.lock().unwrap().clone()
    }
}

impl Clock for Leap {
    fn now(&self) -> Timestamp {
        Timestamp::default().after(self.pauses().iter().sum())
    }

    fn sleep(&self, span: Duration) -> futures_util::future::BoxFuture<'static, ()> {
        self.0.lock().unwrap().push(span);
        Box::pin(ready(()))
    }
}

//! A management controller that speaks Redfish: `ComputerSystem` of DMTF's DSP0266 and its schema.
//!
//! - *Off*: `Reset GracefulShutdown`, then `ForceOff`; what `PowerState` reads afterwards counts, not how a request ended.
//! - *Held*: the boot source is overridden, `Continuous`, to where the rescue system comes from (`Pxe`, `Cd`). Whoever undoes it
//!   changes what is read. `Once` holds nothing: the first start uses it up.
//! - *Tells*: `LastResetTime`, where the controller offers it. It is optional in the schema, and so are override and graceful
//!   shutdown: [`Redfish::look`] says what this one offers.
//!
//! The controller's certificate is checked by an authority or by its SHA-256; there is no way around it.

mod client;

use super::{Keeps, PowerControl, PowerState, SecretRef};
use async_trait::async_trait;
use client::{Client, Document};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use site_recovery::{Clock, Error, ErrorKind, Finding, Result, Severity, Stamp};
pub use site_recovery_https::Trust;
use std::sync::Arc;
use std::time::Duration;

const RESET: &str = "#ComputerSystem.Reset";
/// Between two looks at a server that is going down.
const BETWEEN: Duration = Duration::from_secs(1);

/// A controller and its system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Of the system: `https://bmc-web-1/redfish/v1/Systems/1`.
    pub url: String,
    /// Whom to take for the controller.
    pub trust: Trust,
    /// Who asks.
    pub user: String,
    /// Where the password stands.
    pub password: SecretRef,
    /// How it is shown.
    #[serde(default)]
    pub login: Login,
    /// The system's `UUID`. Where it is given, a controller that says another is not listened to.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Where the rescue system comes from, where a server is to be held by it.
    #[serde(default)]
    pub hold: Option<BootSource>,
    /// Whether `LastResetTime` counts starts. [`Redfish::look`] says whether the controller has it.
    #[serde(default)]
    pub tells: bool,
    /// How long one answer may take: 1 to 300, 10 where nothing is said.
    #[serde(default = "seconds")]
    pub seconds: u64,
}

fn seconds() -> u64 {
    10
}

/// How a user shows who he is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    /// With each request.
    #[default]
    Basic,
    /// Once, for a session. Controllers have few: it is kept, and opened anew when it ended.
    Session,
}

/// Where a server boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BootSource {
    /// The network.
    Pxe,
    /// The (virtual) CD drive.
    Cd,
    /// Its own disk: holds nothing, so no rescue system comes from it.
    Hdd,
}

impl BootSource {
    fn word(self) -> &'static str {
        match self {
            Self::Pxe => "Pxe",
            Self::Cd => "Cd",
            Self::Hdd => "Hdd",
        }
    }
}

/// A server's management controller.
#[derive(Debug)]
pub struct Redfish {
    client: Client,
    uuid: Option<String>,
    hold: Option<BootSource>,
    tells: bool,
    clock: Arc<dyn Clock>,
}

impl Redfish {
    /// The controller at an address. Asks nothing yet.
    ///
    /// # Errors
    /// `Invalid`, naming the field, also where the authorities or a password that can be read once cannot be read; `Unsupported`
    /// where no HTTPS can be spoken.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        if !(1..=300).contains(&settings.seconds) {
            return Err(Error::invalid("seconds", settings.seconds, "1 to 300", "choose a limit"));
        }
        if settings.hold == Some(BootSource::Hdd) {
            let rule = "a server that starts from its own disk is not held";
            return Err(Error::invalid(
                "hold",
                "hdd",
                rule,
                "name where the rescue system comes from: pxe or cd",
            ));
        }
        let client = Client::new(settings)?;
        let (uuid, hold, tells) = (settings.uuid.clone(), settings.hold, settings.tells);
        Ok(Self { client, uuid, hold, tells, clock })
    }

    /// What this controller does not offer of what is asked of it.
    ///
    /// # Errors
    /// As the methods of a power control.
    pub async fn look(&self) -> Result<Vec<Finding>> {
        let system = self.system().await?.value;
        let mut found = vec![];
        let mut lacks = |code: &str, severity, cause: &str, remedy: &str| {
            found.push(Finding::new(format!("power.{code}"), severity, cause, remedy));
        };
        if !offers(&system, "GracefulShutdown") {
            let cause = "the controller can shut nothing down in order: the power is cut at once";
            lacks("graceful", Severity::Warning, cause, "let the agent shut the server down");
        }
        for reset in ["ForceOff", "On"].iter().filter(|r| !offers(&system, r)) {
            let cause = format!("the controller does not offer {reset}");
            lacks("reset", Severity::Critical, &cause, "use another power control");
        }
        if self.tells && system["LastResetTime"].as_str().is_none() {
            let cause = "the controller has no LastResetTime: a start past us would tell nobody";
            lacks(
                "tells",
                Severity::Critical,
                cause,
                "hold the server instead, or renew the controller's firmware",
            );
        }
        let sources = &system["Boot"]["BootSourceOverrideTarget@Redfish.AllowableValues"];
        if let Some(hold) = self.hold
            && sources.as_array().is_some_and(|a| !a.iter().any(|v| v == hold.word()))
        {
            let cause = format!("the controller cannot boot the server from {}", hold.word());
            lacks("hold", Severity::Critical, &cause, "name another boot source");
        }
        Ok(found)
    }

    async fn system(&self) -> Result<Document> {
        let found = self.client.system().await?;
        if let Some(uuid) = &self.uuid {
            let said = found.value["UUID"].as_str().unwrap_or_default();
            if !said.eq_ignore_ascii_case(uuid) {
                let message = format!("the controller is of the system {said:?}, not of {uuid}");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
        Ok(found)
    }

    async fn reset(&self, system: &Value, how: &str) -> Result<()> {
        let Some(target) = system["Actions"][RESET]["target"].as_str() else {
            return Err(Error::new(ErrorKind::Corrupt, "the controller names no way to reset its system"));
        };
        if !offers(system, how) {
            return Err(Error::new(ErrorKind::Unsupported, format!("the controller does not offer {how}")));
        }
        self.client.post(target, json!({ "ResetType": how })).await
    }
}

/// Whether a reset is offered; a controller that lists none has to be tried.
fn offers(system: &Value, reset: &str) -> bool {
    let listed = system["Actions"][RESET]["ResetType@Redfish.AllowableValues"].as_array();
    listed.is_none_or(|all| all.iter().any(|v| v == reset))
}

fn power(system: &Value) -> PowerState {
    match system["PowerState"].as_str() {
        Some("On") => PowerState::On,
        Some("Off") => PowerState::Off,
        // `PoweringOn`, `PoweringOff`, `Paused`, and whatever else.
        _ => PowerState::Unknown,
    }
}

#[async_trait]
impl PowerControl for Redfish {
    async fn state(&self) -> Result<PowerState> {
        Ok(power(&self.system().await?.value))
    }

    async fn off(&self, grace: Duration) -> Result<bool> {
        let system = self.system().await?.value;
        if power(&system) == PowerState::Off {
            return Ok(true);
        }
        if grace.is_zero() || !offers(&system, "GracefulShutdown") {
            return Ok(false);
        }
        let limit = self.clock.now().after(grace);
        self.reset(&system, "GracefulShutdown").await?;
        loop {
            // One look that fails is not the end: controllers are busiest while a server goes down.
            if matches!(self.state().await, Ok(PowerState::Off)) {
                return Ok(true);
            }
            let left = limit.since(self.clock.now());
            if left.is_zero() {
                return Ok(false);
            }
            self.clock.sleep(left.min(BETWEEN)).await;
        }
    }

    async fn force_off(&self) -> Result<()> {
        let system = self.system().await?.value;
        self.reset(&system, "ForceOff").await
    }

    async fn on(&self) -> Result<()> {
        let system = self.system().await?.value;
        match power(&system) {
            PowerState::On => Ok(()),
            _ => self.reset(&system, "On").await,
        }
    }

    fn keeps(&self) -> Keeps {
        Keeps { holds: self.hold.is_some(), tells: self.tells }
    }

    async fn stamp(&self) -> Result<Option<Stamp>> {
        if !self.tells {
            return Ok(None);
        }
        let system = self.system().await?.value;
        Ok(system["LastResetTime"].as_str().map(|t| Stamp(t.as_bytes().to_vec())))
    }

    async fn hold(&self, hold: bool) -> Result<()> {
        let Some(source) = self.hold else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "no boot source is named that a server is held by",
            ));
        };
        let put = async |enabled: &str, from: &str| {
            let etag = self.system().await?.etag;
            let boot = json!({ "BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": from });
            self.client.change_system(json!({ "Boot": boot }), etag).await
        };
        if hold {
            return put("Continuous", source.word()).await;
        }
        if self.held().await? == Some(false) {
            return Ok(());
        }
        let ended = put("Disabled", "None").await;
        // Some take no `Disabled`, or ignore it.
        if ended.is_err() || self.held().await? != Some(false) {
            put("Continuous", BootSource::Hdd.word()).await?;
        }
        Ok(())
    }

    async fn held(&self) -> Result<Option<bool>> {
        let Some(source) = self.hold else { return Ok(None) };
        let system = self.system().await?.value;
        let boot = &system["Boot"];
        let (enabled, from) = (&boot["BootSourceOverrideEnabled"], &boot["BootSourceOverrideTarget"]);
        if !enabled.is_string() {
            return Ok(None);
        }
        Ok(Some(enabled == "Continuous" && from == source.word()))
    }
}

//! How a site is opened, and what it is told.

use crate::appliance::Appliance;
use crate::estate::Estate;
use crate::readiness;
use crate::{Inner, Site, Vddk};
use serde::{Deserialize, Serialize};
use site_recovery::{Capability, Clock, Error, ErrorKind, Result, RoleName, SystemClock};
use site_recovery_register::{Register, belongs_to, durable, open_state};
use site_recovery_vim::{ServiceContent, Settings, Vim};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the site waits for what the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patience {
    /// For a change of a machine's configuration, its start and its end: 5 minutes. So long waits a commit, too, for its branch to be
    /// merged: what takes longer is `Busy`, goes on at the server, and is asked for again.
    pub change: Duration,
    /// For a snapshot to be taken, quiescing included: 15 minutes.
    pub snapshot: Duration,
    /// For any other snapshot to be merged: 12 hours.
    pub merge: Duration,
    /// For a disk that was attached to the appliance to be seen there, and for a machine to be there whole: 30 s.
    pub device: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(60 * n);
        Self {
            change: minutes(5),
            snapshot: minutes(15),
            merge: minutes(12 * 60),
            device: Duration::from_secs(30),
        }
    }
}

/// Opens a [`Site`]. For the adapters of vCenter and of a host.
#[derive(Debug)]
pub struct Builder {
    name: RoleName,
    state: PathBuf,
    settings: Settings,
    estate: Arc<dyn Estate>,
    clock: Arc<dyn Clock>,
    appliance: Option<Appliance>,
    vddk: Option<Vddk>,
    scratch: Option<PathBuf>,
    patience: Patience,
}

impl Builder {
    /// A site of this name at a server. What the site keeps of its own stands in `state`: the epoch register, where each machine's
    /// disks were seen last, and what is under way: machines that are being made, notes of one that is being reverted, landings that
    /// were written to after they were armed. Put it where no failure of the server takes it along.
    pub fn new(
        name: RoleName,
        state: impl Into<PathBuf>,
        settings: Settings,
        estate: Arc<dyn Estate>,
    ) -> Self {
        let clock = Arc::new(SystemClock);
        Self {
            name,
            state: state.into(),
            settings,
            estate,
            clock,
            appliance: None,
            vddk: None,
            scratch: None,
            patience: Patience::default(),
        }
    }

    /// The clock; the system's where none is given.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The machine in which this process runs. Without one nothing can land here, and disks of running machines are read by
    /// other means.
    #[must_use]
    pub fn appliance(mut self, appliance: Appliance) -> Self {
        self.appliance = Some(appliance);
        self
    }

    /// Reads disks of running machines through VMware's VDDK, where there is no appliance.
    #[must_use]
    pub fn vddk(mut self, vddk: Vddk) -> Self {
        self.vddk = Some(vddk);
        self
    }

    /// Reads disks of running machines by NFC leases, where nothing else serves: each comes whole into a file without a name in
    /// this folder, which needs room for all of its data.
    #[must_use]
    pub fn leases(mut self, scratch: impl Into<PathBuf>) -> Self {
        self.scratch = Some(scratch.into());
        self
    }

    /// How long to wait for the server.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Connects, and opens the site. A server that answered at an earlier opening with this state directory, and does not answer
    /// now, is opened as it was then: its site may be lost, and what goes on without it has to. Calls that need it are `Unavailable`
    /// until it is back.
    ///
    /// # Errors
    /// Those of [`Vim::connect`] otherwise; `Unsupported` for a server of another kind, or one that may not be changed; `Conflict` when
    /// the state directory is another site's; `NotFound` for an appliance that is not there.
    pub async fn open(self) -> Result<Site> {
        let name = self.name.clone();
        self.opened().await.map(|inner| Site(Arc::new(inner))).map_err(|e| e.at(&name, "open"))
    }

    async fn opened(self) -> Result<Inner> {
        belongs_to(&self.state, &self.name)?;
        let seen = Seen::read(&self.state, &self.settings)?;
        let (vim, silent) = match Vim::connect(&self.settings, Arc::clone(&self.clock)).await {
            Ok(vim) => (vim, None),
            Err(error) => {
                let error = Error::from(error);
                let Some(seen) = seen.filter(|_| is_silence(&error)) else { return Err(error) };
                (Vim::known(&self.settings, Arc::clone(&self.clock), seen.content)?, Some(error))
            }
        };
        if let Some(other) = readiness::kind(vim.about(), &self.estate.product()) {
            return Err(Error::new(ErrorKind::Unsupported, format!("{}: {}", other.cause, other.remedy)));
        }
        if let Some(error) = &silent {
            tracing::warn!(site = %self.name, %error, "the server does not answer: opened as it was seen last");
        } else {
            self.estate.admit(&vim).await?;
            open_state(&self.state, &self.name)?;
            Seen::write(&self.state, &self.settings, &vim)?;
        }
        let lands = self.appliance.is_some();
        let inner = Inner {
            register: Register::at(self.state.join("epochs")),
            name: self.name,
            vim,
            estate: self.estate,
            state: self.state,
            clock: self.clock,
            appliance: self.appliance,
            vddk: self.vddk,
            scratch: self.scratch,
            patience: self.patience,
            capability: Capability {
                freezes: true,
                quiesces_applications: true,
                groups: false,
                drills: false,
                branches: lands,
                opens_while_booted: false,
                ..Capability::default()
            },
            handles: std::sync::Mutex::default(),
            means: std::sync::Mutex::default(),
            slots: tokio::sync::Mutex::default(),
        };
        if inner.appliance.is_some() && silent.is_none() {
            inner.find_appliance().await?;
        }
        Ok(inner)
    }
}

/// Nobody answers, or not in time. A stranger, a wrong password and a server that refuses are none.
fn is_silence(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// The server as it was when the site was opened last.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    url: String,
    content: ServiceContent,
}

impl Seen {
    fn file(state: &Path) -> PathBuf {
        state.join("server.json")
    }

    /// Nothing of another address: that may be another server.
    fn read(state: &Path, settings: &Settings) -> Result<Option<Self>> {
        let seen: Option<Self> = durable::read(&Self::file(state))?;
        Ok(seen.filter(|seen| seen.url == settings.url))
    }

    fn write(state: &Path, settings: &Settings, vim: &Vim) -> Result<()> {
        let seen = Self { url: settings.url.clone(), content: vim.content().clone() };
        durable::write(&Self::file(state), &seen)
    }
}

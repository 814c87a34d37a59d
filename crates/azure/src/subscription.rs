//! What both roles are opened of.

use crate::settings::StorageAccess;
use crate::{Azure, Builder, PageBlobs, Place, Preparation, Seen, Settings};
use site_recovery::{Clock, Error, Result, RoleName};
use site_recovery_azure_arm::{self as arm, Arm};
use site_recovery_azure_blob::{self as blob, Container, Who};
use site_recovery_https::{Password, Secret};
use std::sync::Arc;

/// A subscription and its container: what recovery points and the site are opened of. Both share its connections, its tokens, and
/// what may be asked of the account.
///
/// ```no_run
/// # async fn example(settings: site_recovery_azure::Settings) -> site_recovery::Result<()> {
/// use site_recovery_azure::Subscription;
///
/// let azure = Subscription::new(settings, std::sync::Arc::new(site_recovery::SystemClock))?;
/// let points = azure.points("azure-points".into()).await?;
/// let site = azure.site("azure".into(), Some(&points)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Subscription {
    settings: Settings,
    clock: Arc<dyn Clock>,
    pub(crate) arm: Arm,
    pub(crate) container: Container,
    preparation: Option<Arc<dyn Preparation>>,
    seen: Option<Seen>,
}

impl Subscription {
    /// By these settings. Asks nothing yet; reads the secrets that they name.
    ///
    /// # Errors
    /// `Invalid` for settings that break a rule, and for a secret that cannot be read.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        settings.check()?;
        let credential = settings.sign_in.credential(&settings.cloud, &settings.trust)?;
        let arm = Arm::new(&manager(&settings), credential.clone());
        let arm = arm.map_err(|e| Error::from(e).with("part", "manager"))?;
        let who = match key(&settings)? {
            Some(key) => Who::Key { account: settings.account_name()?.to_owned(), key },
            None => Who::Signed(credential),
        };
        let stored = blob::Settings {
            container: settings.address()?,
            trust: settings.trust.clone(),
            limits: settings.limits.storage,
        };
        let container = Container::new(&stored, who);
        let container = container.map_err(|e| Error::from(e).with("part", "storage"))?;
        Ok(Self { settings, clock, arm, container, preparation: None, seen: None })
    }

    /// Prepares guests before their first start.
    #[must_use]
    pub fn preparation(mut self, preparation: Arc<dyn Preparation>) -> Self {
        self.preparation = Some(preparation);
        self
    }

    /// Looks at the resource group and the account, and makes the container where it is missing: all that Azure is asked when points
    /// and the site are opened.
    ///
    /// # Errors
    /// `NotFound` for a resource group or an account that is not there, or may not be seen; `Denied`, `Busy`, `Unavailable`.
    ///
    /// # Cancel safety
    /// The container may have been made: look again.
    pub async fn look(&self) -> Result<Seen> {
        let seen = self.place().look().await?;
        self.container.make().await?;
        Ok(seen)
    }

    /// Opens points and site as they were `seen` at an earlier [`look`](Self::look) by these settings, and asks Azure nothing: also while
    /// it does not answer. Calls that need it are `Unavailable` until it is back. What was seen by other settings is not told apart.
    #[must_use]
    pub fn seen(mut self, seen: Seen) -> Self {
        self.seen = Some(seen);
        self
    }

    /// What it was made by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Opens the recovery points. Makes the container where it is missing, unless it was [`seen`](Self::seen).
    ///
    /// # Errors
    /// `Denied`, `Unavailable`.
    pub async fn points(&self, name: RoleName) -> Result<PageBlobs> {
        let (container, clock) = (self.container.clone(), Arc::clone(&self.clock));
        match &self.seen {
            Some(_) => Ok(PageBlobs::over(name, container, clock)),
            None => PageBlobs::open(name, container, clock).await,
        }
    }

    /// Opens the site. Makes the container where it is missing, unless it was [`seen`](Self::seen). Images of these `points` are copied at the service; those of any
    /// other store go through this process, and so does every disk that is uploaded.
    ///
    /// # Errors
    /// `NotFound` for a resource group or an account that is not there, or may not be seen; `Invalid` for points that cannot be
    /// copied, where they have to be; `Denied`, `Unavailable`.
    pub async fn site(&self, name: RoleName, points: Option<&PageBlobs>) -> Result<Azure> {
        let mut builder = self.builder(name.clone());
        if let Some(points) = points {
            builder = builder.points(points.clone());
        }
        match &self.seen {
            Some(seen) => builder.open_seen(self.place(), seen.clone()).map_err(|e| e.at(&name, "open")),
            None => builder.open(self.place()).await,
        }
    }

    pub(crate) fn builder(&self, name: RoleName) -> Builder {
        let mut builder = Azure::builder(name)
            .clock(Arc::clone(&self.clock))
            .look_every(self.settings.limits.look())
            .profile(self.settings.profile);
        if let Some(network) = &self.settings.network {
            builder = builder.network(network);
        }
        if let Some(network) = &self.settings.test_network {
            builder = builder.test_network(network);
        }
        if let Some(preparation) = &self.preparation {
            builder = builder.preparation(Arc::clone(preparation));
        }
        builder
    }

    pub(crate) fn place(&self) -> Place {
        let Settings { subscription, group, region, account, trust, limits, .. } = &self.settings;
        Place {
            arm: self.arm.clone(),
            subscription: subscription.clone(),
            group: group.clone(),
            region: region.clone(),
            container: self.container.clone(),
            account: account.clone(),
            images: (trust.clone(), limits.storage),
        }
    }
}

fn manager(settings: &Settings) -> arm::Settings {
    arm::Settings {
        resource_manager: settings.cloud.resource_manager.clone(),
        scope: settings.cloud.management_scope.clone(),
        subscription: settings.subscription.clone(),
        trust: settings.trust.clone(),
        limits: settings.limits.manager,
    }
}

fn key(settings: &Settings) -> Result<Option<Secret>> {
    let StorageAccess::AccountKey(at) = &settings.storage else { return Ok(None) };
    let key = Password::of(at).and_then(|password| password.read());
    key.map(Some).map_err(|e| Error::from(e).with("part", "storage.account_key"))
}

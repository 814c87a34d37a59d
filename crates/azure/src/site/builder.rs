//! What a site is made of.

use super::exported::Exports;
use super::keys::Keys;
use super::names::Names;
use super::{Azure, Preparation, Profile, Site};
use crate::PageBlobs;
use serde::{Deserialize, Serialize};
use site_recovery::{Clock, Error, ErrorKind, Result, RoleName, SystemClock};
use site_recovery_azure_arm::Arm;
use site_recovery_azure_blob::{Container, Limits, Trust};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A site that is to be opened of clients that were made already. Others open it of a [`Subscription`](crate::Subscription).
#[derive(Debug)]
#[doc(hidden)]
pub struct Builder {
    name: RoleName,
    clock: Arc<dyn Clock>,
    network: Option<String>,
    test_network: Option<String>,
    points: Option<PageBlobs>,
    look_every: Duration,
    window: Duration,
    profile: Profile,
    preparation: Option<Arc<dyn Preparation>>,
}

/// Where machines are made, and where the images are that they are made of: clients that were made already.
#[derive(Debug)]
#[doc(hidden)]
pub struct Place {
    /// Speaks to Resource Manager, for the subscription.
    pub arm: Arm,
    /// The subscription's id.
    pub subscription: String,
    /// The resource group of machines, disks, snapshots and cards. It is there already.
    pub group: String,
    /// `westeurope`: that of the group's machines and disks. Where the container's account is in it as well, Azure imports from there.
    pub region: String,
    /// Where documents and images in the making stand. Made where it is missing.
    pub container: Container,
    /// The id of the container's account: `/subscriptions/…/storageAccounts/…`.
    pub account: String,
    /// Whom to trust as the servers of disks' bytes, and their limits.
    pub images: (Trust, Limits),
}

/// What Azure said of a place: all that is asked when a site is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The resource group, as Azure spells it.
    pub(crate) group: String,
    /// The region of the storage account.
    pub(crate) account_region: String,
}

impl Place {
    /// Looks at the resource group and the account.
    pub(crate) async fn look(&self) -> Result<Seen> {
        if !self.account.starts_with("/subscriptions/") || !self.account.contains("/storageAccounts/") {
            let rule = "it is the id of a storage account";
            return Err(Error::invalid("account", &self.account, rule, "ask `az storage account show`"));
        }
        let Some(group) = self.arm.group(&self.group).await? else {
            let message = format!("there is no resource group {}, or nothing in it may be seen", self.group);
            return Err(Error::new(ErrorKind::NotFound, message).with("field", "group"));
        };
        let Some(account) = self.arm.storage_account(&self.account).await? else {
            let message = format!("there is no storage account {}, or it may not be seen", self.account);
            return Err(Error::new(ErrorKind::NotFound, message).with("field", "account"));
        };
        Ok(Seen { group: group.name, account_region: account.location })
    }
}

impl Builder {
    pub(super) fn new(name: RoleName) -> Self {
        Self {
            name,
            clock: Arc::new(SystemClock),
            network: None,
            test_network: None,
            points: None,
            look_every: Duration::from_secs(1),
            window: Duration::from_secs(30),
            profile: Profile::default(),
            preparation: None,
        }
    }

    /// Tells the time; the system's clock otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The virtual network of machines whose settings name none: its id, or its name in the site's group.
    #[must_use]
    pub fn network(mut self, network: impl Into<String>) -> Self {
        self.network = Some(network.into());
        self
    }

    /// The network of drills whose settings name none.
    #[must_use]
    pub fn test_network(mut self, network: impl Into<String>) -> Self {
        self.test_network = Some(network.into());
        self
    }

    /// The store whose points are copied at the service, where disks are made of images in the account. Points of any other store go
    /// through this process.
    #[must_use]
    pub fn points(mut self, points: PageBlobs) -> Self {
        self.points = Some(points);
        self
    }

    /// How long to wait between two looks at what Azure is doing; a second otherwise.
    #[must_use]
    pub fn look_every(mut self, span: Duration) -> Self {
        self.look_every = span;
        self
    }

    /// How long a request to Resource Manager may take until it is accepted, or is given up; 30 seconds otherwise. `claim` waits for
    /// a tenth longer where somebody older was there, so that it has to be the same in all processes of the site.
    #[must_use]
    pub fn window(mut self, span: Duration) -> Self {
        self.window = span;
        self
    }

    /// Whose rules a machine is checked against; the current ones otherwise.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Prepares guests before their first start.
    #[must_use]
    pub fn preparation(mut self, preparation: Arc<dyn Preparation>) -> Self {
        self.preparation = Some(preparation);
        self
    }

    /// Opens the site.
    ///
    /// # Errors
    /// `Invalid` where a region, group or account is named wrongly, and where points cannot be copied from at the service;
    /// `NotFound` where the group or the account is not there; what storage and Resource Manager say.
    pub async fn open(self, place: Place) -> Result<Azure> {
        let name = self.name.clone();
        self.opened(place).await.map_err(|e| e.at(&name, "open"))
    }

    async fn opened(self, place: Place) -> Result<Azure> {
        let (seen, container) = (place.look().await?, place.container.clone());
        let site = self.open_seen(place, seen)?;
        container.make().await?;
        Ok(site)
    }

    /// The site of what was seen before: asks nothing.
    pub(crate) fn open_seen(self, place: Place, seen: Seen) -> Result<Azure> {
        let has_images = is_near(&seen.account_region, &place) || self.preparation.is_some();
        if let Some(points) = self.points.as_ref().filter(|_| has_images) {
            must_be_copied_from(points, &place.container)?;
        }
        Ok(self.made(place, seen.group, &seen.account_region))
    }

    /// The site, without a look at anything. `account` is the region of the account.
    pub(super) fn made(self, place: Place, group: String, account: &str) -> Azure {
        let site = Site {
            is_near: is_near(account, &place),
            names: Names::of(&self.name),
            name: self.name,
            clock: self.clock,
            arm: place.arm,
            subscription: place.subscription,
            group,
            location: place.region,
            container: place.container,
            account: place.account,
            network: self.network,
            test_network: self.test_network,
            points: self.points,
            images: place.images,
            look_every: self.look_every,
            window: self.window,
            profile: self.profile,
            preparation: self.preparation,
            turns: Mutex::new(BTreeMap::new()),
            making: Keys::default(),
            exports: Exports::default(),
            sizes: Mutex::default(),
        };
        Azure(Arc::new(site))
    }
}

/// Whether Azure imports from an account in this region.
fn is_near(account: &str, place: &Place) -> bool {
    account.eq_ignore_ascii_case(&place.region)
}

/// A copy at the service goes from one blob of an account to another one of it, by who may do so without a signature for each.
fn must_be_copied_from(points: &PageBlobs, container: &Container) -> Result<()> {
    let account = |container: &Container| {
        let mut url = container.url("");
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().pop();
        }
        url
    };
    let remedy = "open the site without them: their bytes go through this process then";
    if account(points.container()) != account(container) {
        let rule = "they are in the account of the site's container";
        return Err(Error::invalid("points", "another account", rule, remedy));
    }
    if container.is_by_signature() {
        let rule = "who copies them signs in, or has the account's key";
        return Err(Error::invalid("points", "a signature", rule, remedy));
    }
    Ok(())
}

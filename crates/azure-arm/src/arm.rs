//! The client, and what is read of everything.

use crate::pending::sealed::Read;
use crate::settings::part;
use crate::wire::{Wire, call};
use crate::{Disks, Error, Machines, Nics, Settings, Snapshots};
use azure_core::credentials::TokenCredential;
use azure_core_legacy::{RetryOptions, TransportOptions};
use azure_mgmt_compute::package_2024_07_01 as compute;
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::Value;
use site_recovery::{Clock, SystemClock};
use site_recovery_https::Unusable;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The most pages of one list: a server that always has another one is not followed for ever.
const PAGES: usize = 1000;

/// A client of Azure Resource Manager. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Arm {
    wire: Arc<Wire>,
    compute: compute::Client,
    subscription: Arc<str>,
}

impl fmt::Debug for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arm").field("wire", &self.wire).field("subscription", &self.subscription).finish()
    }
}

/// Tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// A resource group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its region.
    pub location: String,
    /// Its tags.
    pub tags: Tags,
}

impl Arm {
    /// To this Resource Manager, by tokens of this credential. Asks nothing yet.
    ///
    /// # Errors
    /// For settings that break a rule.
    pub fn new(settings: &Settings, credential: Arc<dyn TokenCredential>) -> Result<Self, Unusable> {
        Self::with_clock(settings, credential, Arc::new(SystemClock))
    }

    /// As [`new`](Self::new), with pauses by this clock.
    ///
    /// # Errors
    /// For settings that break a rule.
    pub fn with_clock(
        settings: &Settings,
        credential: Arc<dyn TokenCredential>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Unusable> {
        settings.check()?;
        let wire = Wire::new(settings, credential, clock)?;
        let transport = TransportOptions::new(Arc::new(wire.clone()));
        let client = compute::Client::builder(Arc::new(crate::bridge::NoToken))
            .endpoint(settings.resource_manager.clone())
            .scopes(&[&settings.scope])
            // A change is sent once: whoever asks looks before it is sent again.
            .retry(RetryOptions::none())
            .transport(transport)
            .build();
        let compute = client.map_err(|e| {
            let remedy = "as https://management.azure.com";
            Unusable::new("resource_manager", e.kind(), "it is the address of a server", remedy)
        })?;
        Ok(Self { wire: Arc::new(wire), compute, subscription: settings.subscription.as_str().into() })
    }

    /// The managed disks of a group.
    pub fn disks(&self, group: impl Into<String>) -> Disks {
        Disks::new(self, group.into())
    }

    /// The snapshots of managed disks of a group.
    pub fn snapshots(&self, group: impl Into<String>) -> Snapshots {
        Snapshots::new(self, group.into())
    }

    /// The machines of a group.
    pub fn machines(&self, group: impl Into<String>) -> Machines {
        Machines::new(self, group.into())
    }

    /// The network cards of a group.
    pub fn nics(&self, group: impl Into<String>) -> Nics {
        Nics::new(self, group.into())
    }

    /// A resource group.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn group(&self, name: &str) -> Result<Option<Group>, Error> {
        let path = format!("{}/resourceGroups/{}", self.root(), part("group", name)?);
        self.find(self.wire.url(&path, "2021-04-01")).await
    }

    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    pub(crate) fn compute(&self) -> &compute::Client {
        &self.compute
    }

    pub(crate) fn subscription(&self) -> &str {
        &self.subscription
    }

    /// `/subscriptions/…`.
    pub(crate) fn root(&self) -> String {
        format!("/subscriptions/{}", self.subscription)
    }

    /// The address of what a provider has in a group: `Microsoft.Compute`, `disks/web-1`.
    pub(crate) fn within(
        &self,
        group: &str,
        provider: &str,
        what: &str,
        version: &str,
    ) -> Result<Url, Error> {
        let group = part("group", group)?;
        let path = format!("{}/resourceGroups/{group}/providers/{provider}/{what}", self.root());
        Ok(self.wire.url(&path, version))
    }

    /// What stands there; nothing where nothing does.
    pub(crate) async fn find<T: Read>(&self, url: Url) -> Result<Option<T>, Error> {
        let call = call(&Method::GET, &url);
        match self.wire.read(url).await {
            Ok(reply) => read(&call, &reply.json(&call)?).map(Some),
            Err(Error::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A list, with all its pages.
    pub(crate) async fn list<T: Read>(&self, url: Url) -> Result<Vec<T>, Error> {
        let call = call(&Method::GET, &url);
        let (mut all, mut next) = (vec![], Some(url));
        for _ in 0..PAGES {
            let Some(url) = next.take() else { return Ok(all) };
            let page = self.wire.read(url).await?.json(&call)?;
            let items = page["value"].as_array().ok_or_else(|| Error::unreadable(&call, "it is no list"))?;
            for item in items {
                all.push(read(&call, item)?);
            }
            if let Some(link) = page["nextLink"].as_str().filter(|link| !link.is_empty()) {
                let link =
                    Url::parse(link).map_err(|_| Error::unreadable(&call, "its next page is nowhere"))?;
                next = Some(link);
            }
        }
        Err(Error::unreadable(call, format!("it has more than {PAGES} pages")))
    }
}

fn read<T: Read>(call: &str, value: &Value) -> Result<T, Error> {
    T::read(value).map_err(|what| Error::unreadable(call, what))
}

#[derive(Deserialize)]
struct Shape {
    name: String,
    location: String,
    tags: Option<Tags>,
}

impl Read for Group {
    fn read(value: &Value) -> Result<Self, String> {
        let Shape { name, location, tags } = shaped(value)?;
        Ok(Self { name, location, tags: tags.unwrap_or_default() })
    }
}

/// A part of an answer, with what is wrong with it but none of its bytes.
pub(crate) fn shaped<'a, T: Deserialize<'a>>(value: &'a Value) -> Result<T, String> {
    T::deserialize(value).map_err(|e| match e.to_string() {
        words if words.starts_with("missing field") => words,
        _ => "a member is of another kind".into(),
    })
}

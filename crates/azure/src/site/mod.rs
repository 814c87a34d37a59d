//! Machines in a resource group: the site.

mod boot;
mod builder;
mod capture;
mod cards;
mod changes;
mod check;
mod check_networks;
mod claim;
mod discover;
mod exported;
mod fence;
mod image;
mod import;
mod keys;
mod leaving;
mod mark;
mod materialise;
mod names;
mod once;
mod pace;
mod power;
mod preparation;
mod quota;
mod readiness;
mod register;
mod remove;
mod rules;
mod source;
mod target;
mod together;
mod upload;

pub use builder::{Builder, Place, Seen};
pub use preparation::{Images, Preparation};
pub use rules::Profile;

use crate::PageBlobs;
use async_trait::async_trait;
use exported::Exports;
use keys::Keys;
use names::Names;
use site_recovery::{Capability, Clock, Error, MachineId, Op, Result, Role, RoleName, Timestamp};
use site_recovery_azure_arm::{Arm, Size};
use site_recovery_azure_blob::{Container, Limits, Trust};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A resource group of Azure as a site: [`Source`](site_recovery::Source) and [`Target`](site_recovery::Target) in one object, under
/// one name and with one epoch register. Clones share everything.
#[derive(Debug, Clone)]
pub struct Azure(Arc<Site>);

#[derive(Debug)]
struct Site {
    name: RoleName,
    names: Names,
    clock: Arc<dyn Clock>,
    arm: Arm,
    subscription: String,
    group: String,
    location: String,
    network: Option<String>,
    test_network: Option<String>,
    /// Where our documents stand, and images in the making.
    container: Container,
    /// The id of its account.
    account: String,
    /// Whether the account is in the region, so that Azure imports from it.
    is_near: bool,
    /// The replica whose images are copied at the service.
    points: Option<PageBlobs>,
    /// How the bytes of disks and snapshots are reached.
    images: (Trust, Limits),
    /// Between two looks at what Azure is doing.
    look_every: Duration,
    /// From the look at the register until a request is accepted, or given up.
    window: Duration,
    profile: Profile,
    preparation: Option<Arc<dyn Preparation>>,
    turns: Mutex<BTreeMap<MachineId, Arc<tokio::sync::Mutex<()>>>>,
    /// Of calls that make machines.
    making: Keys,
    exports: Exports,
    sizes: Mutex<Option<(Timestamp, Arc<Vec<Size>>)>>,
}

impl Azure {
    /// A site of this name, of clients that were made already.
    #[doc(hidden)]
    pub fn builder(name: RoleName) -> Builder {
        Builder::new(name)
    }

    fn at<T>(&self, operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|e: Error| e.at(&self.0.name, operation))
    }
}

#[async_trait]
impl Role for Azure {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability { groups: false, ..Capability::default() }
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.at("claim", self.0.claim(op, machine).await)
    }
}

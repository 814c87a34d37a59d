//! Opens what the settings name: sites, stores, legs. A kind that was not built in is refused by the feature that has it.

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "local")]
mod local;
#[cfg(feature = "qemu")]
mod qemu;
#[cfg(any(feature = "vsphere", feature = "esxi"))]
mod vmware;

use crate::settings::{LegSettings, Settings, SiteSettings, StoreSettings};
use site_recovery::{
    Clock, Error, ErrorKind, LandingSite, Leg, RecoveryPointStore, Result, Source, SystemClock, Target,
};
use site_recovery_master_target::MasterTarget;
use site_recovery_points::Points;
use site_recovery_process_server::{Key, Keyring, ProcessServer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A site, as each of the roles that it plays.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) source: Arc<dyn Source>,
    /// Where recovered machines run there.
    pub(crate) target: Option<Arc<dyn Target>>,
    /// Where machines come back to it.
    pub(crate) landing: Option<Arc<dyn LandingSite>>,
    /// Points that it keeps itself, for the stores that name it.
    pub(crate) points: Option<Arc<dyn RecoveryPointStore>>,
}

/// Everything that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) legs: BTreeMap<String, Leg>,
    pub(crate) process_server: Arc<ProcessServer>,
}

/// Opens all that the settings name, each once.
///
/// # Errors
/// `Unsupported` for a kind that was not built in; those of the roles, with their names.
pub(crate) async fn open(settings: &Settings) -> Result<Opened> {
    let keys = keyring(settings)?;
    let process_server = Arc::new(process_server(settings, keys.clone()).await?);
    let (mut sites, mut stores) = (BTreeMap::new(), BTreeMap::new());
    for (name, site) in &settings.sites {
        sites.insert(name.as_str(), open_site(settings, name, site).await?);
    }
    for (name, store) in &settings.stores {
        stores.insert(name.as_str(), open_store(name, store, keys.clone(), &sites)?);
    }
    let mut legs = BTreeMap::new();
    for (name, leg) in &settings.legs {
        let leg: &LegSettings = leg.get_ref();
        let site = |name: &str| sites.get(name).cloned().ok_or_else(|| absent("site", name));
        let (from, to) = (site(leg.from.get_ref())?, site(leg.to.get_ref())?);
        let opened = match (&leg.store, &leg.retention) {
            (Some(store), _) => {
                let store = stores.get(store.get_ref().as_str()).cloned();
                let store: Arc<dyn RecoveryPointStore> = store.ok_or_else(|| absent("store", name))?;
                let target = to.target.ok_or_else(|| absent("target", leg.to.get_ref()))?;
                Leg::out(from.source, process_server.clone(), store, target)
            }
            (None, Some(retention)) => {
                let target = format!("{name}-master-target");
                let landing = to.landing.ok_or_else(|| absent("landing site", leg.to.get_ref()))?;
                let target = MasterTarget::open(target, landing, retention, clock()).await?;
                Leg::back(from.source, process_server.clone(), Arc::new(target))
            }
            (None, None) => return Err(absent("store", name)),
        };
        let said = leg.settings.as_ref().map(|said| said.get_ref().settings());
        legs.insert(name.clone(), opened.settings(said.unwrap_or_default()));
    }
    Ok(Opened { legs, process_server })
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn absent(what: &str, name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no {what} named {name} is in the settings"))
}

fn keyring(settings: &Settings) -> Result<Keyring> {
    let mut ring = Keyring::new();
    for (number, file) in settings.process_server.keys.iter().enumerate() {
        let key = Key::read(file)?;
        ring = if number == 0 { ring.seal_with(key) } else { ring.open_with(key) };
    }
    Ok(ring)
}

async fn process_server(settings: &Settings, keys: Keyring) -> Result<ProcessServer> {
    let told = &settings.process_server;
    let mut builder = ProcessServer::builder("process-server").clock(clock()).keys(keys);
    if let Some(spool) = &told.spool {
        builder = builder.spool(spool);
    }
    if let Some(most) = told.spool_limit_mib {
        builder = builder.spool_limit(most << 20);
    }
    builder.build().await
}

fn open_store(
    name: &str,
    store: &StoreSettings,
    keys: Keyring,
    sites: &BTreeMap<&str, Site>,
) -> Result<Arc<dyn RecoveryPointStore>> {
    match store {
        StoreSettings::Directory(told) => {
            Ok(Arc::new(Points::directory(name.into(), &told.directory, clock())?.with_keys(keys)))
        }
        StoreSettings::Azure(told) => {
            let site = sites.get(told.site.get_ref().as_str()).and_then(|site| site.points.clone());
            site.ok_or_else(|| absent("store", name))
        }
    }
}

/// The store whose points a site of Azure keeps: its role has the store's name.
#[cfg(feature = "azure")]
fn store_of<'a>(settings: &'a Settings, site: &str) -> Option<&'a str> {
    let of =
        |store: &StoreSettings| matches!(store, StoreSettings::Azure(told) if told.site.get_ref() == site);
    settings.stores.iter().find(|(_, store)| of(store)).map(|(name, _)| name.as_str())
}

#[cfg_attr(not(feature = "azure"), allow(unused_variables, reason = "only Azure has points of its own"))]
async fn open_site(settings: &Settings, name: &str, site: &SiteSettings) -> Result<Site> {
    match site {
        #[cfg(feature = "local")]
        SiteSettings::Local(told) => local::open(name, told, clock()),
        #[cfg(feature = "qemu")]
        SiteSettings::Qemu(told) => qemu::open(name, told, clock()).await,
        #[cfg(feature = "vsphere")]
        SiteSettings::Vsphere(told) => vmware::vcenter(name, told, clock()).await,
        #[cfg(feature = "esxi")]
        SiteSettings::Esxi(told) => vmware::host(name, told, clock()).await,
        #[cfg(feature = "azure")]
        SiteSettings::Azure(told) => {
            let plain = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
            let file = format!("{}.json", name.chars().map(plain).collect::<String>());
            let remembered = settings.vault.state.join("sites").join(file);
            azure::open(name, told, store_of(settings, name), &remembered, clock()).await
        }
        #[allow(unreachable_patterns, reason = "all kinds may be built in")]
        other => Err(not_built_in(name, other.kind())),
    }
}

#[allow(dead_code, reason = "all kinds may be built in")]
fn not_built_in(name: &str, kind: &str) -> Error {
    let message = format!(
        "sites.{name} is of the kind {kind}, which was not built in: build with the feature {kind}, as in \
         `cargo install site-recovery-cli --features {kind}`"
    );
    Error::new(ErrorKind::Unsupported, message).with("feature", kind)
}

//! Opens what the settings name: sites, stores, legs. A kind that was not built in is refused by the feature that has it.

#[cfg(feature = "local")]
mod local;
#[cfg(feature = "qemu")]
mod qemu;

use crate::settings::{LegSettings, Settings, SiteSettings, StoreSettings};
use site_recovery::{Clock, Error, ErrorKind, LandingSite, Leg, Result, Source, SystemClock, Target};
use site_recovery_master_target::MasterTarget;
use site_recovery_points::Points;
use site_recovery_process_server::{Key, Keyring, ProcessServer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A site, as each of the roles that it plays.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) target: Arc<dyn Target>,
    pub(crate) landing: Arc<dyn LandingSite>,
}

/// Everything that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) legs: BTreeMap<String, Leg>,
    pub(crate) process_server: Arc<ProcessServer>,
}

/// Opens all that the legs use, each once.
///
/// # Errors
/// `Unsupported` for a kind that was not built in; those of the roles, with their names.
pub(crate) async fn open(settings: &Settings) -> Result<Opened> {
    let keys = keyring(settings)?;
    let process_server = Arc::new(process_server(settings, keys.clone()).await?);
    let (mut sites, mut stores) = (BTreeMap::new(), BTreeMap::new());
    for (name, site) in &settings.sites {
        sites.insert(name.as_str(), open_site(name, site).await?);
    }
    for (name, store) in &settings.stores {
        stores.insert(name.as_str(), open_store(name, store, keys.clone())?);
    }
    let mut legs = BTreeMap::new();
    for (name, leg) in &settings.legs {
        let leg: &LegSettings = leg.get_ref();
        let site = |name: &str| sites.get(name).cloned().ok_or_else(|| absent("site", name));
        let (from, to) = (site(leg.from.get_ref())?, site(leg.to.get_ref())?);
        let opened = match (&leg.store, &leg.retention) {
            (Some(store), _) => {
                let store = stores.get(store.get_ref().as_str()).cloned();
                let store: Arc<Points> = store.ok_or_else(|| absent("store", name))?;
                Leg::out(from.source, process_server.clone(), store, to.target)
            }
            (None, Some(retention)) => {
                let target = format!("{name}-master-target");
                let target = MasterTarget::open(target, to.landing, retention, clock()).await?;
                Leg::back(from.source, process_server.clone(), Arc::new(target))
            }
            (None, None) => return Err(absent("store", name)),
        };
        legs.insert(name.clone(), opened);
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

fn open_store(name: &str, store: &StoreSettings, keys: Keyring) -> Result<Arc<Points>> {
    let StoreSettings::Directory(told) = store;
    Ok(Arc::new(Points::directory(name.into(), &told.directory, clock())?.with_keys(keys)))
}

async fn open_site(name: &str, site: &SiteSettings) -> Result<Site> {
    match site {
        #[cfg(feature = "local")]
        SiteSettings::Local(told) => local::open(name, told, clock()),
        #[cfg(feature = "qemu")]
        SiteSettings::Qemu(told) => qemu::open(name, told, clock()).await,
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

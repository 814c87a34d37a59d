//! Where the roles are that this process server is told to work with: stores beside it, and what the authority's roster says
//! of all others.

use async_trait::async_trait;
use site_recovery::{Error, ErrorKind, RecoveryPointStore, Replica, Result, RoleName, Source};
use site_recovery_physical::{Agents, Reach};
use site_recovery_transport::enrol::{Credentials, RoleKind, RosterEntry};
use site_recovery_transport::{Names, RemoteSource, RemoteStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    credentials: Credentials,
    near: BTreeMap<RoleName, Arc<dyn RecoveryPointStore>>,
    /// Connections that were made, each with the entry that it was made by: one that has moved is reached anew.
    sources: Mutex<BTreeMap<RoleName, (RosterEntry, Arc<RemoteSource>)>>,
    replicas: Mutex<BTreeMap<RoleName, (RosterEntry, Arc<RemoteStore>)>>,
}

impl Directory {
    pub(crate) fn new(credentials: Credentials, near: Vec<Arc<dyn RecoveryPointStore>>) -> Self {
        let near = near.into_iter().map(|store| (store.name(), store)).collect();
        let (sources, replicas) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { credentials, near, sources, replicas }))
    }

    /// The sources that stand for one: itself, or the agents of a physical site.
    pub(crate) async fn sources_of(&self, name: &RoleName) -> Result<Vec<Arc<RemoteSource>>> {
        let agents = self.agents(name).await?;
        let mut all = vec![];
        for agent in &agents {
            all.push(self.reached(agent, name).await?);
        }
        if all.is_empty() {
            all.push(self.reached(name, name).await?);
        }
        Ok(all)
    }

    /// The agents of a physical site, as the roster has them: `site/server`.
    async fn agents(&self, site: &RoleName) -> Result<Vec<RoleName>> {
        let of_site = |roster: &[RosterEntry]| -> Vec<RoleName> {
            let roles = roster.iter().flat_map(|entry| &entry.roles).filter(|r| r.kind == RoleKind::Source);
            let prefix = format!("{site}/");
            roles.filter(|role| role.name.0.starts_with(&prefix)).map(|role| role.name.clone()).collect()
        };
        let known = of_site(&self.0.credentials.roster().borrow().clone());
        match known.is_empty() {
            true => Ok(of_site(&self.0.credentials.refresh_roster().await?)),
            false => Ok(known),
        }
    }

    /// The source that the roster calls `listed`, and that is `name` where it is served.
    async fn reached(&self, listed: &RoleName, name: &RoleName) -> Result<Arc<RemoteSource>> {
        let entry = self.0.credentials.locate(RoleKind::Source, listed).await?;
        let standing = self.0.sources.lock().expect("no panic under this lock").get(listed).cloned();
        if let Some((by, source)) = standing.filter(|(by, _)| *by == entry) {
            drop(by);
            return Ok(source);
        }
        let tls = self.0.credentials.client_tls(&entry.service)?;
        let source = RemoteSource::builder(entry.address.clone(), name.clone(), tls).connect().await?;
        let source = Arc::new(source);
        let mut sources = self.0.sources.lock().expect("no panic under this lock");
        sources.insert(listed.clone(), (entry, Arc::clone(&source)));
        Ok(source)
    }

    async fn located(&self, name: &RoleName) -> Result<RosterEntry> {
        match self.0.credentials.locate(RoleKind::Store, name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.0.credentials.locate(RoleKind::MasterTarget, name).await
            }
            located => located,
        }
    }
}

#[async_trait]
impl Names for Directory {
    async fn source(&self, name: &RoleName) -> Result<Arc<dyn Source>> {
        if !self.agents(name).await?.is_empty() {
            return Ok(Arc::new(Agents::of(name.clone(), Arc::new(OfSite(self.clone(), name.clone())))));
        }
        Ok(self.reached(name, name).await?)
    }

    async fn replica(&self, name: &RoleName) -> Result<Arc<dyn Replica>> {
        if let Some(near) = self.0.near.get(name) {
            return Ok(Arc::clone(near) as _);
        }
        let entry = self.located(name).await?;
        let standing = self.0.replicas.lock().expect("no panic under this lock").get(name).cloned();
        if let Some((_, replica)) = standing.filter(|(by, _)| *by == entry) {
            return Ok(replica);
        }
        let tls = self.0.credentials.client_tls(&entry.service)?;
        let replica = RemoteStore::builder(entry.address.clone(), name.clone(), tls).connect().await?;
        let replica = Arc::new(replica);
        let mut replicas = self.0.replicas.lock().expect("no panic under this lock");
        replicas.insert(name.clone(), (entry, Arc::clone(&replica)));
        Ok(replica)
    }
}

/// The agents of one physical site.
#[derive(Debug)]
struct OfSite(Directory, RoleName);

#[async_trait]
impl Reach for OfSite {
    async fn agent(&self, server: &str) -> Result<Arc<dyn Source>> {
        let Self(directory, site) = self;
        let listed = RoleName(format!("{site}/{server}"));
        directory.reached(&listed, site).await.map(|agent| agent as Arc<dyn Source>).map_err(|e| {
            let said = format!("the agent of {server} at {site}");
            if e.kind() == ErrorKind::NotFound {
                return Error::new(ErrorKind::NotFound, format!("{said} is not enrolled")).caused_by(e);
            }
            e.with("agent", &listed)
        })
    }
}

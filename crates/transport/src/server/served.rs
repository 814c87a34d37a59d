//! What a server serves under one name: an object for each trait that was handed in.

use crate::control::Names;
use crate::fault::Result;
use site_recovery::{
    Capability, Error, ErrorKind, LandingSite, MasterTarget, ProcessServer, RecoveryPointStore, RecoverySite,
    Replica, Role, RoleName, Source, Target,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One name, and all that it is.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    name: RoleName,
    role: Arc<dyn Role>,
    source: Option<Arc<dyn Source>>,
    process_server: Option<Arc<dyn ProcessServer>>,
    replica: Option<Arc<dyn Replica>>,
    store: Option<Arc<dyn RecoveryPointStore>>,
    recovery_site: Option<Arc<dyn RecoverySite>>,
    target: Option<Arc<dyn Target>>,
    master_target: Option<Arc<dyn MasterTarget>>,
    landing_site: Option<Arc<dyn LandingSite>>,
    standing: Option<Arc<dyn Replica>>,
}

/// What is handed in.
#[derive(Debug, Clone)]
pub(super) enum Handed {
    Source(Arc<dyn Source>),
    ProcessServer(Arc<dyn ProcessServer>),
    Store(Arc<dyn RecoveryPointStore>),
    Target(Arc<dyn Target>),
    MasterTarget(Arc<dyn MasterTarget>),
    LandingSite(Arc<dyn LandingSite>),
    Standing(Arc<dyn Replica>),
}

macro_rules! access {
    ($($field:ident: $role:ident, $what:literal;)*) => {$(
        pub(crate) fn $field(&self) -> Result<&Arc<dyn $role>> {
            self.$field.as_ref().ok_or_else(|| self.is_no($what))
        }
    )*};
}

impl Served {
    access! {
        source: Source, "source";
        process_server: ProcessServer, "process server";
        replica: Replica, "replica";
        store: RecoveryPointStore, "recovery point store";
        recovery_site: RecoverySite, "recovery site";
        target: Target, "target";
        master_target: MasterTarget, "master target";
        landing_site: LandingSite, "landing site";
        standing: Replica, "witness";
    }

    /// Whichever it is.
    pub(crate) fn role(&self) -> &Arc<dyn Role> {
        &self.role
    }

    /// What it can do as this kind of role.
    pub(crate) fn capability_as(&self, kind: &str) -> Capability {
        let of = |role: Option<&dyn Role>| role.map(Role::capability);
        let capability = match kind {
            "source" => of(self.source.as_deref().map(|r| r as _)),
            "process server" => of(self.process_server.as_deref().map(|r| r as _)),
            "replica" => of(self.replica.as_deref().map(|r| r as _)),
            "target" => of(self.target.as_deref().map(|r| r as _)),
            "master target" => of(self.master_target.as_deref().map(|r| r as _)),
            "landing site" => of(self.landing_site.as_deref().map(|r| r as _)),
            "witness" => of(self.standing.as_deref().map(|r| r as _)),
            _ => None,
        };
        capability.unwrap_or_else(|| self.role.capability())
    }

    /// The replica `name`: this one, or one that is known by its name.
    pub(crate) async fn replica_or(
        &self,
        name: &RoleName,
        names: Option<&dyn Names>,
    ) -> Result<Arc<dyn Replica>> {
        match (&self.replica, names) {
            (Some(replica), _) if *name == self.name => Ok(Arc::clone(replica)),
            (_, Some(names)) => names.replica(name).await,
            (_, None) => {
                let said = format!("this server knows no replica {name}: it was given no names");
                Err(Error::new(ErrorKind::NotFound, said))
            }
        }
    }

    /// Refuses a client that takes it for something else.
    pub(crate) fn must_be(&self, kind: &str) -> Result<()> {
        match kind {
            "source" => self.source().map(|_| ()),
            "process server" => self.process_server().map(|_| ()),
            "target" => self.target().map(|_| ()),
            "master target" => self.master_target().map(|_| ()),
            "landing site" => self.landing_site().map(|_| ()),
            "witness" => self.standing().map(|_| ()),
            other => Err(self.is_no(other)),
        }
    }

    fn is_no(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unsupported, format!("{} is served here, but not as a {what}", self.name))
    }

    fn of(role: Arc<dyn Role>) -> Self {
        Self {
            name: role.name(),
            role,
            source: None,
            process_server: None,
            replica: None,
            store: None,
            recovery_site: None,
            target: None,
            master_target: None,
            landing_site: None,
            standing: None,
        }
    }

    fn take(&mut self, handed: Handed) {
        match handed {
            Handed::Source(role) => self.source = Some(role),
            Handed::ProcessServer(role) => self.process_server = Some(role),
            Handed::Store(role) => {
                self.replica = Some(Arc::clone(&role) as _);
                self.store = Some(role);
            }
            Handed::Target(role) => {
                self.recovery_site = Some(Arc::clone(&role) as _);
                self.target = Some(role);
            }
            Handed::MasterTarget(role) => {
                self.replica = Some(Arc::clone(&role) as _);
                self.recovery_site = Some(Arc::clone(&role) as _);
                self.master_target = Some(role);
            }
            Handed::LandingSite(role) => self.landing_site = Some(role),
            Handed::Standing(role) => self.standing = Some(role),
        }
    }

    fn has(&self, handed: &Handed) -> bool {
        match handed {
            Handed::Source(_) => self.source.is_some(),
            Handed::ProcessServer(_) => self.process_server.is_some(),
            Handed::Store(_) => self.replica.is_some(),
            Handed::Target(_) => self.recovery_site.is_some(),
            Handed::MasterTarget(_) => self.replica.is_some() || self.recovery_site.is_some(),
            Handed::LandingSite(_) => self.landing_site.is_some(),
            Handed::Standing(_) => self.standing.is_some(),
        }
    }
}

impl Handed {
    fn role(&self) -> Arc<dyn Role> {
        match self {
            Self::Source(role) => Arc::clone(role) as _,
            Self::ProcessServer(role) => Arc::clone(role) as _,
            Self::Store(role) => Arc::clone(role) as _,
            Self::Target(role) => Arc::clone(role) as _,
            Self::MasterTarget(role) => Arc::clone(role) as _,
            Self::LandingSite(role) => Arc::clone(role) as _,
            Self::Standing(role) => Arc::clone(role) as _,
        }
    }
}

/// By name; each name is each kind of role once.
pub(super) fn by_name(all: Vec<Handed>) -> Result<BTreeMap<RoleName, Served>> {
    let mut served = BTreeMap::<RoleName, Served>::new();
    for handed in all {
        let name = handed.role().name();
        let entry = served.entry(name.clone()).or_insert_with(|| Served::of(handed.role()));
        if entry.has(&handed) {
            return Err(Error::invalid("role", name, "a server has each name once", "rename one"));
        }
        entry.take(handed);
    }
    match served.is_empty() {
        true => Err(Error::invalid("roles", "empty", "a server serves something", "add a role")),
        false => Ok(served),
    }
}

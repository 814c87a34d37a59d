use super::{MemoryMasterTarget, MemoryProcessServer, MemoryReplica, Site, World};
use site_recovery::{Leg, RoleName, Source, Sources};
use std::sync::Arc;

/// Two sites and both legs between them.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The world they are in.
    pub world: World,
    /// Where machines are protected.
    pub here: Site,
    /// Where they fail over to.
    pub cloud: Site,
    /// Keeps the points of the way out.
    pub store: MemoryReplica,
    /// Receives the way back, on the disks of `here`.
    pub master_target: MemoryMasterTarget,
    /// Moves the bytes, both ways.
    pub process_server: MemoryProcessServer,
    /// The way out.
    pub forward: Leg,
    /// The way back.
    pub reverse: Leg,
}

impl World {
    /// The sites `here` and `cloud`, a store, a master target on `here`, a process server, and the legs of them.
    pub fn pair(&self) -> Pair {
        let (here, cloud) = (self.site("here"), self.site("cloud"));
        let store = MemoryReplica::new("store", self.clock());
        let landing = Arc::new(here.clone());
        let master_target = MemoryMasterTarget::new("master-target", self.clock(), landing);
        let process_server = MemoryProcessServer::new("process-server");
        let server = || Arc::new(process_server.clone());
        let (out, target) = (Arc::new(store.clone()), Arc::new(cloud.clone()));
        let forward = Leg::out(Arc::new(here.clone()), server(), out, target);
        let reverse = Leg::back(Arc::new(cloud.clone()), server(), Arc::new(master_target.clone()));
        let world = self.clone();
        Pair { world, here, cloud, store, master_target, process_server, forward, reverse }
    }
}

impl Pair {
    /// Who fences at which site.
    pub fn sources(&self) -> Sources {
        let sources = [&self.here, &self.cloud].map(|site| {
            let name: RoleName = site_recovery::Role::name(site);
            (name, Arc::new(site.clone()) as Arc<dyn Source>)
        });
        sources.into()
    }
}

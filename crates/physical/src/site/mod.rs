//! The *keeper*: the servers of one site as a [`Source`].
//!
//! A hypervisor answers for its machines while they are off; a server does not. So the keeper stands beside the servers: it has
//! their bytes from their agents, their power from whoever switches them, and keeps the epoch register itself, where `claim`,
//! `fence` and `power` work while a server is dead.
//!
//! # Power
//! | agent | power control | reads as |
//! |---|---|---|
//! | answers | whatever it says | `On` |
//! | answers from the rescue system | was seen off since its own system last answered, or was started by us | `Off` |
//! | answers from the rescue system | there is none | `Off`, and `Free` |
//! | silent, or answers from the rescue system | says off, and says so again | `Off` |
//! | silent, or answers from the rescue system | anything else | `Unknown` |
//! | silent | there is none | `Unknown` |
//!
//! A lost heartbeat alone is never `Off`, and neither is a controller alone while the server answers. Nor is the word of a rescue
//! system: whoever has the server's certificate could say it while its own system runs. So the keeper has to have seen the power
//! off before, and notes that where it outlives the keeper (`seen-off.json`). Otherwise `fence` takes the power, and a server
//! that is held comes up in its rescue system again.
//!
//! # What keeps a server off
//! - `Blocked`: its power control *holds* it, and reads back so: the boot source is overridden to the rescue system, or the
//!   storage is read-only.
//! - `Tells`: a start past us changes the control's stamp for ever. Our own starts are counted out.
//! - `Free`: neither. Such a server is never fenced, and the site says so ([`Capability::fences`]) before anything is
//!   protected. It says so for all its servers together: those without such a control belong in a site of their own.
//!
//! The [boot guard](crate::guard) is none of these. It is installed on the disks of the very server that it guards: while the
//! server is off nobody can read whether it is still there, another system or an older copy of the disks starts without it, and
//! behind it the system runs and writes its disks. It keeps a server that comes back from doing harm; it proves nothing about one
//! that is off.
//!
//! # What it promises, and where that ends
//! - Check of the epoch and effect are one act, under the machine's locked register, as far as they are the keeper's. A
//!   controller has no condition: *window* between the check and its act. A fence only stops, so what an older engine began there
//!   does no harm; a start is looked at again by whoever proves next.
//! - `claim`, `fence`, `unfence` and the `start` of a landing wait for nothing that another call waits for: an agent, a rescue
//!   system or a controller that hangs, a server that is starting. They end that call, as `Unavailable`. *Window*: what was asked
//!   for may still happen. An agent and a rescue system hold their own registers; the controller has none, as above.
//! - *Window*: a server that was seen off, and whose hold somebody took away to start its own system past us, reads as off while
//!   somebody answers from the rescue system in its place. `fence` takes the power of whatever it does not find held.
//! - *Window*: a shutdown that was asked for, whose controller went silent before the power was cut, may still happen. `fence` says
//!   `Unavailable` then, and its mark says *asked*.
//! - One keeper for a controller. Two with state directories of their own do not know each other's register.

mod agent;
mod direct;
mod fence;
pub(crate) mod home;
mod landing;
mod leave;
mod power;
mod source;

pub use direct::{Direct, Rescues, WayBack};
pub use landing::Returning;

use crate::power::PowerControl;
use async_trait::async_trait;
use home::{Home, plain};
use site_recovery::{
    Capability, Clock, Error, ErrorKind, Instance, MachineId, Op, Result, Role, RoleName, Source,
};
use site_recovery_register::{Register, act, not_found, open_state};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// Asks the system of a server, from inside, to shut down.
#[async_trait]
pub trait Shutdown: Debug + Send + Sync {
    /// Returns when it has been asked, not when it is down.
    async fn shutdown(&self) -> Result<()>;
}

/// A server of the site.
#[derive(Debug)]
pub struct Server {
    /// Its name: that of its agent.
    pub name: String,
    /// Its agent, here or far away.
    pub agent: Arc<dyn Source>,
    /// Who switches it.
    pub power: Option<Arc<dyn PowerControl>>,
    /// Who asks its system to shut down, where its power control cannot, or not as well.
    pub shutdown: Option<Arc<dyn Shutdown>>,
}

/// How long the keeper waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For an agent to say whether it is there: 10 s.
    pub agent: Duration,
    /// Between two questions to a power control: 1 s.
    pub between: Duration,
    /// Until a server reads as off whose power was cut: 60 s.
    pub off: Duration,
    /// Until the agent of a server answers that was switched on: 15 minutes.
    pub on: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            agent: Duration::from_secs(10),
            between: Duration::from_secs(1),
            off: Duration::from_secs(60),
            on: Duration::from_secs(900),
        }
    }
}

/// The servers of a site. Clones share everything.
#[derive(Debug, Clone)]
pub struct PhysicalSite(Arc<Site>);

/// Makes a [`PhysicalSite`].
#[derive(Debug)]
pub struct Builder {
    name: RoleName,
    state: PathBuf,
    clock: Arc<dyn Clock>,
    servers: Vec<Server>,
    patience: Patience,
}

#[derive(Debug)]
pub(crate) struct Site {
    name: RoleName,
    state: PathBuf,
    clock: Arc<dyn Clock>,
    register: Register,
    servers: BTreeMap<String, Kept>,
    patience: Patience,
    capability: Capability,
}

/// A server, and the word to those who wait for its agent.
#[derive(Debug)]
pub(crate) struct Kept {
    server: Server,
    enough: watch::Sender<u64>,
    /// How often it was seen to be started.
    starts: Mutex<u64>,
}

impl PhysicalSite {
    /// The site `name`, whose register and marks are kept in `state`: a directory that no failure of a server takes along.
    pub fn builder(name: RoleName, state: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Builder {
        Builder { name, state: state.into(), clock, servers: vec![], patience: Patience::default() }
    }

    /// Runs one act on a thread of its own. What has got its turn is finished even when nobody waits for it any more.
    async fn act<T: Send + 'static>(
        &self,
        operation: &'static str,
        f: impl FnOnce(&Site) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let site = Arc::clone(&self.0);
        act(move || f(&site)).await.map_err(|e| e.at(&self.0.name, operation))
    }
}

impl Builder {
    /// One more server.
    #[must_use]
    pub fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    /// How long to wait for others.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Opens it. Asks nobody.
    ///
    /// # Errors
    /// `Invalid`, naming the field: two servers of one name, a name that is none; `Conflict` when the state directory is
    /// another site's; those of the file system.
    pub fn open(self) -> Result<PhysicalSite> {
        let name = self.name.clone();
        self.opened().map(|site| PhysicalSite(Arc::new(site))).map_err(|e| e.at(&name, "open"))
    }

    fn opened(self) -> Result<Site> {
        let mut servers = BTreeMap::new();
        for server in self.servers {
            plain(&server.name)?;
            let name = server.name.clone();
            let kept = Kept { server, enough: watch::Sender::new(0), starts: Mutex::default() };
            if servers.insert(name.clone(), kept).is_some() {
                return Err(Error::invalid("server", name, "servers have names of their own", "rename one"));
            }
        }
        open_state(&self.state, &self.name)?;
        let agents: Vec<Capability> = servers.values().map(|k| k.server.agent.capability()).collect();
        let all = |can: fn(&Capability) -> bool| !agents.is_empty() && agents.iter().all(can);
        let capability = Capability {
            tracks: all(|c| c.tracks),
            freezes: all(|c| c.freezes),
            quiesces_applications: all(|c| c.quiesces_applications),
            captures_off: all(|c| c.captures_off),
            groups: false,
            fences: !servers.is_empty() && servers.values().all(|k| k.server.can_be_kept_off()),
            drills: false,
            branches: false,
            ..Capability::default()
        };
        let register = Register::at(self.state.join("epochs"));
        let Self { name, state, clock, patience, .. } = self;
        Ok(Site { name, state, clock, register, servers, patience, capability })
    }
}

impl Server {
    /// Whether something keeps it off, or would tell, once it is.
    fn can_be_kept_off(&self) -> bool {
        self.power.as_ref().is_some_and(|p| p.keeps().holds || p.keeps().tells)
    }
}

impl Site {
    fn home(&self, name: &str) -> Result<Home> {
        Home::of(&self.state, name)
    }

    /// The server of an instance, and what is kept of it.
    ///
    /// # Errors
    /// `NotFound` for a server that is not of this site; `Conflict` where it is another machine's.
    fn of(&self, instance: &Instance) -> Result<(&Kept, Home)> {
        let found = self.servers.get(&instance.name).filter(|_| instance.site == self.name);
        let Some(kept) = found else {
            return Err(not_found(format!("{} is no server of {}", instance.name, self.name)));
        };
        let home = self.home(&instance.name)?;
        home.must_be_of(&instance.machine)?;
        Ok((kept, home))
    }

    /// The server that is this machine's, where one is.
    fn server_of(&self, machine: &MachineId) -> Result<Option<&Kept>> {
        for (name, kept) in &self.servers {
            if self.home(name)?.mark()?.is_some_and(|m| m.machine == *machine) {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Role for PhysicalSite {
    fn name(&self) -> RoleName {
        self.0.name.clone()
    }

    fn capability(&self) -> Capability {
        self.0.capability.clone()
    }

    /// The register is the keeper's own: this works while the server is off. Its agent, where it answers, is told as well.
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.act("claim", move |site| {
            let kept = site.server_of(&machine)?;
            if let Some(kept) = kept {
                kept.enough();
            }
            let _turn = site.register.turn(&op, &machine)?;
            let Some(kept) = kept else { return Ok(()) };
            let told = home::wait(site.briefly(kept, kept.server.agent.claim(&op, &machine)));
            match told {
                Err(e) if e.kind() == ErrorKind::StaleEpoch => Err(e),
                _ => Ok(()),
            }
        })
        .await
    }
}

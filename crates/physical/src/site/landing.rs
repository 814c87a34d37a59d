//! The way back to servers that run their rescue system, for a master target that stands beside the keeper.
//!
//! The bytes go to the agent in the rescue system, which has the disks, and whose state need not outlive it. What has to is the
//! keeper's: whose server this is and in which generation, who holds it off, and which start was ours. `start` lets go of what
//! holds the server, leaves the rescue system, and is done when the agent of the restored system answers; where the server went
//! off instead of starting again, it is switched on. From then on nothing is asked of the rescue system: what a repeat of
//! `detach` or `start` wants has happened.

use super::agent::Patient;
use super::home::{Home, Mark, Owed, must_be_off};
use super::{Kept, PhysicalSite, Rescues, Site};
use crate::bare;
use async_trait::async_trait;
use site_recovery::{
    Armed, BootPermit, Booted, Capability, DiskId, DiskMut, Error, ErrorKind, Finding, Generation, Instance,
    LandingSite, Machine, MachineId, Offers, Op, Purpose, Recovery, Result, Role, RoleName, Settings,
    Severity, Stamp, Survey,
};
use site_recovery_register::{not_found, refused};
use std::sync::Arc;
use std::time::Duration;

/// The stamp of a server whose own system runs; no life of a rescue system is called so.
const RUNS: &[u8] = b"its own system runs";

/// Servers in their rescue systems as a landing site of the name of their site. Clones share everything.
#[derive(Debug, Clone)]
pub struct Returning {
    keeper: PhysicalSite,
    rescues: Arc<dyn Rescues>,
}

impl PhysicalSite {
    /// The way back to these servers, by what their rescue systems serve. It is looked for at each use: a rescue system need
    /// not run before something lands.
    pub fn returning(&self, rescues: Arc<dyn Rescues>) -> Returning {
        Returning { keeper: self.clone(), rescues }
    }
}

impl Returning {
    /// Asks the rescue system, in its own name of the site.
    async fn there(&self, instance: &Instance) -> Result<(Arc<dyn LandingSite>, Instance)> {
        self.keeper.0.of(instance).map_err(|e| e.at(&self.keeper.name(), "landing"))?;
        let rescue = self.rescues.rescue(&instance.name).await;
        let rescue = rescue.map_err(|e| e.at(&self.keeper.name(), "landing"))?;
        let there = Instance { site: rescue.name(), ..instance.clone() };
        Ok((rescue, there))
    }

    /// Whether the server's own system runs: then its disks are its own.
    async fn runs(&self, instance: &Instance) -> Result<bool> {
        let site = &self.keeper.0;
        let (kept, home) = site.attached(instance).map_err(|e| e.at(&site.name, "landing"))?;
        Ok(site.runs(kept, &home, instance).await? == Some(true))
    }

    fn unsupported(&self, operation: &'static str) -> Error {
        let message = "nothing can be put under bare disks: an undo goes by the master target's log";
        Error::new(ErrorKind::Unsupported, message).at(&self.keeper.name(), operation)
    }
}

#[async_trait]
impl Role for Returning {
    fn name(&self) -> RoleName {
        self.keeper.name()
    }

    fn capability(&self) -> Capability {
        bare::capability()
    }

    /// At the keeper, and at the rescue system where it answers.
    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.keeper.claim(op, machine).await?;
        let site = &self.keeper.0;
        let kept = site.server_of(machine).map_err(|e| e.at(&site.name, "claim"))?;
        let Some(kept) = kept else { return Ok(()) };
        let claimed = async { self.rescues.rescue(&kept.server.name).await?.claim(op, machine).await };
        match site.briefly(kept, claimed).await {
            Err(e) if e.kind() == ErrorKind::StaleEpoch => Err(e),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl LandingSite for Returning {
    /// Of the server that the settings name, of that which carries the machine's mark, or of the one of its name.
    async fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let in_the_way = |finding| Survey { findings: vec![finding], offers: Offers::default() };
        let site = &self.keeper.0;
        let server = match site.returns_to(machine, settings).map_err(|e| e.at(&site.name, "survey"))? {
            Ok(kept) => &kept.server.name,
            Err(finding) => return Ok(in_the_way(finding)),
        };
        let rescue = match self.rescues.rescue(server).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let (cause, remedy) =
                    (e.message().to_owned(), format!("start {server} from the rescue system"));
                return Ok(in_the_way(Finding::new("landing.rescue", Severity::Critical, cause, remedy)));
            }
            found => found.map_err(|e| e.at(&site.name, "survey"))?,
        };
        let there = Instance { site: rescue.name(), name: server.clone(), ..machine.instance.clone() };
        rescue.survey(&machine.standing_as(there), settings).await
    }

    /// The server that is there: hardware cannot be made.
    async fn attach(
        &self,
        op: &Op,
        machine: &Machine,
        existing: Option<Instance>,
        settings: &Settings,
    ) -> Result<Instance> {
        let (this, op, machine, settings) = (self.clone(), op.clone(), machine.clone(), settings.clone());
        self.keeper
            .act("attach", move |site| {
                let Some(existing) = existing else {
                    let _turn = site.register.turn(&op, machine.id())?;
                    let message =
                        "a machine returns to the server that it came from: it is known by its keeper";
                    return Err(refused(message));
                };
                let patient = site.of(&existing)?.0.patient();
                let _turn = site.register.turn(&op, machine.id())?;
                let (kept, home) = site.of(&existing)?;
                home.must_be_of(machine.id())?;
                must_be_off(&existing.name, patient.wait(site.runs(kept, &home, &existing))?)?;
                let (rescue, there) = patient.wait(this.there(&existing))?;
                let standing = machine.standing_as(there.clone());
                Finding::refuse_critical(
                    &patient.wait(rescue.survey(&standing, &settings))?.findings,
                    ErrorKind::Invalid,
                )?;
                home.block(&op, false, "landing", &site.name, &*site.clock)?;
                site.hold(kept, true, &patient)?;
                let attached = patient.wait(rescue.attach(&op, &machine, Some(there), &settings))?;
                home.set_returns(Some(machine.id()))?;
                home.blocked()?;
                Ok(Instance { site: site.name.clone(), ..attached })
            })
            .await
    }

    async fn disk(&self, instance: &Instance, disk: &DiskId) -> Result<Arc<dyn DiskMut>> {
        self.keeper.0.attached(instance).map_err(|e| e.at(&self.keeper.name(), "disk"))?;
        let (rescue, there) = self.there(instance).await?;
        rescue.disk(&there, disk).await
    }

    /// That of the rescue system: another life of it is another stamp, and so is the server's own system.
    async fn stamp(&self, instance: &Instance) -> Result<Option<Stamp>> {
        if self.runs(instance).await? {
            return Ok(Some(Stamp(RUNS.to_vec())));
        }
        let (rescue, there) = self.there(instance).await?;
        rescue.stamp(&there).await
    }

    async fn branch(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(self.unsupported("branch"))
    }

    async fn part(&self, _: &Op, _: &Instance) -> Result<Instance> {
        Err(self.unsupported("part"))
    }

    async fn merge(&self, _: &Op, _: &Instance) -> Result<()> {
        Err(self.unsupported("merge"))
    }

    async fn arm(&self, op: &Op, instance: &Instance, generation: Generation) -> Result<Armed> {
        let (this, op, instance) = (self.clone(), op.clone(), instance.clone());
        self.keeper
            .act("arm", move |site| {
                let patient = site.attached(&instance)?.0.patient();
                let _turn = site.register.turn(&op, &instance.machine)?;
                let (_, home) = site.attached(&instance)?;
                let (rescue, there) = patient.wait(this.there(&instance))?;
                let armed = patient.wait(rescue.arm(&op, &there, generation))?;
                let instance = Instance { site: site.name.clone(), ..armed.instance.clone() };
                home.armed(&op, &instance)?;
                Ok(Armed { instance, ..armed })
            })
            .await
    }

    async fn detach(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (this, op, instance) = (self.clone(), op.clone(), instance.clone());
        self.keeper
            .act("detach", move |site| {
                let patient = site.attached(&instance)?.0.patient();
                let _turn = site.register.turn(&op, &instance.machine)?;
                let (kept, home) = site.attached(&instance)?;
                if patient.wait(site.runs(kept, &home, &instance))? == Some(true) {
                    return Ok(());
                }
                let (rescue, there) = patient.wait(this.there(&instance))?;
                patient.wait(rescue.detach(&op, &there))
            })
            .await
    }

    /// Done when the restored system's agent answers.
    async fn start(
        &self,
        op: &Op,
        instance: &Instance,
        what: &Recovery,
        permit: BootPermit,
    ) -> Result<Booted> {
        if what.purpose == Purpose::Drill {
            let message = "bare disks take no drill";
            return Err(Error::new(ErrorKind::Unsupported, message).at(&self.keeper.name(), "start"));
        }
        let (this, op, instance, what) = (self.clone(), op.clone(), instance.clone(), what.clone());
        self.keeper
            .act("start", move |site| {
                permit.admits(&op, &instance, what.purpose)?;
                let patient = site.attached(&instance)?.0.instead();
                let _turn = site.register.turn(&op, &instance.machine)?;
                let (kept, home) = site.attached(&instance)?;
                // Looked for only where it has to be left: nobody finds one that was.
                let leaves = || {
                    patient.wait(async {
                        let (rescue, there) = this.there(&instance).await?;
                        rescue.start(&op, &there, &what, permit).await
                    })
                };
                site.restart(&op, kept, &home, &instance, leaves, &patient)
            })
            .await
    }

    async fn stop(&self, op: &Op, instance: &Instance, grace: Duration) -> Result<()> {
        self.keeper.0.attached(instance).map_err(|e| e.at(&self.keeper.name(), "stop"))?;
        site_recovery::Source::fence(&self.keeper, op, instance, grace).await
    }

    async fn remove(&self, op: &Op, instance: &Instance) -> Result<()> {
        let (op, instance) = (op.clone(), instance.clone());
        self.keeper
            .act("remove", move |site| {
                site.of(&instance)?;
                let _turn = site.register.turn(&op, &instance.machine)?;
                let name = &instance.name;
                Err(refused(format!("{name} is hardware: it is never removed; retire the instance instead")))
            })
            .await
    }
}

impl Home {
    /// What lands here is of this generation from now on. The restored system's agent has another mark, or none: it is told
    /// once it answers.
    fn armed(&self, op: &Op, instance: &Instance) -> Result<()> {
        let Some(mark) = self.mark()? else { return Ok(()) };
        let described = mark.described.standing_as(instance.clone());
        self.set_mark(&Mark { generation: instance.generation, described: described.clone(), ..mark })?;
        self.owe(Owed::Enrol { key: op.part("enrol").key, machine: described })
    }
}

impl Site {
    /// The server of an instance that `attach` returned.
    ///
    /// # Errors
    /// `NotFound`.
    fn attached(&self, instance: &Instance) -> Result<(&Kept, Home)> {
        let (kept, home) = self.of(instance)?;
        match home.returns()?.is_some_and(|machine| machine == instance.machine) {
            true => Ok((kept, home)),
            false => Err(not_found(format!("{} was never attached", instance.name))),
        }
    }

    /// The server that a machine returns to, or why there is none.
    fn returns_to(
        &self,
        machine: &Machine,
        settings: &Settings,
    ) -> Result<std::result::Result<&Kept, Finding>> {
        let named = settings.site.get("server");
        let marked = match named {
            Some(_) => None,
            None => self.server_of(machine.id())?,
        };
        let name = named.unwrap_or(&machine.instance.name);
        let Some(kept) = marked.or_else(|| self.servers.get(name)) else {
            let cause = format!("{name} is no server of {}", self.name);
            let remedy = "name the server that it returns to in settings.site.server";
            return Ok(Err(Finding::new("landing.server", Severity::Critical, cause, remedy)));
        };
        match self.home(&kept.server.name)?.must_be_of(machine.id()) {
            Err(other) if other.kind() == ErrorKind::Conflict => {
                let (cause, remedy) = (other.message(), "name another server");
                Ok(Err(Finding::new("landing.mark", Severity::Critical, cause, remedy)))
            }
            mark => mark.map(|_| Ok(kept)),
        }
    }

    pub(super) fn hold(&self, kept: &Kept, hold: bool, patient: &Patient) -> Result<()> {
        match kept.server.power.as_deref().filter(|c| c.keeps().holds) {
            Some(control) => patient.wait(control.hold(hold)),
            None => Ok(()),
        }
    }
}

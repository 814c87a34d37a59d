//! Calls, done on the roles that are served.

use super::Names;
use super::call::{Call, LandingSiteCall, ProcessServerCall, RecoverySiteCall, SourceCall};
use crate::allow::{Rights, Shown};
use crate::enrol::ServiceKind;
use crate::fault::Result;
use crate::server::{Offer, Served};
use serde::Serialize;
use site_recovery::{
    BootPermit, Error, ErrorKind, Evidence, Finding, Instance, MachineId, Peer, RoleName, Severity,
};

/// On whose behalf a call is done.
#[derive(Debug)]
pub(super) struct Caller<'a> {
    pub(super) shown: &'a Shown,
    pub(super) rights: &'a Rights,
    pub(super) offer: &'a Offer,
}

type Body = Result<Vec<u8>>;

fn told<T: Serialize>(value: &T) -> Body {
    Ok(serde_json::to_vec(value).expect("plain data serialises"))
}

impl Caller<'_> {
    /// Does what is asked, and gives the body of the answer.
    pub(super) async fn perform(&self, call: Call, on: &Served) -> Body {
        self.rights.check_duty(call.asks())?;
        call.machines().into_iter().try_for_each(|machine| self.rights.check(machine))?;
        match call {
            Call::Vitals => told(&self.offer.vital_signs().await),
            Call::Standing { machine } => self.standing(&machine, on).await,
            Call::Claim { op, machine } => told(&on.role().claim(&op, &machine).await?),
            Call::Source(call) => self.source(call, on).await,
            Call::ProcessServer(call) => self.process_server(call, on).await,
            Call::RecoverySite(call) => self.recovery_site(call, on).await,
            Call::LandingSite(call) => self.landing_site(call, on).await,
        }
    }

    /// The phase record of a machine, for an engine, for who may name it, and for the server itself: the agent whose name is
    /// that of an instance of it. That nothing is recorded is told to any agent: it says nothing of anybody.
    async fn standing(&self, machine: &MachineId, on: &Served) -> Body {
        let record = on.standing()?.recall(machine).await?;
        let agent = self.shown.service().filter(|service| service.kind() == ServiceKind::Agent);
        let is_it = agent.is_some_and(|agent| {
            let named = |instance: &Instance| instance.name == agent.name();
            record.as_ref().is_none_or(|record| record.control.item.instances.iter().any(named))
        });
        if is_it || self.rights.check(machine).is_ok() {
            return told(&record);
        }
        let said = format!("this client is no server of {machine}, as far as is recorded here");
        Err(Error::new(ErrorKind::Denied, said).with("machine", machine))
    }

    async fn source(&self, call: SourceCall, on: &Served) -> Body {
        let role = on.source()?;
        match call {
            SourceCall::Discover => {
                let mut all = role.discover().await?;
                all.retain(|machine| self.rights.may_name(machine.id()));
                told(&all)
            }
            SourceCall::Enrol { op, machine } => told(&role.enrol(&op, &machine).await?),
            SourceCall::Dismiss { op, instance } => told(&role.dismiss(&op, &instance).await?),
            SourceCall::Capture { op, of, want } => told(&role.capture(&op, &of, want).await?),
            SourceCall::Changes { capture, machine, since } => {
                told(&role.changes(&capture, &machine, &since).await?)
            }
            SourceCall::Release { op, capture, machine, fate } => {
                told(&role.release(&op, &capture, &machine, fate).await?)
            }
            SourceCall::Sweep { op, instance, keep } => told(&role.sweep(&op, &instance, &keep).await?),
            SourceCall::Consolidate { op, instance } => told(&role.consolidate(&op, &instance).await?),
            SourceCall::Power { instance } => told(&role.power(&instance).await?),
            SourceCall::Fence { op, instance, grace } => told(&role.fence(&op, &instance, grace).await?),
            SourceCall::Unfence { op, instance, evidence, start } => {
                told(&role.unfence(&op, &instance, self.admit(evidence)?, start).await?)
            }
        }
    }

    async fn process_server(&self, call: ProcessServerCall, on: &Served) -> Body {
        let role = on.process_server()?;
        match call {
            ProcessServerCall::Ship { op, what, source, replica } => {
                let (source, replica) =
                    (self.names()?.source(&source).await?, self.names()?.replica(&replica).await?);
                told(&role.ship(&op, &what, &source, &replica).await?)
            }
            ProcessServerCall::Drain { op, machine, replica } => {
                let replica = self.names()?.replica(&replica).await?;
                told(&role.drain(&op, &machine, &replica).await?)
            }
            ProcessServerCall::Lag { machine } => told(&role.lag(&machine).await?),
            ProcessServerCall::Knows { roles } => {
                let mut findings = role.knows(&roles).await?;
                for name in &roles {
                    findings.extend(self.unknown(name).await);
                }
                told(&findings)
            }
        }
    }

    async fn recovery_site(&self, call: RecoverySiteCall, on: &Served) -> Body {
        let role = on.recovery_site()?;
        match call {
            RecoverySiteCall::Check { machine, settings } => told(&role.check(&machine, &settings).await?),
            RecoverySiteCall::Materialise { op, what, from } => {
                let from = on.replica_or(&from, self.offer.names()).await?;
                told(&role.materialise(&op, &what, &from).await?)
            }
            RecoverySiteCall::Withdraw { op, made_by, what } => {
                told(&role.withdraw(&op, &made_by, &what).await?)
            }
            RecoverySiteCall::Boot { op, what, armed, evidence } => {
                told(&role.boot(&op, &what, &armed, self.admit(evidence)?).await?)
            }
            RecoverySiteCall::Tend { op, armed, from } => {
                let from = on.replica_or(&from, self.offer.names()).await?;
                told(&role.tend(&op, &armed, &from).await?)
            }
            RecoverySiteCall::Settle { op, armed } => told(&role.settle(&op, &armed).await?),
            RecoverySiteCall::SetAside { op, instance } => told(&role.set_aside(&op, &instance).await?),
            RecoverySiteCall::Destroy { op, instance } => told(&role.destroy(&op, &instance).await?),
            RecoverySiteCall::Propose { machine } => told(&on.target()?.propose(&machine).await?),
            RecoverySiteCall::Offers => told(&on.master_target()?.offers().await?),
        }
    }

    async fn landing_site(&self, call: LandingSiteCall, on: &Served) -> Body {
        let role = on.landing_site()?;
        match call {
            LandingSiteCall::Survey { machine, settings } => told(&role.survey(&machine, &settings).await?),
            LandingSiteCall::Attach { op, machine, existing, settings } => {
                told(&role.attach(&op, &machine, existing, &settings).await?)
            }
            LandingSiteCall::Stamp { instance } => told(&role.stamp(&instance).await?),
            LandingSiteCall::Branch { op, instance } => told(&role.branch(&op, &instance).await?),
            LandingSiteCall::Part { op, instance } => told(&role.part(&op, &instance).await?),
            LandingSiteCall::Merge { op, instance } => told(&role.merge(&op, &instance).await?),
            LandingSiteCall::Arm { op, instance, generation } => {
                told(&role.arm(&op, &instance, generation).await?)
            }
            LandingSiteCall::Detach { op, instance } => told(&role.detach(&op, &instance).await?),
            LandingSiteCall::Start { op, instance, what, evidence } => {
                told(&role.start(&op, &instance, &what, self.relayed(evidence)?).await?)
            }
            LandingSiteCall::Stop { op, instance, grace } => told(&role.stop(&op, &instance, grace).await?),
            LandingSiteCall::Remove { op, instance } => told(&role.remove(&op, &instance).await?),
        }
    }

    /// Makes a permit of evidence again: from the engine alone under whose authority it was made, by its certificate. That
    /// the authority still passes is the role's own check, under its register.
    #[allow(clippy::disallowed_methods, reason = "this is the transport")]
    fn admit(&self, evidence: Evidence) -> Result<BootPermit> {
        let engine = self.shown.engine().ok_or_else(|| {
            let said =
                "leave to start a machine comes from an engine, and this client's certificate names none";
            Error::new(ErrorKind::Denied, said)
        })?;
        evidence.admit(&Peer { engine }, None)
    }

    /// As [`admit`](Self::admit), and from a master target or a keeper, too: it has admitted its engine's evidence, and passes
    /// it on to where it lands. Whoever writes the disks, or switches their server, could as well start them.
    #[allow(clippy::disallowed_methods, reason = "this is the transport")]
    fn relayed(&self, evidence: Evidence) -> Result<BootPermit> {
        let relays = |kind| matches!(kind, ServiceKind::MasterTarget | ServiceKind::Keeper);
        let may_relay = self.shown.service().is_some_and(|service| relays(service.kind()));
        match &evidence {
            Evidence::Proof { epoch, .. } if may_relay => {
                let engine = epoch.owner.clone();
                evidence.admit(&Peer { engine }, None)
            }
            _ => self.admit(evidence),
        }
    }

    fn names(&self) -> Result<&dyn Names> {
        let said = "this server knows no roles by name: it was given none";
        self.offer.names().ok_or_else(|| Error::new(ErrorKind::Unsupported, said))
    }

    async fn unknown(&self, name: &RoleName) -> Option<Finding> {
        let names = self.names().ok()?;
        let error = match names.source(name).await {
            Ok(_) => return None,
            Err(error) if error.kind() == ErrorKind::NotFound => match names.replica(name).await {
                Ok(_) => return None,
                Err(error) => error,
            },
            Err(error) => error,
        };
        let cause = format!("{name} cannot be reached from here: {}", error.message());
        let remedy = "enrol it, or name it in this service's settings";
        Some(Finding::new("process_server.unknown_role", Severity::Critical, cause, remedy))
    }
}

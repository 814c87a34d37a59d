//! Which side a process server is on. It belongs beside the source that it reads: what it reads is neither compressed nor
//! spared yet. On the way back Azure's tutorial allows one on premises for tests and over a private line (ExpressRoute) alone.

use crate::directory::Directory;
use crate::settings::{Because, FarSource, Settings};
use async_trait::async_trait;
use futures_util::future::join_all;
use site_recovery::{
    Capability, Clock, Finding, Lag, MachineId, Op, Point, ProcessServer, Replica, Result, Role, RoleName,
    Severity, Shipment, Shipped, Source, SystemClock,
};
use site_recovery_transport::{Heard, Pulse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a source has to say where it stands. On the way back most are silent, and nobody waits for each of them.
const TELLS_WITHIN: Duration = Duration::from_secs(5);

/// A process server that says, before it is needed, where it stands on the wrong side.
#[derive(Debug)]
pub(crate) struct Sided {
    own: Arc<site_recovery_process_server::ProcessServer>,
    directory: Directory,
    site: Option<String>,
    allowed: BTreeMap<RoleName, Because>,
}

impl Sided {
    pub(crate) fn new(
        own: Arc<site_recovery_process_server::ProcessServer>,
        directory: Directory,
        settings: &Settings,
    ) -> Self {
        let allowed = settings.far_sources.iter().cloned().map(|FarSource { name, because }| (name, because));
        Self { own, directory, site: settings.service.site.clone(), allowed: allowed.collect() }
    }

    /// Of a source that answers soon.
    async fn far(&self, source: &RoleName) -> Option<Finding> {
        let here = self.site.as_deref()?;
        let agents = within(self.directory.sources_of(source)).await?.ok()?;
        let heard = join_all(agents.iter().map(|agent| within(agent.heard()))).await;
        let mut heard = heard.into_iter().flatten().flatten();
        heard.find_map(|heard| verdict(source, here, &heard, self.allowed.get(source)))
    }
}

/// What comes soon.
async fn within<T>(asked: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        told = asked => Some(told),
        () = SystemClock.sleep(TELLS_WITHIN) => None,
    }
}

/// What is to be said of a source that answered.
fn verdict(source: &RoleName, here: &str, heard: &Heard, because: Option<&Because>) -> Option<Finding> {
    let there = heard.signs.site.as_deref().filter(|there| *there != here)?;
    let away = heard.round_trip.as_millis();
    let cause = format!("{source} stands at {there}, this process server at {here}, {away} ms away");
    let (severity, why, remedy) = match because {
        None => {
            let remedy = "use a process server beside the source; for tests, over a private line, or where somebody \
                          answers for it, name the source as a far_source in the settings of this one";
            (Severity::Critical, String::new(), remedy)
        }
        Some(Because::Test) => (Severity::Warning, "; allowed for tests".to_owned(), "never in production"),
        Some(Because::PrivateLine) => {
            (Severity::Info, "; allowed over a private line".to_owned(), "see that it stays one")
        }
        Some(Because::Operator { name, reason }) => {
            let why = format!("; {name} answers for it: {reason}");
            (Severity::Warning, why, "use a process server beside the source as soon as there is one")
        }
    };
    Some(Finding::new("process_server.side", severity, format!("{cause}{why}"), remedy))
}

#[async_trait]
impl Role for Sided {
    fn name(&self) -> RoleName {
        self.own.name()
    }

    fn capability(&self) -> Capability {
        self.own.capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.own.claim(op, machine).await
    }
}

#[async_trait]
impl ProcessServer for Sided {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        self.own.ship(op, what, source, replica).await
    }

    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        self.own.drain(op, machine, replica).await
    }

    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        self.own.lag(machine).await
    }

    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        let mut findings = self.own.knows(roles).await?;
        findings.extend(join_all(roles.iter().map(|role| self.far(role))).await.into_iter().flatten());
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::Timestamp;
    use site_recovery_transport::VitalSigns;
    use std::time::Duration;

    fn told(there: Option<&str>, because: Option<&Because>) -> Option<Severity> {
        let signs = VitalSigns { site: there.map(str::to_owned), ..VitalSigns::default() };
        let round_trip = Duration::from_millis(40);
        let heard = Heard { signs, round_trip, skew: Duration::ZERO, at: Timestamp(0) };
        let finding = verdict(&"azure".into(), "hall-1", &heard, because)?;
        assert!(finding.cause.contains("40 ms"), "{finding:?}");
        Some(finding.severity)
    }

    #[test]
    fn one_on_the_wrong_side_is_refused_unless_it_is_said_why_not() {
        assert_eq!(told(Some("hall-1"), None), None);
        assert_eq!(told(None, None), None);
        assert_eq!(told(Some("azure-west"), None), Some(Severity::Critical));
        assert_eq!(told(Some("azure-west"), Some(&Because::Test)), Some(Severity::Warning));
        assert_eq!(told(Some("azure-west"), Some(&Because::PrivateLine)), Some(Severity::Info));
        let operator = Because::Operator { name: "jane".into(), reason: "no other is left".into() };
        assert_eq!(told(Some("azure-west"), Some(&operator)), Some(Severity::Warning));
    }
}

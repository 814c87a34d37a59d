//! The role.

use crate::blocking::blocking;
use crate::builder::Builder;
use crate::desk::Desk;
use crate::health::{Vitals, findings};
use crate::host::{Sample, Window};
use crate::means::Means;
use crate::ship::Shipping;
use crate::sizing::Work;
use crate::spool::{Shelf, Spool};
use crate::throttle::Throttle;
use async_trait::async_trait;
use site_recovery::{
    Capability, Clock, Error, Finding, Lag, MachineId, Op, Point, Replica, Result, Role, RoleName, Severity,
    Shipment, Shipped, Source, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tracing::Instrument;

/// The process server of this process.
///
/// # Guarantees
/// - A point is sealed when the replica has acknowledged every run that the source calls changed, that the replica has
///   touched, and that the newest point does not have; nothing is counted earlier.
/// - One machine is served by one call at a time. A call of a higher epoch ends those of lower ones and waits until
///   what they began is over.
/// - Plain bytes in memory never exceed the pool. Frames made of them stay within three quarters of it again, and a
///   few hundred KiB per disk go for what is known of it (extents, hashes).
/// - Room in the pool is given first come, first served, over all machines, but no machine holds more of it than stays
///   free for the others: one whose replica hangs leaves at least half, until its calls end.
///
/// # The spool
/// Where a folder is given, a delta that the replica does not answer for is kept there whole, durably, and is shipped
/// before anything newer. A capture in the spool stands on the newest point that was seen and contains all that waits
/// before it. One that cannot become a point any more (damaged, or its timeline moved on without it) is renamed, never
/// deleted, and named by an error once. Epoch registers are in that folder too; without one they live as long
/// as the process, and the replica's own register stands alone after a restart.
///
/// # Metrics
/// Per `machine`: counters `site_recovery_read_bytes_total` and `site_recovery_sent_bytes_total`, gauges
/// `site_recovery_backlog_bytes` and `site_recovery_drain_seconds`, of the transfer under way. Per `machine` and `disk`:
/// gauge `site_recovery_disk_bytes` with `place` `source` (still to read), `in_flight` and `destination`.
#[derive(Debug)]
pub struct ProcessServer {
    name: RoleName,
    pub(crate) means: Arc<Means>,
    pub(crate) spool: Option<Arc<Spool>>,
    known: Option<BTreeSet<RoleName>>,
    clock: Arc<dyn Clock>,
    host: Mutex<Window>,
    since: Timestamp,
    desks: Mutex<BTreeMap<MachineId, Arc<Desk>>>,
}

impl ProcessServer {
    /// Starts building one.
    pub fn builder(name: impl Into<RoleName>) -> Builder {
        Builder::new(name.into())
    }

    pub(crate) fn new(
        name: RoleName,
        means: Means,
        spool: Option<Spool>,
        known: Option<BTreeSet<RoleName>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (means, spool, since) = (Arc::new(means), spool.map(Arc::new), clock.now());
        let (host, desks) = (Mutex::default(), Mutex::default());
        Self { name, means, spool, known, clock, host, since, desks }
    }

    /// Changes the throttle, also for what is under way.
    ///
    /// # Errors
    /// `Invalid`, naming the field; then the one before holds on.
    pub fn set_throttle(&self, throttle: Throttle) -> Result<()> {
        throttle.validate().map_err(|e| e.at(&self.name, "set_throttle"))?;
        self.means.meter.set(throttle);
        Ok(())
    }

    /// What an operator should see to here and now, by the numbers of Azure Site Recovery's process server:
    ///
    /// | code | warning | critical |
    /// |---|---|---|
    /// | `process_server.backlog`, per machine | takes over 30 minutes at the rate of the last five | over 45 |
    /// | `process_server.spool`, free of its limit, or of its volume | under 30 % | under 25 % |
    /// | `process_server.cpu` and `process_server.memory` of the host | over 80 % | over 95 % |
    ///
    /// With less than 20 % free nothing new is spooled but the last changes before a failover. The host is looked at
    /// with each call, by `/proc`; it is judged once the calls span 15 minutes, over these. Call it every minute.
    ///
    /// # Errors
    /// Those of looking at the spool.
    pub async fn health(&self) -> Result<Vec<Finding>> {
        let desks: Vec<_> = self.desks.lock().expect("no panic under this lock").values().cloned().collect();
        let lags = desks.iter().map(|desk| (desk.machine().clone(), desk.progress.lag())).collect();
        let (spool, now) = (self.spool.clone(), self.clock.now());
        let looked = blocking(move || {
            let free = spool.map(|spool| spool.free()).transpose()?;
            Ok((free, Sample::take(now)))
        });
        let (spool_free, sample) = looked.await.map_err(|e| e.at(&self.name, "health"))?;
        let mut host = self.host.lock().expect("no panic under this lock");
        let load = sample.and_then(|sample| host.add(sample));
        Ok(findings(&Vitals { lags, spool_free, load }))
    }

    /// The work since it was built: machines that were served, and what was shipped of them, as of a day.
    pub fn work(&self) -> Work {
        let desks = self.desks.lock().expect("no panic under this lock");
        let shipped: u64 = desks.values().map(|desk| desk.progress.lag().shipped).sum();
        let days = self.clock.now().since(self.since).as_secs_f64() / 86_400.0;
        // Of the first hour nothing can be told for a day.
        let changes_a_day = if days < 1.0 / 24.0 { 0 } else { (shipped as f64 / days) as u64 };
        Work { machines: desks.len() as u64, changes_a_day }
    }

    pub(crate) fn shelf(&self, machine: &MachineId, replica: &Arc<dyn Replica>) -> Option<Shelf> {
        self.spool.as_ref().map(|spool| spool.shelf(machine, &replica.name()))
    }

    fn desk(&self, machine: &MachineId) -> Arc<Desk> {
        let mut desks = self.desks.lock().expect("no panic under this lock");
        let new = || {
            let register = self.spool.as_ref().map(|spool| spool.register(machine));
            Arc::new(Desk::new(machine.clone(), register, Arc::clone(&self.clock)))
        };
        Arc::clone(desks.entry(machine.clone()).or_insert_with(new))
    }
}

#[async_trait]
impl Role for ProcessServer {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        Capability::default()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.desk(machine).claim(op).await.map_err(|e| e.at(&self.name, "claim"))
    }
}

#[async_trait]
impl site_recovery::ProcessServer for ProcessServer {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        let span =
            tracing::info_span!("ship", machine = %what.machine, cut = %what.capture.cut, key = %op.key);
        let shipped = async {
            let member = what.capture.member(&what.machine)?;
            member.machine.validate()?;
            let desk = self.desk(&what.machine);
            let work =
                |turn| Shipping { server: self, desk: &desk, turn, op, what, member, source, replica }.run();
            desk.under(op, work).await
        };
        shipped.instrument(span).await.map_err(|e| e.at(&self.name, "ship"))
    }

    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        let span = tracing::info_span!("drain", machine = %machine, key = %op.key);
        let desk = self.desk(machine);
        let work = async |turn| Ok(self.drain_shelf(op, &desk, &turn, machine, replica).await?);
        desk.under(op, work).instrument(span).await.map_err(|e: Error| e.at(&self.name, "drain"))
    }

    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        let mut lag = self.desk(machine).progress.lag();
        if let Some(spool) = self.spool.clone() {
            let machine = machine.clone();
            let spooled = blocking(move || {
                let mut captures = vec![];
                for shelf in spool.shelves(&machine)? {
                    captures.extend(shelf.captures()?);
                }
                captures.sort_by_key(|c| c.header.manifest.taken);
                Ok(captures.iter().map(|c| c.cut().clone()).collect())
            });
            lag.spooled = spooled.await.map_err(|e| e.at(&self.name, "lag"))?;
        }
        Ok(lag)
    }

    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        let Some(known) = &self.known else { return Ok(vec![]) };
        let unknown = roles.iter().filter(|role| !known.contains(role));
        Ok(unknown
            .map(|role| {
                Finding::new(
                    "process_server.unknown_role",
                    Severity::Critical,
                    format!("process server {} does not know a role {role}", self.name),
                    "add it to the roles that the process server is built with",
                )
            })
            .collect())
    }
}

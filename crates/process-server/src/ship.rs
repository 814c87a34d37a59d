//! Ships one member of a capture: to the replica, or into the spool while the replica is away.

use crate::base::Base;
use crate::blocking::blocking;
use crate::delivery::{Delivery, Order};
use crate::desk::{Cost, Desk, Turn};
use crate::drain::point_of;
use crate::halt::Transfer;
use crate::health::LEAST_FREE;
use crate::lane::{Lane, Parcel, parcels};
use crate::plan::{Find, Plan, Planned, plan};
use crate::server::ProcessServer;
use crate::spool::{Header, Reader, Shelf, Spool};
use futures_util::StreamExt;
use site_recovery::state::Phase;
use site_recovery::{
    ChangeSet, CutId, DiskId, Disks, Error, ErrorKind, Form, Manifest, Member, Op, Point, Replica, Result,
    Run, Shipment, Shipped, Source,
};
use std::sync::Arc;

/// Parcels that are appended to the spool in one go.
const APPENDED: usize = 16;

/// One call.
pub(crate) struct Shipping<'a> {
    pub(crate) server: &'a ProcessServer,
    pub(crate) desk: &'a Arc<Desk>,
    pub(crate) turn: Turn,
    pub(crate) op: &'a Op,
    pub(crate) what: &'a Shipment,
    pub(crate) member: &'a Member,
    pub(crate) source: &'a Arc<dyn Source>,
    pub(crate) replica: &'a Arc<dyn Replica>,
}

impl Shipping<'_> {
    pub(crate) async fn run(self) -> Result<Shipped> {
        match self.deliver().await {
            Err(halt) if halt.replica_is_away() => self.spool(halt.into()).await,
            done => done.map_err(Error::from),
        }
    }

    async fn deliver(&self) -> Transfer<Shipped> {
        let machine = self.member.machine.id();
        let drained = self.server.drain_shelf(self.op, self.desk, &self.turn, machine, self.replica).await?;
        if let Some(point) = drained.into_iter().find(|p| &p.cut == self.cut()) {
            return Ok(self.sealed_before(point));
        }
        let base = Base::ask(self.replica, machine).await?;
        if base.cut() == Some(self.cut()) {
            return Ok(self.sealed_before(point_of(self.replica, machine, self.cut()).await?));
        }
        let plan = match self.plan(&base, &ChangeSet::new()).await? {
            Planned::Go(plan) => plan,
            Planned::NeedsCompare { reason } => return Ok(Shipped::NeedsCompare { reason }),
        };
        let disks = self.disks().await?;
        self.remember(base.begun(self.cut(), &plan.set)).await?;
        let manifest = self.manifest();
        let (point, cost) = self.send(&base, &plan, &disks, &manifest).await?;
        self.remember(Base::sealed(&point, &manifest)).await?;
        tracing::info!(point = %point.id, changed = cost.changed, shipped = cost.shipped, "sealed");
        Ok(cost.of(point))
    }

    async fn send(
        &self,
        base: &Base,
        plan: &Plan,
        disks: &Disks,
        manifest: &Manifest,
    ) -> Transfer<(Point, Cost)> {
        let op = self.op.part(plan.key());
        let means = &self.server.means;
        let order = Order { op: &op, manifest, set: &plan.set, base };
        let begun = Delivery::begin(means, self.desk, &self.turn, self.replica, order);
        let mut delivery = begun.await?;
        let machine = &self.member.machine;
        let plan = &plan.clone().over(delivery.touched());
        let form = self.server.means.form(machine.id(), self.replica.capability().takes);
        let lanes = self.lanes(plan, disks, form, |id, runs| delivery.left(id, runs));
        delivery.carry(parcels(lanes, means.disks_at_once)).await?;
        delivery.seal(manifest).await
    }

    /// Keeps the capture in the spool, or says why it cannot: `away` is the replica's silence.
    ///
    /// While the spool is nearly full, nothing new comes into it but the last changes before a failover: a capture that
    /// waits at its source is contained in the next one, those are not.
    ///
    /// Only deltas are spooled. A whole copy is not bounded by what changes, and goes on where it broke.
    async fn spool(&self, away: Error) -> Result<Shipped> {
        let Some(spool) = &self.server.spool else { return Err(away) };
        let shelf = spool.shelf(self.member.machine.id(), &self.replica.name());
        let stock = shelf.clone();
        let (waiting, base) = self.blocking(move || Ok((stock.sound()?, stock.recall()?))).await?;
        if let Some(same) = waiting.iter().find(|c| c.cut() == self.cut()) {
            return Ok(Shipped::Spooled { bytes: same.bytes });
        }
        if !self.is_last() {
            let spool = Arc::clone(spool);
            let free = self.blocking(move || spool.free()).await?;
            if free < LEAST_FREE {
                let said = format!("only {:.0} % of the spool are free", free * 100.0);
                return Err(away.with("not_spooled", said));
            }
        }
        let Some(base) = base else {
            return Err(away.with("not_spooled", "where the timeline stands was never seen"));
        };
        let paths: Vec<_> = waiting.iter().map(|c| c.path.clone()).collect();
        let before = self.blocking(move || {
            let mut sets = paths.iter().map(|path| Reader::open(path)?.0.set());
            sets.try_fold(ChangeSet::new(), |all, set| Ok(all.union(&set?)))
        });
        let plan = match self.plan(&base, &before.await?).await? {
            Planned::Go(plan) if plan.find == Find::Everything => plan,
            Planned::Go(_) => return Err(away.with("not_spooled", "only deltas are")),
            Planned::NeedsCompare { reason } => return Ok(Shipped::NeedsCompare { reason }),
        };
        let mut follows = base.begun.clone();
        follows.extend(waiting.iter().map(|c| c.cut().clone()));
        let header = Header {
            key: self.op.part(plan.key()).key,
            on: base.point(),
            since: base.cursor().cloned(),
            follows,
            manifest: self.manifest(),
        };
        let disks = self.disks().await?;
        match self.keep(&plan, &disks, header, shelf, spool).await {
            Ok(bytes) => {
                tracing::warn!(machine = %self.member.machine.id(), cut = %self.cut(), bytes, %away, "spooled");
                Ok(Shipped::Spooled { bytes })
            }
            Err(e) if e.kind() == ErrorKind::OutOfSpace => Err(away.with("not_spooled", e)),
            Err(e) => Err(e),
        }
    }

    async fn keep(
        &self,
        plan: &Plan,
        disks: &Disks,
        header: Header,
        shelf: Shelf,
        spool: &Arc<Spool>,
    ) -> Result<u64> {
        self.desk.progress.begin(&plan.set);
        let set = plan.set.clone();
        let mut writer = self.blocking(move || shelf.create(&header, &set)).await?;
        let lanes = self.lanes(plan, disks, Form::Sealed, |_, runs| runs.to_vec());
        let mut parcels = parcels(lanes, self.server.means.disks_at_once).ready_chunks(APPENDED);
        while let Some(ready) = parcels.next().await {
            let ready = ready.into_iter().collect::<Transfer<Vec<Parcel>>>()?;
            let (spool, desk) = (Arc::clone(spool), Arc::clone(self.desk));
            let appended = self.blocking(move || {
                for record in ready.iter().flat_map(|parcel| &parcel.found.records) {
                    writer.append(record)?;
                    desk.progress.landed(&record.disk, record.run.len);
                }
                writer.flush()?;
                spool.check_room()?;
                Ok(writer)
            });
            writer = appended.await?;
        }
        self.blocking(move || writer.publish()).await
    }

    fn lanes(
        &self,
        plan: &Plan,
        disks: &Disks,
        form: Form,
        mut left: impl FnMut(&DiskId, &[Run]) -> Vec<Run>,
    ) -> Vec<(Lane, Vec<Run>)> {
        let machine = self.member.machine.id();
        let bytes_read = metrics::counter!("site_recovery_read_bytes_total", "machine" => machine.0.clone());
        let lane = |(id, runs): (&DiskId, &[Run])| {
            let lane = Lane {
                means: Arc::clone(&self.server.means),
                desk: Arc::clone(self.desk),
                id: id.clone(),
                disk: Arc::clone(&disks[id]),
                find: plan.find,
                replica: Arc::clone(self.replica),
                form,
                bytes_read: bytes_read.clone(),
            };
            (lane, left(id, runs))
        };
        plan.set.disks().map(lane).collect()
    }

    async fn plan(&self, base: &Base, spooled: &ChangeSet) -> Result<Planned> {
        let Shipment { capture, basis, .. } = self.what;
        plan(capture, &self.member.machine, *basis, base, spooled, self.source).await
    }

    /// The disks of the member, as many and as large as the capture says.
    async fn disks(&self) -> Result<Disks> {
        let machine = &self.member.machine;
        let disks = self.source.disks(&self.op.part("disks"), &self.what.capture, machine.id()).await?;
        for spec in machine.included() {
            let found = disks.get(&spec.id).map(|d| d.size());
            if found != Some(spec.size) {
                let said =
                    format!("disk {} has {} bytes in the capture, and {found:?} to read", spec.id, spec.size);
                return Err(Error::new(ErrorKind::Conflict, said).with("machine", machine.id()));
            }
        }
        Ok(disks)
    }

    fn manifest(&self) -> Manifest {
        let capture = &self.what.capture;
        Manifest {
            machine: self.member.machine.clone(),
            members: capture.members.iter().map(|m| m.machine.id().clone()).collect(),
            cut: capture.cut.clone(),
            taken: capture.taken,
            consistency: capture.consistency,
            cursor: self.member.cursor.clone(),
            sidecars: self.member.sidecars.clone(),
            control: self.what.control.clone(),
        }
    }

    /// The answer to a repeat. What it cost is known as long as the process lives.
    fn sealed_before(&self, point: Point) -> Shipped {
        let cost = self.desk.cost.lock().expect("no panic under this lock");
        let cost = cost.as_ref().filter(|(cut, id, _)| (cut, id) == (&point.cut, &point.id)).map(|c| c.2);
        cost.unwrap_or_default().of(point)
    }

    async fn remember(&self, base: Base) -> Result<()> {
        match self.server.shelf(self.member.machine.id(), self.replica) {
            Some(shelf) => self.blocking(move || shelf.remember(&base)).await,
            None => Ok(()),
        }
    }

    /// Work on files, which is part of this turn until it ends, also when nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turn.clone();
        blocking(move || {
            let done = work();
            drop(turn);
            done
        })
        .await
    }

    /// Whether these are the last changes before a failover, by the phase of the item that goes into the manifest.
    fn is_last(&self) -> bool {
        let phase = self.what.control.item.state.phase;
        matches!(phase, Phase::FailoverInitiated(_) | Phase::FailoverCompleting(_))
    }

    fn cut(&self) -> &CutId {
        &self.what.capture.cut
    }
}

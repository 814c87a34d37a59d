//! The roles of a remote store: each method is one request.

use super::RemoteStore;
use super::ask::Ask;
use super::disk::open_point;
use crate::fault::{Fault, Result};
use crate::frame::{Kind, MOST_NAMES, MOST_RECORDS, WriteHead, has_end, json, parse_hashes, payload};
use crate::message::Call;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use site_recovery::{
    Capability, ChangeSet, Complete, CutId, DiskId, Disks, Error, Finding, HASH_BLOCK, Hash, Head, Ingest,
    Landed, Machine, MachineId, Manifest, Op, PhaseRecord, Point, PointId, Record, RecoveryPointStore,
    Replica, Role, RoleName, Run, Seed, Settings, Timestamp,
};

/// The most that hashes are asked of at a time.
const HASHED: u64 = HASH_BLOCK << 16;

impl RemoteStore {
    async fn call<T: DeserializeOwned>(&self, operation: &'static str, call: Call) -> Result<T> {
        self.plain(Ask::call(&call)).await.map_err(|e| e.at(&self.name, operation))
    }

    async fn plain<T: DeserializeOwned>(&self, ask: Ask) -> Result<T> {
        let body = self.body(ask).await?;
        json("an answer", &body).map_err(|e| Fault::from(e).told())
    }

    async fn body(&self, ask: Ask) -> Result<Vec<u8>> {
        self.owner.0.ask(ask).await?.whole()
    }

    /// A list, in as many parts as it takes. Each is let go before the next one is looked at.
    async fn list<T: DeserializeOwned>(&self, operation: &'static str, call: Call) -> Result<Vec<T>> {
        let listed = async {
            let mut all = vec![];
            for part in self.owner.0.ask(Ask::call(&call)).await?.parts()? {
                all.append(&mut json::<Vec<T>>("a list", &part).map_err(|e| Fault::from(e).told())?);
                tokio::task::yield_now().await;
            }
            Ok(all)
        };
        listed.await.map_err(|e: Error| e.at(&self.name, operation))
    }

    async fn hashes_of(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        if !has_end(run) {
            return Err(endless(run));
        }
        let (mut hashes, mut at) = (vec![], run.start);
        loop {
            let part = Run::new(at, (run.end() - at).min(HASHED));
            let call = Call::Hashes { machine: machine.clone(), disk: disk.clone(), run: part };
            let body = self.body(Ask::call(&call)).await?;
            hashes.extend(parse_hashes(&body).map_err(|e| Fault::from(e).told())?);
            at = part.end();
            if at == run.end() {
                return Ok(hashes);
            }
        }
    }

    async fn land(&self, ingest: &Ingest, batch: u64, records: &[Record]) -> Result<Landed> {
        if records.len() > MOST_RECORDS {
            let rule = format!("a batch has at most {MOST_RECORDS} records");
            return Err(Error::invalid("records", records.len(), &rule, "send smaller batches"));
        }
        if let Some(record) = records.iter().find(|r| !has_end(r.run)) {
            return Err(endless(record.run));
        }
        if let Some(record) = records.iter().find(|r| r.disk.0.len() > u16::MAX.into()) {
            let rule = "a name has at most 65535 bytes";
            return Err(Error::invalid("disk", format!("{} bytes", record.disk.0.len()), rule, "shorten it"));
        }
        let names: usize = records.iter().map(|r| r.disk.0.len()).sum();
        if names > MOST_NAMES {
            let rule = format!("the names of a batch's records have at most {MOST_NAMES} bytes");
            return Err(Error::invalid("records", names, &rule, "send smaller batches"));
        }
        let mut parts = vec![WriteHead::encode(ingest, batch, records)];
        parts.extend(records.iter().filter_map(payload).cloned());
        self.plain(Ask::of(Kind::Write, parts)).await
    }
}

fn endless(run: Run) -> Error {
    let value = format!("{} bytes at {}", run.len, run.start);
    Error::invalid("run", value, "it ends below 2^64", "give a run of the disk")
}

#[async_trait]
impl Role for RemoteStore {
    fn name(&self) -> RoleName {
        self.name.clone()
    }

    fn capability(&self) -> Capability {
        self.owner.0.capability().clone()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.call("claim", Call::Claim { op: op.clone(), machine: machine.clone() }).await
    }
}

#[async_trait]
impl Replica for RemoteStore {
    async fn machines(&self) -> Result<Vec<MachineId>> {
        self.list("machines", Call::Machines).await
    }

    async fn prepare(&self, op: &Op, machine: &Machine, seed: &Seed, settings: &Settings) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        let call = Call::Prepare { op, machine, seed: seed.clone(), settings: settings.clone() };
        self.call("prepare", call).await
    }

    async fn head(&self, machine: &MachineId) -> Result<Head> {
        self.call("head", Call::Head { machine: machine.clone() }).await
    }

    async fn begin(&self, op: &Op, machine: &Machine, cut: &CutId, plan: &ChangeSet) -> Result<Ingest> {
        let (op, machine) = (op.clone(), machine.clone());
        let call = Call::Begin { op, machine, cut: cut.clone(), plan: plan.clone() };
        self.call("begin", call).await
    }

    async fn write(&self, ingest: &Ingest, batch: u64, records: Vec<Record>) -> Result<Landed> {
        self.land(ingest, batch, &records).await.map_err(|e| e.at(&self.name, "write"))
    }

    async fn seal(&self, ingest: &Ingest, manifest: &Manifest, complete: Complete) -> Result<Point> {
        let (ingest, manifest) = (ingest.clone(), manifest.clone());
        let (records, digest) = (complete.records(), complete.digest());
        self.call("seal", Call::Seal { ingest, manifest, records, digest }).await
    }

    async fn points(&self, machine: &MachineId) -> Result<Vec<Point>> {
        self.list("points", Call::Points { machine: machine.clone() }).await
    }

    async fn manifest(&self, machine: &MachineId, point: PointId) -> Result<Manifest> {
        self.call("manifest", Call::Manifest { machine: machine.clone(), point }).await
    }

    async fn open(&self, machine: &MachineId, point: PointId) -> Result<Disks> {
        open_point(&self.owner, machine, point).await.map_err(|e| e.at(&self.name, "open"))
    }

    async fn hashes(&self, machine: &MachineId, disk: &DiskId, run: Run) -> Result<Vec<Hash>> {
        self.hashes_of(machine, disk, run).await.map_err(|e| e.at(&self.name, "hashes"))
    }

    async fn changed(
        &self,
        machine: &MachineId,
        from: Option<PointId>,
        to: PointId,
    ) -> Result<Option<ChangeSet>> {
        let call = Call::Changed { machine: machine.clone(), from, to };
        self.call("changed", call).await
    }

    async fn pin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let (op, machine, why) = (op.clone(), machine.clone(), why.to_owned());
        self.call("pin", Call::Pin { op, machine, point, why }).await
    }

    async fn unpin(&self, op: &Op, machine: &MachineId, point: PointId, why: &str) -> Result<()> {
        let (op, machine, why) = (op.clone(), machine.clone(), why.to_owned());
        self.call("unpin", Call::Unpin { op, machine, point, why }).await
    }

    async fn prune(&self, op: &Op, machine: &MachineId, drop: &[PointId]) -> Result<Vec<PointId>> {
        let (op, machine, drop) = (op.clone(), machine.clone(), drop.to_vec());
        self.list("prune", Call::Prune { op, machine, drop }).await
    }

    async fn delete(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.call("delete", Call::Delete { op: op.clone(), machine: machine.clone() }).await
    }

    async fn remember(&self, op: &Op, machine: &MachineId, record: &PhaseRecord) -> Result<()> {
        let (op, machine, record) = (op.clone(), machine.clone(), record.clone());
        self.call("remember", Call::Remember { op, machine, record }).await
    }

    async fn recall(&self, machine: &MachineId) -> Result<Option<PhaseRecord>> {
        self.call("recall", Call::Recall { machine: machine.clone() }).await
    }
}

#[async_trait]
impl RecoveryPointStore for RemoteStore {
    async fn lock(&self, op: &Op, machine: &MachineId, point: PointId, until: Timestamp) -> Result<()> {
        let (op, machine) = (op.clone(), machine.clone());
        self.call("lock", Call::Lock { op, machine, point, until }).await
    }

    async fn scrub(&self, machine: &MachineId, point: PointId) -> Result<Vec<Finding>> {
        self.list("scrub", Call::Scrub { machine: machine.clone(), point }).await
    }
}

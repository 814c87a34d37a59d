//! Requests as calls of a role.

use super::answer::{Body, bytes, list, whole};
use super::opened::{OpenPoints, Opening};
use crate::allow::Rights;
use crate::fault::Result;
use crate::frame::{Place, encode_extents, encode_hashes};
use crate::message::Call;
use site_recovery::{Complete, Error, ErrorKind, Ingest, Pool, Record, RecoveryPointStore};

/// One request, understood.
#[derive(Debug)]
pub(super) enum Request {
    Call(Call),
    Open(Opening, Call),
    Write {
        ingest: Ingest,
        batch: u64,
        records: Vec<Record>,
    },
    Read(Place),
    Extents(Place),
    /// Nothing is done, and why.
    Refused(Error),
}

/// Does what is asked, and gives the body of the answer.
pub(super) async fn perform(
    request: Request,
    role: &dyn RecoveryPointStore,
    points: &OpenPoints,
    pool: &Pool,
    rights: &Rights,
) -> Result<Body> {
    match request {
        Request::Refused(error) => Err(error),
        Request::Call(Call::Machines) => {
            let mut all = role.machines().await?;
            all.retain(|machine| rights.may_name(machine));
            Ok(list(all))
        }
        Request::Call(call) => perform_call(call, role).await,
        Request::Open(opening, Call::Open { machine, point, cut, .. }) => {
            whole(&opening.open(role, &machine, point, cut).await?)
        }
        Request::Open(..) => unreachable!("an opening comes with the call that asks for it"),
        Request::Write { ingest, batch, records } => whole(&role.write(&ingest, batch, records).await?),
        Request::Read(place) => {
            let read = points.disk(place).await?.read(place.run, pool).await?;
            if read.len() as u64 != place.run.len {
                let said = format!("a disk gave {} bytes for {}", read.len(), place.run.len);
                return Err(Error::new(ErrorKind::Corrupt, said));
            }
            Ok(bytes(read))
        }
        Request::Extents(place) => {
            let extents = points.disk(place).await?.extents(place.run).await?;
            Ok(bytes(encode_extents(&extents)))
        }
    }
}

async fn perform_call(call: Call, role: &dyn RecoveryPointStore) -> Result<Body> {
    match call {
        Call::Claim { op, machine } => whole(&role.claim(&op, &machine).await?),
        Call::Prepare { op, machine, seed, settings } => {
            whole(&role.prepare(&op, &machine, &seed, &settings).await?)
        }
        Call::Head { machine } => whole(&role.head(&machine).await?),
        Call::Begin { op, machine, cut, plan } => whole(&role.begin(&op, &machine, &cut, &plan).await?),
        Call::Seal { ingest, manifest, records, digest } => {
            whole(&role.seal(&ingest, &manifest, Complete::admit(records, digest)).await?)
        }
        Call::Points { machine } => Ok(list(role.points(&machine).await?)),
        Call::Manifest { machine, point } => whole(&role.manifest(&machine, point).await?),
        Call::Machines | Call::Open { .. } => unreachable!("they are done where they come"),
        Call::Hashes { machine, disk, run } => {
            Ok(bytes(encode_hashes(&role.hashes(&machine, &disk, run).await?)))
        }
        Call::Changed { machine, from, to } => whole(&role.changed(&machine, from, to).await?),
        Call::Pin { op, machine, point, why } => whole(&role.pin(&op, &machine, point, &why).await?),
        Call::Unpin { op, machine, point, why } => whole(&role.unpin(&op, &machine, point, &why).await?),
        Call::Prune { op, machine, drop } => Ok(list(role.prune(&op, &machine, &drop).await?)),
        Call::Delete { op, machine } => whole(&role.delete(&op, &machine).await?),
        Call::Remember { op, machine, record } => whole(&role.remember(&op, &machine, &record).await?),
        Call::Recall { machine } => whole(&role.recall(&machine).await?),
        Call::Lock { op, machine, point, until } => whole(&role.lock(&op, &machine, point, until).await?),
        Call::Scrub { machine, point } => Ok(list(role.scrub(&machine, point).await?)),
    }
}

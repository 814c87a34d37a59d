//! Requests as calls of a role.

use super::opened::{OpenPoints, Opening};
use crate::fault::Result;
use crate::frame::{Place, encode_extents, encode_hashes};
use crate::message::Call;
use bytes::Bytes;
use serde::Serialize;
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
    /// An open beyond this limit.
    TooManyOpen(usize),
}

/// Does what is asked, and gives the body of the answer.
pub(super) async fn perform(
    request: Request,
    role: &dyn RecoveryPointStore,
    points: &OpenPoints,
    pool: &Pool,
) -> Result<Bytes> {
    match request {
        Request::TooManyOpen(most) => {
            let said = format!("{most} points are open on this connection; let one go");
            Err(Error::new(ErrorKind::Busy, said).with("limit", "Limits::opened"))
        }
        Request::Call(call) => perform_call(call, role).await,
        Request::Open(opening, Call::Open { machine, point, cut, .. }) => {
            json(&opening.open(role, &machine, point, cut).await?)
        }
        Request::Open(..) => unreachable!("an opening comes with the call that asks for it"),
        Request::Write { ingest, batch, records } => json(&role.write(&ingest, batch, records).await?),
        Request::Read(place) => {
            let bytes = points.disk(place).await?.read(place.run, pool).await?;
            if bytes.len() as u64 != place.run.len {
                let said = format!("a disk gave {} bytes for {}", bytes.len(), place.run.len);
                return Err(Error::new(ErrorKind::Corrupt, said));
            }
            Ok(bytes)
        }
        Request::Extents(place) => Ok(encode_extents(&points.disk(place).await?.extents(place.run).await?)),
    }
}

async fn perform_call(call: Call, role: &dyn RecoveryPointStore) -> Result<Bytes> {
    match call {
        Call::Claim { op, machine } => json(&role.claim(&op, &machine).await?),
        Call::Machines => json(&role.machines().await?),
        Call::Prepare { op, machine, seed, settings } => {
            json(&role.prepare(&op, &machine, &seed, &settings).await?)
        }
        Call::Head { machine } => json(&role.head(&machine).await?),
        Call::Begin { op, machine, cut, plan } => json(&role.begin(&op, &machine, &cut, &plan).await?),
        Call::Seal { ingest, manifest, records, digest } => {
            json(&role.seal(&ingest, &manifest, Complete::admit(records, digest)).await?)
        }
        Call::Points { machine } => json(&role.points(&machine).await?),
        Call::Manifest { machine, point } => json(&role.manifest(&machine, point).await?),
        Call::Open { .. } => unreachable!("an open comes with its handle"),
        Call::Hashes { machine, disk, run } => Ok(encode_hashes(&role.hashes(&machine, &disk, run).await?)),
        Call::Changed { machine, from, to } => json(&role.changed(&machine, from, to).await?),
        Call::Pin { op, machine, point, why } => json(&role.pin(&op, &machine, point, &why).await?),
        Call::Unpin { op, machine, point, why } => json(&role.unpin(&op, &machine, point, &why).await?),
        Call::Prune { op, machine, drop } => json(&role.prune(&op, &machine, &drop).await?),
        Call::Delete { op, machine } => json(&role.delete(&op, &machine).await?),
        Call::Remember { op, machine, record } => json(&role.remember(&op, &machine, &record).await?),
        Call::Recall { machine } => json(&role.recall(&machine).await?),
        Call::Lock { op, machine, point, until } => json(&role.lock(&op, &machine, point, until).await?),
        Call::Scrub { machine, point } => json(&role.scrub(&machine, point).await?),
    }
}

fn json(answer: &impl Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(answer);
    Ok(bytes.map_err(|e| Error::new(ErrorKind::Corrupt, "the answer cannot be told").caused_by(e))?.into())
}

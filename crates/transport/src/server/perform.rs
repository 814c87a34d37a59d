//! Requests as calls of a role.

use super::answer::{Body, bytes, list, whole};
use super::opened::{OpenDisks, Opening};
use super::served::Served;
use crate::allow::Rights;
use crate::fault::Result;
use crate::frame::{Place, encode_extents, encode_hashes};
use crate::message::Call;
use bytes::Bytes;
use site_recovery::{Complete, Error, ErrorKind, Ingest, Pool, Record, Replica};

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
    Put(Place, Bytes),
    Extents(Place),
    /// Nothing is done, and why.
    Refused(Error),
}

/// Does what is asked, and gives the body of the answer.
pub(super) async fn perform(
    request: Request,
    on: &Served,
    disks: &OpenDisks,
    pool: &Pool,
    rights: &Rights,
) -> Result<Body> {
    match request {
        Request::Refused(error) => Err(error),
        Request::Call(Call::Machines) => {
            let mut all = on.replica()?.machines().await?;
            all.retain(|machine| rights.may_name(machine));
            Ok(list(all))
        }
        Request::Call(Call::Claim { op, machine }) => whole(&on.role().claim(&op, &machine).await?),
        Request::Call(Call::Lock { op, machine, point, until }) => {
            whole(&on.store()?.lock(&op, &machine, point, until).await?)
        }
        Request::Call(Call::Scrub { machine, point }) => Ok(list(on.store()?.scrub(&machine, point).await?)),
        Request::Call(Call::Zero { handle, run }) => whole(&disks.landing(handle).await?.zero(run).await?),
        Request::Call(Call::Flush { handle }) => whole(&disks.landing(handle).await?.flush().await?),
        Request::Call(call) => perform_call(call, &**on.replica()?).await,
        Request::Open(opening, Call::Open { what, cut, .. }) => whole(&opening.open(on, what, cut).await?),
        Request::Open(..) => unreachable!("an opening comes with the call that asks for it"),
        Request::Write { ingest, batch, records } => {
            whole(&on.replica()?.write(&ingest, batch, records).await?)
        }
        Request::Read(place) => {
            let read = disks.disk(place).await?.read(place.run, pool).await?;
            if read.len() as u64 != place.run.len {
                let said = format!("a disk gave {} bytes for {}", read.len(), place.run.len);
                return Err(Error::new(ErrorKind::Corrupt, said));
            }
            Ok(bytes(read))
        }
        Request::Put(place, data) => {
            whole(&disks.landing(place.handle).await?.write(place.run.start, data).await?)
        }
        Request::Extents(place) => {
            let extents = disks.disk(place).await?.extents(place.run).await?;
            Ok(bytes(encode_extents(&extents)))
        }
    }
}

async fn perform_call(call: Call, role: &dyn Replica) -> Result<Body> {
    match call {
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
        Call::Machines
        | Call::Open { .. }
        | Call::Claim { .. }
        | Call::Lock { .. }
        | Call::Scrub { .. }
        | Call::Zero { .. }
        | Call::Flush { .. } => unreachable!("they are done where they come"),
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
    }
}

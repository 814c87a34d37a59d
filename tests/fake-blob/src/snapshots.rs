//! Snapshots, and how blobs and snapshots end.

use crate::answer::{Answer, Refused};
use crate::blobs::tagged;
use crate::call::Call;
use crate::clock;
use crate::conditions::{self, Purpose};
use crate::world::World;

pub(crate) fn take(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let (stamp, now) = (world.stamp(), world.now());
    let blob = world.blob(&call.place)?;
    blob.lease.lets_read(call, now)?;
    conditions::check(call, Some(&blob.live.stamp), Purpose::Change)?;
    blob.live.settled()?;
    let mut version = blob.live.clone();
    if let Some(metadata) = call.metadata() {
        version.metadata = metadata;
        version.stamp = stamp.clone();
    }
    let name = clock::snapshot(stamp.at);
    let answer = tagged(Answer::new(201), &version.stamp).with("x-ms-snapshot", &name);
    blob.snapshots.insert(name, version);
    Ok(answer.with("x-ms-request-server-encrypted", true))
}

pub(crate) fn delete(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let now = world.now();
    let how = call.header("x-ms-delete-snapshots");
    if let Some(at) = call.query("snapshot") {
        if how.is_some() {
            return Err(Refused::new(400, "InvalidHeaderValue", "A snapshot has no snapshots."));
        }
        let stamp = world.version(&call.place)?.stamp.clone();
        conditions::check(call, Some(&stamp), Purpose::Change)?;
        world.blob(&call.place)?.snapshots.remove(at);
        return Ok(deleted());
    }
    let blob = world.blob(&call.place)?;
    if how != Some("only") {
        blob.lease.lets(call, now)?;
    }
    conditions::check(call, Some(&blob.live.stamp), Purpose::Change)?;
    match how {
        None if !blob.snapshots.is_empty() => {
            return Err(Refused::new(
                409,
                "SnapshotsPresent",
                "This operation is not permitted while the blob has snapshots.",
            ));
        }
        Some("only") => {
            blob.snapshots.clear();
            return Ok(deleted());
        }
        None | Some("include") => blob.live.settled()?,
        Some(_) => return Err(Refused::bad_header("x-ms-delete-snapshots")),
    }
    let name = call.place.blob.as_deref().unwrap_or_default();
    world.container(&call.place)?.blobs.remove(name);
    Ok(deleted())
}

fn deleted() -> Answer {
    Answer::new(202).with("x-ms-delete-type-permanent", true)
}

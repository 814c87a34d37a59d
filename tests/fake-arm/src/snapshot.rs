//! Managed snapshots. Those of one disk that are incremental are a family.

use crate::answer::{Answer, Ruled, not_faked, refuse, text};
use crate::asked::Asked;
use crate::creation::made;
use crate::disk::{create, fill, update};
use crate::place::{Kind, Place, Target};
use crate::size::room;
use crate::thing::Thing;
use crate::world::World;
use serde_json::json;

/// Incremental snapshots of one disk.
const FAMILY: usize = 500;
/// Of one disk, within [`SPAN`].
const BURST: usize = 7;
const SPAN: u64 = 5 * 60_000;

pub(crate) fn put(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    if world.things.get(&key).is_some_and(Thing::was_made) {
        return update(world, asked, place);
    }
    if asked.method == "PATCH" {
        world.get(place)?;
    }
    let location = text(&asked.body, "location", "snapshot.location")?.to_owned();
    let properties = &asked.body["properties"];
    let incremental = properties["incremental"].as_bool().unwrap_or(false);
    let source = properties["creationData"]["sourceResourceId"].as_str().and_then(Target::place);
    if incremental && source.is_some_and(|source| source.kind != Kind::Disk) {
        return Err(not_faked("an incremental snapshot of anything but a disk"));
    }
    let made = made(world, asked, &location)?;
    if made.upload {
        return Err(not_faked("the upload of a snapshot"));
    }
    let mut snapshot = Thing::new(place.clone(), &location, json!({}));
    if let (true, Some(family)) = (incremental, &made.family) {
        limit(world, family)?;
        snapshot.set("incrementalSnapshotFamilyId", family.clone());
        snapshot.incomplete = world.config.completion;
    }
    fill(&mut snapshot, asked, &made, world.clock.tick());
    snapshot.set("incremental", incremental);
    snapshot.set("diskState", "Unattached");
    let percent = if snapshot.incomplete == 0 { 100.0 } else { 0.0 };
    snapshot.set("completionPercent", percent);
    room(world, &snapshot)?;
    Ok(create(world, asked, snapshot, made))
}

fn limit(world: &mut World, family: &str) -> Ruled<()> {
    let (now, of) =
        (world.clock.tick(), |thing: &Thing| thing.property("incrementalSnapshotFamilyId") == family);
    if world.things.values().filter(|thing| of(thing)).count() >= FAMILY {
        let message = format!("The disk has {FAMILY} incremental snapshots, which is the most.");
        return Err(refuse(409, "OperationNotAllowed", message));
    }
    let taken = world.taken.entry(family.to_owned()).or_default();
    taken.retain(|at| now < at + SPAN);
    if taken.len() >= BURST {
        let message = format!("More than {BURST} incremental snapshots of the disk within 5 minutes.");
        return Err(refuse(429, "TooManyRequests", message));
    }
    taken.push(now);
    Ok(())
}

/// The bytes of a snapshot are there at once; that they were copied is told with each look.
pub(crate) fn progress(world: &mut World, key: &str) {
    let of = world.config.completion;
    if let Some(snapshot) = world.things.get_mut(key).filter(|snapshot| snapshot.incomplete > 0) {
        snapshot.incomplete -= 1;
        let percent = 100.0 * f64::from(of - snapshot.incomplete) / f64::from(of);
        snapshot.set("completionPercent", percent);
    }
}

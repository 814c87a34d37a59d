//! Access to the bytes of disks and snapshots by a signature.

use crate::answer::{Answer, Refusal, Ruled, refuse, text};
use crate::asked::Asked;
use crate::disk::restate;
use crate::operation::Begin;
use crate::place::Place;
use crate::thing::{Grant, Power, Secret};
use crate::world::World;
use fake_blob::Access;
use serde_json::{Value, json};
use std::time::Duration;

/// Snapshots of one family that can be read at once.
const FAMILY: usize = 5;

pub(crate) fn outstanding(place: &Place) -> Refusal {
    let message = format!(
        "There is an active shared access signature outstanding for disk {}. Call EndGetAccess before.",
        place.last()
    );
    refuse(409, "OperationNotAllowed", message)
}

pub(crate) fn begin(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.get(place)?;
    world.free(&key)?;
    let write = match text(&asked.body, "access", "grantAccessData.access")? {
        "Read" => false,
        "Write" => true,
        other => {
            let message = format!("The value {other} of grantAccessData.access is invalid.");
            return Err(refuse(400, "InvalidParameter", message));
        }
    };
    let seconds = asked.body["durationInSeconds"].as_u64().filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| {
        refuse(400, "InvalidParameter", "The value of grantAccessData.durationInSeconds is invalid.")
    })?;
    check(world, place, write)?;
    let until = world.clock.now() + seconds * 1000;
    let thing = world.get(place)?;
    let location = thing.location().to_owned();
    let begin = Begin { keys: vec![key.clone()], kind: place.kind, location, marks: false };
    let work = move |world: &mut World| Ok(Some(json!({ "accessSAS": granted(world, &key, write, until) })));
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::empty(202).with(headers))
}

fn check(world: &mut World, place: &Place, write: bool) -> Ruled<()> {
    let key = place.key();
    let Some(thing) = world.things.get(&key) else { return Ok(()) };
    let name = place.last();
    let no = |message: String| Err(refuse(409, "Conflict", message));
    if let Some(owner) = thing.owner() {
        let runs = world.things.get(&owner.to_lowercase()).is_some_and(|owner| owner.power == Power::Running);
        if runs {
            return no(format!(
                "Access not permitted because disk {name} is currently attached to running VM {owner}."
            ));
        }
    }
    if thing.property("provisioningState") != "Succeeded" {
        return no(format!("Access not permitted because disk {name} is not provisioned."));
    }
    if write != thing.upload {
        let wanted = if thing.upload { "Write" } else { "Read" };
        return no(format!("Access not permitted: disk {name} gives {wanted} access alone in its state."));
    }
    if thing.grant.as_ref().is_some_and(|grant| grant.write != write) {
        return no(format!("Access not permitted because disk {name} has another access outstanding."));
    }
    let family = thing.property("incrementalSnapshotFamilyId");
    let mut others = world.things.iter().filter(|(other, thing)| {
        **other != key && thing.grant.is_some() && thing.property("incrementalSnapshotFamilyId") == family
    });
    if !family.is_empty() && others.by_ref().count() >= FAMILY {
        return no(format!("Access to {FAMILY} snapshots of the family of {name} is outstanding."));
    }
    Ok(())
}

/// The signature: a new one, or the one that is out already.
fn granted(world: &mut World, key: &str, write: bool, until: u64) -> String {
    let (blobs, now) = (world.blobs.clone(), world.clock.now());
    let Some(thing) = world.things.get_mut(key) else { return String::new() };
    if let Some(grant) = &mut thing.grant {
        grant.until = grant.until.max(until);
        return grant.sas.0.clone();
    }
    let name = format!("md-{}", crate::random::token());
    let valid = Duration::from_millis(until - now);
    let sas = if write {
        blobs.export_upload(&name, thing.image.size() - fake_blob::SECTOR, valid)
    } else {
        blobs.export(&name, &thing.image, Access::read().valid_for(valid))
    };
    let sas = sas.to_string();
    thing.grant = Some(Grant { write, until, name, sas: Secret(sas.clone()) });
    restate(world, key);
    sas
}

pub(crate) fn end(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.get(place)?;
    world.free(&key)?;
    let location = world.get(place)?.location().to_owned();
    let begin = Begin { keys: vec![key.clone()], kind: place.kind, location, marks: false };
    let headers = world.begin(asked, begin, Box::new(move |world| close(world, &key)));
    Ok(Answer::empty(202).with(headers))
}

fn close(world: &mut World, key: &str) -> Ruled<Option<Value>> {
    let blobs = world.blobs.clone();
    let Some(thing) = world.things.get_mut(key) else { return Ok(None) };
    let Some(grant) = thing.grant.clone() else { return Ok(None) };
    if grant.write {
        let bytes = blobs.exported(&grant.name).unwrap_or_else(|| thing.image.clone());
        let name = thing.place.last().to_owned();
        let disk = fake_blob::vhd::disk(&bytes).map_err(|why| {
            let message = format!("Disk '{name}' is not a supported VHD: {why:?} of its footer.");
            refuse(400, "InvalidVhd", message)
        })?;
        thing.image = disk;
        thing.upload = false;
    }
    thing.grant = None;
    blobs.revoke(&grant.name);
    restate(world, key);
    Ok(None)
}

/// Takes back what is past its time. What was uploaded by then is lost with it.
pub(crate) fn expire(world: &mut World) {
    let (now, blobs) = (world.clock.now(), world.blobs.clone());
    let past = |grant: &Grant| grant.until < now;
    let late: Vec<String> = world
        .things
        .iter()
        .filter(|(_, thing)| thing.grant.as_ref().is_some_and(past))
        .map(|(key, _)| key.clone())
        .collect();
    for key in late {
        if let Some(grant) = world.things.get_mut(&key).and_then(|thing| thing.grant.take()) {
            blobs.revoke(&grant.name);
        }
        restate(world, &key);
    }
}

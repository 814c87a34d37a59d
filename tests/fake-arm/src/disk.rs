//! Managed disks.

use crate::access;
use crate::answer::{Answer, Ruled, refuse, text};
use crate::asked::Asked;
use crate::clock::written;
use crate::creation::{Made, made, same_creation};
use crate::operation::Begin;
use crate::place::{Kind, Place};
use crate::size::room;
use crate::thing::{Power, Thing};
use crate::world::World;
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;
/// What a body may change of a disk or a snapshot that is there.
const CHANGEABLE: [&str; 8] = [
    "osType",
    "hyperVGeneration",
    "networkAccessPolicy",
    "publicNetworkAccess",
    "diskAccessId",
    "supportsHibernation",
    "supportedCapabilities",
    "tier",
];

pub(crate) fn put(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    if world.things.get(&key).is_some_and(Thing::was_made) {
        return update(world, asked, place);
    }
    if asked.method == "PATCH" {
        world.get(place)?;
    }
    let location = text(&asked.body, "location", "disk.location")?.to_owned();
    let made = made(world, asked, &location)?;
    let mut disk = Thing::new(place.clone(), &location, json!({}));
    fill(&mut disk, asked, &made, world.clock.tick());
    let premium = disk.body["sku"]["name"].as_str().is_some_and(|name| name.starts_with("Premium"));
    disk.body["sku"]["tier"] = (if premium { "Premium" } else { "Standard" }).into();
    disk.set("diskState", if made.upload { "ReadyToUpload" } else { "Unattached" });
    disk.upload = made.upload;
    room(world, &disk)?;
    Ok(create(world, asked, disk, made))
}

/// Sets what a new disk and a new snapshot share.
pub(crate) fn fill(thing: &mut Thing, asked: &Asked, made: &Made, now: u64) {
    thing.take(&asked.body, &["tags", "sku", "zones", "extendedLocation"]);
    if thing.body.get("sku").is_none() {
        thing.body["sku"] = json!({ "name": "Standard_LRS" });
    }
    let asked = &asked.body["properties"];
    for source in [&made.inherited, asked] {
        for name in CHANGEABLE {
            if let Some(value) = source.get(name) {
                thing.set(name, value.clone());
            }
        }
    }
    thing.set("creationData", made.shown.clone());
    sized(thing, made.size);
    thing.set("uniqueId", crate::random::uuid());
    thing.set("timeCreated", written(now));
    thing.set("encryption", json!({ "type": "EncryptionAtRestWithPlatformKey" }));
    for (name, value) in [("networkAccessPolicy", "AllowAll"), ("publicNetworkAccess", "Enabled")] {
        if thing.property(name).is_empty() {
            thing.set(name, value);
        }
    }
    thing.state("Updating");
}

pub(crate) fn sized(thing: &mut Thing, size: u64) {
    thing.set("diskSizeBytes", size);
    thing.set("diskSizeGB", size.div_ceil(GIB));
}

/// Puts it into the world, and its bytes at the operation's end.
pub(crate) fn create(world: &mut World, asked: &Asked, thing: Thing, made: Made) -> Answer {
    let (key, shown) = (thing.place.key(), thing.body.clone());
    let begin = Begin {
        keys: vec![key.clone()],
        kind: thing.place.kind,
        location: thing.location().to_owned(),
        marks: true,
    };
    world.things.insert(key.clone(), thing);
    let work = move |world: &mut World| {
        let image = made.image?;
        if let Some(thing) = world.things.get_mut(&key) {
            thing.image = image;
            thing.state("Succeeded");
        }
        Ok(Some(world.body(&key)))
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Answer::new(202, shown).with(headers)
}

/// A change of a disk or a snapshot that is there.
pub(crate) fn update(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    let thing = world.get(place)?;
    let wanted = &asked.body["properties"];
    let data = &wanted["creationData"];
    if !data.is_null() && !same_creation(&thing.body["properties"]["creationData"], data) {
        let message = "Changing property 'creationData' is not allowed.";
        return Err(refuse(409, "PropertyChangeNotAllowed", message));
    }
    let size = wanted["diskSizeGB"].as_u64().map(|gib| gib * GIB);
    if size.is_some_and(|size| size < thing.body["properties"]["diskSizeBytes"].as_u64().unwrap_or(0)) {
        // A disk of 1.5 GiB tells 2, and takes 2 as no change.
        let message = format!("Disk {} cannot be made smaller.", place.last());
        return Err(refuse(400, "BadRequest", message));
    }
    let mut next = thing.body.clone();
    for name in ["tags", "sku"] {
        if let Some(value) = asked.body.get(name) {
            next[name] = value.clone();
        }
    }
    for name in CHANGEABLE {
        if let Some(value) = wanted.get(name) {
            next["properties"][name] = value.clone();
        }
    }
    thing.state("Updating");
    let (location, kind) = (thing.location().to_owned(), place.kind);
    let begin = Begin { keys: vec![key.clone()], kind, location, marks: true };
    let shown = thing.body.clone();
    let work = move |world: &mut World| {
        if let Some(thing) = world.things.get_mut(&key) {
            thing.body = next;
            if let Some(size) = size {
                thing.image.resize(size);
                sized(thing, size);
            }
            thing.state("Succeeded");
        }
        Ok(Some(world.body(&key)))
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::new(202, shown).with(headers))
}

/// Deletes a disk or a snapshot.
pub(crate) fn delete(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    let Some(thing) = world.things.get(&key) else { return Ok(Answer::empty(204)) };
    if let Some(owner) = thing.owner() {
        let message = format!("Disk {} is attached to VM {owner}.", place.last());
        return Err(refuse(409, "OperationNotAllowed", message));
    }
    if thing.grant.is_some() {
        return Err(access::outstanding(place));
    }
    let begin = Begin {
        keys: vec![key.clone()],
        kind: place.kind,
        location: thing.location().to_owned(),
        marks: true,
    };
    let work = move |world: &mut World| {
        world.things.remove(&key);
        Ok(None)
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::empty(202).with(headers))
}

/// Says again what state a disk or a snapshot is in.
pub(crate) fn restate(world: &mut World, key: &str) {
    let Some(thing) = world.things.get(key) else { return };
    let owner = thing.owner().map(str::to_lowercase).and_then(|owner| world.things.get(&owner));
    let state = match (&thing.grant, thing.upload, owner.map(|owner| owner.power)) {
        (Some(grant), ..) if grant.write => "ActiveUpload",
        (Some(_), ..) => "ActiveSAS",
        (_, true, _) => "ReadyToUpload",
        (.., Some(Power::Deallocated)) => "Reserved",
        (.., Some(_)) => "Attached",
        _ => "Unattached",
    };
    if let Some(thing) = world.things.get_mut(key) {
        thing.set("diskState", state);
    }
}

/// Gives a disk an owner or takes it, or tells that its owner was deallocated or started.
pub(crate) fn owned(world: &mut World, key: &str, owner: Option<&str>) {
    let now = written(world.clock.tick());
    if let Some(disk) = world.things.get_mut(key).filter(|thing| thing.is(Kind::Disk)) {
        match owner {
            Some(owner) => disk.body["managedBy"] = owner.into(),
            None => {
                disk.body.as_object_mut().map(|members| members.remove("managedBy"));
            }
        }
        disk.set("LastOwnershipUpdateTime", Value::from(now));
    }
    restate(world, key);
}

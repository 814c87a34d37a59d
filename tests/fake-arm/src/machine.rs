//! Virtual machines: made, changed, deleted.

use crate::answer::{Answer, Ruled, refuse, text};
use crate::asked::Asked;
use crate::clock::written;
use crate::disk::owned;
use crate::fitting::fits;
use crate::operation::Begin;
use crate::place::{Kind, Place, Target, same};
use crate::thing::{Power, Thing};
use crate::world::World;
use serde_json::{Value, json};

/// Makes a machine, which starts it, or changes one.
pub(crate) fn put(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    world.free(&place.key())?;
    let there = world.things.get(&place.key()).cloned();
    let (created, patch) = (there.is_none(), asked.method == "PATCH");
    if patch {
        world.get(place)?;
    }
    let wanted = match there {
        None => new(world, asked, place)?,
        Some(there) if patch => changed(there, &asked.body),
        Some(there) => replaced(there, &asked.body),
    };
    let answer = apply(world, asked, wanted)?;
    Ok(Answer { status: if created { 201 } else { 200 }, ..answer })
}

fn new(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Thing> {
    let location = text(&asked.body, "location", "location")?.to_owned();
    let mut machine = Thing::new(place.clone(), &location, asked.body["properties"].clone());
    if !machine.body["properties"].is_object() {
        machine.body["properties"] = json!({});
    }
    machine.take(&asked.body, &["tags", "zones", "identity", "plan"]);
    machine.set("vmId", crate::random::uuid());
    machine.set("timeCreated", written(world.clock.tick()));
    Ok(machine)
}

fn changed(mut machine: Thing, body: &Value) -> Thing {
    machine.take(body, &["tags", "identity"]);
    for (name, value) in body["properties"].as_object().into_iter().flatten() {
        let Some(members) = value.as_object() else {
            machine.set(name, value.clone());
            continue;
        };
        for (inner, value) in members {
            machine.body["properties"][name][inner] = value.clone();
        }
    }
    machine
}

fn replaced(mut machine: Thing, body: &Value) -> Thing {
    let kept = machine.body["properties"].clone();
    machine.body["properties"] = body["properties"].clone();
    for name in ["vmId", "timeCreated"] {
        machine.set(name, kept[name].clone());
    }
    machine.take(body, &["tags", "identity"]);
    machine
}

/// Checks what is wanted and begins it: disks and interfaces are the machine's from here on.
fn apply(world: &mut World, asked: &Asked, mut wanted: Thing) -> Ruled<Answer> {
    let (place, key) = (wanted.place.clone(), wanted.place.key());
    let before = world.things.get(&key).cloned();
    drop_detached(&mut wanted);
    fits(world, &wanted, before.as_ref())?;
    settle(world, &mut wanted);
    wanted.state(if before.is_none() { "Creating" } else { "Updating" });
    let id = place.to_string();
    let (disks, nics) = (wanted.disks(), wanted.nics());
    let kept = |list: &[String], item: &String| list.iter().any(|other| same(other, item));
    let none = Thing::new(place.clone(), "", json!({}));
    let earlier = before.as_ref().unwrap_or(&none);
    let gone: Vec<String> = earlier.disks().into_iter().filter(|disk| !kept(&disks, disk)).collect();
    let fresh: Vec<String> = disks.iter().filter(|disk| !kept(&earlier.disks(), disk)).cloned().collect();
    let freed: Vec<String> = earlier.nics().into_iter().filter(|nic| !kept(&nics, nic)).collect();
    let begin = Begin {
        keys: vec![key.clone()],
        kind: Kind::Machine,
        location: wanted.location().to_owned(),
        marks: true,
    };
    let (shown, created) = (wanted.body.clone(), before.is_none());
    world.things.insert(key.clone(), wanted);
    for disk in &fresh {
        owned(world, &disk.to_lowercase(), Some(&id));
    }
    for nic in &nics {
        if let Some(nic) = world.things.get_mut(&nic.to_lowercase()) {
            nic.set("virtualMachine", json!({ "id": id }));
        }
    }
    let work = move |world: &mut World| {
        if created {
            power(world, &key, Power::Running);
        }
        for disk in gone {
            owned(world, &disk.to_lowercase(), None);
        }
        for nic in freed {
            free_nic(world, &nic);
        }
        Ok(None)
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::new(200, shown).with(headers))
}

fn drop_detached(machine: &mut Thing) {
    if let Some(disks) = machine.body["properties"]["storageProfile"]["dataDisks"].as_array_mut() {
        disks.retain(|disk| disk["toBeDetached"].as_bool() != Some(true));
    }
}

/// What the real one adds to what was asked.
fn settle(world: &World, machine: &mut Thing) {
    let storage = &mut machine.body["properties"]["storageProfile"];
    if storage["dataDisks"].is_null() {
        storage["dataDisks"] = json!([]);
    }
    let settle = |disk: &mut Value, caching: &str| {
        let id = disk["managedDisk"]["id"].as_str().unwrap_or_default();
        let Some(managed) = world.things.get(&id.to_lowercase()) else { return };
        disk["name"] = managed.place.last().into();
        disk["diskSizeGB"] = managed.body["properties"]["diskSizeGB"].clone();
        disk["managedDisk"]["storageAccountType"] = managed.body["sku"]["name"].clone();
        for (name, default) in [("caching", caching), ("deleteOption", "Detach")] {
            if disk[name].is_null() {
                disk[name] = default.into();
            }
        }
    };
    settle(&mut storage["osDisk"], "ReadWrite");
    for disk in storage["dataDisks"].as_array_mut().into_iter().flatten() {
        settle(disk, "None");
        disk["toBeDetached"] = false.into();
    }
}

/// Changes whether a machine runs, and tells its disks.
pub(crate) fn power(world: &mut World, key: &str, to: Power) {
    let Some(machine) = world.things.get_mut(key) else { return };
    let before = std::mem::replace(&mut machine.power, to);
    let (id, disks) = (machine.place.to_string(), machine.disks());
    for disk in disks {
        if (before == Power::Deallocated) != (to == Power::Deallocated) {
            owned(world, &disk.to_lowercase(), Some(&id));
        } else {
            crate::disk::restate(world, &disk.to_lowercase());
        }
    }
}

fn free_nic(world: &mut World, id: &str) {
    if let Some(nic) = world.things.get_mut(&id.to_lowercase()) {
        nic.body["properties"].as_object_mut().map(|members| members.remove("virtualMachine"));
    }
}

pub(crate) fn attach_detach(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    world.free(&place.key())?;
    let mut machine = world.get(place)?.clone();
    let storage = &mut machine.body["properties"]["storageProfile"];
    let mut disks = storage["dataDisks"].as_array().cloned().unwrap_or_default();
    for wanted in asked.body["dataDisksToDetach"].as_array().into_iter().flatten() {
        let id = text(wanted, "diskId", "dataDisksToDetach.diskId")?;
        let count = disks.len();
        disks.retain(|disk| !disk["managedDisk"]["id"].as_str().is_some_and(|other| same(other, id)));
        if disks.len() == count {
            let message = format!("Disk {id} is not attached to VM {}.", place.last());
            return Err(refuse(400, "InvalidParameter", message));
        }
    }
    for wanted in asked.body["dataDisksToAttach"].as_array().into_iter().flatten() {
        let id = text(wanted, "diskId", "dataDisksToAttach.diskId")?;
        let free = (0..).find(|lun| disks.iter().all(|disk| disk["lun"].as_u64() != Some(*lun)));
        let lun = wanted["lun"].as_u64().or(free);
        let mut disk = json!({ "createOption": "Attach", "lun": lun, "managedDisk": { "id": id } });
        for name in ["caching", "deleteOption"] {
            if let Some(value) = wanted.get(name) {
                disk[name] = value.clone();
            }
        }
        disks.push(disk);
    }
    storage["dataDisks"] = disks.into();
    let answer = apply(world, asked, machine)?;
    Ok(Answer { status: 202, body: None, ..answer })
}

/// Deletes a machine. Disks and interfaces stay, unless it was made with another wish.
pub(crate) fn delete(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    let Some(machine) = world.things.get_mut(&key) else { return Ok(Answer::empty(204)) };
    machine.state("Deleting");
    let begin = Begin {
        keys: vec![key.clone()],
        kind: place.kind,
        location: machine.location().to_owned(),
        marks: true,
    };
    let work = move |world: &mut World| {
        remove(world, &key);
        Ok(None)
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::empty(202).with(headers))
}

pub(crate) fn remove(world: &mut World, key: &str) {
    let Some(machine) = world.things.remove(key) else { return };
    let properties = &machine.body["properties"];
    let goes = |of: &Value| of["deleteOption"].as_str().is_some_and(|wish| same(wish, "Delete"));
    let storage = &properties["storageProfile"];
    let data = storage["dataDisks"].as_array().into_iter().flatten();
    for disk in std::iter::once(&storage["osDisk"]).chain(data) {
        let id = disk["managedDisk"]["id"].as_str().unwrap_or_default().to_lowercase();
        if goes(disk) {
            world.things.remove(&id);
        } else {
            owned(world, &id, None);
        }
    }
    let nics = properties["networkProfile"]["networkInterfaces"].as_array();
    for nic in nics.into_iter().flatten() {
        let id = nic["id"].as_str().unwrap_or_default();
        if goes(&nic["properties"]) {
            world.things.remove(&id.to_lowercase());
        } else {
            free_nic(world, id);
        }
    }
}

/// The key of what an id names, where it is of that kind.
pub(crate) fn key_of(id: &str, kind: Kind) -> Option<String> {
    Target::place(id).filter(|place| place.kind == kind).map(|place| place.key())
}

//! Sizes of machines, and how many there may be.

use crate::answer::{Answer, Refusal, Ruled, not_faked, refuse};
use crate::asked::Asked;
use crate::config::Size;
use crate::place::{Kind, Place, same};
use crate::thing::Thing;
use crate::world::World;
use serde_json::{Value, json};

/// What machines of a location use, running or not.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) cores: u64,
    pub(crate) machines: u64,
}

pub(crate) fn used(world: &World, location: &str, but: Option<&Place>) -> Used {
    family_used(world, location, but, None)
}

pub(crate) fn family_used(world: &World, location: &str, but: Option<&Place>, family: Option<&str>) -> Used {
    let mut used = Used::default();
    let but = but.map(Place::key);
    for (key, machine) in &world.things {
        if !machine.is(Kind::Machine) || !same(machine.location(), location) || but.as_ref() == Some(key) {
            continue;
        }
        let name = machine.body["properties"]["hardwareProfile"]["vmSize"].as_str().unwrap_or_default();
        let size = world.config.sizes.iter().find(|size| same(&size.name, name));
        if let Some(size) = size.filter(|size| family.is_none_or(|family| family == size.family)) {
            used.cores += size.cores;
            used.machines += 1;
        }
    }
    used
}

/// What counts disks and snapshots: what it is called, by name and in words, and which kind of which sku it counts.
const STORED: [(&str, &str, Kind, &str); 4] = [
    ("StandardDiskCount", "Standard Storage Managed Disks", Kind::Disk, "Standard_LRS"),
    ("StandardSSDDiskCount", "StandardSSDStorageDisks", Kind::Disk, "StandardSSD_LRS"),
    ("PremiumDiskCount", "Premium Storage Managed Disks", Kind::Disk, "Premium_LRS"),
    ("StandardSnapshotCount", "StandardStorageSnapshots", Kind::Snapshot, "Standard_LRS"),
];

fn stored(world: &World, location: &str, kind: Kind, sku: &str) -> u64 {
    let of = |thing: &&Thing| {
        thing.is(kind)
            && same(thing.location(), location)
            && same(thing.body["sku"]["name"].as_str().unwrap_or("Standard_LRS"), sku)
    };
    world.things.values().filter(of).count() as u64
}

/// # Errors
/// Where another one would be more than a quota of [`STORED`] gives.
pub(crate) fn room(world: &World, thing: &Thing) -> Ruled<()> {
    let sku = thing.body["sku"]["name"].as_str().unwrap_or("Standard_LRS");
    let counted = STORED.iter().find(|(.., kind, of)| thing.is(*kind) && same(of, sku));
    let limit = counted.and_then(|(name, ..)| world.config.quotas.get(*name));
    let (Some((_, words, ..)), Some(limit)) = (counted, limit) else { return Ok(()) };
    let used = stored(world, thing.location(), thing.place.kind, sku);
    if used < *limit {
        return Ok(());
    }
    Err(over(words, thing.location(), *limit, used, 1))
}

/// The refusal of what would be more than a quota gives.
pub(crate) fn over(what: &str, location: &str, limit: u64, used: u64, more: u64) -> Refusal {
    let message = format!(
        "Operation could not be completed as it results in exceeding approved {what} quota. Location: {location}, \
         Current Limit: {limit}, Current Usage: {used}, Additional Required: {more}."
    );
    refuse(409, "OperationNotAllowed", message)
}

pub(crate) fn usages(world: &World, location: &str) -> Answer {
    let usage = |name: &str, words: &str, now: u64, limit: u64| {
        json!({
            "unit": "Count", "currentValue": now, "limit": limit,
            "name": { "value": name, "localizedValue": words },
        })
    };
    let all = used(world, location, None);
    let sets = world.things.values().filter(|thing| thing.is(Kind::AvailabilitySet)).count();
    let mut value = vec![
        usage("availabilitySets", "Availability Sets", sets as u64, 2500),
        usage("cores", "Total Regional vCPUs", all.cores, world.config.cores),
        usage("virtualMachines", "Virtual Machines", all.machines, world.config.machines),
    ];
    let mut families: Vec<&str> = world.config.sizes.iter().map(|size| size.family.as_str()).collect();
    families.dedup();
    for family in families {
        let used = family_used(world, location, None, Some(family)).cores;
        let limit = world.config.quotas.get(family).copied().unwrap_or(world.config.cores);
        value.push(usage(family, &format!("{family} vCPUs"), used, limit));
    }
    for (name, words, kind, sku) in STORED {
        let limit = world.config.quotas.get(name).copied().unwrap_or(50_000);
        value.push(usage(name, words, stored(world, location, kind, sku), limit));
    }
    Answer::new(200, json!({ "value": value }))
}

pub(crate) fn sizes(world: &World) -> Answer {
    let size = |size: &Size| {
        json!({
            "name": size.name, "numberOfCores": size.cores, "osDiskSizeInMB": 1_047_552,
            "resourceDiskSizeInMB": 0, "memoryInMB": size.memory * 1024, "maxDataDiskCount": size.disks,
        })
    };
    Answer::new(200, json!({ "value": world.config.sizes.iter().map(size).collect::<Vec<_>>() }))
}

pub(crate) fn skus(world: &World, asked: &Asked) -> Ruled<Answer> {
    let location = match asked.query.get("$filter").map(String::as_str) {
        None | Some("") => None,
        Some(filter) => {
            let value = filter.strip_prefix("location eq '").and_then(|rest| rest.strip_suffix('\''));
            Some(value.ok_or_else(|| not_faked("another filter of skus than of the location"))?)
        }
    };
    let mut value: Vec<Value> = vec![];
    let mut locations: Vec<&String> = world.config.groups.iter().map(|(_, location)| location).collect();
    locations.dedup();
    for here in locations.into_iter().filter(|here| location.is_none_or(|wanted| same(wanted, here))) {
        value.extend(world.config.sizes.iter().map(|size| sku(size, here)));
    }
    Ok(Answer::new(200, json!({ "value": value })))
}

fn sku(size: &Size, location: &str) -> Value {
    let capability = |name: &str, value: String| json!({ "name": name, "value": value });
    let short = size.name.trim_start_matches("Standard_");
    let restrictions = json!([{
        "type": "Location", "values": [location],
        "restrictionInfo": { "locations": [location] }, "reasonCode": "NotAvailableForSubscription",
    }]);
    json!({
        "resourceType": "virtualMachines", "name": size.name, "tier": "Standard", "size": short,
        "family": size.family, "locations": [location],
        "locationInfo": [{ "location": location, "zones": ["1", "2", "3"], "zoneDetails": [] }],
        "capabilities": [
            capability("vCPUs", size.cores.to_string()),
            capability("MemoryGB", size.memory.to_string()),
            capability("MaxDataDiskCount", size.disks.to_string()),
            capability("MaxNetworkInterfaces", size.nics.to_string()),
            capability("HyperVGenerations", size.generations.clone()),
            capability("CpuArchitectureType", "x64".into()),
            capability("PremiumIO", "True".into()),
        ],
        "restrictions": if size.restricted { restrictions } else { json!([]) },
    })
}

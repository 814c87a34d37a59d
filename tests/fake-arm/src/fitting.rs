//! Whether a machine can be as it is wanted.

use crate::answer::{Refusal, Ruled, not_faked, parameter_missing, refuse};
use crate::config::Size;
use crate::machine::key_of;
use crate::place::{Kind, same};
use crate::size::{Used, family_used, over, used};
use crate::thing::{Power, Thing};
use crate::world::World;
use serde_json::Value;
use std::collections::BTreeSet;

/// # Errors
/// The first thing that Azure would not take.
pub(crate) fn fits(world: &World, wanted: &Thing, before: Option<&Thing>) -> Ruled<()> {
    let properties = &wanted.body["properties"];
    let size = size(world, properties)?;
    disks(world, wanted, size)?;
    nics(world, wanted, size)?;
    set(world, wanted)?;
    before.map_or(Ok(()), |before| unchanged(before, wanted))?;
    quota(world, wanted, size)
}

fn size<'a>(world: &'a World, properties: &Value) -> Ruled<&'a Size> {
    let name = properties["hardwareProfile"]["vmSize"].as_str();
    let name = name.ok_or_else(|| parameter_missing("vm.properties.hardwareProfile.vmSize"))?;
    let size = world.config.sizes.iter().find(|size| same(&size.name, name)).ok_or_else(|| {
        let message = format!("The value {name} provided for the VM size is not valid.");
        refuse(400, "InvalidParameter", message)
    })?;
    if size.restricted {
        let message = format!("The requested size for resource is currently not available: {name}.");
        return Err(refuse(409, "SkuNotAvailable", message));
    }
    Ok(size)
}

fn disks(world: &World, wanted: &Thing, size: &Size) -> Ruled<()> {
    let properties = &wanted.body["properties"];
    let storage = &properties["storageProfile"];
    let system = &storage["osDisk"];
    if system.is_null() {
        return Err(parameter_missing("vm.properties.storageProfile.osDisk"));
    }
    for (there, name) in
        [(&properties["osProfile"], "osProfile"), (&storage["imageReference"], "imageReference")]
    {
        if !there.is_null() {
            return Err(refuse(400, "InvalidParameter", format!("Parameter '{name}' is not allowed.")));
        }
    }
    let data: Vec<&Value> = storage["dataDisks"].as_array().into_iter().flatten().collect();
    let mut luns = BTreeSet::new();
    for disk in &data {
        let lun = disk["lun"].as_u64().ok_or_else(|| parameter_missing("dataDisk.lun"))?;
        if !luns.insert(lun) || lun >= 64 {
            let message = format!("The value '{lun}' of dataDisk.lun is taken or too large.");
            return Err(refuse(400, "InvalidParameter", message));
        }
    }
    if data.len() > size.disks {
        let message = format!(
            "The maximum number of data disks allowed to be attached to a VM of this size is {}.",
            size.disks
        );
        return Err(refuse(409, "OperationNotAllowed", message));
    }
    let mut ids = BTreeSet::new();
    for disk in std::iter::once(system).chain(data) {
        let managed = disk_of(world, wanted, disk)?;
        if !ids.insert(managed.place.key()) {
            let message = format!("Disk {} is named twice.", managed.place.last());
            return Err(refuse(400, "InvalidParameter", message));
        }
    }
    boots(world, wanted, system, size)
}

fn disk_of<'a>(world: &'a World, wanted: &Thing, disk: &Value) -> Ruled<&'a Thing> {
    if disk["createOption"].as_str().is_none_or(|option| !same(option, "Attach")) {
        return Err(not_faked("disks of a machine with another createOption than Attach"));
    }
    let id = disk["managedDisk"]["id"].as_str().ok_or_else(|| parameter_missing("managedDisk.id"))?;
    let gone = || refuse(404, "NotFound", format!("Disk {id} is not found."));
    let managed = key_of(id, Kind::Disk).and_then(|key| world.things.get(&key)).ok_or_else(gone)?;
    let no = |code: &str, message: String| Err(refuse(409, code, message));
    let own = wanted.place.to_string();
    match managed.owner() {
        Some(owner) if same(owner, &own) => return Ok(managed),
        Some(owner) => {
            let message =
                format!("Disk '{id}' cannot be attached as the disk is already owned by VM '{owner}'.");
            return no("ConflictingUserInput", message);
        }
        None => {}
    }
    if managed.property("provisioningState") != "Succeeded" || managed.upload || managed.grant.is_some() {
        let (state, provisioned) = (managed.property("diskState"), managed.property("provisioningState"));
        let message = format!("Disk '{id}' cannot be attached in its state: {state}, {provisioned}.");
        return no("OperationNotAllowed", message);
    }
    here(managed, wanted)?;
    Ok(managed)
}

fn here(what: &Thing, machine: &Thing) -> Ruled<()> {
    if same(what.location(), machine.location()) {
        return Ok(());
    }
    let message = format!("{} is in another location than VM {}.", what.place, machine.place.last());
    Err(refuse(400, "BadRequest", message))
}

fn boots(world: &World, wanted: &Thing, system: &Value, size: &Size) -> Ruled<()> {
    let os = system["osType"].as_str().ok_or_else(|| parameter_missing("osDisk.osType"))?;
    let managed = disk_of(world, wanted, system)?;
    if !same(managed.property("osType"), os) {
        let message = format!(
            "Disk {} does not carry the operating system {os}: its osType is '{}'.",
            managed.place.last(),
            managed.property("osType")
        );
        return Err(refuse(400, "InvalidParameter", message));
    }
    let generation =
        Some(managed.property("hyperVGeneration")).filter(|text| !text.is_empty()).unwrap_or("V1");
    if !size.generations.split(',').any(|known| same(known, generation)) {
        let number = generation.trim_start_matches('V');
        let message =
            format!("The selected VM size '{}' cannot boot Hypervisor Generation '{number}'.", size.name);
        return Err(refuse(400, "BadRequest", message));
    }
    Ok(())
}

fn nics(world: &World, wanted: &Thing, size: &Size) -> Ruled<()> {
    let network = &wanted.body["properties"]["networkProfile"];
    if !network["networkInterfaceConfigurations"].is_null() {
        return Err(not_faked("networkInterfaceConfigurations"));
    }
    let nics: Vec<&Value> = network["networkInterfaces"].as_array().into_iter().flatten().collect();
    if nics.is_empty() {
        return Err(parameter_missing("networkProfile"));
    }
    if nics.len() > size.nics {
        let message = format!("VM size {} takes {} network interfaces at most.", size.name, size.nics);
        return Err(refuse(400, "TooManyNetworkInterfaces", message));
    }
    let primary = nics.iter().filter(|nic| nic["properties"]["primary"].as_bool() == Some(true)).count();
    if nics.len() > 1 && primary != 1 {
        let message = "One network interface has to be the primary one, and no more.";
        return Err(refuse(400, "VirtualMachineMustHaveOneNetworkInterfaceAsPrimary", message));
    }
    for id in wanted.nics() {
        let found = key_of(&id, Kind::Nic).and_then(|key| world.things.get(&key));
        let nic = found.ok_or_else(|| {
            let message = format!(
                "Resource {id} referenced by resource {} was not found. Please make sure that the referenced resource exists, and that both resources are in the same region.",
                wanted.place
            );
            refuse(400, "InvalidResourceReference", message)
        })?;
        let user = nic.body["properties"]["virtualMachine"]["id"].as_str();
        if let Some(user) = user.filter(|user| !same(user, &wanted.place.to_string())) {
            let message = format!("Network Interface {id} is used by existing resource {user}.");
            return Err(refuse(400, "NicInUse", message));
        }
        if nic.property("provisioningState") != "Succeeded" {
            let message = format!("Network Interface {id} is not provisioned.");
            return Err(refuse(409, "Conflict", message));
        }
        here(nic, wanted)?;
    }
    Ok(())
}

fn set(world: &World, wanted: &Thing) -> Ruled<()> {
    let Some(id) = wanted.body["properties"]["availabilitySet"]["id"].as_str() else { return Ok(()) };
    if wanted.body["zones"].as_array().is_some_and(|zones| !zones.is_empty()) {
        let message = "A VM is in an availability set or in a zone, not in both.";
        return Err(refuse(400, "BadRequest", message));
    }
    let found = key_of(id, Kind::AvailabilitySet).and_then(|key| world.things.get(&key));
    here(
        found.ok_or_else(|| refuse(404, "NotFound", format!("Availability set {id} is not found.")))?,
        wanted,
    )
}

fn unchanged(before: &Thing, wanted: &Thing) -> Ruled<()> {
    let no = |what: &str| {
        let message = format!("Changing property '{what}' is not allowed.");
        Err(refuse(409, "PropertyChangeNotAllowed", message))
    };
    let of = |thing: &Thing, path: &[&str]| {
        let value = path.iter().fold(&thing.body["properties"], |value, name| &value[*name]);
        value.as_str().unwrap_or_default().to_lowercase()
    };
    for path in [&["storageProfile", "osDisk", "managedDisk", "id"][..], &["availabilitySet", "id"]] {
        if of(before, path) != of(wanted, path) {
            return no(&path.join("."));
        }
    }
    let lower = |thing: &Thing| thing.nics().iter().map(|nic| nic.to_lowercase()).collect::<Vec<_>>();
    if lower(before) != lower(wanted) && before.power != Power::Deallocated {
        return no("networkProfile.networkInterfaces");
    }
    Ok(())
}

fn quota(world: &World, wanted: &Thing, size: &Size) -> Ruled<()> {
    let Used { cores, machines } = used(world, wanted.location(), Some(&wanted.place));
    let over = |what: &str, limit: u64, used: u64, more: u64| -> Refusal {
        over(what, wanted.location(), limit, used, more)
    };
    if let Some(limit) = world.config.quotas.get(&size.family) {
        let used = family_used(world, wanted.location(), Some(&wanted.place), Some(&size.family)).cores;
        if used + size.cores > *limit {
            return Err(over(&format!("{} Cores", size.family), *limit, used, size.cores));
        }
    }
    if cores + size.cores > world.config.cores {
        return Err(over("Total Regional Cores", world.config.cores, cores, size.cores));
    }
    if machines + 1 > world.config.machines {
        return Err(over("Virtual Machines", world.config.machines, machines, 1));
    }
    Ok(())
}

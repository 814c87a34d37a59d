//! Network interfaces and their addresses.

use crate::answer::{Answer, Ruled, parameter_missing, refuse, text};
use crate::asked::Asked;
use crate::network::{self, Prefix};
use crate::operation::Begin;
use crate::place::{Kind, Place, same};
use crate::thing::Thing;
use crate::world::World;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// What is shown as it was asked.
const ECHOED: [&str; 3] = ["networkSecurityGroup", "enableAcceleratedNetworking", "enableIPForwarding"];

pub(crate) fn put(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    let there = world.things.get(&key).cloned();
    if asked.method == "PATCH" {
        let nic = world.get(place)?;
        nic.take(&asked.body, &["tags"]);
        return Ok(Answer::new(200, nic.body.clone()));
    }
    let location = text(&asked.body, "location", "location")?;
    let asked_for = &asked.body["properties"];
    let configurations = asked_for["ipConfigurations"].as_array().filter(|all| !all.is_empty());
    let configurations = configurations.ok_or_else(|| parameter_missing("ipConfigurations"))?;
    let mut addresses = vec![];
    let mut made = vec![];
    for (at, of) in configurations.iter().enumerate() {
        let mut of = configuration(world, place, location, of, &addresses, there.as_ref())?;
        let primary = of["properties"]["primary"].as_bool().unwrap_or(at == 0);
        of["properties"]["primary"] = primary.into();
        addresses.push(address(&of));
        made.push(of);
    }
    let mut nic = Thing::new(place.clone(), location, json!({}));
    nic.take(&asked.body, &["tags"]);
    nic.set("ipConfigurations", made);
    nic.set("dnsSettings", json!({ "dnsServers": [], "appliedDnsServers": [] }));
    if let Some(servers) = asked_for["dnsSettings"]["dnsServers"].as_array() {
        nic.body["properties"]["dnsSettings"]["dnsServers"] = servers.clone().into();
    }
    for (name, default) in [("enableAcceleratedNetworking", false), ("enableIPForwarding", false)] {
        nic.set(name, default);
    }
    for name in ECHOED {
        if let Some(value) = asked_for.get(name) {
            nic.set(name, value.clone());
        }
    }
    let kept = there.as_ref().map(|nic| &nic.body["properties"]);
    let keep = |name: &str, new: String| kept.map_or(new.into(), |kept| kept[name].clone());
    nic.set("resourceGuid", keep("resourceGuid", crate::random::uuid()));
    nic.set("macAddress", keep("macAddress", hardware()));
    if let Some(user) = kept.and_then(|kept| kept.get("virtualMachine")) {
        nic.set("virtualMachine", user.clone());
    }
    nic.body["etag"] = format!("W/\"{}\"", crate::random::uuid()).into();
    nic.state("Updating");
    let begin =
        Begin { keys: vec![key.clone()], kind: Kind::Nic, location: location.to_owned(), marks: true };
    let shown = nic.body.clone();
    world.things.insert(key, nic);
    let headers = world.begin(asked, begin, Box::new(|_| Ok(None)));
    Ok(Answer::new(if there.is_some() { 200 } else { 201 }, shown).with(headers))
}

fn hardware() -> String {
    let bytes = crate::random::bytes();
    format!("00-0D-3A-{:02X}-{:02X}-{:02X}", bytes[0], bytes[1], bytes[2])
}

fn address(of: &Value) -> Option<Ipv4Addr> {
    of["properties"]["privateIPAddress"].as_str().and_then(|text| text.parse().ok())
}

/// One configuration with its address.
fn configuration(
    world: &World,
    place: &Place,
    location: &str,
    of: &Value,
    others: &[Option<Ipv4Addr>],
    there: Option<&Thing>,
) -> Ruled<Value> {
    let name = text(of, "name", "ipConfiguration.name")?;
    let asked = &of["properties"];
    let id = text(&asked["subnet"], "id", "ipConfiguration.subnet.id")?;
    let missing = || {
        let message = format!(
            "Resource {id} referenced by resource {place} was not found. Please make sure that the referenced resource exists, and that both resources are in the same region."
        );
        refuse(400, "InvalidResourceReference", message)
    };
    let (prefix, of_network) = network::subnet(world, id).ok_or_else(missing)?;
    if !same(&of_network, location) {
        return Err(missing());
    }
    let own = place.to_string();
    let user = |address: Ipv4Addr| {
        let all = network::taken(world);
        let other = all
            .into_iter()
            .find(|(taken, nic, subnet)| *taken == address && same(subnet, id) && !same(nic, &own));
        other.map(|(_, nic, _)| nic).or_else(|| others.contains(&Some(address)).then(|| own.clone()))
    };
    let whole = format!("{place}/ipConfigurations/{name}");
    let wanted = asked["privateIPAddress"].as_str();
    let method = asked["privateIPAllocationMethod"].as_str().unwrap_or("Dynamic");
    let address = if same(method, "Static") {
        let wanted = wanted.and_then(|text| text.parse().ok());
        let wanted = wanted.ok_or_else(|| {
            let message = format!("Static allocation of {whole} needs a privateIPAddress.");
            refuse(400, "PrivateIPAddressMissing", message)
        })?;
        check(prefix, wanted, &whole, asked)?;
        if let Some(user) = user(wanted) {
            let message = format!(
                "IP configuration {whole} is using the private IP address {wanted} which is already allocated to resource {user}."
            );
            return Err(refuse(400, "PrivateIPAddressIsAllocated", message));
        }
        wanted
    } else {
        let earlier = there.and_then(|nic| {
            let all = nic.body["properties"]["ipConfigurations"].as_array()?;
            let of = all.iter().find(|of| of["name"].as_str() == Some(name))?;
            let same_subnet = of["properties"]["subnet"]["id"].as_str().is_some_and(|other| same(other, id));
            address(of).filter(|_| same_subnet)
        });
        let free = earlier.or_else(|| prefix.usable().find(|address| user(*address).is_none()));
        free.ok_or_else(|| refuse(400, "SubnetIsFull", format!("Subnet {id} has no address left.")))?
    };
    let method = if same(method, "Static") { "Static" } else { "Dynamic" };
    let mut made = json!({
        "name": name, "id": whole, "type": "Microsoft.Network/networkInterfaces/ipConfigurations",
        "properties": {
            "provisioningState": "Succeeded", "privateIPAddress": address.to_string(),
            "privateIPAllocationMethod": method, "privateIPAddressVersion": "IPv4", "subnet": { "id": id },
        },
    });
    for echoed in
        ["primary", "publicIPAddress", "loadBalancerBackendAddressPools", "applicationSecurityGroups"]
    {
        if let Some(value) = asked.get(echoed) {
            made["properties"][echoed] = value.clone();
        }
    }
    Ok(made)
}

fn check(prefix: Prefix, wanted: Ipv4Addr, whole: &str, asked: &Value) -> Ruled<()> {
    let subnet = asked["subnet"]["id"].as_str().unwrap_or_default();
    if !prefix.has(wanted) {
        let message =
            format!("Private static IP address {wanted} does not belong to the range of subnet {subnet}.");
        return Err(refuse(400, "PrivateIPAddressNotInSubnet", message));
    }
    if prefix.keeps(wanted) {
        let message = format!(
            "Private static IP address {wanted} of {whole} falls within reserved IP range of subnet."
        );
        return Err(refuse(400, "PrivateIPAddressInReservedRange", message));
    }
    Ok(())
}

pub(crate) fn delete(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    let Some(nic) = world.things.get(&key) else { return Ok(Answer::empty(204)) };
    if let Some(user) = nic.body["properties"]["virtualMachine"]["id"].as_str() {
        let message = format!(
            "Network Interface {place} is used by existing resource {user}. In order to delete the network interface, it must be dissociated from the resource."
        );
        return Err(refuse(400, "NicInUse", message));
    }
    let begin =
        Begin { keys: vec![key.clone()], kind: Kind::Nic, location: nic.location().to_owned(), marks: true };
    let work = move |world: &mut World| {
        world.things.remove(&key);
        Ok(None)
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::empty(202).with(headers))
}

//! Virtual networks and their subnets.

use crate::answer::{Answer, Ruled, parameter_missing, refuse, text};
use crate::asked::Asked;
use crate::config::Network;
use crate::operation::Begin;
use crate::place::{Kind, Place};
use crate::thing::Thing;
use crate::world::World;
use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// Addresses of one subnet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Prefix {
    first: u32,
    last: u32,
}

impl Prefix {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (address, length): (Ipv4Addr, u32) = (address.parse().ok()?, length.parse().ok()?);
        let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
        let first = u32::from(address) & mask;
        (length <= 32).then_some(Self { first, last: first | !mask })
    }

    pub(crate) fn has(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address.into())
    }

    /// Azure keeps the first four and the last.
    pub(crate) fn keeps(self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.has(address.into()) && (address < self.first + 4 || address == self.last)
    }

    /// Those that machines can have, in order.
    pub(crate) fn usable(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first + 4..self.last).map(Ipv4Addr::from)
    }
}

pub(crate) fn begin_with(world: &mut World, network: &Network) {
    let place = Place {
        subscription: world.config.subscription.clone(),
        group: network.group.clone(),
        kind: Kind::Network,
        name: network.name.clone(),
        child: None,
    };
    let text = |(address, length): (Ipv4Addr, u8)| format!("{address}/{length}");
    add(world, &place, &network.location, &text(network.prefix));
    for (name, prefix) in &network.subnets {
        let place = Place { kind: Kind::Subnet, child: Some(name.clone()), ..place.clone() };
        add_subnet(world, &place, &text(*prefix), &json!({}));
    }
}

fn add(world: &mut World, place: &Place, location: &str, prefix: &str) {
    let properties = json!({
        "addressSpace": { "addressPrefixes": [prefix] },
        "provisioningState": "Succeeded", "enableDdosProtection": false,
    });
    world.things.insert(place.key(), Thing::new(place.clone(), location, properties));
}

fn add_subnet(world: &mut World, place: &Place, prefix: &str, more: &Value) {
    let mut properties = json!({ "addressPrefix": prefix, "provisioningState": "Succeeded" });
    for name in ["networkSecurityGroup", "routeTable", "natGateway"] {
        if let Some(value) = more.get(name) {
            properties[name] = value.clone();
        }
    }
    let mut subnet = Thing::new(place.clone(), "", properties);
    subnet.body.as_object_mut().map(|members| members.remove("location"));
    world.things.insert(place.key(), subnet);
}

pub(crate) fn subnets(world: &World, network: &Place) -> Value {
    let within = format!("{}/subnets/", network.key());
    let inside = world.things.iter().filter(|(key, _)| key.starts_with(&within));
    inside.map(|(_, subnet)| subnet.body.clone()).collect::<Vec<_>>().into()
}

pub(crate) fn put(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let location = text(&asked.body, "location", "location")?;
    let properties = &asked.body["properties"];
    let prefix = properties["addressSpace"]["addressPrefixes"][0].as_str();
    let prefix = prefix.ok_or_else(|| parameter_missing("addressSpace.addressPrefixes"))?;
    add(world, place, location, prefix);
    world.get(place)?.take(&asked.body, &["tags"]);
    for subnet in properties["subnets"].as_array().into_iter().flatten() {
        let child = Some(text(subnet, "name", "subnet.name")?.to_owned());
        let place = Place { kind: Kind::Subnet, child, ..place.clone() };
        subnet_of(world, &place, &subnet["properties"])?;
    }
    let mut body = world.body(&place.key());
    body["properties"]["subnets"] = subnets(world, place);
    Ok(Answer::new(201, body))
}

pub(crate) fn put_subnet(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    subnet_of(world, place, &asked.body["properties"])?;
    Ok(Answer::new(201, world.body(&place.key())))
}

fn subnet_of(world: &mut World, place: &Place, properties: &Value) -> Ruled<()> {
    let network = Place { kind: Kind::Network, child: None, ..place.clone() };
    let space = world.get(&network)?.body["properties"]["addressSpace"]["addressPrefixes"].clone();
    let text = text(properties, "addressPrefix", "subnet.addressPrefix")?;
    let invalid = || refuse(400, "InvalidCIDRNotation", format!("The address prefix {text} is not valid."));
    let prefix = Prefix::parse(text).ok_or_else(invalid)?;
    let around = space.as_array().into_iter().flatten().filter_map(Value::as_str).filter_map(Prefix::parse);
    if !around.into_iter().any(|around| around.first <= prefix.first && prefix.last <= around.last) {
        let message = format!("The address prefix {text} of {place} is outside of its network's.");
        return Err(refuse(400, "NetcfgInvalidSubnet", message));
    }
    add_subnet(world, place, text, properties);
    Ok(())
}

/// Deletes a network or a subnet in which no interface is.
pub(crate) fn delete(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.free(&key)?;
    let Some(thing) = world.things.get(&key) else { return Ok(Answer::empty(204)) };
    let location = thing.location().to_owned();
    let within = |subnet: &str| subnet == key || subnet.starts_with(&format!("{key}/"));
    if let Some((address, nic, _)) = taken(world).iter().find(|(_, _, subnet)| within(subnet)) {
        let message = format!("{place} is in use by {nic} with {address} and cannot be deleted.");
        return Err(refuse(400, "InUseSubnetCannotBeDeleted", message));
    }
    let begin = Begin { keys: vec![key.clone()], kind: place.kind, location, marks: true };
    let work = move |world: &mut World| {
        let within = format!("{key}/subnets/");
        world.things.retain(|other, _| *other != key && !other.starts_with(&within));
        Ok(None)
    };
    let headers = world.begin(asked, begin, Box::new(work));
    Ok(Answer::empty(202).with(headers))
}

/// Every address that an interface has: with the interface's id and its subnet's key.
pub(crate) fn taken(world: &World) -> Vec<(Ipv4Addr, String, String)> {
    let mut taken = vec![];
    for nic in world.things.values().filter(|thing| thing.is(Kind::Nic)) {
        for of in nic.body["properties"]["ipConfigurations"].as_array().into_iter().flatten() {
            let of = &of["properties"];
            let address = of["privateIPAddress"].as_str().and_then(|text| text.parse().ok());
            if let (Some(address), Some(subnet)) = (address, of["subnet"]["id"].as_str()) {
                taken.push((address, nic.place.to_string(), subnet.to_lowercase()));
            }
        }
    }
    taken
}

/// Whether an address of a network is free, and others that are.
pub(crate) fn availability(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    world.get(place)?;
    let address = asked.query.get("ipaddress").and_then(|text| text.parse::<Ipv4Addr>().ok());
    let address = address.ok_or_else(|| {
        refuse(400, "InvalidRequestFormat", "The query parameter ipAddress is missing or not an address.")
    })?;
    let (within, taken) = (format!("{}/subnets/", place.key()), taken(world));
    let mut answer = json!({ "available": false, "availableIPAddresses": [], "isPlatformReserved": false });
    for (key, subnet) in world.things.iter().filter(|(key, _)| key.starts_with(&within)) {
        let Some(prefix) = Prefix::parse(subnet.property("addressPrefix")) else { continue };
        if !prefix.has(address) {
            continue;
        }
        let used = |address| taken.iter().any(|(other, _, of)| *other == address && of == key);
        let free = !prefix.keeps(address) && !used(address);
        let others = prefix.usable().filter(|other| !used(*other)).take(5).map(|other| other.to_string());
        let others: Vec<String> = if free { vec![] } else { others.collect() };
        answer = json!({
            "available": free, "availableIPAddresses": others, "isPlatformReserved": prefix.keeps(address),
        });
    }
    Ok(Answer::new(200, answer))
}

/// The subnet that an id names, and its network's location.
pub(crate) fn subnet(world: &World, id: &str) -> Option<(Prefix, String)> {
    let subnet = world.things.get(&id.to_lowercase()).filter(|thing| thing.is(Kind::Subnet))?;
    let network = Place { kind: Kind::Network, child: None, ..subnet.place.clone() };
    let location = world.things.get(&network.key())?.location().to_owned();
    Some((Prefix::parse(subnet.property("addressPrefix"))?, location))
}

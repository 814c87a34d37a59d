//! Availability sets.

use crate::answer::{Answer, Ruled, refuse, text};
use crate::asked::Asked;
use crate::place::{Kind, Place, same};
use crate::thing::Thing;
use crate::world::World;
use serde_json::json;

pub(crate) fn put(world: &mut World, asked: &Asked, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    if asked.method == "PATCH" {
        world.get(place)?;
    }
    if let Some(set) = world.things.get_mut(&key) {
        set.take(&asked.body, &["tags", "sku"]);
        return Ok(Answer::new(200, set.body.clone()));
    }
    let location = text(&asked.body, "location", "location")?;
    let mut set = Thing::new(place.clone(), location, json!({}));
    set.take(&asked.body, &["tags"]);
    set.body["sku"] = asked.body.get("sku").cloned().unwrap_or(json!({ "name": "Classic" }));
    for (name, default) in [("platformFaultDomainCount", 2), ("platformUpdateDomainCount", 5)] {
        set.set(name, asked.body["properties"][name].as_u64().unwrap_or(default));
    }
    set.set("virtualMachines", json!([]));
    let body = set.body.clone();
    world.things.insert(key, set);
    Ok(Answer::new(200, body))
}

pub(crate) fn delete(world: &mut World, place: &Place) -> Ruled<Answer> {
    let id = place.to_string();
    let inside = |thing: &Thing| {
        thing.is(Kind::Machine)
            && thing.body["properties"]["availabilitySet"]["id"]
                .as_str()
                .is_some_and(|other| same(other, &id))
    };
    if world.things.values().any(inside) {
        let message = format!("Availability set {} has machines.", place.last());
        return Err(refuse(409, "OperationNotAllowed", message));
    }
    let gone = world.things.remove(&place.key());
    Ok(Answer::empty(if gone.is_some() { 200 } else { 204 }))
}

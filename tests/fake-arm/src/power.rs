//! Whether machines run, and what they tell of it.

use crate::answer::{Answer, Ruled, refuse};
use crate::asked::Asked;
use crate::machine::power;
use crate::operation::Begin;
use crate::place::{Place, same};
use crate::thing::Power;
use crate::world::World;
use serde_json::{Value, json};

pub(crate) fn act(world: &mut World, asked: &Asked, place: &Place, verb: &str) -> Ruled<Answer> {
    let key = place.key();
    world.get(place)?;
    world.free(&key)?;
    let to = match verb {
        "deallocate" => Power::Deallocated,
        "poweroff" => Power::Stopped,
        "start" | "restart" => Power::Running,
        _ => return Err(refuse(405, "MethodNotAllowed", format!("{verb} is not supported"))),
    };
    let from = world.get(place)?.power;
    if from == Power::Deallocated && matches!(verb, "restart" | "poweroff") {
        let message = format!("VM {} is deallocated.", place.last());
        return Err(refuse(409, "OperationNotAllowed", message));
    }
    if verb == "start" {
        may_start(world, &key)?;
    }
    let machine = world.get(place)?;
    machine.state("Updating");
    let begin = Begin {
        keys: vec![key.clone()],
        kind: place.kind,
        location: machine.location().to_owned(),
        marks: true,
    };
    let work = move |world: &mut World| {
        power(world, &key, to);
        Ok(None)
    };
    let waits = verb == "poweroff" && asked.query.get("skipshutdown").is_none_or(|skip| !same(skip, "true"));
    let headers = world.begin(asked, begin, Box::new(work));
    if let Some(deaf) = world.get(place)?.deaf.as_mut().filter(|_| waits) {
        deaf.was_asked = true;
        world.goes_on_for(&place.key(), world.config.patience);
    }
    Ok(Answer::empty(202).with(headers))
}

/// That nothing keeps a machine from starting.
pub(crate) fn may_start(world: &World, key: &str) -> Ruled<()> {
    let Some(machine) = world.things.get(key) else { return Ok(()) };
    for disk in machine.disks() {
        let read = world.things.get(&disk.to_lowercase()).is_some_and(|disk| disk.grant.is_some());
        if read && world.config.reading_blocks_start {
            let message = format!("VM cannot be started: disk {disk} has an active shared access signature.");
            return Err(refuse(409, "Conflict", message));
        }
    }
    Ok(())
}

pub(crate) fn instance_view(world: &mut World, place: &Place) -> Ruled<Answer> {
    let key = place.key();
    world.look_at(&key);
    world.get(place)?;
    Ok(Answer::new(200, view(world, &key)))
}

/// What a machine tells of itself.
pub(crate) fn view(world: &World, key: &str) -> Value {
    let Some(machine) = world.things.get(key) else { return Value::Null };
    let status = |code: String, words: &str| json!({ "code": code, "level": "Info", "displayStatus": words });
    let state = machine.property("provisioningState");
    let provisioned = format!("ProvisioningState/{}", state.to_lowercase());
    let mut statuses = vec![status(provisioned, &format!("Provisioning {}", state.to_lowercase()))];
    if !matches!(state, "Creating" | "Failed") || machine.power == Power::Running {
        let code = machine.power.code();
        statuses.push(status(format!("PowerState/{code}"), &format!("VM {code}")));
    }
    let disks = machine.disks();
    let managed = || disks.iter().filter_map(|disk| world.things.get(&disk.to_lowercase()));
    let attached = |name: &str| json!({ "name": name, "statuses": [status("ProvisioningState/succeeded".into(), "Provisioning succeeded")] });
    let generation =
        managed().next().map(|disk| disk.property("hyperVGeneration")).filter(|text| !text.is_empty());
    json!({
        "hyperVGeneration": generation.unwrap_or("V1"),
        "disks": managed().map(|disk| attached(disk.place.last())).collect::<Vec<_>>(),
        "statuses": statuses,
    })
}

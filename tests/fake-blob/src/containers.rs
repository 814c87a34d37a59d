//! Containers, and what is told of an account.

use crate::answer::{Answer, Refused};
use crate::blobs::tagged;
use crate::call::Call;
use crate::world::{Container, World};
use std::collections::BTreeMap;

pub(crate) fn account(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let account = &world.vault(&call.place.account)?.account;
    Ok(Answer::new(200)
        .with("x-ms-sku-name", "Standard_LRS")
        .with("x-ms-account-kind", account.kind)
        .with("x-ms-is-hns-enabled", account.namespace))
}

pub(crate) fn create(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let stamp = world.stamp();
    let name = call.place.container.clone().unwrap_or_default();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(3..=63).contains(&name.len())
        || !name.chars().all(fits)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(Refused::new(
            400,
            "InvalidResourceName",
            "The specified resource name contains invalid characters.",
        ));
    }
    let vault = world.vault(&call.place.account)?;
    if vault.containers.contains_key(&name) {
        return Err(Refused::new(409, "ContainerAlreadyExists", "The specified container already exists."));
    }
    let container = Container {
        stamp: stamp.clone(),
        metadata: call.metadata().unwrap_or_default(),
        blobs: BTreeMap::new(),
        blocks: BTreeMap::new(),
    };
    vault.containers.insert(name, container);
    Ok(tagged(Answer::new(201), &stamp))
}

pub(crate) fn properties(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    let container = world.container(&call.place)?;
    let answer = tagged(Answer::new(200), &container.stamp)
        .with("x-ms-lease-status", "unlocked")
        .with("x-ms-lease-state", "available")
        .with("x-ms-has-immutability-policy", false)
        .with("x-ms-has-legal-hold", false);
    let own = container.metadata.iter().map(|(name, value)| (format!("x-ms-meta-{name}"), value.clone()));
    Ok(answer.with_all(own.collect()))
}

pub(crate) fn delete(world: &mut World, call: &Call) -> Result<Answer, Refused> {
    world.container(&call.place)?;
    let name = call.place.container.as_deref().unwrap_or_default();
    world.vault(&call.place.account)?.containers.remove(name);
    Ok(Answer::new(202))
}

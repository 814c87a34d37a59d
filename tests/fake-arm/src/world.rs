//! All that is there.

use crate::answer::{Answer, Ruled, refuse};
use crate::asked::Asked;
use crate::clock::Clock;
use crate::config::Config;
use crate::operation::Operation;
use crate::place::{Kind, Place, Target, same};
use crate::thing::Thing;
use crate::{access, availability, disk, machine, network, nic, power, size, snapshot};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) things: BTreeMap<String, Thing>,
    pub(crate) operations: BTreeMap<String, Operation>,
    /// When each blob was imported last.
    pub(crate) imports: BTreeMap<String, u64>,
    /// When incremental snapshots of each family were taken.
    pub(crate) taken: BTreeMap<String, Vec<u64>>,
    pub(crate) blobs: Arc<fake_blob::Fake>,
}

impl World {
    pub(crate) fn new(config: Config, blobs: Arc<fake_blob::Fake>) -> Self {
        let mut world = Self {
            clock: Clock::default(),
            things: BTreeMap::new(),
            operations: BTreeMap::new(),
            imports: BTreeMap::new(),
            taken: BTreeMap::new(),
            blobs,
            config,
        };
        for network in world.config.networks.clone() {
            network::begin_with(&mut world, &network);
        }
        world
    }

    /// The answer to a request that was let in.
    pub(crate) fn answer(&mut self, asked: &Asked) -> Ruled<Answer> {
        let subscription = asked.target.subscription();
        if !same(subscription, &self.config.subscription) {
            let message = format!("The subscription '{subscription}' could not be found.");
            return Err(refuse(404, "SubscriptionNotFound", message));
        }
        access::expire(self);
        match (&asked.target, asked.method.as_str()) {
            (Target::Operation { id, .. }, "GET") => self.operation(asked, &id.to_lowercase()),
            (Target::Group { group, .. }, "GET" | "HEAD") => self.group_answer(asked, group),
            (Target::Account { id, .. }, "GET") => self.account(id),
            (Target::Rights { .. }, "GET") => {
                let [actions, data] = &self.config.rights;
                let role = json!({
                    "actions": actions, "notActions": [], "dataActions": data, "notDataActions": [],
                });
                Ok(Answer::new(200, json!({ "value": [role] })))
            }
            (Target::Usages { location, .. }, "GET") => Ok(size::usages(self, location)),
            (Target::Sizes { .. }, "GET") => Ok(size::sizes(self)),
            (Target::Skus { .. }, "GET") => size::skus(self, asked),
            (Target::List { group, kind, network, .. }, "GET") => {
                self.list(asked, group.as_deref(), *kind, network.as_deref())
            }
            (Target::One { place, verb: None }, _) => self.one(asked, place),
            (Target::One { place, verb: Some(verb) }, _) => self.act(asked, place, verb),
            _ => Err(not_allowed(asked)),
        }
    }

    fn one(&mut self, asked: &Asked, place: &Place) -> Ruled<Answer> {
        self.group(place)?;
        match (asked.method.as_str(), place.kind) {
            ("GET", _) => self.show(asked, place),
            ("PUT" | "PATCH", Kind::Disk) => disk::put(self, asked, place),
            ("PUT" | "PATCH", Kind::Snapshot) => snapshot::put(self, asked, place),
            ("PUT" | "PATCH", Kind::Machine) => machine::put(self, asked, place),
            ("PUT" | "PATCH", Kind::AvailabilitySet) => availability::put(self, asked, place),
            ("PUT" | "PATCH", Kind::Nic) => nic::put(self, asked, place),
            ("PUT", Kind::Network) => network::put(self, asked, place),
            ("PUT", Kind::Subnet) => network::put_subnet(self, asked, place),
            ("DELETE", Kind::Disk | Kind::Snapshot) => disk::delete(self, asked, place),
            ("DELETE", Kind::Machine) => machine::delete(self, asked, place),
            ("DELETE", Kind::AvailabilitySet) => availability::delete(self, place),
            ("DELETE", Kind::Nic) => nic::delete(self, asked, place),
            ("DELETE", Kind::Network | Kind::Subnet) => network::delete(self, asked, place),
            _ => Err(not_allowed(asked)),
        }
    }

    fn act(&mut self, asked: &Asked, place: &Place, verb: &str) -> Ruled<Answer> {
        self.group(place)?;
        match (asked.method.as_str(), place.kind, verb.to_lowercase().as_str()) {
            ("POST", Kind::Disk | Kind::Snapshot, "begingetaccess") => access::begin(self, asked, place),
            ("POST", Kind::Disk | Kind::Snapshot, "endgetaccess") => access::end(self, asked, place),
            ("GET", Kind::Machine, "instanceview") => power::instance_view(self, place),
            ("POST", Kind::Machine, "attachdetachdatadisks") => machine::attach_detach(self, asked, place),
            ("POST", Kind::Machine, verb) => power::act(self, asked, place, verb),
            ("GET", Kind::Network, "checkipaddressavailability") => network::availability(self, asked, place),
            _ => Err(not_allowed(asked)),
        }
    }

    fn show(&mut self, asked: &Asked, place: &Place) -> Ruled<Answer> {
        let key = place.key();
        self.look_at(&key);
        let mut body = self.get(place)?.body.clone();
        match place.kind {
            Kind::Machine if asked.query.get("$expand").is_some_and(|what| same(what, "instanceView")) => {
                body["properties"]["instanceView"] = power::view(self, &key);
            }
            Kind::Network => body["properties"]["subnets"] = network::subnets(self, place),
            Kind::Snapshot => snapshot::progress(self, &key),
            _ => {}
        }
        Ok(Answer::new(200, body))
    }

    fn list(
        &mut self,
        asked: &Asked,
        group: Option<&str>,
        kind: Kind,
        network: Option<&str>,
    ) -> Ruled<Answer> {
        if let Some(group) = group {
            self.group_named(group)?;
        }
        let within = |place: &Place| {
            place.kind == kind
                && group.is_none_or(|group| same(group, &place.group))
                && network.is_none_or(|network| same(network, &place.name))
        };
        let keys = self.things.iter().filter(|(_, thing)| within(&thing.place)).map(|(key, _)| key.clone());
        let keys: Vec<String> = keys.collect();
        let skip: usize =
            asked.query.get("$skiptoken").map_or(Ok(0), |text| text.parse()).unwrap_or(usize::MAX);
        if skip > keys.len() {
            return Err(refuse(400, "InvalidParameter", "The skip token is invalid."));
        }
        let mut value = vec![];
        for key in keys.iter().skip(skip).take(self.config.page) {
            self.look_at(key);
            let Some(thing) = self.things.get(key) else { continue };
            let (place, mut body) = (thing.place.clone(), thing.body.clone());
            if kind == Kind::Network {
                body["properties"]["subnets"] = network::subnets(self, &place);
            }
            value.push(body);
        }
        let mut body = json!({ "value": value });
        let next = skip + self.config.page;
        if next < keys.len() {
            let Asked { base, path, .. } = asked;
            let version = asked.version();
            body["nextLink"] = format!("{base}{path}?api-version={version}&$skiptoken={next}").into();
        }
        Ok(Answer::new(200, body))
    }

    fn group_answer(&mut self, asked: &Asked, group: &str) -> Ruled<Answer> {
        let location = self.group_named(group)?;
        if asked.method == "HEAD" {
            return Ok(Answer::empty(204));
        }
        let id = format!("/subscriptions/{}/resourceGroups/{group}", self.config.subscription);
        Ok(Answer::new(
            200,
            json!({
                "id": id, "name": group, "type": "Microsoft.Resources/resourceGroups", "location": location,
                "properties": { "provisioningState": "Succeeded" },
            }),
        ))
    }

    fn account(&self, id: &str) -> Ruled<Answer> {
        let found = self.config.accounts.iter().find(|account| same(&account.id, id));
        let found = found.ok_or_else(|| {
            let message = format!("The Resource '{id}' was not found.");
            refuse(404, "ResourceNotFound", message)
        })?;
        Ok(Answer::new(
            200,
            json!({
                "id": found.id, "name": found.id.rsplit('/').next(), "location": found.location,
                "kind": "StorageV2", "sku": { "name": "Standard_LRS", "tier": "Standard" },
                "properties": { "isHnsEnabled": self.config.hierarchical, "provisioningState": "Succeeded" },
            }),
        ))
    }

    fn group_named(&self, group: &str) -> Ruled<String> {
        let found = self.config.groups.iter().find(|(name, _)| same(name, group));
        found.map(|(_, location)| location.clone()).ok_or_else(|| {
            refuse(404, "ResourceGroupNotFound", format!("Resource group '{group}' could not be found."))
        })
    }

    /// That the group of a place is there.
    pub(crate) fn group(&self, place: &Place) -> Ruled<()> {
        self.group_named(&place.group).map(drop)
    }

    pub(crate) fn get(&mut self, place: &Place) -> Ruled<&mut Thing> {
        let message = format!(
            "The Resource '{}/{}' under resource group '{}' was not found.",
            place.kind.full(),
            place.last(),
            place.group
        );
        self.things.get_mut(&place.key()).ok_or_else(|| refuse(404, "ResourceNotFound", message))
    }

    /// That nothing changes it now. Counts as a look where something does.
    pub(crate) fn free(&mut self, key: &str) -> Ruled<()> {
        let busy = self.things.get(key).is_some_and(|thing| thing.busy.is_some());
        self.look_at(key);
        let message = "The request failed due to conflict with a concurrent request.";
        if busy { Err(refuse(409, "Conflict", message)) } else { Ok(()) }
    }

    /// The body as it is now; null where it is gone.
    pub(crate) fn body(&self, key: &str) -> Value {
        self.things.get(key).map_or(Value::Null, |thing| thing.body.clone())
    }
}

fn not_allowed(asked: &Asked) -> crate::answer::Refusal {
    refuse(405, "MethodNotAllowed", format!("{} is not supported on {}", asked.method, asked.path))
}

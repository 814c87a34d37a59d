//! What stands in the group, and whose it is.

use crate::cloud::{ACCOUNT, CONTAINER, World};
use crate::ground::Life;
use serde_json::Value;
use site_recovery::{Owed, Replica};
use std::collections::{BTreeMap, BTreeSet};

/// What stood there before us, as it stood.
pub(crate) struct Theirs(BTreeMap<String, Value>);

impl Theirs {
    pub(crate) fn of(world: &World) -> Self {
        let things = world.manager.world().into_iter();
        Self(things.map(|thing| (id(&thing.body), thing.body)).collect())
    }
}

fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_lowercase()
}

impl Life {
    /// Instances in the cloud that the item knows of, by name.
    fn known(&self) -> BTreeSet<String> {
        let Ok(item) = self.web().and_then(|web| web.item()) else { return BTreeSet::new() };
        let owed = item.owed.iter().filter_map(|owed| match owed {
            Owed::Remove { instance, .. } | Owed::Fence(instance) | Owed::Lift(instance) => Some(instance),
            _ => None,
        });
        let drill = item.drill.iter().filter_map(|drill| drill.armed.as_ref()).map(|armed| &armed.instance);
        let all = item.instances.iter().chain(&item.kept).chain(owed).chain(drill);
        all.filter(|i| i.site.as_str() == "azure").map(|i| i.name.clone()).collect()
    }

    /// Instances that the site has written down.
    fn marked(&self) -> BTreeSet<String> {
        let all = self.cloud.blobs.blobs(ACCOUNT, CONTAINER).into_iter();
        all.filter_map(|name| name.strip_prefix("s/azure/mark/").map(str::to_owned)).collect()
    }

    /// The names of all resources of an instance.
    fn resources(&self, instance: &str) -> Vec<String> {
        let mark = self.cloud.mark(instance).unwrap();
        let each =
            |of: &Value| of.as_object().into_iter().flatten().map(|(_, v)| v.clone()).collect::<Vec<_>>();
        let mut names = each(&mark["nics"]);
        names.extend(each(&mark["disks"]).into_iter().map(|held| held["resource"].clone()));
        names.extend(each(&mark["made"]["base"]));
        names.extend(mark["cuts"].as_array().unwrap().iter().flat_map(|cut| each(&cut["snapshots"])));
        let mut names: Vec<_> = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        names.push(instance.to_owned());
        names
    }

    /// Whoever's it was stands as it stood. What else is there belongs to an instance that the item knows; nothing is handed
    /// out, being changed, or in the making. At most one machine runs.
    pub(crate) async fn nothing_is_astray(&self, when: &str) {
        let known = self.known();
        let marked = self.marked();
        assert!(marked.is_subset(&known), "{when}: {marked:?} is written down, the item knows {known:?}");
        let ours: BTreeSet<_> = marked.iter().flat_map(|name| self.resources(name)).collect();
        let mut theirs = self.theirs.0.clone();
        for thing in self.cloud.manager.world() {
            let what = format!("{when}: {} {}", thing.kind, thing.name);
            assert!(!thing.granted, "{what} is handed out");
            assert!(!thing.busy, "{what} is being changed");
            match theirs.remove(&id(&thing.body)) {
                Some(as_it_was) => assert_eq!(thing.body, as_it_was, "{what} is not ours"),
                None => assert!(ours.contains(&thing.name), "{what} is an orphan; the item knows {known:?}"),
            }
        }
        assert!(theirs.is_empty(), "{when}: gone, and not ours: {:?}", theirs.keys());
        assert_eq!(self.works(), Vec::<String>::new(), "{when}: in the making");
        self.at_most_one_runs(when).await;
    }

    /// On either side.
    pub(crate) async fn at_most_one_runs(&self, when: &str) {
        let running: Vec<_> = self.marked().into_iter().filter(|name| self.cloud.runs(name)).collect();
        let here = self.here.runs().await;
        assert!(running.len() + usize::from(here) <= 1, "{when}: {running:?} run there; here: {here}");
    }

    /// Nothing of ours is there but the replica and what is written down of withdrawn keys.
    pub(crate) async fn nothing_is_ours(&self, when: &str) {
        self.nothing_is_astray(when).await;
        let left = self.cloud.manager.world().len() - self.theirs.0.len();
        assert_eq!((self.marked(), left), (BTreeSet::new(), 0), "{when}: something is ours");
    }

    /// One page blob for each disk, with a snapshot for each point.
    pub(crate) async fn the_replica_is_tidy(&self, when: &str) {
        let web = self.web().unwrap();
        let (disks, points) =
            (web.item().unwrap().machine.disks.len(), self.points.points(web.id()).await.unwrap());
        let blobs = self.cloud.blobs.blobs(ACCOUNT, CONTAINER);
        let images: Vec<_> =
            blobs.into_iter().filter(|name| name.ends_with(".vhd") && name.starts_with("m/")).collect();
        assert_eq!(images.len(), disks, "{when}: {images:?}");
        for image in images {
            let snapshots = self.cloud.blobs.snapshots(ACCOUNT, CONTAINER, &image).len();
            assert_eq!(snapshots, points.len(), "{when}: snapshots of {image}");
        }
    }

    pub(crate) fn works(&self) -> Vec<String> {
        let all = self.cloud.blobs.blobs(ACCOUNT, CONTAINER).into_iter();
        all.filter(|name| name.starts_with("s/azure/work/")).collect()
    }
}

//! Tags: what is asked in how many requests, and what a watch says when its tag goes.

use crate::fake::{Fake, answer, refused, say};
use site_recovery::ErrorKind;
use std::sync::{Arc, Mutex};
use vmware_vsphere_rest::{Error, ObjectId, TagId, TagWatch};

/// One category with one tag, as a test has it at the moment.
#[derive(Clone)]
struct World {
    tag_id: &'static str,
    tag: &'static str,
    objects: Vec<(&'static str, &'static str)>,
    there: bool,
}

fn serve(world: Arc<Mutex<World>>) -> Fake {
    Fake::new(move |r| {
        let world = world.lock().unwrap();
        let (before, _) = r.path.split_once('?').unwrap_or((&r.path, ""));
        let at = before.strip_prefix("/api/cis/tagging/")?;
        let objects: Vec<_> = world
            .objects
            .iter()
            .map(|(kind, id)| format!("{{\"type\":\"{kind}\",\"id\":\"{id}\"}}"))
            .collect();
        Some(match at {
            "category" => answer("[\"urn:gone\",\"urn:c\"]"),
            "category/urn:c" => {
                answer(r#"{"id":"urn:c","name":"dr","cardinality":"SINGLE","associable_types":[]}"#)
            }
            "tag" if !world.there => answer("[]"),
            "tag" => answer(&format!("[{:?}]", world.tag_id)),
            tag if world.there && tag == format!("tag/{}", world.tag_id) => answer(&format!(
                r#"{{"id":{:?},"name":{:?},"category_id":"urn:c"}}"#,
                world.tag_id, world.tag
            )),
            objects_of if world.there && objects_of == format!("tag-association/{}", world.tag_id) => {
                answer(&format!("[{}]", objects.join(",")))
            }
            _ => refused(404, "NOT_FOUND", "no"),
        })
    })
}

fn ids(found: &[vmware_vsphere_rest::MachineId]) -> Vec<&str> {
    found.iter().map(vmware_vsphere_rest::MachineId::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_follows_a_name_and_a_tag_that_is_gone_is_an_error() {
    let objects = vec![("VirtualMachine", "vm-2"), ("Folder", "group-v3"), ("VirtualMachine", "vm-1")];
    let world = Arc::new(Mutex::new(World { tag_id: "urn:1", tag: "gold", objects, there: true }));
    let fake = serve(Arc::clone(&world));
    let vcenter = fake.connect().await;
    let mut watch = TagWatch::new(vcenter.clone(), "dr=gold".parse().unwrap());
    let changes = watch.look().await.unwrap();
    assert_eq!((ids(&changes.added), ids(&changes.removed)), (vec!["vm-1", "vm-2"], vec![]));

    let before = fake.lines().len();
    world.lock().unwrap().objects = vec![("VirtualMachine", "vm-1"), ("VirtualMachine", "vm-7")];
    let changes = watch.look().await.unwrap();
    assert_eq!((ids(&changes.added), ids(&changes.removed)), (vec!["vm-7"], vec!["vm-2"]));
    assert_eq!(fake.lines().len() - before, 3, "{:?}", fake.lines());
    assert!(watch.look().await.unwrap().is_empty());

    // Another name, or no tag: nothing is said of its machines.
    world.lock().unwrap().tag = "silver";
    let error = watch.look().await.unwrap_err();
    assert!(matches!(error, Error::NoTag { .. }) && error.kind() == ErrorKind::NotFound, "{error:?}");
    world.lock().unwrap().there = false;
    assert!(matches!(watch.look().await.unwrap_err(), Error::NoTag { .. }));
    assert_eq!(watch.seen().len(), 2);
    // Made anew, with another identifier.
    *world.lock().unwrap() =
        World { tag_id: "urn:2", tag: "gold", objects: vec![("VirtualMachine", "vm-7")], there: true };
    let changes = watch.look().await.unwrap();
    assert_eq!((ids(&changes.added), ids(&changes.removed)), (vec![], vec!["vm-1"]));

    let seen = watch.seen().clone();
    let mut resumed = TagWatch::resume(vcenter, watch.name().clone(), seen);
    assert!(resumed.look().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_fails_has_seen_nothing() {
    let world =
        World { tag_id: "urn:1", tag: "gold", objects: vec![("VirtualMachine", "vm-1")], there: true };
    let world = Arc::new(Mutex::new(world));
    let mut fake = serve(Arc::clone(&world));
    fake.settings.limits.tries = 1;
    let mut watch = TagWatch::new(fake.connect().await, "dr=gold".parse().unwrap());
    watch.look().await.unwrap();
    world.lock().unwrap().objects.push(("VirtualMachine", "vm-2"));
    drop(fake);
    assert_eq!(watch.look().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(watch.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_asked_in_batches_and_machines_by_tag_name_their_identifiers() {
    let objects = vec![("VirtualMachine", "vm-1"), ("VirtualMachine", "vm-2"), ("VirtualMachine", "vm-3")];
    let world = Arc::new(Mutex::new(World { tag_id: "urn:1", tag: "gold", objects, there: true }));
    let mut fake = serve(Arc::clone(&world));
    fake.settings.limits.page = 2;
    let vcenter = fake.connect().await;
    assert!(vcenter.machines_by_tag(&"dr=gold".parse().unwrap()).await.unwrap().is_empty());
    let lists: Vec<_> = fake.lines().into_iter().filter(|l| l.starts_with("GET /api/vcenter")).collect();
    assert_eq!(lists, ["GET /api/vcenter/vm?vms=vm-1&vms=vm-2", "GET /api/vcenter/vm?vms=vm-3"]);
    let none = vcenter.machines_by_tag(&"dr=tin".parse().unwrap()).await.unwrap_err();
    assert!(matches!(none, Error::NoTag { .. }) && none.to_string().contains("dr=tin"), "{none:?}");

    let fake = Fake::new(|r| r.path.contains("tag-association").then(|| say(200, "null".into())));
    let mut settings = fake.settings.clone();
    settings.limits.page = 2;
    let vcenter = crate::fake::connect(&settings).await.unwrap();
    let tags: Vec<_> = (0..5).map(|n| TagId::new(format!("urn:{n}"))).collect();
    assert!(vcenter.attached_objects_on(&tags).await.unwrap().is_empty());
    let line = "POST /api/cis/tagging/tag-association?action=list-attached-objects-on-tags";
    let bodies: Vec<_> = fake.seen(line).into_iter().map(|r| r.body).collect();
    assert_eq!(
        bodies,
        [r#"{"tag_ids":["urn:0","urn:1"]}"#, r#"{"tag_ids":["urn:2","urn:3"]}"#, r#"{"tag_ids":["urn:4"]}"#]
    );
    let objects = [ObjectId { kind: "Folder".into(), id: "f".into() }];
    assert!(vcenter.attached_tags_on(&objects).await.unwrap().is_empty());
    let line = "POST /api/cis/tagging/tag-association?action=list-attached-tags-on-objects";
    let sent: serde_json::Value = serde_json::from_str(&fake.seen(line)[0].body).unwrap();
    assert_eq!(sent, serde_json::json!({ "object_ids": [{ "type": "Folder", "id": "f" }] }));
}

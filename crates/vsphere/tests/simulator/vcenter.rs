//! What vCenter has beside a host: tags by which machines are chosen, and overrides that keep them where they are.

use crate::support::process::{Mode, Sim};
use crate::support::world::World;
use serde_json::json;
use site_recovery::*;
use site_recovery_testkit::suite::{op, permit, recovery};
use site_recovery_vim::{Moref, Override, Vim};
use site_recovery_vmware::Builder;
use site_recovery_vsphere::VCenter;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use vmware_vsphere_rest as rest;

fn tagged(sim: &Sim) -> VCenter {
    VCenter::new(sim.settings.clone()).tagged("dr=gold".parse().unwrap())
}

fn open(sim: &Sim, state: PathBuf) -> Builder {
    tagged(sim).site("berlin".into(), state)
}

async fn names(world: &World) -> Vec<String> {
    let all = world.site.discover().await.unwrap();
    let mut names: Vec<String> = all.into_iter().map(|m| m.title.unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_chosen_by_tag_and_the_tag_is_followed() {
    let Some(world) = World::start(Mode::VCenter, open).await else { return };
    let site = &world.site;
    let missing = site.discover().await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing}");

    let vcenter = rest::VCenter::connect(&world.sim.settings, Arc::new(SystemClock)).await.unwrap();
    let category = vcenter.create_category("dr", &rest::Cardinality::Single, &[]).await.unwrap();
    let tag = vcenter.create_tag(&category, "gold").await.unwrap();
    let (web, db) = (world.machine("웹/1 50%", &[128]).await, world.machine("db", &[128]).await);
    let id = async |name: &str| rest::MachineId::new(world.moref(name).await.id);
    let attach = async |name: &str| vcenter.attach(&tag, &(&id(name).await).into()).await.unwrap();
    let detach = async |name: &str| vcenter.detach(&tag, &(&id(name).await).into()).await.unwrap();
    assert!(names(&world).await.is_empty());

    let mut following = tagged(&world.sim).following().unwrap();
    assert_eq!(following.look(site).await.unwrap(), Default::default());
    attach(&web).await;
    assert_eq!(names(&world).await, ["웹/1 50%"]);
    let followed = following.look(site).await.unwrap();
    assert_eq!((followed.gained.len(), followed.lost.len()), (1, 0));
    assert_eq!(followed.gained[0].instance.name, web);

    // Enrolled, it stays known without the tag.
    world.enrol(&web, "m-web").await;
    detach(&web).await;
    attach(&db).await;
    let followed = following.look(site).await.unwrap();
    assert_eq!((followed.gained[0].title.as_deref(), followed.lost), (Some("db"), vec![web.clone()]));
    assert_eq!(names(&world).await, ["db", "웹/1 50%"]);
    site.dismiss(&op("dismiss"), &world.discovered(&web).await.instance).await.unwrap();
    assert_eq!(names(&world).await, ["db"]);
    detach(&db).await;
    assert_eq!(following.look(site).await.unwrap().lost, [db]);
}

/// A vCenter with the tag that [`tagged`] asks for, on machines of these names.
async fn gold(world: &World, names: &[&str]) {
    let vcenter = rest::VCenter::connect(&world.sim.settings, Arc::new(SystemClock)).await.unwrap();
    let category = vcenter.create_category("dr", &rest::Cardinality::Single, &[]).await.unwrap();
    let tag = vcenter.create_tag(&category, "gold").await.unwrap();
    for name in names {
        let moref = world.moref(&world.machine(name, &[128]).await).await;
        vcenter.attach(&tag, &(&rest::MachineId::new(moref.id)).into()).await.unwrap();
    }
}

/// A request of the Automation API's sessions that is answered a little later, after so many others; and how many of these
/// requests have not come.
async fn session_request(world: &World, method: &str, skip: u32) {
    let later =
        json!({ "path": "/api/session", "method": method, "kind": "delay", "skip": skip, "count": 1 });
    world.sim.tell("http-fault", later).await;
}

async fn not_come(world: &World) -> u64 {
    world.sim.tell("faults-left", json!({})).await.as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_by_tag_ends_every_session_that_it_opened() {
    let Some(world) = World::start(Mode::VCenter, crate::open).await else { return };
    gold(&world, &["web"]).await;
    session_request(&world, "DELETE", 0).await;
    let found = tagged(&world.sim).check(None).await.unwrap();
    assert!(
        found.iter().any(|f| f.code == "server.inventory" && f.cause.contains("1 machines")),
        "{found:?}"
    );
    assert_eq!(not_come(&world).await, 0, "nobody ended the session");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_choose_at_once_share_one_session() {
    let Some(world) = World::start(Mode::VCenter, open).await else { return };
    gold(&world, &["web"]).await;
    session_request(&world, "POST", 1).await;
    let (one, other) = tokio::join!(world.site.discover(), world.site.discover());
    assert_eq!((one.unwrap().len(), other.unwrap().len()), (1, 1));
    assert_eq!(not_come(&world).await, 1, "a second session was opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_gain_a_tag_are_told_by_one_look_at_the_server() {
    let Some(world) = World::start(Mode::VCenter, open).await else { return };
    gold(&world, &["a", "b", "c", "d"]).await;
    let mut following = tagged(&world.sim).following().unwrap();
    world.sim.tell("calls", json!({ "reset": true })).await;
    world.site.discover().await.unwrap();
    let discovery = world.sim.tell("calls", json!({ "reset": true })).await;
    let followed = following.look(&world.site).await.unwrap();
    let look = world.sim.tell("calls", json!({ "reset": true })).await;
    let mut names: Vec<_> = followed.gained.iter().map(|m| m.title.clone().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let reads = |calls: &serde_json::Value| calls["soap"]["RetrievePropertiesEx"].as_u64().unwrap();
    assert_eq!(reads(&look), reads(&discovery) + 1, "each was read again");
}

async fn overrides(vim: &Vim, machine: &Moref) -> (Override, Override) {
    let cluster = vim.computes().await.unwrap().into_iter().find(|c| c.is_cluster()).unwrap().moref;
    let pod = vim.folders().await.unwrap().into_iter().find(|f| f.moref.kind == "StoragePod").unwrap().moref;
    let drs = vim.drs_override(&cluster, machine).await.unwrap();
    (drs, vim.storage_drs_override(&pod, machine).await.unwrap())
}

/// A machine in the cluster and on the pod's datastore, off and enrolled.
async fn clustered(world: &World) -> Machine {
    world
        .sim
        .tell(
            "machine-create",
            json!({ "name": "web", "datastore": "LocalDS_0", "disks": [131_072], "cluster": true }),
        )
        .await;
    let all = world.eyes.machines(&world.eyes.content().root_folder).await.unwrap();
    let name = all.into_iter().find(|m| m.name == "web").unwrap().instance_uuid.unwrap();
    world.enrol(&name, "m-web").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lands_stays_where_it_is_until_it_starts_and_then_moves_as_before() {
    let Some(world) = World::start(Mode::VCenter, crate::open).await else { return };
    let machine = clustered(&world).await;
    let (instance, moref) = (machine.instance.clone(), world.moref(&machine.instance.name).await);
    assert_eq!(overrides(&world.eyes, &moref).await, (Override::None, Override::None));
    let settings = Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
    let attach = async || {
        let existing = Some(instance.clone());
        world.site.attach(&op("attach"), &machine, existing, &settings).await.unwrap();
    };
    attach().await;
    let pinned = overrides(&world.eyes, &moref).await;
    // No datastore of the simulator is in its pod: that part is tried by the client alone (`crates/vim/tests/simulator`).
    assert_eq!(pinned, (Override::Stays, Override::None));
    attach().await;
    assert_eq!(overrides(&world.eyes, &moref).await, pinned);
    world.site.detach(&op("detach"), &instance).await.unwrap();
    let (start, what) = (op("start"), recovery(&machine, settings.clone()));
    world.site.start(&start, &instance, &what, permit(&start, &machine).await).await.unwrap();
    assert_eq!(overrides(&world.eyes, &moref).await, (Override::None, Override::None));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_started_by_the_fence_being_lifted_moves_as_before_and_what_is_not_stays() {
    let Some(world) = World::start(Mode::VCenter, crate::open).await else { return };
    let machine = clustered(&world).await;
    let (instance, moref) = (machine.instance.clone(), world.moref(&machine.instance.name).await);
    let settings = Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
    world.site.attach(&op("attach"), &machine, Some(instance.clone()), &settings).await.unwrap();
    let lift = async |key: &str, start: Start| {
        let item = Item::new(machine.clone(), op(key).epoch, Policy::default(), "out", "back");
        let proof = Fenced::prove(&op(key), &item, Some(&instance), &Sources::new(), Duration::ZERO).await;
        let permit = BootPermit::Fenced(proof.unwrap());
        world.site.unfence(&op(key), &instance, permit, start).await.unwrap().running
    };
    assert!(!lift("stay", Start::Stay).await);
    assert_eq!(overrides(&world.eyes, &moref).await.0, Override::Stays);
    assert!(lift("run", Start::Run).await);
    assert_eq!(overrides(&world.eyes, &moref).await.0, Override::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_override_that_somebody_made_stays_as_it_is() {
    let Some(world) = World::start(Mode::VCenter, crate::open).await else { return };
    let machine = clustered(&world).await;
    let moref = world.moref(&machine.instance.name).await;
    let cluster = world.eyes.computes().await.unwrap().into_iter().find(|c| c.is_cluster()).unwrap().moref;
    let task = world.eyes.set_drs_override(&cluster, &moref, Override::Moves).await.unwrap().unwrap();
    task.wait(Duration::from_secs(30)).await.unwrap();
    let settings = Settings { datastore: Some("LocalDS_0".into()), ..Settings::default() };
    let existing = Some(machine.instance.clone());
    world.site.attach(&op("attach"), &machine, existing, &settings).await.unwrap();
    assert_eq!(overrides(&world.eyes, &moref).await.0, Override::Moves);
}

//! What Azure refuses, one by one: it is told in Azure's words with what to do, and after that was done the same call with the same
//! key goes on with what there is.

use crate::recovered::Recovered;
use crate::world::{GROUP, REGION, SPAN, says};
use fake_arm::{Fault, What};
use fake_blob::{Fault as BlobFault, Gate, Match};
use site_recovery::*;
use site_recovery_azure_arm::{NewNic, NewSnapshot};
use site_recovery_azure_blob::CopyState;
use site_recovery_testkit::suite::op;
use std::net::IpAddr;
use std::time::Duration;

const MACHINES: &str = "Microsoft.Compute/virtualMachines";
const DISKS: &str = "Microsoft.Compute/disks";
const NICS: &str = "Microsoft.Network/networkInterfaces";

/// Nothing but one machine, its two disks and its card, and the base of the way back.
#[track_caller]
fn one_machine(here: &Recovered) {
    let count = |kind| here.world.names(kind).len();
    assert_eq!((count(MACHINES), count(DISKS), count(NICS)), (1, 2, 1));
    assert!(here.world.runs("web"));
}

#[tokio::test]
async fn o1_a_machine_that_failed_by_quota_is_made_anew_of_its_disks_and_card_in_another_size() {
    let mut here =
        Recovered::with(Settings { size: Some("Standard_D8s_v5".into()), ..Settings::default() }).await;
    let armed = here.materialise("m").await.expect("materialised");
    let disks = here.world.names(DISKS);
    let message =
        "Operation could not be completed as it results in exceeding approved Total Regional Cores quota.";
    let what = What::FailAtEnd { code: "OperationNotAllowed".into(), message: message.into() };
    let hits = here.world.manager.fault(Fault::next("PUT", "/virtualMachines/web", what));
    let error = here.boot("b", &armed).await.expect_err("too many processors");
    assert_eq!(hits.count(), 1);
    says(
        &error,
        ErrorKind::OutOfSpace,
        &["azure: boot", "OperationNotAllowed", message, "choose a smaller size"],
    );
    let nics = here.world.names(NICS);
    here.what.settings.size = Some("Standard_B1s".into());
    assert!(here.boot("b", &armed).await.expect("booted").running);
    one_machine(&here);
    assert_eq!((here.world.names(DISKS), here.world.names(NICS)), (disks, nics), "they are the same ones");
    let machine = here.world.arm.machines(GROUP).get("web").await.expect("asked").expect("there");
    assert_eq!(machine.size, "Standard_B1s");
}

#[tokio::test]
async fn o1_a_size_that_is_not_to_be_had_is_told_and_another_one_taken() {
    let mut here =
        Recovered::with(Settings { size: Some("Standard_M64s".into()), ..Settings::default() }).await;
    let armed = here.materialise("m").await.expect("materialised");
    let error = here.boot("b", &armed).await.expect_err("not to be had");
    says(&error, ErrorKind::Refused, &["SkuNotAvailable", "Standard_M64s", "choose a size that this region"]);
    here.what.settings.size = None;
    assert!(here.boot("b", &armed).await.expect("booted").running);
    one_machine(&here);
}

#[tokio::test]
async fn o1_an_address_that_is_taken_is_told_and_another_one_taken() {
    let mut here = Recovered::new().await;
    let address: IpAddr = "10.0.1.77".parse().expect("an address");
    let nics = here.world.arm.nics(GROUP);
    let theirs = NewNic {
        location: REGION.into(),
        subnet_id: format!("{}/subnets/servers", here.world.network("vnet")),
        address: Some(address),
        tags: Default::default(),
        accelerated: false,
    };
    nics.put("theirs", &theirs).await.expect("asked for").done().await.expect("a card");
    let card = Nic { id: "card".into(), mac: None, network: None, addresses: vec![] };
    here.what.machine.nics.push(card);
    let settings = NicSettings { address: Some(address), ..NicSettings::default() };
    here.what.settings.nics.insert("card".into(), settings);
    let armed = here.materialise("m").await.expect("materialised");
    let error = here.boot("b", &armed).await.expect_err("taken");
    let parts = ["PrivateIPAddressIsAllocated", "10.0.1.77", "choose a free address of the subnet"];
    says(&error, ErrorKind::Conflict, &parts);
    assert_eq!(nics.get("theirs").await.expect("asked").expect("there").address, Some(address), "untouched");
    here.what.settings.nics.get_mut(&"card".into()).expect("settings").address = "10.0.1.78".parse().ok();
    let booted = here.boot("b", &armed).await.expect("booted");
    assert_eq!((booted.running, booted.reach), (true, vec!["10.0.1.78".to_owned()]));
}

#[tokio::test]
async fn o6_a_disk_of_our_name_that_is_not_ours_is_refused_and_stays() {
    let disks =
        [("system".into(), DiskSettings { name: Some("theirs-0".into()), ..DiskSettings::default() })];
    let here = Recovered::with(Settings { disks: disks.into(), ..Settings::default() }).await;
    here.world.make("theirs", &[1 << 20]).await;
    let theirs = here.world.arm.disks(GROUP).get("theirs-0").await.expect("asked").expect("there");
    let before = here.all();
    let error = here.materialise("m").await.expect_err("it is not ours");
    says(&error, ErrorKind::Conflict, &["theirs-0 is there in group rg, and was not made by", "disk=system"]);
    here.world.site.withdraw(&op("w"), &op("m").key, &here.what).await.expect("withdrawn");
    let found = here.world.arm.disks(GROUP).get("theirs-0").await.expect("asked").expect("it stays");
    assert_eq!((found.unique_id, found.tags), (theirs.unique_id, theirs.tags), "untouched");
    let mut after = here.all();
    after.retain(|line| !line.starts_with("s/azure/register"));
    assert_eq!(after, before, "nothing else is left");
}

#[tokio::test]
async fn o1_a_group_that_is_gone_is_told() {
    let here = Recovered::new().await;
    let gone = Fault { times: u32::MAX, ..Fault::status("PUT", "/disks/", 404, "ResourceGroupNotFound") };
    let hits = here.world.manager.fault(gone);
    let error = here.materialise("m").await.expect_err("no group");
    assert!(hits.count() > 0);
    says(&error, ErrorKind::NotFound, &["ResourceGroupNotFound", "make the resource group, or name another"]);
}

#[tokio::test]
async fn o1_a_copy_that_fails_is_made_anew() {
    let here = Recovered::new().await;
    here.world.blobs.copies_fail(1);
    let error = here.materialise("m").await.expect_err("the copy failed");
    says(
        &error,
        ErrorKind::Unavailable,
        &["the copy of the point's image failed, 500", "made anew", "disk="],
    );
    let armed = here.materialise("m").await.expect("materialised");
    assert!(here.boot("b", &armed).await.expect("booted").running);
    let system = here.world.content("web", 0);
    assert!(system[..here.images[0].len()] == here.images[0][..], "the bytes of the point");
}

#[tokio::test]
async fn o1_a_copy_that_somebody_aborts_is_made_anew() {
    let here = Recovered::new().await;
    here.world.blobs.copies_take(200);
    let gate = Gate::new();
    // The second look at it: the copy was asked for after the first one.
    let look = Match::any().method("HEAD").path_contains("/system.vhd").after(1);
    let held = here.world.blobs.faults().next(look, BlobFault::Late(gate.clone()));
    let aborts = async {
        held.reach(1).await;
        let work = here.world.blob_names().into_iter().find(|name| name.ends_with("/system.vhd"));
        let work = here.world.container.pages(&work.expect("it is being copied"));
        let copy = work.properties().await.expect("seen").and_then(|found| found.copy).expect("a copy");
        assert!(matches!(copy.state, CopyState::Pending { .. }), "{copy:?}");
        work.abort_copy(&copy.id).await.expect("aborted by somebody");
        gate.open();
    };
    let (error, ()) = tokio::join!(here.materialise("m"), aborts);
    let error = error.expect_err("aborted");
    says(
        &error,
        ErrorKind::Unavailable,
        &["the copy of the point's image was aborted by somebody", "made anew"],
    );
    here.world.blobs.copies_take(0);
    here.booted_of("m").await;
    one_machine(&here);
}

#[tokio::test]
async fn o1_too_many_snapshots_that_others_took_are_told_and_taken_later() {
    let here = Recovered::new().await;
    let armed = here.booted("x").await;
    let disk = &here.world.disks_of("web")[0];
    let disk = here.world.arm.disks(GROUP).get(disk).await.expect("asked").expect("there");
    for number in 0..6 {
        let (location, source_id) = (REGION.into(), disk.id.clone());
        let new = NewSnapshot { location, tags: Default::default(), source_id, incremental: true };
        let put = here.world.arm.snapshots(GROUP).put(&format!("backup-{number}"), &new).await;
        put.expect("asked for").done().await.expect("taken");
    }
    let error = here.capture("c", &armed.instance).await.expect_err("seven in five minutes are the most");
    let parts = ["within 5 minutes", "TooManyRequests", "wait some minutes", "capture less often", "disk="];
    says(&error, ErrorKind::Unavailable, &parts);
    here.world.passes(SPAN);
    here.capture("c", &armed.instance).await.expect("captured later");
}

#[tokio::test]
async fn o1_too_many_open_captures_are_told_and_read_when_one_is_let_go() {
    let here = Recovered::new().await;
    let armed = here.booted("x").await;
    let (mut held, machine) = (vec![], here.what.machine.id());
    for number in 0..6 {
        here.world.passes(SPAN);
        held.push(here.capture(&format!("c{number}"), &armed.instance).await.expect("captured"));
    }
    let site = &here.world.site;
    for capture in &held[..5] {
        site.disks(&op("d"), capture, machine).await.expect("opened");
    }
    let error = site.disks(&op("d"), &held[5], machine).await.expect_err("one too many");
    says(&error, ErrorKind::Busy, &["5 snapshots of the family", "release captures that are open", "disk="]);
    assert!(error.is_temporary());
    site.release(&op("r"), &held[0], machine, Fate::Abandoned).await.expect("released");
    site.disks(&op("d"), &held[5], machine).await.expect("opened now");
}

#[tokio::test]
async fn o2_addresses_that_have_expired_are_asked_for_again() {
    let here = Recovered::new().await;
    let armed = here.booted("x").await;
    let (site, machine) = (&here.world.site, here.what.machine.id());
    here.world.write("web", 0, 4096, &[7; 4096]);
    let capture = here.capture("c", &armed.instance).await.expect("captured");
    let disks = site.disks(&op("d"), &capture, machine).await.expect("opened");
    let since = armed.cursor.clone().expect("a cursor");
    for _ in 0..2 {
        // Past the six hours that an address lasts.
        here.world.passes(Duration::from_secs(7 * 3600));
        let Changes::Known(told) = site.changes(&capture, machine, &since).await.expect("told") else {
            panic!("the cursor is lost")
        };
        let system = &here.what.machine.disks[0].id;
        assert!(told.contains(system, Run::new(4096, 4096)), "{told:?}");
        here.world.passes(Duration::from_secs(7 * 3600));
        let read = disks[system].read(Run::new(4096, 4096), &Pool::new(1 << 20)).await.expect("read");
        assert!(read[..] == [7; 4096]);
    }
}

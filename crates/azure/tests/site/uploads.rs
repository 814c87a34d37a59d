//! Disks that Azure cannot import: of an account in another region, and above 8 TiB.

use crate::given::{op, recovery};
use crate::recovered::Recovered;
use crate::world::{GROUP, World, says};
use async_trait::async_trait;
use bytes::Bytes;
use fake_arm::Fault;
use fake_blob::{Fault as BlobFault, Gate, Match};
use site_recovery::mock::MockRecoveryPointStore;
use site_recovery::*;
use site_recovery_azure::{Azure, Images, Preparation};
use site_recovery_azure_arm::{Access, DiskState};
use site_recovery_azure_blob::Image;
use std::sync::Arc;
use std::time::Duration;

const DISKS: &str = "Microsoft.Compute/disks";
const MIB: u64 = 1 << 20;
/// The least that Azure takes.
const LEAST: u64 = 20 * MIB;

impl Recovered {
    async fn states(&self) -> Vec<DiskState> {
        let mut states = vec![];
        for name in self.world.disks_of("web") {
            let disk = self.world.arm.disks(GROUP).get(&name).await.expect("asked");
            states.push(disk.expect("it is there").state);
        }
        states
    }

    /// What was asked of addresses that Azure has signed: method, `comp`, and how many bytes came with it.
    fn put(&self) -> Vec<(String, String, u64)> {
        let signed = self.world.blobs.log().into_iter().filter(|entry| entry.path.starts_with("/md-"));
        signed.map(|entry| (entry.method, entry.comp, entry.received)).collect()
    }

    /// Somebody ends the access to a disk that is not whole.
    async fn end_from_outside(&self, name: &str) {
        let disks = self.world.arm.disks(GROUP);
        let address = disks.grant(name, Access::Write, 60).await.expect("asked for").done().await;
        let place = self.world.place(self.world.container.clone());
        let image = Image::new(&address.expect("an address"), &place.images.0, place.images.1);
        let footer = Bytes::copy_from_slice(&fake_blob::vhd::footer(LEAST));
        image.expect("an address").write(LEAST, footer).await.expect("written");
        disks.revoke(name).await.expect("asked for").done().await.expect("it ends");
    }
}

#[tokio::test]
async fn sit_2_a_disk_from_another_region_is_put_by_pages_and_holds_the_point() {
    let here = Recovered::far().await;
    here.world.blobs.clear_log();
    let armed = here.materialise("m").await.expect("materialised");
    assert!(armed.cursor.is_some(), "the way back is armed");
    here.holds_the_point();
    assert_eq!(here.states().await, [DiskState::Unattached, DiskState::Unattached]);
    for disk in here.world.manager.world().into_iter().filter(|thing| thing.kind == DISKS) {
        let made = &disk.body["properties"]["creationData"];
        assert_eq!(
            (&made["createOption"], &made["uploadSizeBytes"]),
            (&"Upload".into(), &(LEAST + 512).into())
        );
        assert!(!disk.granted, "{} is handed out", disk.name);
    }
    let put = here.put();
    assert!(put.iter().all(|(method, comp, _)| method == "PUT" && comp == "page"), "{put:?}");
    let copied = here.world.blobs.log().into_iter().any(|entry| entry.path.contains("/work/"));
    assert!(!copied, "a point that nobody prepares is put as it is");
    assert!(here.boot("b", &armed).await.expect("booted").running);
}

#[tokio::test]
async fn sit_2_what_reads_as_zeros_is_not_put() {
    let world = World::far().await;
    let what = recovery(&world, Purpose::Failover, Settings::default()).await;
    world.blobs.clear_log();
    crate::given::made(&world, &what).await;
    let put = world.blobs.log().into_iter().filter(|entry| entry.path.starts_with("/md-"));
    let mut sizes: Vec<_> = put.map(|entry| entry.received).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [512, 512, HASH_BLOCK], "a footer for each, and the one block that was written");
}

#[tokio::test]
async fn o1_an_upload_that_a_process_left_in_part_is_gone_on_with() {
    let mut here = Recovered::far().await;
    here.upload_in_part("m").await;
    let disks = here.world.names(DISKS);
    assert_eq!(here.states().await, [DiskState::ActiveUpload, DiskState::ActiveUpload]);
    here.world.reopen().await;
    here.materialise("m").await.expect("materialised");
    assert_eq!(here.world.names(DISKS), disks, "they are the same ones");
    here.holds_the_point();
    assert_eq!(here.states().await, [DiskState::Unattached, DiskState::Unattached]);
}

#[tokio::test]
async fn o1_an_upload_whose_time_was_over_is_begun_again() {
    let here = Recovered::far().await;
    here.upload_in_part("m").await;
    here.world.manager.advance(Duration::from_secs(3 * 86_400));
    // The bytes are gone with the address.
    assert_eq!(here.states().await, [DiskState::ReadyToUpload, DiskState::ReadyToUpload]);
    here.materialise("m").await.expect("materialised");
    here.holds_the_point();
}

#[tokio::test]
async fn o1_an_upload_whose_time_was_over_before_it_was_ended_is_begun_again() {
    let here = Recovered::far().await;
    let fault = Fault { times: 2, ..Fault::status("POST", "/endGetAccess", 403, "AuthorizationFailed") };
    let hits = here.world.manager.fault(fault);
    here.materialise("m").await.expect_err("its access cannot be ended");
    assert_eq!(hits.count(), 2);
    let noted = |mark: &serde_json::Value| mark["disks"]["system"]["unique"].is_string();
    assert!(noted(&here.world.mark("web").expect("a mark")), "it was whole");
    here.world.manager.advance(Duration::from_secs(3 * 86_400));
    here.upload_in_part("m").await;
    assert!(!noted(&here.world.mark("web").expect("a mark")), "it is not whole any more");
    for disk in here.world.disks_of("web") {
        here.end_from_outside(&disk).await;
    }
    here.materialise("m").await.expect("materialised");
    here.holds_the_point();
}

#[tokio::test]
async fn o1_an_upload_whose_address_ended_after_its_last_byte_is_begun_again() {
    let here = Recovered::far().await;
    let gate = Gate::new();
    // The first one that says that a disk is whole: the mark was made, and said that all is prepared.
    let whole = Match::any().method("PUT").path_contains("/mark/").after(2);
    let held = here.world.blobs.faults().next(whole, BlobFault::Late(gate.clone()));
    let ends = async {
        held.reach(1).await;
        here.world.manager.advance(Duration::from_secs(3 * 86_400));
        gate.open();
    };
    let made = async { tokio::join!(here.materialise("m"), ends).0 };
    let made = tokio::time::timeout(Duration::from_secs(60), made).await.expect("it waits for nothing");
    let parts = ["ended before its upload did", "try again", "disk="];
    says(&made.expect_err("its bytes are gone"), ErrorKind::Unavailable, &parts);
    here.materialise("m").await.expect("materialised");
    here.holds_the_point();
}

#[tokio::test]
async fn o1_an_upload_is_ended_while_another_one_goes_on() {
    let here = Recovered::far().await;
    let gate = Gate::new();
    let put = Match::any().method("PUT").path_contains("/md-");
    let held = here.world.blobs.faults().next(put, BlobFault::Late(gate.clone()));
    let ends = async {
        held.reach(1).await;
        while !here.states().await.contains(&DiskState::Unattached) {
            tokio::task::yield_now().await;
        }
        gate.open();
    };
    let both = async { tokio::join!(here.materialise("m"), ends).0 };
    let made = tokio::time::timeout(Duration::from_secs(60), both).await;
    made.expect("one waits for the other").expect("materialised");
    here.holds_the_point();
}

#[tokio::test]
async fn o1_an_upload_that_somebody_ended_is_not_taken_for_whole() {
    let here = Recovered::far().await;
    here.upload_in_part("m").await;
    let unique = |name: &str| {
        let all = here.world.manager.world();
        let disk = all.into_iter().find(|thing| thing.name == name).expect("it is there");
        disk.body["properties"]["uniqueId"].clone()
    };
    let disks = here.world.disks_of("web");
    let before: Vec<_> = disks.iter().map(|name| unique(name)).collect();
    here.end_from_outside(&disks[0]).await;
    assert_eq!(here.states().await, [DiskState::Unattached, DiskState::ActiveUpload]);
    here.materialise("m").await.expect("materialised");
    here.holds_the_point();
    let after: Vec<_> = disks.iter().map(|name| unique(name)).collect();
    assert!(after[0] != before[0] && after[1] == before[1], "one was made anew: {before:?}, {after:?}");
    assert_eq!(here.world.names(DISKS).len(), 2);
}

#[tokio::test]
async fn o1_an_address_that_is_refused_once_is_asked_for_again() {
    let here = Recovered::far().await;
    let put = Match::any().method("PUT").path_contains("/md-");
    let refused = BlobFault::Status { code: 403, azure_code: "AuthenticationFailed", retry_after: None };
    let hits = here.world.blobs.faults().next(put, refused);
    here.materialise("m").await.expect("materialised");
    assert_eq!(hits.count(), 1);
    here.holds_the_point();
}

#[tokio::test]
async fn c1_an_address_that_is_never_taken_is_told_with_a_remedy_and_without_the_address() {
    let here = Recovered::far().await;
    let refused = here.nothing_is_put_after(0);
    let error = here.materialise("m").await.expect_err("nothing is put");
    assert!(refused.count() > 0);
    says(&error, ErrorKind::Denied, &["azure: materialise", "md-*.blob.*", "disk="]);
    assert!(!format!("{error:?}").contains("sig="), "{error:?}");
    here.world.blobs.faults().clear();
    here.world.site.withdraw(&op("w"), &op("m").key, &here.what).await.expect("withdrawn");
    assert_eq!(here.world.names(DISKS), [""; 0]);
}

#[tokio::test]
async fn sit_5_an_upload_that_is_withdrawn_meanwhile_stops_and_leaves_nothing() {
    let here = Recovered::far().await;
    let gate = Gate::new();
    let put = Match::any().method("PUT").path_contains("/md-");
    let held = here.world.blobs.faults().next(put, BlobFault::Late(gate.clone()));
    let withdraw = async || here.world.site.withdraw(&op("w"), &op("m").key, &here.what).await;
    let meanwhile = async {
        held.reach(1).await;
        let error = withdraw().await.expect_err("it is at it");
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        gate.open();
    };
    let (made, ()) = tokio::join!(here.materialise("m"), meanwhile);
    assert_eq!(made.expect_err("withdrawn").kind(), ErrorKind::Refused);
    withdraw().await.expect("withdrawn");
    let left: Vec<_> = here.all().into_iter().filter(|line| !line.starts_with("s/azure/register")).collect();
    assert_eq!(left, [""; 0]);
}

/// Zeros but for the pieces that it was given.
#[derive(Debug)]
struct Sparse {
    size: u64,
    pieces: Vec<(u64, Bytes)>,
}

#[async_trait]
impl Disk for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    async fn extents(&self, range: Run) -> Result<Vec<Extent>> {
        let (mut extents, mut at) = (vec![], range.start);
        for (start, bytes) in &self.pieces {
            let Some(run) = Run::new(*start, bytes.len() as u64).intersection(range) else { continue };
            extents.push(Extent { run: Run::new(at, run.start - at), fill: Fill::Zero });
            extents.push(Extent { run, fill: Fill::Data });
            at = run.end();
        }
        extents.push(Extent { run: Run::new(at, range.end() - at), fill: Fill::Zero });
        extents.retain(|extent| extent.run.len > 0);
        Ok(extents)
    }

    async fn read(&self, run: Run, pool: &Pool) -> Result<Bytes> {
        run.must_be_inside(self.size)?;
        let mut block = pool.take(run.len as usize).await?;
        block.fill(0);
        for (start, bytes) in &self.pieces {
            let Some(both) = Run::new(*start, bytes.len() as u64).intersection(run) else { continue };
            let (to, from) = ((both.start - run.start) as usize, (both.start - start) as usize);
            let len = both.len as usize;
            block[to..to + len].copy_from_slice(&bytes[from..from + len]);
        }
        Ok(block.freeze())
    }
}

/// Marks the system disk, and tells which disks it was given.
#[derive(Debug)]
struct Marks;

#[async_trait]
impl Preparation for Marks {
    async fn prepare(&self, _: &Machine, disks: &Images) -> Result<()> {
        assert_eq!(disks.keys().map(DiskId::as_str).collect::<Vec<_>>(), ["system"]);
        disks[&DiskId::from("system")].write(4096, vec![5; 512].into()).await
    }
}

/// A point of another store, with a data disk of 9 TiB that has bytes at both ends, unaligned, and in the midst.
fn large() -> (Machine, Arc<dyn Replica>, Vec<(u64, Bytes)>) {
    let mut machine = site_recovery_testkit::suite::machine("web");
    let size = (9 << 40) + 1536;
    machine.disks[1].size = size;
    let filled = |byte: u8, len: usize| Bytes::from(vec![byte; len]);
    let pieces = vec![
        (300, filled(1, 700)),
        ((8 << 40) - 1000, filled(2, 2000)),
        ((8 << 40) + 9 * MIB, filled(3, 9 * MIB as usize)),
        (size - 700, filled(4, 700)),
    ];
    let system = Sparse { size: machine.disks[0].size, pieces: vec![(0, filled(9, 4096))] };
    let data = Sparse { size, pieces: pieces.clone() };
    let ids = [machine.disks[0].id.clone(), machine.disks[1].id.clone()];
    let disks: Disks = ids.into_iter().zip([Arc::new(system) as Arc<dyn Disk>, Arc::new(data)]).collect();
    let mut store = MockRecoveryPointStore::new();
    store.expect_name().returning(|| "elsewhere".into());
    store.expect_open().returning(move |_, _| Ok(disks.clone()));
    (machine, Arc::new(store), pieces)
}

#[tokio::test]
async fn sit_2_a_disk_that_no_page_blob_holds_is_put_as_it_is_in_either_region() {
    for (world, prepares) in
        [(World::new().await, false), (World::new().await, true), (World::far().await, true)]
    {
        let mut site = Azure::builder("azure".into()).look_every(Duration::from_millis(1)).network("vnet");
        if prepares {
            site = site.preparation(Arc::new(Marks));
        }
        let site = site.open(world.place(world.container.clone())).await.expect("it opens");
        let (machine, store, pieces) = large();
        let found = site.check(&machine, &Settings::default()).await.expect("checked");
        assert!(!found.iter().any(Finding::blocks), "{found:?}");
        assert!(found.iter().any(|f| f.code == "azure.upload"), "{found:?}");
        let told = found.iter().any(|f| f.code == "azure.preparation" && f.cause.contains("disk data"));
        assert_eq!(told, prepares, "{found:?}");

        let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
        what.machine = machine;
        let armed = site.materialise(&op("m"), &what, &store).await.expect("materialised");
        assert!(armed.cursor.is_some());
        let [system, data] = &world.disks_of("web")[..] else { panic!("two disks") };
        let data = world.manager.disk(data).expect("it is there");
        assert_eq!(data.size(), (9 << 40) + MIB, "rounded up");
        for (at, bytes) in &pieces {
            let around = data.read(at - 100, bytes.len() as u64 + 200);
            assert!(around[100..100 + bytes.len()] == bytes[..], "the bytes at {at}");
            assert!(around[..100].iter().chain(&around[100 + bytes.len()..]).all(|byte| *byte == 0), "{at}");
        }
        let written: u64 = data.ranges().iter().map(|range| range.end - range.start).sum();
        assert!(written < 20 * MIB, "{written} bytes were put");
        let system = world.manager.disk(system).expect("it is there");
        let marked = if prepares { [5; 512] } else { [0; 512] };
        assert_eq!((system.read(0, 4096), system.read(4096, 512)), (vec![9; 4096], marked.to_vec()));
    }
}

#[tokio::test]
async fn sit_1_a_system_disk_that_cannot_be_prepared_is_refused_before_anything_changes() {
    let world = World::new().await;
    let site = Azure::builder("azure".into()).preparation(Arc::new(Marks));
    let site = site.open(world.place(world.container.clone())).await.expect("it opens");
    let (mut machine, store, _) = large();
    machine.disks[1].role = DiskRole::System;
    machine.disks[0].role = DiskRole::Data;
    let mut what = recovery(&world, Purpose::Failover, Settings::default()).await;
    what.machine = machine;
    let error = site.materialise(&op("m"), &what, &store).await.expect_err("it cannot be prepared");
    says(&error, ErrorKind::Invalid, &["data of 9", "prepared on an image", "without a preparation"]);
    assert_eq!(error.fact("field"), Some("machine.disks"));
    assert_eq!((world.names(DISKS), world.blob_names()), (vec![], vec![]));
}

#[tokio::test]
async fn a_site_is_opened_by_an_account_that_is_there() {
    let world = World::new().await;
    let mut place = world.place(world.container.clone());
    place.account = place.account.replace("replicas", "nobodys");
    let error = Azure::builder("azure".into()).open(place).await.expect_err("no account");
    says(&error, ErrorKind::NotFound, &["no storage account", "nobodys"]);
    assert_eq!(error.fact("field"), Some("account"));
}

//! Somebody else at our blobs, and rights that end: each is told by name, with what to do, and the timeline goes on afterwards.

use crate::vault::{ACCOUNT, CONTAINER, Life, Vault};
use bytes::Bytes;
use fake_blob::{Fault, Gate, Match};
use site_recovery::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// A timeline of one point.
async fn begun(vault: &Vault) -> Life<'_> {
    let mut life = vault.life("web").await;
    life.prepare().await.expect("prepared");
    life.cycle(1).await;
    life
}

/// What a person reads holds all of these.
#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let said = error.to_string();
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

#[tokio::test]
async fn o2_an_upload_goes_on_when_its_token_expires() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let ingest = life.begin(2, &set).await.expect("begun");
    let hits = vault.blobs.faults().next(Match::any().comp("page").after(1), Fault::ExpireTokens);
    life.write(&ingest, &set).await.expect("by another token");
    assert_eq!(hits.count(), 1);
    assert!(vault.blobs.log().iter().any(|entry| entry.status == Some(401)), "it was refused once");
    let point = life.seal(&ingest, 2, &set).await.expect("sealed");
    life.sealed.push((point.id, life.images.clone()));
    life.must_be_whole("after another token").await;
}

#[tokio::test]
async fn o2_an_upload_whose_credential_is_revoked_says_so_and_goes_on_with_the_next_one() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let batches = life.batches(&set);
    let ingest = life.begin(2, &set).await.expect("begun");
    vault.revoked.store(true, Ordering::SeqCst);
    vault.blobs.expire_tokens();
    let error = life.store.write(&ingest, 0, batches[0].clone()).await.expect_err("revoked");
    says(&error, ErrorKind::Denied, &["page-blobs: write", "AADSTS7000222", "no token is given"]);
    vault.revoked.store(false, Ordering::SeqCst);
    life.write(&ingest, &set).await.expect("written");
    let point = life.seal(&ingest, 2, &set).await.expect("sealed");
    life.sealed.push((point.id, life.images.clone()));
    life.must_be_whole("after another credential").await;
}

#[tokio::test]
async fn s1_who_raises_a_sequence_number_is_told_of_and_kept_out_by_the_next_begin() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let ingest = life.begin(2, &set).await.expect("begun");
    let blob = life.blob_of(0);
    vault.container.pages(&blob).raise_sequence(99).await.expect("raised by somebody");
    let error = life.write(&ingest, &set).await.expect_err("somebody else writes");
    says(&error, ErrorKind::Conflict, &[&blob, "99", "disk=system", "begin again"]);
    let ingest = life.begin(2, &set).await.expect("begun again");
    life.write(&ingest, &set).await.expect("it is ours again");
    assert!(vault.container.pages(&blob).write(0, Bytes::from(vec![9; 512]), 99).await.is_err(), "kept out");
    let point = life.seal(&ingest, 2, &set).await.expect("sealed");
    life.sealed.push((point.id, life.images.clone()));
    life.must_be_whole("after somebody else").await;
}

#[tokio::test]
async fn d4_pages_that_somebody_else_wrote_are_found_by_the_scrub() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let ingest = life.begin(2, &set).await.expect("begun");
    life.write(&ingest, &set).await.expect("written");
    let stranger = vault.container.pages(&life.blob_of(0));
    stranger.write(65_536, Bytes::from(vec![0xee; 4096]), ingest.session).await.expect("written by somebody");
    let point = life.seal(&ingest, 2, &set).await.expect("sealed");
    let found = life.store.scrub(life.id(), point.id).await.expect("scrubbed");
    let told: Vec<_> = found.iter().map(|finding| (finding.code.as_str(), finding.blocks())).collect();
    assert_eq!(told, [("point.damaged", true)], "{found:?}");
    assert!(found[0].cause.contains("disk system is damaged at 65536"), "{found:?}");
    let before = life.sealed[0].clone();
    assert!(life.bytes(before.0).await.expect("read") == before.1, "the point before is whole");
}

#[tokio::test]
async fn d5_a_snapshot_that_somebody_deleted_is_named() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let (blob, point) = (life.blob_of(1), life.sealed[0].0);
    let (at, _) = vault.blobs.snapshots(ACCOUNT, CONTAINER, &blob).remove(0);
    let at = site_recovery_azure_blob::SnapshotId::new(&at).expect("an id");
    vault.container.pages(&blob).delete(Some(&at)).await.expect("deleted by somebody");
    let error = life.bytes(point).await.expect_err("it is gone");
    says(&error, ErrorKind::Corrupt, &["the snapshot of disk data of point 1 is gone", &blob]);
    let error = life.store.scrub(life.id(), point).await.expect_err("it is gone");
    says(&error, ErrorKind::Corrupt, &["page-blobs: scrub", &blob]);
    life.sealed.clear();
    let next = life.cycle(2).await;
    assert_eq!(life.store.scrub(life.id(), next).await.expect("scrubbed"), [], "the next point is whole");
}

#[tokio::test]
async fn d5_a_disk_that_somebody_deleted_is_named() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let blob = life.blob_of(0);
    vault.container.pages(&blob).delete_all().await.expect("deleted by somebody");
    let set = life.change(2);
    let error = life.begin(2, &set).await.expect_err("nothing can be written");
    says(&error, ErrorKind::Corrupt, &["a blob that the replica needs is gone", &blob]);
}

#[tokio::test]
async fn o3_a_state_that_somebody_overwrote_is_refused_and_left_alone() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let stranger = b"0000000000000000\n{}";
    let document = vault.container.document("m/web/state");
    let (own, etag) = document.read().await.expect("read").expect("a state");
    document.replace(Bytes::from_static(stranger), &etag).await.expect("overwritten by somebody");
    let set = life.change(2);
    let op = life.op("late");
    let machine = life.id().clone();
    for error in [
        life.begin(2, &set).await.expect_err("begin"),
        life.prepare().await.expect_err("prepare"),
        life.store.points(&machine).await.expect_err("points"),
        life.store.prune(&op, &machine, &[PointId(1)]).await.expect_err("prune"),
        life.store.delete(&op, &machine).await.expect_err("delete"),
        life.store.claim(&op, &machine).await.expect_err("claim"),
    ] {
        says(&error, ErrorKind::Corrupt, &["it does not match its checksum", "document=m/web/state"]);
    }
    let (found, etag) = document.read().await.expect("read").expect("a document");
    assert_eq!(&found[..], stranger, "nobody but a person mends it");
    document.replace(own, &etag).await.expect("mended");
    life.cycle(2).await;
    life.must_be_whole("mended").await;
}

#[tokio::test]
async fn o1_a_lease_that_somebody_holds_is_waited_for() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let ingest = life.begin(2, &set).await.expect("begun");
    let blob = life.blob_of(0);
    let leased = Fault::Status { code: 412, azure_code: "LeaseIdMissing", retry_after: None };
    let hits = vault.blobs.faults().next(Match::any().comp("page").path_contains("disk/system"), leased);
    let error = life.write(&ingest, &set).await.expect_err("leased");
    assert_eq!(hits.count(), 1);
    says(&error, ErrorKind::Busy, &[&blob, "LeaseIdMissing", "wait until its copy or lease has ended"]);
    assert!(error.is_temporary());
    life.write(&ingest, &set).await.expect("the lease has ended");
    let point = life.seal(&ingest, 2, &set).await.expect("sealed");
    life.sealed.push((point.id, life.images.clone()));
    life.must_be_whole("after a lease").await;
}

#[tokio::test]
async fn s1_a_page_that_comes_late_is_refused_by_the_service_once_another_engine_has_taken_over() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let ingest = life.begin(2, &set).await.expect("begun");
    let (gate, batches, older) = (Gate::new(), life.batches(&set), life.store.clone());
    let late = Match::any().comp("page").path_contains("disk/system");
    let hits = vault.blobs.faults().next(late, Fault::Late(gate.clone()));
    let taken_over = async {
        hits.reach(1).await;
        life.epoch = 2;
        life.store = vault.open().await;
        life.store.claim(&life.op("claim"), life.id()).await.expect("claimed");
        vault.blobs.clear_log();
        gate.open();
    };
    let (error, ()) = tokio::join!(older.write(&ingest, 0, batches[0].clone()), taken_over);
    let error = error.expect_err("it is too late");
    says(&error, ErrorKind::StaleEpoch, &["web is held by another engine", "2 of engine"]);
    gate.through().reach(1).await;
    let refused = vault.blobs.log().into_iter().find(|entry| entry.comp == "page").expect("the late page");
    assert_eq!(refused.code.as_deref(), Some("SequenceNumberConditionNotMet"));
    life.behind = set;
    life.cycle(3).await;
    life.must_be_whole("by the other engine").await;
}

#[tokio::test]
async fn o3_who_was_replaced_is_stale_in_every_act() {
    let vault = Vault::new();
    let mut life = begun(&vault).await;
    let set = life.change(2);
    let ingest = life.begin(2, &set).await.expect("begun");
    life.write(&ingest, &set).await.expect("written");
    let other = vault.open().await;
    let claim = Op { epoch: Epoch { number: 2, owner: "another".into() }, ..life.op("claim") };
    other.claim(&claim, life.id()).await.expect("claimed");
    let (op, machine, one) = (life.op("late"), life.id().clone(), PointId(1));
    let batch = life.batches(&set).remove(0);
    let errors = [
        ("write", life.store.write(&ingest, 7, batch).await.err()),
        ("seal", life.seal(&ingest, 2, &set).await.err()),
        ("begin", life.begin(2, &set).await.err()),
        ("prepare", life.prepare().await.err()),
        ("pin", life.store.pin(&op, &machine, one, "mine").await.err()),
        ("prune", life.store.prune(&op, &machine, &[one]).await.err()),
        ("delete", life.store.delete(&op, &machine).await.err()),
        ("claim", life.store.claim(&op, &machine).await.err()),
    ];
    let errors: BTreeMap<_, _> = errors.into_iter().collect();
    for (what, error) in &errors {
        let error = error.as_ref().unwrap_or_else(|| panic!("{what} was done"));
        says(error, ErrorKind::StaleEpoch, &["held by another engine", "register=2 of another"]);
    }
    life.must_be_whole("the other engine's").await;
}

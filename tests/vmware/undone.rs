//! What is taken back: an undo in both directions, and another point of the way back. In place, by branches under the machine's
//! disks.

use crate::circle::{commit, fail_over, reprotect};
use crate::ground::{BACK, Ground, Life, OUT, done, is_here};
use crate::process::Mode;
use site_recovery::state::{Kind, Phase};
use site_recovery::{
    Consistency, DrillRequest, ErrorKind, Op, PointChoice, Pool, Replica, Run, Source, UndoRequest,
};
use site_recovery_testkit::crash::Crash;

async fn undo(life: &Life) {
    done(life.web().unwrap().undo(UndoRequest::default()).await).await;
}

/// The bytes of an arm of the machine's, read by the site.
async fn kept(life: &Life) -> Vec<Vec<u8>> {
    let item = life.web().unwrap().item().unwrap();
    let [kept] = &item.kept[..] else { panic!("one is kept: {:?}", item.kept) };
    let site = &life.world.site;
    let open = Op { key: "open".into(), epoch: item.epoch.clone() };
    let capture = site.capture(&open, std::slice::from_ref(kept), Consistency::Crash).await.unwrap();
    let disks = site.disks(&open, &capture, &kept.machine).await.unwrap();
    let (pool, mut all) = (Pool::new(8 << 20), vec![]);
    for spec in &item.machine.disks {
        let disk = &disks[&spec.id];
        all.push(disk.read(Run::new(0, disk.size()), &pool).await.unwrap().to_vec());
    }
    site.release(&open, &capture, &kept.machine, site_recovery::Fate::Abandoned).await.unwrap();
    all
}

fn what_is_taken_back(mode: Mode) {
    if !is_here() {
        return;
    }
    Ground::new(mode).live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        life.write(OUT, 0, 7).await.unwrap();

        // Out, and taken back: it runs here as it was.
        let before = life.bytes(OUT).await;
        fail_over(life, OUT).await.unwrap();
        life.write(BACK, 0, 3).await.unwrap();
        undo(life).await;
        assert_eq!(life.phase(), Phase::Protected);
        assert!(life.world.runs(&life.web).await && life.bytes(OUT).await == before, "as it was");
        life.a_cycle_is_a_delta(OUT, "after an undo").await;

        // Out for good, and back; the newest of the way back, then an older one.
        fail_over(life, OUT).await.unwrap();
        commit(life).await;
        life.write(BACK, 1, 9).await.unwrap();
        reprotect(life, BACK).await.unwrap();
        let drill = life.web().unwrap().test_failover(DrillRequest::default()).await;
        assert_eq!(drill.unwrap_err().kind(), ErrorKind::Unsupported, "a landing takes no drill");
        let older = life.master_target.points(life.web().unwrap().id()).await.unwrap().pop().unwrap();
        let then = life.bytes(BACK).await;
        life.write(BACK, 0, 11).await.unwrap();
        life.vault.replicate_now(life.web().unwrap().id()).await.unwrap();
        fail_over(life, BACK).await.unwrap();
        life.write(OUT, 1, 17).await.unwrap();
        let newest = life.bytes(OUT).await;
        let changed = life.web().unwrap().change_point(PointChoice::Custom(older.id)).await;
        done(changed).await;
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned));
        assert!(life.bytes(OUT).await == then, "it holds the older point");
        assert!(life.world.runs(&life.web).await);
        assert!(kept(life).await == newest, "what ran before is kept, byte for byte");

        // Back, and taken back: it runs in the cloud, and is replicated back by a delta.
        undo(life).await;
        assert_eq!(life.phase(), Phase::Protected);
        assert!(!life.world.runs(&life.web).await, "it runs here no more");
        life.a_cycle_is_a_delta(BACK, "after an undo of the way back").await;
        fail_over(life, BACK).await.unwrap();
        life.both_sides_are_the_same("failed back").await;
        commit(life).await;
        reprotect(life, OUT).await.unwrap();
        life.a_cycle_is_a_delta(OUT, "protected again").await;
        life.nothing_is_left("protected again").await;
    });
}

#[test]
fn d6_at_vcenter_an_undo_and_another_point_lose_nothing() {
    what_is_taken_back(Mode::VCenter);
}

#[test]
fn d6_at_a_host_an_undo_and_another_point_lose_nothing() {
    what_is_taken_back(Mode::Esxi);
}

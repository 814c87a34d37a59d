//! Engines die at every journal write of a failover, a reprotect and a failback, one after the other on one ground, which goes
//! round the circle as often as there are writes to die at.

use crate::circle::{commit, fail_over, reprotect};
use crate::ground::{BACK, Ground, Life, OUT};
use site_recovery::state::{Direction, Kind, Phase};
use site_recovery::{Journal, Result};
use site_recovery_testkit::crash::{Crash, CrashingJournal};
use std::cell::RefCell;
use std::sync::Arc;

/// More than any operation has.
const WRITES: u64 = 100;

/// Runs `act` in an engine that dies at `crash`, and then the next one, which goes on. Between the two the guest at the side that
/// runs writes, if one does. Says whether the engine died; one that did not has done what it should.
fn dies(ground: &Ground, crash: Crash, from: Direction, act: impl AsyncFn(&Life) -> Result<()>) -> bool {
    let journal = RefCell::new(None);
    let behind = |inner: Arc<dyn Journal>| -> Arc<dyn Journal> {
        let crashing = CrashingJournal::new(inner, crash);
        *journal.borrow_mut() = Some(crashing.clone());
        Arc::new(crashing)
    };
    let acted = ground.live_behind(&behind, act);
    let died = journal.borrow().as_ref().is_some_and(CrashingJournal::is_dead);
    if !died {
        acted.unwrap();
        return false;
    }
    ground.live(async |life| {
        life.at_most_one_runs(&format!("{crash:?}")).await;
        let _ = life.write(from, 0, 50).await;
        life.resume().await;
    });
    true
}

async fn it_is_over_there(life: &Life, when: &str) {
    if life.phase() == Phase::Protected {
        life.a_cycle_is_a_delta(OUT, when).await;
        fail_over(life, OUT).await.unwrap();
    }
    assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
    assert!(!life.here.runs().await && life.runs_in_the_cloud(), "{when}: it runs there alone");
    life.both_sides_are_the_same(when).await;
    life.nothing_is_astray(when).await;
    commit(life, false).await;
    life.write(BACK, 1, 9).await.unwrap();
}

async fn it_is_replicated_back(life: &Life, when: &str) {
    if life.phase() != Phase::Protected {
        reprotect(life, BACK, false).await.unwrap();
    }
    life.a_cycle_is_a_delta(BACK, when).await;
    life.write(BACK, 0, 11).await.unwrap();
}

async fn it_is_back(life: &Life, when: &str) {
    if life.phase() == Phase::Protected {
        life.a_cycle_is_a_delta(BACK, when).await;
        fail_over(life, BACK).await.unwrap();
    }
    assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
    assert!(life.here.runs().await && !life.runs_in_the_cloud(), "{when}: it runs here alone");
    life.both_sides_are_the_same(when).await;
    life.nothing_is_astray(when).await;
    commit(life, true).await;
    life.nothing_is_ours(when).await;
    reprotect(life, OUT, false).await.unwrap();
    life.a_cycle_is_a_delta(OUT, when).await;
    life.write(OUT, 0, 7).await.unwrap();
}

fn engines_die(at: fn(u64) -> Crash) {
    let ground = Ground::new();
    ground.live(async |life| life.protect().await.unwrap());
    let mut deaths = [0; 3];
    for write in 0..WRITES {
        let (crash, before) = (at(write), deaths);
        let when = |what: &str| format!("{what}, {crash:?}");
        deaths[0] += u64::from(dies(&ground, crash, OUT, async |life| fail_over(life, OUT).await));
        ground.live(async |life| it_is_over_there(life, &when("failover")).await);
        deaths[1] += u64::from(dies(&ground, crash, BACK, async |life| reprotect(life, BACK, false).await));
        ground.live(async |life| it_is_replicated_back(life, &when("reprotect")).await);
        deaths[2] += u64::from(dies(&ground, crash, BACK, async |life| fail_over(life, BACK).await));
        ground.live(async |life| it_is_back(life, &when("failback")).await);
        if deaths == before {
            println!("{deaths:?} engines died in failovers, reprotects and failbacks");
            assert!(deaths.iter().all(|deaths| *deaths > 10), "{deaths:?}");
            ground.live(async |life| life.the_replica_is_tidy("at the end").await);
            return;
        }
    }
    panic!("there is no end to the writes: {deaths:?}");
}

#[test]
fn o1_engines_die_before_every_write_and_nothing_is_lost_or_left() {
    engines_die(Crash::Before);
}

#[test]
fn o1_engines_die_after_every_write_and_nothing_is_lost_or_left() {
    engines_die(Crash::After);
}

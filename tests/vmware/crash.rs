//! Engines die, of a failover, a reprotect, a failback and its commit, one after the other on one ground, which goes round the
//! circle as often as there is a write to the journal to die at.

use crate::circle::{commit, fail_over, reprotect};
use crate::ground::{BACK, Ground, Life, OUT, is_here};
use crate::process::Mode;
use site_recovery::state::{Direction, Kind, Phase};
use site_recovery::{CommitRequest, Result};
use site_recovery_testkit::crash::Crash;

/// More than any operation has to die at.
const PLACES: u64 = 100;

/// Runs `act` in an engine that dies, and then the next one, which goes on. Between the two the guest at the side that runs
/// writes, if one does. Says whether the engine died; one that did not has done what it should.
fn dies(ground: &Ground, crash: Crash, from: Direction, act: impl AsyncFn(&Life) -> Result<()>) -> bool {
    let died = ground.live(crash, async |life| {
        let came_to = act(life).await;
        let died = life.journal.is_dead();
        assert!(died || came_to.is_ok(), "{crash:?}: {came_to:?}");
        died
    });
    if died {
        ground.live(Crash::Never, async |life| {
            if from == BACK || life.world.runs(&life.web).await {
                let _ = life.write(from, 0, 50).await;
            }
            life.resume().await;
        });
    }
    died
}

async fn it_is_over_there(life: &Life, when: &str) {
    if life.phase() == Phase::Protected {
        life.a_cycle_is_a_delta(OUT, when).await;
        fail_over(life, OUT).await.unwrap();
    }
    assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
    assert!(!life.world.runs(&life.web).await, "{when}: both sides run");
    life.both_sides_are_the_same(when).await;
    life.nothing_is_left(when).await;
    commit(life).await;
    life.write(BACK, 1, 9).await.unwrap();
}

async fn it_is_replicated_back(life: &Life, when: &str) {
    if life.phase() != Phase::Protected {
        reprotect(life, BACK).await.unwrap();
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
    assert!(life.world.runs(&life.web).await, "{when}: it does not run here");
    life.both_sides_are_the_same(when).await;
}

async fn it_is_protected_again(life: &Life, when: &str) {
    if life.phase() == Phase::FailoverCompleted(Kind::Planned) {
        commit(life).await;
    }
    life.nothing_is_left(when).await;
    reprotect(life, OUT).await.unwrap();
    life.a_cycle_is_a_delta(OUT, when).await;
    life.nothing_is_left(when).await;
    life.write(OUT, 0, 7).await.unwrap();
}

async fn commits(life: &Life) -> Result<()> {
    life.web()?.commit(CommitRequest::default()).await?.done().await.map(drop)
}

fn engines_die(mode: Mode, at: impl Fn(u64) -> Crash) {
    if !is_here() {
        return;
    }
    let ground = Ground::new(mode);
    ground.live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        life.write(OUT, 0, 7).await.unwrap();
    });
    let mut deaths = [0; 4];
    for place in 0..PLACES {
        let (crash, before) = (at(place), deaths);
        let after = |what: &str| format!("{what}, {crash:?}");
        deaths[0] += u64::from(dies(&ground, crash, OUT, async |life| fail_over(life, OUT).await));
        ground.live(Crash::Never, async |life| it_is_over_there(life, &after("failover")).await);
        deaths[1] += u64::from(dies(&ground, crash, BACK, async |life| reprotect(life, BACK).await));
        ground.live(Crash::Never, async |life| it_is_replicated_back(life, &after("reprotect")).await);
        deaths[2] += u64::from(dies(&ground, crash, BACK, async |life| fail_over(life, BACK).await));
        ground.live(Crash::Never, async |life| it_is_back(life, &after("failback")).await);
        deaths[3] += u64::from(dies(&ground, crash, OUT, async |life| commits(life).await));
        ground.live(Crash::Never, async |life| it_is_protected_again(life, &after("commit")).await);
        if deaths == before {
            println!("{deaths:?} engines died in failovers, reprotects, failbacks and commits");
            assert!(deaths.iter().all(|count| *count > 1), "{deaths:?}");
            return;
        }
    }
    panic!("there is no end to the places: {deaths:?}");
}

#[test]
fn o1_at_vcenter_engines_die_before_every_write_and_nothing_is_lost_or_left() {
    engines_die(Mode::VCenter, Crash::Before);
}

#[test]
fn o1_at_a_host_engines_die_after_every_write_and_nothing_is_lost_or_left() {
    engines_die(Mode::Esxi, Crash::After);
}

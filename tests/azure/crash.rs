//! Engines die, of a failover, a reprotect, a failback and its commit, one after the other on one ground, which goes round the
//! circle as often as there is something to die at: at every write to the journal, and at every request that changes something at
//! Azure, which is carried out and not answered.

use crate::circle::{commit, fail_over, reprotect};
use crate::ground::{BACK, Ground, Life, OUT};
use crate::server::until;
use fake_arm::{Fault, What};
use futures_util::future::{Either, select};
use site_recovery::state::{Direction, Kind, Phase};
use site_recovery::{Journal, Result};
use site_recovery_testkit::crash::{Crash, CrashingJournal};
use std::cell::RefCell;
use std::pin::pin;
use std::sync::Arc;

/// More than any operation has to die at.
const PLACES: u64 = 100;

#[derive(Debug, Clone, Copy)]
enum Death {
    AtWrite(Crash),
    /// At the so manieth request of this method, counted from 0.
    AtRequest(&'static str, u64),
}

impl Death {
    /// Runs `act` in an engine that dies so. What it came to, if the engine lived on.
    fn of(self, ground: &Ground, act: impl AsyncFn(&Life) -> Result<()>) -> Option<Result<()>> {
        match self {
            Self::AtWrite(crash) => {
                let journal = RefCell::new(None);
                let behind = |inner: Arc<dyn Journal>| -> Arc<dyn Journal> {
                    let crashing = CrashingJournal::new(inner, crash);
                    *journal.borrow_mut() = Some(crashing.clone());
                    Arc::new(crashing)
                };
                let came_to = ground.live_behind(&behind, act);
                let died = journal.borrow().as_ref().is_some_and(CrashingJournal::is_dead);
                (!died).then_some(came_to)
            }
            Self::AtRequest(method, number) => ground.live(async |life| {
                let fault = Fault::next(method, "/", What::HangAfterAccept);
                let nth = u32::try_from(number).unwrap() + 1;
                let hits = life.cloud.manager.fault(Fault { nth, ..fault });
                let met = until("the request comes, or all is done", async || hits.count() > 0);
                let came_to = match select(pin!(act(life)), pin!(met)).await {
                    Either::Left((came_to, _)) => Some(came_to),
                    Either::Right(_) => None,
                };
                life.cloud.manager.mend();
                came_to
            }),
        }
    }
}

/// Runs `act` in an engine that dies, and then the next one, which goes on. Between the two the guest at the side that runs
/// writes, if one does. Says whether the engine died; one that did not has done what it should.
fn dies(ground: &Ground, death: Death, from: Direction, act: impl AsyncFn(&Life) -> Result<()>) -> bool {
    if let Some(came_to) = death.of(ground, act) {
        came_to.unwrap();
        return false;
    }
    ground.live(async |life| {
        life.at_most_one_runs(&format!("{death:?}")).await;
        let _ = life.write(from, 0, 50).await;
        life.resume().await;
        // It looks round for captures that nobody holds any more.
        life.vault.watch_now().await.unwrap();
        // What the dead one asked for has come to its end by now.
        life.cloud.manager.settle();
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
    commit(life, false).await.unwrap();
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
}

async fn it_is_done_with_there(life: &Life, when: &str) {
    if life.phase() == Phase::FailoverCompleted(Kind::Planned) {
        commit(life, true).await.unwrap();
    }
    // What could not be removed at once is owed.
    life.nothing_is_astray(when).await;
    reprotect(life, OUT, false).await.unwrap();
    life.a_cycle_is_a_delta(OUT, when).await;
    life.nothing_is_ours(when).await;
    life.write(OUT, 0, 7).await.unwrap();
}

fn engines_die(at: impl Fn(u64) -> Death) {
    engines_die_on(&Ground::new(), at);
}

fn engines_die_on(ground: &Ground, at: impl Fn(u64) -> Death) {
    ground.live(async |life| life.protect().await.unwrap());
    let mut deaths = [0; 4];
    for place in 0..PLACES {
        let (death, before) = (at(place), deaths);
        let when = |what: &str| format!("{what}, {death:?}");
        deaths[0] += u64::from(dies(ground, death, OUT, async |life| fail_over(life, OUT).await));
        ground.live(async |life| it_is_over_there(life, &when("failover")).await);
        deaths[1] += u64::from(dies(ground, death, BACK, async |life| reprotect(life, BACK, false).await));
        ground.live(async |life| it_is_replicated_back(life, &when("reprotect")).await);
        deaths[2] += u64::from(dies(ground, death, BACK, async |life| fail_over(life, BACK).await));
        ground.live(async |life| it_is_back(life, &when("failback")).await);
        deaths[3] += u64::from(dies(ground, death, OUT, async |life| commit(life, true).await));
        ground.live(async |life| it_is_done_with_there(life, &when("commit")).await);
        if deaths == before {
            println!("{deaths:?} engines died in failovers, reprotects, failbacks and commits");
            assert!(deaths.iter().sum::<u64>() > 4, "{deaths:?}");
            println!("{} claims would have waited", ground.claims_that_waited());
            assert!(ground.claims_that_waited() > 4, "no claim has met an older engine");
            ground.live(async |life| life.the_replica_is_tidy("at the end").await);
            return;
        }
    }
    panic!("there is no end to the places: {deaths:?}");
}

#[test]
fn o1_engines_die_before_every_write_and_nothing_is_lost_or_left() {
    engines_die(|write| Death::AtWrite(Crash::Before(write)));
}

#[test]
fn o1_engines_die_after_every_write_and_nothing_is_lost_or_left() {
    engines_die(|write| Death::AtWrite(Crash::After(write)));
}

#[test]
fn o1_engines_die_while_azure_makes_what_they_asked_for_and_nothing_is_lost_or_left() {
    engines_die(|request| Death::AtRequest("PUT", request));
}

#[test]
fn o1_engines_die_while_azure_does_what_they_asked_for_and_nothing_is_lost_or_left() {
    engines_die(|request| Death::AtRequest("POST", request));
}

#[test]
fn o1_engines_die_while_azure_deletes_what_they_asked_for_and_nothing_is_lost_or_left() {
    engines_die(|request| Death::AtRequest("DELETE", request));
}

/// The account is in another region: disks are uploaded.
#[test]
fn o1_engines_die_while_azure_makes_disks_to_be_uploaded_and_nothing_is_lost_or_left() {
    engines_die_on(&Ground::far(), |request| Death::AtRequest("PUT", request));
}

#[test]
fn o1_engines_die_while_azure_begins_and_ends_uploads_and_nothing_is_lost_or_left() {
    engines_die_on(&Ground::far(), |request| Death::AtRequest("POST", request));
}

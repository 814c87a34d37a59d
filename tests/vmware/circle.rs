//! VMware to a directory and back, by bytes: protected, a delta, failed over, changed there, replicated back through the master
//! target by what changed alone, failed back, and protected again by a delta.

use crate::ground::{BACK, Ground, Life, OUT, done, is_here, same};
use crate::process::Mode;
use site_recovery::state::{Direction, Kind, Phase, Resync};
use site_recovery::{
    CommitRequest, Delivery, FailoverRequest, HASH_BLOCK, Head, NoticeKind, Replica, ReprotectRequest,
    Result, Settings,
};
use site_recovery_testkit::crash::Crash;
use std::sync::Arc;

impl Life {
    /// One page is written at the side that runs, and one cycle ships the blocks of that and of what was written since the last
    /// point, and no more.
    pub(crate) async fn a_cycle_is_a_delta(&self, direction: Direction, when: &str) {
        let web = self.web().unwrap();
        let state = web.state().unwrap();
        assert_eq!((state.phase, state.direction), (Phase::Protected, direction), "{when}");
        let replica: Arc<dyn Replica> = match direction {
            OUT => self.points.clone(),
            BACK => self.master_target.clone(),
        };
        let head = replica.head(web.id()).await.unwrap();
        assert!(matches!(head, Head::Sealed { cursor: Some(_), .. }), "{when}: no delta from {head:?}");
        self.write(direction, 1, 30).await.unwrap();
        let mut events = self.vault.events();
        let cycle = self.vault.replicate_now(web.id()).await;
        assert!(cycle.is_ok(), "{when}: the cycle is no delta: {}", cycle.unwrap_err());
        assert_eq!(web.state().unwrap().resync, Resync::None, "{when}");
        let mut sealed = vec![];
        while let Some(Delivery::Notice(notice)) = events.try_next() {
            if let NoticeKind::Sealed { changed, .. } = notice.kind {
                sealed.push(changed);
            }
        }
        let [changed] = sealed[..] else { panic!("{when}: one point, not {sealed:?}") };
        let few = 1..=3 * HASH_BLOCK;
        assert!(few.contains(&changed), "{when}: {changed} bytes, where three pages were written at most");
        let newest = self.newest(&replica, web.id()).await;
        assert!(same(&newest, &self.bytes(direction).await), "{when}: the newest point is not what runs");
    }

    /// Nothing of ours is left at the server but the marks.
    pub(crate) async fn nothing_is_left(&self, when: &str) {
        let name = self.at_the_server().expect("it stands at the server");
        assert_eq!(self.world.snapshots(&name).await, Vec::<String>::new(), "{when}: snapshots");
        let appliance = self.world.moref(&self.world.appliance).await;
        let disks = self.world.eyes.machine(&appliance).await.unwrap().details.unwrap().devices.disks;
        assert_eq!(disks.len(), 1, "{when}: the appliance has its own disk alone: {disks:?}");
    }
}

pub(crate) async fn fail_over(life: &Life, direction: Direction) -> Result<()> {
    life.web()?.failover(FailoverRequest::planned(direction)).await?.done().await.map(drop)
}

/// Towards the server, which is told the datastore; or towards the store, which knows none.
pub(crate) async fn reprotect(life: &Life, to: Direction) -> Result<()> {
    let datastore = (to == BACK).then(|| "LocalDS_0".to_owned());
    let settings = datastore.map(|name| Settings { datastore: Some(name), ..Settings::default() });
    let request = ReprotectRequest { settings, ..ReprotectRequest::default() };
    life.web()?.reprotect(request).await?.done().await.map(drop)
}

pub(crate) async fn commit(life: &Life) {
    done(life.web().unwrap().commit(CommitRequest::default()).await).await;
}

fn the_whole_circle(mode: Mode) {
    if !is_here() {
        return;
    }
    let ground = Ground::new(mode);
    ground.live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        life.a_cycle_is_a_delta(OUT, "protected").await;
        life.nothing_is_left("protected").await;

        life.write(OUT, 0, 7).await.unwrap();
        fail_over(life, OUT).await.unwrap();
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned));
        life.both_sides_are_the_same("failed over").await;
        assert!(!life.world.runs(&life.web).await, "it runs here as well");
        commit(life).await;
        life.write(BACK, 1, 9).await.unwrap();

        reprotect(life, BACK).await.unwrap();
        life.a_cycle_is_a_delta(BACK, "replicated back").await;
        assert!(!life.world.power(&life.web, "on").await, "somebody started a machine that lands");
        life.write(BACK, 0, 11).await.unwrap();
        fail_over(life, BACK).await.unwrap();
        life.both_sides_are_the_same("failed back").await;
        assert!(life.world.runs(&life.web).await, "it runs here again");
        life.write(OUT, 0, 13).await.unwrap();
        commit(life).await;

        reprotect(life, OUT).await.unwrap();
        life.a_cycle_is_a_delta(OUT, "protected again").await;
        life.nothing_is_left("protected again").await;
    });
}

#[test]
fn d4_vcenter_goes_over_and_comes_back_with_only_what_changed() {
    the_whole_circle(Mode::VCenter);
}

#[test]
fn d4_a_host_goes_over_and_comes_back_with_only_what_changed() {
    the_whole_circle(Mode::Esxi);
}

/// Runs `act` on a ground that `stage` has brought so far, once to its end, and to its death at every journal write; then `then` in the engine
/// that comes after, which has resumed. Between the two the guest at the side that runs writes, if one does.
pub(crate) fn sweep(
    ground: impl Fn() -> Ground,
    stage: fn(&Ground),
    act: impl AsyncFn(&Life) -> Result<()>,
    from: Direction,
    then: impl AsyncFn(&Life, &str),
) {
    if !is_here() {
        return;
    }
    let fresh = ground;
    let ground = fresh();
    stage(&ground);
    let writes = ground.live(Crash::Never, async |life| {
        act(life).await.unwrap();
        life.journal.writes()
    });
    println!("{writes} journal writes");
    assert!(writes > 3, "only {writes} journal writes");
    for crash in Crash::sweep(writes) {
        let ground = fresh();
        stage(&ground);
        ground.live(crash, async |life| {
            let _ = act(life).await;
            assert!(life.journal.is_dead(), "{crash:?} was not reached");
        });
        ground.live(Crash::Never, async |life| {
            if from == BACK || life.world.runs(&life.web).await {
                let _ = life.write(from, 0, 50).await;
            }
            life.resume().await;
            then(life, &format!("{crash:?}")).await;
        });
    }
}

fn protected(ground: &Ground) {
    ground.live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        life.write(OUT, 0, 7).await.unwrap();
    });
}

/// It runs in the cloud for good, and has written there.
fn committed(ground: &Ground) {
    protected(ground);
    ground.live(Crash::Never, async |life| {
        fail_over(life, OUT).await.unwrap();
        commit(life).await;
        life.write(BACK, 1, 9).await.unwrap();
    });
}

/// It runs in the cloud, and is replicated back.
fn replicated_back(ground: &Ground) {
    committed(ground);
    ground.live(Crash::Never, async |life| {
        reprotect(life, BACK).await.unwrap();
        life.write(BACK, 0, 11).await.unwrap();
    });
}

#[test]
fn o1_a_failover_of_vcenter_survives_a_crash_at_every_write_and_loses_nothing() {
    let then = async |life: &Life, when: &str| {
        if life.phase() == Phase::Protected {
            life.a_cycle_is_a_delta(OUT, when).await;
            fail_over(life, OUT).await.unwrap();
        }
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
        assert!(!life.world.runs(&life.web).await, "{when}: both sides run");
        life.both_sides_are_the_same(when).await;
        life.nothing_is_left(when).await;
    };
    sweep(|| Ground::new(Mode::VCenter), protected, async |life| fail_over(life, OUT).await, OUT, then);
}

#[test]
fn o1_a_reprotect_towards_a_host_survives_a_crash_at_every_write_and_the_next_cycle_is_a_delta() {
    let then = async |life: &Life, when: &str| {
        if life.phase() != Phase::Protected {
            reprotect(life, BACK).await.unwrap();
        }
        life.a_cycle_is_a_delta(BACK, when).await;
        fail_over(life, BACK).await.unwrap();
        life.both_sides_are_the_same(when).await;
    };
    sweep(|| Ground::new(Mode::Esxi), committed, async |life| reprotect(life, BACK).await, BACK, then);
}

#[test]
fn o1_a_failback_to_vcenter_survives_a_crash_at_every_write_and_loses_nothing() {
    let then = async |life: &Life, when: &str| {
        if life.phase() == Phase::Protected {
            life.a_cycle_is_a_delta(BACK, when).await;
            fail_over(life, BACK).await.unwrap();
        }
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
        assert!(life.world.runs(&life.web).await, "{when}: it does not run here");
        life.both_sides_are_the_same(when).await;
        commit(life).await;
        life.nothing_is_left(when).await;
    };
    sweep(
        || Ground::new(Mode::VCenter),
        replicated_back,
        async |life| fail_over(life, BACK).await,
        BACK,
        then,
    );
}

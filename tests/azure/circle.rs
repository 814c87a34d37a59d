//! To Azure and back, by bytes: protected, a delta, tried in a drill, failed over, changed there, replicated back by what changed
//! alone, failed back, and protected again by a delta. Once as planned, and once with what was not replicated lost.

use crate::ground::{BACK, Ground, Life, OUT, done};
use site_recovery::state::{Direction, Kind, Phase, Resync};
use site_recovery::{
    CommitRequest, Cutover, Delivery, DrillRequest, FailoverRequest, Force, HASH_BLOCK, Head, NoticeKind,
    PointChoice, Replica, ReprotectRequest, Result,
};
use std::sync::Arc;

impl Life {
    pub(crate) fn replica(&self, direction: Direction) -> Arc<dyn Replica> {
        match direction {
            OUT => self.points.clone(),
            BACK => self.master_target.clone(),
        }
    }

    /// One page is written at the side that runs, and one cycle ships the blocks of that and of what was written since the last
    /// point, and no more.
    pub(crate) async fn a_cycle_is_a_delta(&self, direction: Direction, when: &str) {
        let web = self.web().unwrap();
        let state = web.state().unwrap();
        assert_eq!((state.phase, state.direction), (Phase::Protected, direction), "{when}");
        let replica = self.replica(direction);
        let head = replica.head(web.id()).await.unwrap();
        assert!(matches!(head, Head::Sealed { cursor: Some(_), .. }), "{when}: no delta from {head:?}");
        self.write(direction, 1, 30).await.unwrap();
        self.time_passes();
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
        assert!(newest == self.bytes(direction).await, "{when}: the newest point is not what runs");
        self.nothing_is_astray(when).await;
    }

    /// A copy runs in the network of drills while the machine runs on, and nothing is left of it.
    async fn a_drill(&self) {
        let web = self.web().unwrap();
        done(web.test_failover(DrillRequest::default()).await).await;
        let drill = web.item().unwrap().drill.unwrap();
        let copy = drill.armed.unwrap().instance.name;
        assert!(self.cloud.runs(&copy) && self.here.runs().await, "{copy} runs beside the machine");
        let point = self.newest(&self.replica(OUT), web.id()).await;
        assert!(self.bytes_of(&copy) == point, "the drill holds the point");
        let cards = self.cloud.mark(&copy).unwrap()["nics"].as_object().unwrap().clone();
        assert!(!cards.is_empty(), "it has a card");
        for thing in self.cloud.manager.world() {
            if cards.values().any(|card| card == thing.name.as_str()) {
                let subnet = &thing.body["properties"]["ipConfigurations"][0]["properties"]["subnet"]["id"];
                let isolated = subnet.as_str().unwrap().contains("/virtualNetworks/isolated/");
                assert!(isolated, "{} is in {subnet}", thing.name);
            }
        }
        self.write(OUT, 0, 5).await.unwrap();
        done(web.clean_up_test().await).await;
        self.nothing_is_ours("after the drill").await;
    }
}

/// Without a comparison, which would mend what a delta has left out.
pub(crate) fn planned(direction: Direction) -> FailoverRequest {
    let cutover = Cutover::Planned { verify: false };
    FailoverRequest { cutover, ..FailoverRequest::planned(direction) }
}

pub(crate) async fn fail_over(life: &Life, direction: Direction) -> Result<()> {
    life.time_passes();
    life.web()?.failover(planned(direction)).await?.done().await.map(drop)
}

/// With what was not replicated lost.
async fn fall_over(life: &Life) {
    let request = FailoverRequest::unplanned(OUT, Force::by("test", "the site is said to be lost"));
    done(life.web().unwrap().failover(request.to(PointChoice::LatestProcessed)).await).await;
}

pub(crate) async fn reprotect(life: &Life, to: Direction, other_side_loses: bool) -> Result<()> {
    life.time_passes();
    let settings = if to == BACK { life.here.settings() } else { None };
    let request = ReprotectRequest { settings, other_side_loses, ..ReprotectRequest::default() };
    life.web()?.reprotect(request).await?.done().await.map(drop)
}

pub(crate) async fn commit(life: &Life, purge_now: bool) -> Result<()> {
    let request = CommitRequest { purge_now, ..CommitRequest::default() };
    life.web()?.commit(request).await?.done().await.map(drop)
}

/// From a failover that is committed, to a machine that is protected again where it came from.
pub(crate) async fn and_back(life: &Life, here_loses: bool, purge_now: bool) {
    life.nothing_is_astray("committed").await;
    life.write(BACK, 1, 9).await.unwrap();

    reprotect(life, BACK, here_loses).await.unwrap();
    life.a_cycle_is_a_delta(BACK, "replicated back").await;
    assert!(!life.here.lets_itself_be_started().await, "somebody started a machine that lands");
    life.write(BACK, 0, 11).await.unwrap();
    fail_over(life, BACK).await.unwrap();
    assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned));
    life.both_sides_are_the_same("failed back").await;
    assert!(life.here.runs().await && !life.runs_in_the_cloud(), "it runs here again, and here alone");
    life.nothing_is_astray("failed back").await;
    life.write(OUT, 0, 13).await.unwrap();
    commit(life, purge_now).await.unwrap();
    if purge_now {
        life.nothing_is_ours("committed here, and removed there").await;
    }

    reprotect(life, OUT, false).await.unwrap();
    life.nothing_is_ours("protected again").await;
    life.a_cycle_is_a_delta(OUT, "protected again").await;
    life.nothing_is_ours("a cycle later").await;
    life.here.nothing_is_left("protected again").await;
}

fn the_whole_circle(ground: &Ground) {
    ground.live(async |life| {
        life.protect().await.unwrap();
        life.a_cycle_is_a_delta(OUT, "protected").await;
        life.here.nothing_is_left("protected").await;
        life.a_drill().await;

        life.write(OUT, 0, 7).await.unwrap();
        fail_over(life, OUT).await.unwrap();
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned));
        life.both_sides_are_the_same("failed over").await;
        assert!(!life.here.runs().await && life.runs_in_the_cloud(), "it runs in the cloud, and there alone");
        life.nothing_is_astray("failed over").await;
        commit(life, false).await.unwrap();
        and_back(life, false, false).await;
    });
    // By another engine, which finds all that the first one has left.
    ground.live(async |life| {
        let newest = life.bytes(OUT).await;
        life.write(OUT, 0, 17).await.unwrap();
        fall_over(life).await;
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Unplanned));
        assert!(life.bytes(BACK).await == newest, "it holds the newest point");
        assert!(life.bytes(OUT).await != newest, "what is lost is here still");
        assert!(!life.here.runs().await && life.runs_in_the_cloud(), "it runs in the cloud, and there alone");
        life.nothing_is_astray("fallen over").await;
        commit(life, false).await.unwrap();
        and_back(life, true, true).await;
        life.the_replica_is_tidy("after two circles").await;
    });
}

#[test]
fn d4_a_directory_goes_over_and_comes_back_with_only_what_changed() {
    the_whole_circle(&Ground::new());
}

#[test]
fn d4_vcenter_goes_over_and_comes_back_with_only_what_changed() {
    if let Some(ground) = Ground::with_a_server() {
        the_whole_circle(&ground);
    }
}

#[test]
fn d4_a_directory_goes_to_another_region_than_its_points_and_comes_back_with_only_what_changed() {
    let ground = Ground::far();
    the_whole_circle(&ground);
    ground.live(async |life| {
        let recorded = life.cloud.manager.recording();
        let made = |line: &&serde_json::Value| {
            let of = |path: &str| line.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default();
            of("/request/method") == "PUT" && of("/request/url").contains("/disks/web")
        };
        let option = |line: &serde_json::Value| {
            line["request"]["body"]["properties"]["creationData"]["createOption"].clone()
        };
        let options: Vec<_> = recorded.iter().filter(made).map(option).collect();
        assert!(!options.is_empty() && options.iter().all(|option| option == "Upload"), "{options:?}");
    });
}

//! What is taken back: an undo of a failover, other points of the way out, a failover that is cancelled before its pivot.

use crate::circle::{and_back, commit, fail_over};
use crate::ground::{BACK, Content, Ground, Life, OUT, done};
use crate::server::until;
use site_recovery::state::{Kind, Phase};
use site_recovery::{FailoverRequest, Outcome, PointChoice, PointId, Replica, UndoRequest};

impl Life {
    /// The bytes of the newest instance that was set aside in the cloud.
    fn kept(&self) -> Content {
        let item = self.web().unwrap().item().unwrap();
        let kept = item.kept.last().expect("one is kept");
        assert!(!self.cloud.runs(&kept.name), "{} runs", kept.name);
        self.bytes_of(&kept.name)
    }

    /// A point, and what it holds.
    async fn a_point(&self, page: u64) -> (PointId, Content) {
        let web = self.web().unwrap();
        self.write(OUT, 0, page).await.unwrap();
        self.vault.replicate_now(web.id()).await.unwrap();
        let newest = self.points.points(web.id()).await.unwrap().pop().unwrap();
        (newest.id, self.bytes(OUT).await)
    }

    async fn is_changed_to(&self, point: &(PointId, Content), when: &str) {
        let ran = self.bytes(BACK).await;
        done(self.web().unwrap().change_point(PointChoice::Custom(point.0)).await).await;
        assert_eq!(self.phase(), Phase::FailoverCompleted(Kind::Planned), "{when}");
        assert!(self.bytes(BACK).await == point.1, "{when}: it holds the point");
        assert!(self.kept() == ran, "{when}: what ran before is kept, byte for byte");
        assert!(self.runs_in_the_cloud(), "{when}: it runs");
        self.nothing_is_astray(when).await;
    }
}

#[test]
fn d6_a_failover_is_undone_and_other_points_are_gone_to_and_nothing_is_lost() {
    Ground::new().live(async |life| {
        life.protect().await.unwrap();
        life.write(OUT, 0, 7).await.unwrap();
        let before = life.bytes(OUT).await;
        fail_over(life, OUT).await.unwrap();
        life.write(BACK, 0, 3).await.unwrap();
        let there = life.bytes(BACK).await;
        done(life.web().unwrap().undo(UndoRequest::default()).await).await;
        assert_eq!(life.phase(), Phase::Protected);
        assert!(life.here.runs().await && life.bytes(OUT).await == before, "it runs here as it was");
        assert!(life.kept() == there, "what ran there is kept, byte for byte");
        life.a_cycle_is_a_delta(OUT, "after an undo").await;

        let older = life.a_point(19).await;
        let newer = life.a_point(21).await;
        fail_over(life, OUT).await.unwrap();
        life.write(BACK, 1, 3).await.unwrap();
        life.is_changed_to(&older, "an older point").await;
        life.write(BACK, 1, 5).await.unwrap();
        life.is_changed_to(&newer, "a newer point").await;
        commit(life, false).await.unwrap();
        let kept = life.web().unwrap().item().unwrap().kept;
        assert_eq!(kept, [], "a commit ends what is kept");
        and_back(life, true, false).await;
    });
}

#[test]
fn o3_a_failover_that_is_cancelled_in_the_midst_of_its_copies_leaves_nothing() {
    Ground::new().live(async |life| {
        life.protect().await.unwrap();
        life.cloud.blobs.copies_take(usize::MAX);
        let web = life.web().unwrap();
        let job = web.failover(FailoverRequest::planned(OUT)).await.unwrap();
        until("copies are under way", async || !life.works().is_empty()).await;
        job.cancel();
        let ended = job.wait().await.unwrap().outcome;
        assert!(matches!(ended, Outcome::Unwound { .. }), "{ended:?}");
        assert_eq!(life.phase(), Phase::Protected);
        assert!(life.here.runs().await, "it runs here as before");
        life.nothing_is_ours("cancelled").await;

        life.cloud.blobs.copies_take(2);
        life.a_cycle_is_a_delta(OUT, "after a cancel").await;
        fail_over(life, OUT).await.unwrap();
        life.both_sides_are_the_same("failed over after all").await;
    });
}

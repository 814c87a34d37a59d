//! Lost replies and refusals, one at every request of every act of the store: the same call with the same key ends as if nothing
//! had happened, and leaves nothing behind.

use crate::vault::{Life, Vault};
use fake_blob::{Fault, Match};
use site_recovery::*;

/// What a timeline goes through, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Prepare,
    Begin,
    Write,
    Seal,
    Prune,
    Claim,
    Delete,
}

const ACTS: [Act; 7] = [Act::Prepare, Act::Begin, Act::Write, Act::Seal, Act::Prune, Act::Claim, Act::Delete];
/// The number of the cycle that is troubled; the first one is not.
const CYCLE: u64 = 2;

/// A timeline on its way.
struct Way<'a> {
    life: Life<'a>,
    set: ChangeSet,
}

impl Way<'_> {
    async fn new<'a>(vault: &'a Vault, id: &str) -> Way<'a> {
        Way { life: vault.life(id).await, set: ChangeSet::new() }
    }

    /// What comes before an act.
    async fn before(&mut self, act: Act) {
        match act {
            Act::Begin => {
                self.life.cycle(1).await;
                self.set = self.life.change(CYCLE);
            }
            // An ingest that the older engine leaves open.
            Act::Claim => {
                let set = self.life.change(3);
                let ingest = self.life.begin(3, &set).await.expect("begun");
                self.life.write(&ingest, &set).await.expect("written");
                self.life.epoch = 2;
            }
            _ => {}
        }
    }

    async fn act(&mut self, act: Act) -> Result<()> {
        let life = &mut self.life;
        match act {
            Act::Prepare => life.prepare().await,
            Act::Begin => life.begin(CYCLE, &self.set).await.map(|ingest| life.ingest = Some(ingest)),
            Act::Write => life.write(life.ingest.as_ref().expect("begun"), &self.set).await,
            Act::Seal => {
                let point = life.seal(life.ingest.as_ref().expect("begun"), CYCLE, &self.set).await?;
                life.sealed.push((point.id, life.images.clone()));
                Ok(())
            }
            Act::Prune => {
                let first = life.sealed[0].0;
                let dropped = life.store.prune(&life.op("prune"), life.id(), &[first]).await?;
                assert_eq!(dropped, [first]);
                life.sealed.remove(0);
                Ok(())
            }
            Act::Claim => life.store.claim(&life.op("claim"), life.id()).await,
            Act::Delete => {
                life.store.delete(&life.op("delete"), life.id()).await?;
                life.sealed.clear();
                Ok(())
            }
        }
    }

    async fn untroubled(&mut self, acts: impl Iterator<Item = Act>) {
        for act in acts {
            self.before(act).await;
            self.act(act).await.unwrap_or_else(|error| panic!("{act:?}: {error}"));
        }
    }

    /// The rest of its life, and what is true of it then.
    async fn ends_well(&mut self, what: &str, act: Act) {
        if act < Act::Delete {
            self.life.must_be_whole(what).await;
            self.untroubled(ACTS.into_iter().filter(|later| *later > act && *later < Act::Delete)).await;
            self.life.cycle(4).await;
            assert_eq!(self.life.state()["owed"], serde_json::json!([]), "{what}: what was owed is deleted");
            self.life.must_be_whole(&format!("{what}, later")).await;
            self.untroubled([Act::Delete].into_iter()).await;
        }
        let listed = self.life.vault.container.list(&format!("m/{}/", self.life.id())).await.expect("listed");
        let names: Vec<_> = listed.into_iter().map(|listed| listed.name).collect();
        assert_eq!(names, [format!("m/{}/state", self.life.id())], "{what}: the tombstone alone is left");
    }
}

/// What goes wrong: its name, and whether the process crashes as well.
fn troubles() -> Vec<(&'static str, Fault, bool)> {
    let status = |code, azure_code, retry_after| Fault::Status { code, azure_code, retry_after };
    vec![
        ("lost-reply", Fault::DropBeforeAnswer, false),
        ("crash", Fault::DropBeforeAnswer, true),
        ("lost-request", Fault::DropBeforeEffect, false),
        ("failed", status(500, "InternalError", None), true),
        ("throttled", status(429, "TooManyRequests", Some(0)), false),
        ("denied", status(403, "AuthorizationPermissionMismatch", None), false),
    ]
}

async fn swept(act: Act) {
    let vault = Vault::new();
    let mut plain = Way::new(&vault, "plain").await;
    plain.untroubled(ACTS.into_iter().filter(|earlier| *earlier < act)).await;
    plain.before(act).await;
    vault.blobs.clear_log();
    plain.act(act).await.expect("untroubled");
    let requests = vault.blobs.log();
    plain.ends_well("untroubled", act).await;
    assert!(requests.len() > 1, "{act:?} asks for something");
    for (nth, request) in requests.iter().enumerate() {
        for (name, fault, crashes) in troubles() {
            let what = format!("{act:?}, request {nth} ({} {}), {name}", request.method, request.comp);
            let mut way = Way::new(&vault, &format!("m-{nth}-{name}")).await;
            way.untroubled(ACTS.into_iter().filter(|earlier| *earlier < act)).await;
            way.before(act).await;
            let hits = vault.blobs.faults().next(Match::any().after(nth), fault);
            let mut tries = 0;
            while let Err(error) = way.act(act).await {
                tries += 1;
                assert!(tries < 3, "{what}: {error}");
                assert!(
                    !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::StaleEpoch),
                    "{what}: {error}"
                );
                if crashes {
                    way.life.store = vault.open().await;
                }
            }
            assert_eq!(hits.count(), 1, "{what}: it was met");
            way.ends_well(&what, act).await;
        }
    }
}

/// The process ends after each request of an act, and nobody comes back for it: another engine goes on with another cut.
async fn abandoned(act: Act) {
    let vault = Vault::new();
    for nth in 0.. {
        let what = format!("{act:?}, which ends after {nth} requests");
        let mut way = Way::new(&vault, &format!("m-{nth}")).await;
        way.untroubled(ACTS.into_iter().filter(|earlier| *earlier < act)).await;
        way.before(act).await;
        let dead = Match::any().after(nth).times(usize::MAX);
        let hits = vault.blobs.faults().next(dead, Fault::DropBeforeEffect);
        let ended = way.act(act).await.is_ok();
        vault.blobs.faults().clear();
        way.life.epoch = 2;
        way.life.store = vault.open().await;
        let there = way.life.store.points(way.life.id()).await.expect("points");
        let known = way.life.sealed.len();
        if there.len() > known {
            // It was sealed, and nobody was told.
            way.life.sealed.push((there[known].id, way.life.images.clone()));
        }
        if act == Act::Prepare {
            way.life.prepare().await.expect("prepared by another engine");
        }
        way.life.must_be_sealed(&what).await;
        // What was not sealed differs still.
        way.life.behind = way.set.clone();
        way.life.cycle(5).await;
        way.life.cycle(6).await;
        way.life.must_be_whole(&what).await;
        assert_eq!(way.life.state()["owed"], serde_json::json!([]), "{what}");
        if hits.count() == 0 {
            assert!(ended && nth > 1, "{what}");
            return;
        }
    }
}

#[tokio::test]
async fn o6_what_a_prepare_made_that_nobody_repeats_is_collected() {
    abandoned(Act::Prepare).await;
}

#[tokio::test]
async fn o6_what_a_begin_made_that_nobody_repeats_is_collected() {
    abandoned(Act::Begin).await;
}

#[tokio::test]
async fn o6_what_a_write_made_that_nobody_repeats_is_collected() {
    abandoned(Act::Write).await;
}

#[tokio::test]
async fn d2_what_a_seal_made_that_nobody_repeats_is_no_point_and_is_collected() {
    abandoned(Act::Seal).await;
}

#[tokio::test]
async fn o1_prepare_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Prepare).await;
}

#[tokio::test]
async fn o1_begin_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Begin).await;
}

#[tokio::test]
async fn o1_write_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Write).await;
}

#[tokio::test]
async fn d2_seal_is_all_or_nothing_through_every_lost_reply_and_refusal() {
    swept(Act::Seal).await;
}

#[tokio::test]
async fn o6_prune_leaves_nothing_through_every_lost_reply_and_refusal() {
    swept(Act::Prune).await;
}

#[tokio::test]
async fn o1_claim_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Claim).await;
}

#[tokio::test]
async fn o6_delete_leaves_nothing_through_every_lost_reply_and_refusal() {
    swept(Act::Delete).await;
}

//! Lost replies and refusals, one at every request of every act of the site: the same call with the same key ends as if nothing
//! had happened: nothing is there twice, and nothing is left behind.

use crate::recovered::Recovered;
use crate::troubles::troubles;
use crate::world::SPAN;
use site_recovery::*;
use site_recovery_testkit::suite::op;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Materialise,
    /// The same where Azure cannot import.
    Upload,
    Withdraw,
    /// While the disks are being uploaded.
    WithdrawUpload,
    Boot,
    Settle,
    SetAside,
    Destroy,
    Capture,
    Changes,
    Disks,
    Release,
    Fence,
    Unfence,
    Enrol,
    Dismiss,
}

/// One run of an act: what was made before it, and what it gave.
#[derive(Default)]
struct Run<'a> {
    key: &'a str,
    armed: Option<Armed>,
    capture: Option<Capture>,
    enrolled: Option<Machine>,
    kept: Option<Instance>,
}

/// What stands there for all runs of an act.
struct Ground {
    here: Recovered,
    booted: Option<Armed>,
}

impl Ground {
    async fn of(act: Act) -> Self {
        let here = match act {
            Act::Upload | Act::WithdrawUpload => Recovered::far().await,
            _ => Recovered::new().await,
        };
        let booted = match act {
            Act::Capture | Act::Changes | Act::Disks | Act::Release | Act::Fence | Act::Unfence => {
                Some(here.booted("ground").await)
            }
            _ => None,
        };
        if matches!(act, Act::Enrol | Act::Dismiss) {
            here.world.make("own", &[1 << 20, 2 << 20]).await;
        }
        Self { here, booted }
    }

    fn instance(&self) -> &Instance {
        &self.booted.as_ref().expect("booted").instance
    }

    /// What comes before the act.
    async fn before(&self, act: Act, run: &mut Run<'_>) {
        let (here, site, key) = (&self.here, &self.here.world.site, run.key);
        match act {
            Act::Withdraw | Act::Boot => {
                run.armed =
                    Some(here.materialise(&format!("{key}-materialise")).await.expect("materialised"));
            }
            Act::WithdrawUpload => here.upload_in_part(&format!("{key}-materialise")).await,
            Act::Settle | Act::SetAside | Act::Destroy => run.armed = Some(here.booted(key).await),
            Act::Changes | Act::Disks | Act::Release => {
                here.world.write("web", 0, 4096, &[7; 4096]);
                run.capture =
                    Some(here.capture(&format!("{key}-capture"), self.instance()).await.expect("captured"));
            }
            Act::Unfence => here.fence(&format!("{key}-fence"), self.instance()).await.expect("fenced"),
            Act::Enrol | Act::Dismiss => {
                let seen = site.discover().await.expect("seen");
                let mut own = seen.into_iter().find(|machine| machine.instance.name == "own").expect("own");
                own.instance.machine = "own-1".into();
                run.enrolled = Some(own);
            }
            _ => {}
        }
        if act == Act::SetAside {
            let instance = &run.armed.as_ref().expect("booted").instance;
            here.fence(&format!("{key}-fence"), instance).await.expect("fenced");
        }
        if matches!(act, Act::Destroy) {
            let instance = &run.armed.as_ref().expect("booted").instance;
            here.capture(&format!("{key}-capture"), instance).await.expect("captured");
        }
        if act == Act::Dismiss {
            let own = run.enrolled.as_ref().expect("seen");
            site.enrol(&op(&format!("{key}-enrol")), own).await.expect("enrolled");
            here.capture(&format!("{key}-capture"), &own.instance).await.expect("captured");
        }
    }

    async fn act(&self, act: Act, run: &mut Run<'_>) -> Result<()> {
        let (here, site, key) = (&self.here, &self.here.world.site, run.key);
        let (op, machine) = (op(key), here.what.machine.id());
        let armed = run.armed.clone();
        let armed = || armed.as_ref().expect("materialised");
        match act {
            Act::Materialise | Act::Upload => run.armed = Some(here.materialise(key).await?),
            Act::Withdraw | Act::WithdrawUpload => {
                let made_by = site_recovery_testkit::suite::op(&format!("{key}-materialise")).key;
                site.withdraw(&op, &made_by, &here.what).await?;
            }
            Act::Boot => assert!(here.boot(key, armed()).await?.running, "booted, and it does not run"),
            Act::Settle => site.settle(&op, armed()).await?,
            Act::SetAside => run.kept = Some(site.set_aside(&op, &armed().instance).await?),
            Act::Destroy => site.destroy(&op, &armed().instance).await?,
            Act::Capture => run.capture = Some(here.capture(key, self.instance()).await?),
            Act::Changes => {
                let since = self.booted.as_ref().and_then(|armed| armed.cursor.clone()).expect("a cursor");
                let capture = run.capture.as_ref().expect("captured");
                let Changes::Known(told) = site.changes(capture, machine, &since).await? else {
                    panic!("the cursor is lost")
                };
                let system = &here.what.machine.disks[0].id;
                assert!(told.contains(system, site_recovery::Run::new(4096, 4096)), "{told:?}");
            }
            Act::Disks => {
                let disks = site.disks(&op, run.capture.as_ref().expect("captured"), machine).await?;
                let (pool, part) = (Pool::new(1 << 20), site_recovery::Run::new(0, 8192));
                let read = disks[&here.what.machine.disks[0].id].read(part, &pool).await?;
                assert!(read[..4096] == here.images[0][..4096] && read[4096..] == [7; 4096], "other bytes");
            }
            Act::Release => {
                let capture = run.capture.as_ref().expect("captured");
                site.release(&op, capture, machine, Fate::Sealed).await?;
            }
            Act::Fence => {
                here.fence(key, self.instance()).await?;
                let power = site.power(self.instance()).await?;
                assert!(matches!(power, Power::Off { start: StartGuard::Tells(_) }), "{power:?}");
            }
            Act::Unfence => assert!(here.unfence(key, self.instance()).await?.running),
            Act::Enrol => site.enrol(&op, run.enrolled.as_ref().expect("seen")).await?,
            Act::Dismiss => site.dismiss(&op, &run.enrolled.as_ref().expect("seen").instance).await?,
        }
        Ok(())
    }

    /// Makes the ground as it was, where the act was broken off and nobody repeats it.
    async fn taken_back(&self, act: Act, run: &Run<'_>) -> Result<()> {
        let (site, op) = (&self.here.world.site, op(&format!("{}-back", run.key)));
        match act {
            Act::Materialise | Act::Upload => {
                let made_by = site_recovery_testkit::suite::op(run.key).key;
                site.withdraw(&op, &made_by, &self.here.what).await
            }
            Act::Boot => site.destroy(&op, &run.armed.as_ref().expect("made").instance).await,
            Act::Capture => site.sweep(&op, self.instance(), &[]).await.map(drop),
            other => panic!("{other:?} is repeated"),
        }
    }

    /// Makes the ground as it was.
    async fn after(&self, act: Act, run: &Run<'_>) {
        let (here, site, key) = (&self.here, &self.here.world.site, run.key);
        let (op, machine) = (op(&format!("{key}-after")), here.what.machine.id());
        let done = match act {
            Act::Materialise | Act::Upload => {
                let made_by = site_recovery_testkit::suite::op(key).key;
                site.withdraw(&op, &made_by, &here.what).await
            }
            Act::Boot | Act::Settle => site.destroy(&op, &run.armed.as_ref().expect("made").instance).await,
            Act::SetAside => site.destroy(&op, run.kept.as_ref().expect("kept")).await,
            Act::Capture | Act::Changes | Act::Disks => {
                site.release(&op, run.capture.as_ref().expect("captured"), machine, Fate::Abandoned).await
            }
            Act::Fence => here.unfence(&format!("{key}-after"), self.instance()).await.map(drop),
            Act::Enrol => site.dismiss(&op, &run.enrolled.as_ref().expect("seen").instance).await,
            Act::Withdraw
            | Act::WithdrawUpload
            | Act::Destroy
            | Act::Release
            | Act::Unfence
            | Act::Dismiss => Ok(()),
        };
        done.expect("undone");
        // Azure's limits of imports and snapshots.
        here.world.passes(SPAN);
    }
}

async fn swept(act: Act) {
    let mut ground = Ground::of(act).await;
    // A first run, so that what is there once and for all is there.
    let (mut expected, mut all, mut bare) = (vec![], vec![], vec![]);
    for key in ["warm", "plain"] {
        let mut run = Run { key, ..Run::default() };
        ground.before(act, &mut run).await;
        let asked = ground.here.world.manager.recording().len();
        ground.here.world.blobs.clear_log();
        ground.act(act, &mut run).await.expect("untroubled");
        all = troubles(&ground.here, asked);
        expected = ground.here.all();
        ground.after(act, &run).await;
        bare = ground.here.all();
    }
    assert!(all.len() > 1, "{act:?} asks for something");
    for (number, (name, trouble)) in all.into_iter().enumerate() {
        let what = format!("{act:?}, {name}");
        let key = format!("run-{number}");
        let mut run = Run { key: &key, ..Run::default() };
        ground.before(act, &mut run).await;
        let met = ground.here.arm(trouble);
        let mut tries = 0;
        while let Err(error) = ground.act(act, &mut run).await {
            tries += 1;
            assert!(tries < 5, "{what}: {error}");
            let kind = error.kind();
            assert!(kind != ErrorKind::Corrupt && kind != ErrorKind::StaleEpoch, "{what}: {error}");
            // Every second time the process crashes as well.
            if number % 2 == 0 {
                ground.here.world.reopen().await;
            }
            // One blob is imported once a minute.
            ground.here.world.passes(Duration::from_secs(61));
        }
        assert!(met(), "{what}: it was not met");
        assert_eq!(ground.here.all(), expected, "{what}: left what is there, right what is there without it");
        ground.after(act, &run).await;
        assert_eq!(ground.here.all(), bare, "{what}: left what stays, right what stays without it");
    }
}

/// An act is broken off by each trouble, its process ends, and nobody repeats it.
async fn abandoned(act: Act) {
    let mut ground = Ground::of(act).await;
    let (mut all, mut bare) = (vec![], vec![]);
    for key in ["warm", "plain"] {
        let mut run = Run { key, ..Run::default() };
        ground.before(act, &mut run).await;
        let asked = ground.here.world.manager.recording().len();
        ground.here.world.blobs.clear_log();
        ground.act(act, &mut run).await.expect("untroubled");
        all = troubles(&ground.here, asked);
        ground.after(act, &run).await;
        bare = ground.here.all();
    }
    let mut broken = 0;
    for (number, (name, trouble)) in all.into_iter().enumerate() {
        let what = format!("{act:?}, {name}");
        let key = format!("run-{number}");
        let mut run = Run { key: &key, ..Run::default() };
        ground.before(act, &mut run).await;
        let met = ground.here.arm(trouble);
        let done = ground.act(act, &mut run).await;
        assert!(met(), "{what}: it was not met");
        if done.is_ok() {
            ground.after(act, &run).await;
            continue;
        }
        broken += 1;
        ground.here.world.passes(SPAN);
        ground.here.world.reopen().await;
        let mut tries = 0;
        while let Err(error) = ground.taken_back(act, &run).await {
            tries += 1;
            assert!(error.is_temporary() && tries < 5, "{what}: taken back: {error}");
        }
        assert_eq!(ground.here.all(), bare, "{what}: left what stays, right what stays without it");
    }
    assert!(broken > 5, "{act:?} was broken off {broken} times");
}

#[tokio::test]
async fn o6_withdraw_leaves_nothing_of_a_materialise_that_nobody_repeats() {
    abandoned(Act::Materialise).await;
}

#[tokio::test]
async fn o6_withdraw_leaves_nothing_of_an_upload_that_nobody_repeats() {
    abandoned(Act::Upload).await;
}

#[tokio::test]
async fn o6_destroy_leaves_nothing_of_a_boot_that_nobody_repeats() {
    abandoned(Act::Boot).await;
}

#[tokio::test]
async fn o6_sweep_leaves_nothing_of_a_capture_that_nobody_repeats() {
    abandoned(Act::Capture).await;
}

#[tokio::test]
async fn o1_materialise_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Materialise).await;
}

#[tokio::test]
async fn o1_an_upload_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Upload).await;
}

#[tokio::test]
async fn o6_withdraw_leaves_nothing_of_an_upload_through_every_lost_reply_and_refusal() {
    swept(Act::WithdrawUpload).await;
}

#[tokio::test]
async fn o6_withdraw_leaves_nothing_through_every_lost_reply_and_refusal() {
    swept(Act::Withdraw).await;
}

#[tokio::test]
async fn o1_boot_makes_one_machine_through_every_lost_reply_and_refusal() {
    swept(Act::Boot).await;
}

#[tokio::test]
async fn o1_settle_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Settle).await;
}

#[tokio::test]
async fn d6_set_aside_keeps_the_disks_through_every_lost_reply_and_refusal() {
    swept(Act::SetAside).await;
}

#[tokio::test]
async fn o6_destroy_leaves_nothing_through_every_lost_reply_and_refusal() {
    swept(Act::Destroy).await;
}

#[tokio::test]
async fn o1_capture_takes_one_snapshot_through_every_lost_reply_and_refusal() {
    swept(Act::Capture).await;
}

#[tokio::test]
async fn d4_changes_tells_all_through_every_lost_reply_and_refusal() {
    swept(Act::Changes).await;
}

#[tokio::test]
async fn d5_disks_give_the_bytes_through_every_lost_reply_and_refusal() {
    swept(Act::Disks).await;
}

#[tokio::test]
async fn o6_release_leaves_one_cursor_through_every_lost_reply_and_refusal() {
    swept(Act::Release).await;
}

#[tokio::test]
async fn s2_fence_proves_through_every_lost_reply_and_refusal() {
    swept(Act::Fence).await;
}

#[tokio::test]
async fn o1_unfence_starts_through_every_lost_reply_and_refusal() {
    swept(Act::Unfence).await;
}

#[tokio::test]
async fn o1_enrol_comes_through_every_lost_reply_and_refusal() {
    swept(Act::Enrol).await;
}

#[tokio::test]
async fn o6_dismiss_leaves_nothing_through_every_lost_reply_and_refusal() {
    swept(Act::Dismiss).await;
}

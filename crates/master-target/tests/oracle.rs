//! Random lives of a timeline, compared with an oracle after every step. A failure prints its seed; `SEED=n` replays it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;

use bench::{Dice, Fate, Landing, Oracle, differing, read_all, same};
use site_recovery::{
    ErrorKind, Instance, LandingSite, MasterTarget as Role, PointId, Run, Seed, SystemClock,
};
use site_recovery_master_target::MasterTarget;
use std::path::Path;
use std::sync::Arc;

async fn opened(landing: &Landing, retention: &Path) -> Arc<dyn Role> {
    let landing: Arc<dyn LandingSite> = Arc::new(landing.clone());
    let opened = MasterTarget::open("here", landing, retention, Arc::new(SystemClock)).await;
    Arc::new(opened.expect("the retention volume is there"))
}

fn seeds(count: u64) -> Vec<u64> {
    let one = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    one.map_or_else(|| (1..=count).collect(), |seed| vec![seed])
}

/// Lands on an existing machine of random bytes, half of which the source still has.
async fn landed(
    dice: &mut Dice,
    to: &Arc<dyn Role>,
    landing: &Landing,
    seed: impl FnOnce(&mut Oracle) -> Seed,
) -> Oracle {
    let mut oracle = Oracle::new(&[5 * 65536, 3 * 65536 + 1234]);
    oracle.image = oracle.random(dice);
    landing.add("old", oracle.image.clone());
    let seed = seed(&mut oracle);
    oracle.prepare(to, "prepare", seed).await.expect("prepare");
    oracle.points.insert(PointId(0), landing.bytes("old"));
    oracle
}

fn known(oracle: &mut Oracle) -> Seed {
    let differs = Default::default();
    Seed::Known { at: None, landing: Some(oracle.existing()), cursor: oracle.cursor(), differs }
}

#[tokio::test]
async fn d1_d6_every_listed_point_opens_through_a_random_life() {
    for seed in seeds(8) {
        eprintln!("SEED={seed}");
        life(seed).await;
    }
}

async fn life(seed: u64) {
    let (mut dice, landing) = (Dice::new(seed), Landing::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut to = opened(&landing, folder.path()).await;
    let mut oracle = landed(&mut dice, &to, &landing, known).await;
    let id = oracle.machine.id().clone();
    for step in 0..30 {
        let why = format!("seed {seed}, step {step}");
        let key = format!("op-{step}");
        match dice.below(10) {
            0..=2 => {
                oracle.scribble(&mut dice, 6);
                let sealed = oracle.ship(&to, &key, Fate::Sealed, &mut dice).await;
                sealed.unwrap_or_else(|e| panic!("{why}: {e}"));
                same(&why, "landing", &landing.bytes("old"), &oracle.image);
            }
            3 => {
                oracle.scribble(&mut dice, 8);
                let fate = Fate::Broken(dice.below(3));
                let broken = oracle.ship(&to, &key, fate, &mut dice).await;
                broken.unwrap_or_else(|e| panic!("{why}: {e}"));
            }
            4 => to = opened(&landing, folder.path()).await,
            5 => {
                let listed = oracle.verify(&to, &why).await;
                let drop: Vec<PointId> = listed.iter().filter(|_| dice.below(2) == 0).copied().collect();
                if dice.below(3) == 0 {
                    to.unpin(&oracle.op("unpin"), &id, PointId(0), site_recovery::POINT_ZERO).await.ok();
                }
                let gone = to.prune(&oracle.op(&key), &id, &drop).await.expect("prune");
                assert!(!gone.contains(listed.last().expect("one stays")), "{why}: the newest was dropped");
                for point in gone {
                    oracle.points.remove(&point);
                }
            }
            6 => {
                let listed = oracle.verify(&to, &why).await;
                let point = listed[dice.below(listed.len() as u64) as usize];
                let before = landing.bytes("old");
                materialised(&oracle, &to, &landing, point, &key, &why).await;
                oracle.verify(&to, &why).await;
                let what = oracle.recovery(&to, point, 100 + step).await;
                let (withdraw, made_by) = (oracle.op("withdraw"), oracle.op(&key).key);
                to.withdraw(&withdraw, &made_by, &what).await.expect("withdraw");
                same(&why, "withdrawn", &landing.bytes("old"), &before);
                let late = to.materialise(&oracle.op(&key), &what, &(Arc::clone(&to) as _)).await;
                assert_eq!(late.expect_err("it was withdrawn").kind(), ErrorKind::Refused);
            }
            7 => undone(&oracle, &to, &landing, &mut dice, &key, &why).await,
            8 => {
                let listed = oracle.verify(&to, &why).await;
                let disks = to.open(&id, listed[0]).await.expect("open");
                oracle.scribble(&mut dice, 4);
                let shipped = oracle.ship(&to, &key, Fate::Sealed, &mut dice).await;
                shipped.unwrap_or_else(|e| panic!("{why}: {e}"));
                to.unpin(&oracle.op("unpin"), &id, listed[0], site_recovery::POINT_ZERO).await.ok();
                let gone = to.prune(&oracle.op(&key), &id, &listed).await.expect("prune");
                assert!(!gone.contains(&listed[0]), "{why}: an open point was dropped");
                same(&why, "a point held open", &read_all(&disks).await, &oracle.points[&listed[0]]);
                gone.iter().for_each(|p| drop(oracle.points.remove(p)));
            }
            _ => oracle.verify_changed(&to, &why).await,
        }
        oracle.verify(&to, &why).await;
    }
}

/// Hands a point over and checks the bytes under the machine.
async fn materialised(
    oracle: &Oracle,
    to: &Arc<dyn Role>,
    landing: &Landing,
    point: PointId,
    key: &str,
    why: &str,
) -> Instance {
    let what = oracle.recovery(to, point, key.bytes().map(u64::from).sum()).await;
    let armed = to.materialise(&oracle.op(key), &what, &(Arc::clone(to) as _)).await;
    let armed = armed.unwrap_or_else(|e| panic!("{why}: {e}"));
    assert_eq!((armed.point, armed.instance.generation), (point, what.generation), "{why}");
    same(why, &format!("materialised {point}"), &landing.bytes("old"), &oracle.points[&point]);
    armed.instance
}

/// Change of point, three times, each set aside after its guest wrote; then the landing is as before.
async fn undone(
    oracle: &Oracle,
    to: &Arc<dyn Role>,
    landing: &Landing,
    dice: &mut Dice,
    key: &str,
    why: &str,
) {
    let (listed, before) = (oracle.verify(to, why).await, landing.bytes("old"));
    let head = to.head(oracle.machine.id()).await.expect("head");
    for round in 0..3 {
        let point = listed[dice.below(listed.len() as u64) as usize];
        let key = format!("{key}-{round}");
        let what = oracle.recovery(to, point, 7).await;
        let made =
            to.materialise(&oracle.op(&key), &what, &(Arc::clone(to) as _)).await.expect("materialise");
        same(why, "materialised", &landing.bytes("old"), &oracle.points[&point]);
        let boot = oracle.op(format!("{key}-boot"));
        let permit = oracle.permit(&boot, &made.instance).await;
        assert!(to.boot(&boot, &what, &made, permit).await.expect("boot").running);
        let disk = &oracle.machine.disks[0].id;
        landing.guest("old", disk, 8192, &dice.bytes(10_000));
        let written = landing.bytes("old");
        let aside = oracle.op(format!("{key}-aside"));
        let refused = to.set_aside(&aside, &made.instance).await.expect_err("it runs");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        if let Some(newest) = listed[1..].last() {
            let opened = to.open(oracle.machine.id(), *newest).await.map(drop);
            assert_eq!(opened.expect_err("it runs on these disks").kind(), ErrorKind::Refused);
        }
        landing.stop("old");
        let kept = to.set_aside(&aside, &made.instance).await.expect("set_aside");
        assert_eq!(to.set_aside(&aside, &made.instance).await.expect("again"), kept);
        same(why, "kept", &landing.bytes(&kept.name), &written);
        same(why, "the landing", &landing.bytes("old"), &before);
        assert!(landing.is_attached("old"));
        assert_eq!(to.head(oracle.machine.id()).await.expect("head"), head, "{why}: the head moved");
        to.destroy(&oracle.op(format!("{key}-destroy")), &kept).await.expect("destroy");
        assert_eq!(landing.all(), ["old"], "{why}");
    }
}

#[tokio::test]
async fn d6_an_interrupted_landing_goes_back_to_point_zero() {
    let (mut dice, landing) = (Dice::new(5), Landing::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let to = opened(&landing, folder.path()).await;
    let mut oracle =
        landed(&mut dice, &to, &landing, |o| Seed::Unknown { landing: Some(o.existing()) }).await;
    let first = landing.bytes("old");
    oracle.scribble(&mut dice, 60);
    oracle.ship(&to, "broken", Fate::Broken(4), &mut dice).await.expect("ship");
    assert_ne!(landing.bytes("old"), first, "something has landed");
    let to = opened(&landing, folder.path()).await;
    let points = to.points(oracle.machine.id()).await.expect("points");
    assert_eq!(points[0].pins, [site_recovery::POINT_ZERO]);
    let armed = materialised(&oracle, &to, &landing, PointId(0), "restore", "restore").await;
    assert_eq!(armed.name, "old");
    same("restore", "point zero", &landing.bytes("old"), &first);
    let what = oracle.recovery(&to, PointId(0), 1).await;
    to.withdraw(&oracle.op("withdraw"), &"restore".into(), &what).await.expect("withdraw");
    to.delete(&oracle.op("delete"), oracle.machine.id()).await.expect("delete");
    same("delete", "point zero", &landing.bytes("old"), &first);
    assert_eq!(landing.all(), ["old"]);
}

#[tokio::test]
async fn d9_a_start_from_outside_is_seen_and_compared() {
    for seed in seeds(6) {
        eprintln!("SEED={seed}");
        let (mut dice, landing) = (Dice::new(seed), Landing::new());
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut to = opened(&landing, folder.path()).await;
        let mut oracle = landed(&mut dice, &to, &landing, known).await;
        let id = oracle.machine.id().clone();
        oracle.scribble(&mut dice, 5);
        oracle.ship(&to, "one", Fate::Sealed, &mut dice).await.expect("ship");
        if seed % 2 == 0 {
            oracle.scribble(&mut dice, 5);
            oracle.ship(&to, "broken", Fate::Broken(1), &mut dice).await.expect("ship");
        }
        let disk = oracle.machine.disks[0].id.clone();
        landing.outsider("old", &disk, 65536, &dice.bytes(5000));
        if seed % 3 == 0 {
            to = opened(&landing, folder.path()).await;
        }
        let what = oracle.recovery(&to, PointId(1), 1).await;
        let refused = to.materialise(&oracle.op("early"), &what, &(Arc::clone(&to) as _)).await;
        assert_eq!(refused.expect_err("nobody knows yet").kind(), ErrorKind::Refused);
        let head = to.head(&id).await.expect("head");
        assert!(matches!(head, site_recovery::Head::Unsettled { cursor: None, .. }), "{head:?}");
        assert!(to.points(&id).await.expect("points").iter().all(|p| !p.verified));
        oracle.scribble(&mut dice, 3);
        let sealed =
            oracle.ship(&to, "compare", Fate::Sealed, &mut dice).await.expect("ship").expect("sealed");
        same("compared", "landing", &landing.bytes("old"), &oracle.image);
        let verified: Vec<_> =
            to.points(&id).await.expect("points").into_iter().filter(|p| p.verified).collect();
        assert_eq!(verified, std::slice::from_ref(&sealed), "older points stay unverified");
        assert_eq!(
            to.changed(&id, Some(PointId(1)), sealed.id).await.expect("changed"),
            None,
            "nobody knows"
        );
        oracle.points.retain(|p, _| *p == sealed.id);
        oracle.scribble(&mut dice, 3);
        oracle.ship(&to, "delta", Fate::Sealed, &mut dice).await.expect("a delta goes on");
        oracle.verify(&to, "after").await;
    }
}

#[tokio::test]
async fn d9_a_delta_that_was_planned_before_the_start_is_refused() {
    let (mut dice, landing) = (Dice::new(3), Landing::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let to = opened(&landing, folder.path()).await;
    let mut oracle = landed(&mut dice, &to, &landing, known).await;
    oracle.ship(&to, "one", Fate::Sealed, &mut dice).await.expect("ship");
    let disk = oracle.machine.disks[0].id.clone();
    landing.outsider("old", &disk, 0, &[1; 100]);
    let plan = [(disk.clone(), Run::new(65536, 4096))].into_iter().collect();
    let begun = to.begin(&oracle.op("delta"), &oracle.machine, &"cut".into(), &plan).await;
    assert_eq!(begun.expect_err("the head is not what it was").kind(), ErrorKind::Refused);
    oracle.ship(&to, "compare", Fate::Sealed, &mut dice).await.expect("ship");
    landing.outsider("old", &disk, 0, &[2; 100]);
    let whole = site_recovery::ChangeSet::whole(oracle.machine.included());
    to.begin(&oracle.op("whole"), &oracle.machine, &"cut-2".into(), &whole)
        .await
        .expect("it compares everything");
}

#[tokio::test]
async fn d9_what_was_started_from_outside_is_not_booted() {
    let (mut dice, landing) = (Dice::new(6), Landing::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let to = opened(&landing, folder.path()).await;
    let oracle = landed(&mut dice, &to, &landing, known).await;
    let armed = materialised(&oracle, &to, &landing, PointId(0), "fail", "outside").await;
    landing.outsider("old", &oracle.machine.disks[0].id, 0, &[3; 100]);
    let what = oracle.recovery(&to, PointId(0), armed.generation.0).await;
    let armed = to.materialise(&oracle.op("fail"), &what, &(Arc::clone(&to) as _)).await.expect("again");
    for key in ["boot", "boot-again"] {
        let op = oracle.op(key);
        let permit = oracle.permit(&op, &armed.instance).await;
        let booted = to.boot(&op, &what, &armed, permit).await;
        assert_eq!(booted.expect_err("the disks are not the point").kind(), ErrorKind::Refused);
    }
    assert!(!landing.is_running("old"));
    to.withdraw(&oracle.op("withdraw"), &"fail".into(), &what).await.expect("withdraw");
    same("withdrawn", "the landing", &landing.bytes("old"), &oracle.points[&PointId(0)]);
}

#[tokio::test]
async fn d6_pinned_points_outlive_settle_and_changes_are_still_told() {
    for seed in seeds(6) {
        eprintln!("SEED={seed}");
        let why = format!("seed {seed}");
        let (mut dice, landing) = (Dice::new(seed), Landing::new());
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut to = opened(&landing, folder.path()).await;
        let mut oracle = landed(&mut dice, &to, &landing, known).await;
        let id = oracle.machine.id().clone();
        let first = landing.bytes("old");
        for n in 0..4 {
            oracle.scribble(&mut dice, 5);
            oracle.ship(&to, &format!("ship-{n}"), Fate::Sealed, &mut dice).await.expect("ship");
        }
        to.unpin(&oracle.op("unpin"), &id, PointId(0), site_recovery::POINT_ZERO).await.expect("unpin");
        to.pin(&oracle.op("pin"), &id, PointId(2), "losing side").await.expect("pin");
        let newest = PointId(4);
        let what = oracle.recovery(&to, newest, 9).await;
        let armed =
            to.materialise(&oracle.op("fail"), &what, &(Arc::clone(&to) as _)).await.expect("materialise");
        let boot = oracle.op("boot");
        let permit = oracle.permit(&boot, &armed.instance).await;
        to.boot(&boot, &what, &armed, permit).await.expect("boot");
        landing.guest("old", &oracle.machine.disks[1].id, 4096, &dice.bytes(9000));
        let running = landing.bytes("old");
        to.pin(&oracle.op("late"), &id, PointId(3), "too late").await.expect("pin");
        let refused = to.settle(&oracle.op("settle"), &armed).await.expect_err("point 3 would be lost");
        assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
        to.unpin(&oracle.op("late"), &id, PointId(3), "too late").await.expect("unpin");
        let images = std::mem::take(&mut oracle.points);
        for _ in 0..2 {
            to.settle(&oracle.op("settle"), &armed).await.expect("settle");
            to = opened(&landing, folder.path()).await;
        }
        assert!(landing.is_running("old"));
        same(&why, "the machine", &landing.bytes("old"), &running);
        oracle.points.insert(PointId(2), images[&PointId(2)].clone());
        assert_eq!(oracle.verify(&to, &why).await, [PointId(2)], "{why}: the others are gone");
        let told = to.changed(&id, None, newest).await.expect("changed").expect("it is known");
        for (disk, runs) in differing(&first, &images[&newest]).disks() {
            assert!(runs.iter().all(|r| told.contains(disk, *r)), "{why}: what the way back wrote");
        }
        let told =
            to.changed(&id, Some(PointId(1)), PointId(3)).await.expect("changed").expect("it is known");
        for (disk, runs) in differing(&images[&PointId(1)], &images[&PointId(3)]).disks() {
            assert!(runs.iter().all(|r| told.contains(disk, *r)), "{why}: between points that are gone");
        }
        assert_eq!(
            to.destroy(&oracle.op("d"), &armed.instance).await.expect_err("the landing").kind(),
            ErrorKind::Refused
        );

        // The next round: the machine stopped, its disks are landed on again.
        let early = known(&mut oracle);
        let refused = oracle.prepare(&to, "early", early).await.expect_err("it runs");
        assert_eq!(refused.kind(), ErrorKind::Refused);
        landing.stop("old");
        oracle.image = landing.bytes("old");
        let seed = known(&mut oracle);
        oracle.prepare(&to, "again", seed).await.expect("prepare");
        let zero = to.points(&id).await.expect("points").last().expect("point zero").id;
        oracle.points.insert(zero, landing.bytes("old"));
        oracle.scribble(&mut dice, 5);
        oracle.ship(&to, "again-1", Fate::Sealed, &mut dice).await.expect("ship");
        oracle.verify(&to, &why).await;
    }
}

#[tokio::test]
async fn d2_a_seed_at_an_older_point_counts_the_way_to_the_newest() {
    let (mut dice, landing) = (Dice::new(8), Landing::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let to = opened(&landing, folder.path()).await;
    let mut oracle = landed(&mut dice, &to, &landing, known).await;
    for n in 0..3 {
        oracle.scribble(&mut dice, 5);
        oracle.ship(&to, &format!("ship-{n}"), Fate::Sealed, &mut dice).await.expect("ship");
    }
    oracle.ship(&to, "broken", Fate::Broken(0), &mut dice).await.expect("ship");
    oracle.image = oracle.points[&PointId(1)].clone();
    let (cursor, landing_there) = (oracle.cursor(), Some(oracle.existing()));
    let seed =
        Seed::Known { at: Some(PointId(1)), landing: landing_there, cursor, differs: Default::default() };
    oracle.prepare(&to, "from-1", seed).await.expect("prepare");
    oracle.scribble(&mut dice, 2);
    oracle.ship(&to, "ship-4", Fate::Sealed, &mut dice).await.expect("ship");
    same("from 1", "landing", &landing.bytes("old"), &oracle.image);
    oracle.verify(&to, "from 1").await;
    let wrong = Seed::Known {
        at: Some(PointId(77)),
        landing: None,
        cursor: oracle.cursor(),
        differs: Default::default(),
    };
    let error = oracle.prepare(&to, "from-77", wrong).await.expect_err("there is no such point");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn d1_a_damaged_log_is_named_and_never_read_over() {
    let (mut dice, landing) = (Dice::new(4), Landing::new());
    let folder = tempfile::tempdir().expect("a temporary directory");
    let to = opened(&landing, folder.path()).await;
    let mut oracle = landed(&mut dice, &to, &landing, known).await;
    let id = oracle.machine.id().clone();
    for n in 0..2 {
        oracle.scribble(&mut dice, 10);
        oracle.ship(&to, &format!("ship-{n}"), Fate::Sealed, &mut dice).await.expect("ship");
    }
    drop(to);
    let machine =
        std::fs::read_dir(folder.path()).expect("readable").next().expect("one").expect("readable").path();
    let log = std::fs::read_dir(machine).expect("readable").map(|e| e.expect("readable").path());
    let mut logs: Vec<_> = log.filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    for byte in [60, 4000] {
        let mut bytes = std::fs::read(&logs[0]).expect("readable");
        bytes[byte] ^= 1;
        std::fs::write(&logs[0], &bytes).expect("writable");
        let to = opened(&landing, folder.path()).await;
        let mut kinds = vec![];
        if let Ok(disks) = to.open(&id, PointId(0)).await {
            let pool = site_recovery::Pool::new(1 << 20);
            for disk in disks.values() {
                kinds.extend(disk.read(Run::new(0, disk.size()), &pool).await.map_err(|e| e.kind()).err());
            }
        } else {
            kinds.push(ErrorKind::Corrupt);
        }
        assert!(kinds.contains(&ErrorKind::Corrupt), "byte {byte}: {kinds:?}");
        to.open(&id, PointId(2)).await.expect("the newest needs no log");
        bytes[byte] ^= 1;
        std::fs::write(&logs[0], &bytes).expect("writable");
    }
    oracle.verify(&opened(&landing, folder.path()).await, "mended").await;
}

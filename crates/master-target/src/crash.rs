//! A process that stops before any of its effects: on files of the retention volume, or at the landing.

#[path = "../tests/bench/mod.rs"]
mod bench;

use crate::MasterTarget;
use crate::folder::Folder;
use bench::{Dice, Fate, Landing, Oracle, same};
use site_recovery::{
    Armed, ErrorKind, Generation, Instance, POINT_ZERO, PointId, Purpose, Recovery, Result, Seed, SystemClock,
};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

type Role = Arc<dyn site_recovery::MasterTarget>;

/// Counts effects and stops all of them from one on.
#[derive(Debug)]
pub(crate) struct Fuse {
    left: AtomicI64,
    tears: bool,
}

impl Default for Fuse {
    fn default() -> Self {
        Self::after(i64::MAX, false)
    }
}

impl Fuse {
    /// Burns after this many effects; a write that it stops may be torn.
    fn after(left: i64, tears: bool) -> Self {
        Self { left: AtomicI64::new(left), tears }
    }

    fn has_burnt(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= -1
    }

    /// Before an effect.
    pub(crate) fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 { Ok(()) } else { Err(io::Error::other("the process is gone")) }
    }

    /// How much of the write that was stopped reaches the file: part of the first one, nothing of later ones.
    pub(crate) fn torn(&self, len: usize) -> usize {
        if self.tears && self.left.load(Ordering::SeqCst) == -1 { len * 2 / 3 } else { 0 }
    }
}

/// Everything that a step of a life changes.
struct World {
    oracle: Oracle,
    landing: Landing,
    armed: Option<Armed>,
    kept: Option<Instance>,
    dice: Dice,
}

impl World {
    fn copy(&self) -> World {
        World {
            oracle: self.oracle.clone(),
            landing: self.landing.copy(),
            armed: self.armed.clone(),
            kept: self.kept.clone(),
            dice: self.dice.clone(),
        }
    }

    async fn ship(&mut self, to: &Role, key: &str, fate: Fate) -> Result<()> {
        self.oracle.ship(to, key, fate, &mut self.dice).await?;
        Ok(())
    }

    async fn seed(&mut self, to: &Role, key: &str) -> Result<()> {
        let landing = Some(self.oracle.existing());
        self.oracle.image = self.landing.bytes("old");
        let seed =
            Seed::Known { at: None, landing, cursor: self.oracle.cursor(), differs: Default::default() };
        self.oracle.prepare(to, key, seed).await?;
        if let Some(zero) =
            to.points(self.oracle.machine.id()).await?.iter().rev().find(|p| p.pins == [POINT_ZERO])
        {
            self.oracle.points.entry(zero.id).or_insert_with(|| self.landing.bytes("old"));
        }
        Ok(())
    }

    async fn what(&self, to: &Role, point: u64) -> Result<Recovery> {
        let manifest = to.manifest(self.oracle.machine.id(), PointId(point)).await?;
        let (id, generation) = (PointId(point), Generation(point + 10));
        Ok(Recovery::of(manifest, id, generation, Purpose::Failover, Default::default()))
    }

    async fn materialise(&mut self, to: &Role, key: &str, point: u64) -> Result<()> {
        let what = self.what(to, point).await?;
        self.armed = Some(to.materialise(&self.oracle.op(key), &what, &(Arc::clone(to) as _)).await?);
        same(key, "the disks", &self.landing.bytes("old"), &self.oracle.points[&PointId(point)]);
        Ok(())
    }

    async fn withdraw(&mut self, to: &Role, key: &str, point: u64) -> Result<()> {
        let what = self.what(to, point).await?;
        to.withdraw(&self.oracle.op(format!("withdraw-{key}")), &key.into(), &what).await?;
        assert_eq!(self.landing.all(), ["old"], "something of the key is left");
        Ok(())
    }

    async fn boot(&mut self, to: &Role, key: &str) -> Result<()> {
        let armed = self.armed.clone().expect("materialised");
        let what = self.oracle.recovery_of(to, &armed).await?;
        let op = self.oracle.op(key);
        let permit = self.oracle.permit(&op, &armed.instance).await;
        assert!(to.boot(&op, &what, &armed, permit).await?.running);
        self.landing.guest("old", &self.oracle.machine.disks[0].id, 4096, &[7; 6000]);
        Ok(())
    }

    async fn set_aside(&mut self, to: &Role, key: &str) -> Result<()> {
        self.landing.stop("old");
        let armed = self.armed.clone().expect("booted");
        let kept = to.set_aside(&self.oracle.op(key), &armed.instance).await?;
        let disk = &self.oracle.machine.disks[0].id;
        assert_eq!(self.landing.bytes(&kept.name)[disk][4096..10096], [7; 6000]);
        self.kept = Some(kept);
        Ok(())
    }

    async fn prune(&mut self, to: &Role, key: &str, point: u64) -> Result<()> {
        self.oracle.points.remove(&PointId(point));
        to.prune(&self.oracle.op(key), &self.oracle.machine.id().clone(), &[PointId(point)]).await?;
        Ok(())
    }

    async fn settle(&mut self, to: &Role) -> Result<()> {
        self.oracle.points.retain(|p, _| [PointId(0), PointId(2)].contains(p));
        to.settle(&self.oracle.op("settle"), self.armed.as_ref().expect("booted")).await
    }

    async fn step(&mut self, to: &Role, step: usize) -> Result<()> {
        let (id, zero) = (self.oracle.machine.id().clone(), PointId(0));
        match step {
            0 => self.seed(to, "prepare").await,
            1..=3 => self.ship(to, &format!("ship-{step}"), Fate::Sealed).await,
            4 => self.ship(to, "ship-4", Fate::Broken(1)).await,
            5 => to.pin(&self.oracle.op("pin"), &id, PointId(2), "mine").await,
            6 => self.prune(to, "prune-1", 1).await,
            7 => self.materialise(to, "first", 0).await,
            8 => self.withdraw(to, "first", 0).await,
            9 => self.materialise(to, "second", 2).await,
            10 => self.boot(to, "boot").await,
            11 => self.set_aside(to, "aside").await,
            12 => to.destroy(&self.oracle.op("destroy"), self.kept.as_ref().expect("kept")).await,
            13 => self.ship(to, "ship-13", Fate::Sealed).await,
            14 => self.prune(to, "prune-3", 3).await,
            15 => self.materialise(to, "third", 4).await,
            16 => self.boot(to, "boot-again").await,
            17 => self.settle(to).await,
            18 => to.unpin(&self.oracle.op("unpin"), &id, zero, POINT_ZERO).await,
            19 => {
                self.landing.stop("old");
                self.seed(to, "again").await
            }
            20 => self.ship(to, "ship-20", Fate::Sealed).await,
            21 => self.prune(to, "prune-0", 0).await,
            _ => {
                self.oracle.points.clear();
                to.delete(&self.oracle.op("delete"), &id).await
            }
        }
    }
}

const STEPS: usize = 23;
/// Steps that hand over: their keys and points.
const MATERIALISES: [(usize, &str, u64); 3] = [(7, "first", 0), (9, "second", 2), (15, "third", 4)];
/// While a machine boots, runs, or is taken back, points may be refused.
const MAY_REFUSE: [usize; 6] = [8, 10, 11, 12, 16, 17];

fn opened(landing: &Landing, path: &Path, fuse: Fuse) -> (Role, Arc<Fuse>) {
    let mut folder = Folder::new(path.into());
    folder.fuse = Arc::new(fuse);
    let fuse = Arc::clone(&folder.fuse);
    let gate = Arc::clone(&fuse);
    let landing = landing.gated(Arc::new(move || gate.step()));
    let opened = MasterTarget::crashing("here", Arc::new(landing), folder, Arc::new(SystemClock));
    (Arc::new(opened.expect("in a runtime")), fuse)
}

fn copy_files(from: &Path, to: &Path) {
    fs::remove_dir_all(to).ok();
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("readable").map(|e| e.expect("readable")) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_files(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Runs a life step by step. Each step is also stopped before every one of its effects, on a copy of the world; what is
/// found then holds every point, and the same call goes on where it was.
async fn sweep(branches: bool) {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(11);
    eprintln!("SEED={seed}");
    let (life, copy) = (tempfile::tempdir().expect("temporary"), tempfile::tempdir().expect("temporary"));
    let given_up = tempfile::tempdir().expect("temporary");
    let mut dice = Dice::new(seed);
    let mut oracle = Oracle::new(&[16 * 4096, 5 * 4096 + 700]);
    oracle.image = oracle.random(&mut dice);
    let mut landing = Landing::new();
    landing.branches = branches;
    landing.add("old", oracle.image.clone());
    let mut world = World { oracle, landing, armed: None, kept: None, dice };
    let mut crashes = 0;
    for step in 0..STEPS {
        if !branches && (9..=12).contains(&step) {
            continue;
        }
        world.oracle.scribble(&mut Dice::new(seed + step as u64), 5);
        for effects in 0.. {
            copy_files(life.path(), copy.path());
            let mut world = world.copy();
            let stood = world.landing.bytes("old");
            let tears = Dice::new(seed * 1000 + effects as u64).below(2) == 0;
            let (to, fuse) = opened(&world.landing, copy.path(), Fuse::after(effects, tears));
            let done = world.step(&to, step).await;
            if !fuse.has_burnt() {
                done.unwrap_or_else(|e| panic!("step {step}: {e}"));
                break;
            }
            crashes += 1;
            let why = format!("step {step} stopped at effect {effects}");
            drop(to);
            world.landing.power_cut(&mut Dice::new(seed + effects as u64));
            check(&world, copy.path(), step, &why).await;
            if let Some((key, point)) = MATERIALISES.iter().find(|(s, ..)| *s == step).map(|(_, k, p)| (k, p))
            {
                copy_files(copy.path(), given_up.path());
                let mut world = world.copy();
                let (to, _) = opened(&world.landing, given_up.path(), Fuse::default());
                let withdrawn = world.withdraw(&to, key, *point).await;
                withdrawn.unwrap_or_else(|e| panic!("{why}, then withdrawn: {e}"));
                same(&why, "withdrawn", &world.landing.bytes("old"), &stood);
                let late = world.materialise(&to, key, *point).await;
                assert_eq!(late.expect_err("it was withdrawn").kind(), ErrorKind::Refused, "{why}");
                check(&world, given_up.path(), step, &format!("{why}, and was withdrawn")).await;
            }
            let (to, _) = opened(&world.landing, copy.path(), Fuse::default());
            world.step(&to, step).await.unwrap_or_else(|e| panic!("{why}, then again: {e}"));
            drop(to);
            check(&world, copy.path(), step, &format!("{why}, and went on")).await;
        }
        let (to, _) = opened(&world.landing, life.path(), Fuse::default());
        world.step(&to, step).await.unwrap_or_else(|e| panic!("step {step}: {e}"));
        check(&world, life.path(), step, &format!("step {step}")).await;
    }
    assert!(crashes > 300, "only {crashes} effects were stopped");
}

async fn check(world: &World, path: &Path, step: usize, why: &str) {
    let (to, _) = opened(&world.landing, path, Fuse::default());
    let mut oracle = world.oracle.clone();
    if MAY_REFUSE.contains(&step) {
        let mut refused = vec![];
        for id in oracle.points.keys() {
            if let Err(e) = to.open(oracle.machine.id(), *id).await {
                assert_eq!(e.kind(), ErrorKind::Refused, "{why}: {e}");
                refused.push(*id);
            }
        }
        oracle.points.retain(|p, _| !refused.contains(p));
    }
    if step > 0 {
        oracle.verify(&to, why).await;
    }
}

#[tokio::test]
async fn d1_d2_d6_a_crash_before_any_effect_loses_nothing() {
    sweep(true).await;
}

#[tokio::test]
async fn d1_d2_a_crash_without_branches_loses_nothing() {
    sweep(false).await;
}

//! Somebody starts the machine in the cloud while it fails back: what its guest wrote then is shipped as well.

use crate::circle::{commit, fail_over, planned, reprotect};
use crate::ground::{BACK, Ground, Life, OUT, pattern};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use site_recovery::state::{Kind, Phase};
use site_recovery::workflow::Step;
use site_recovery::{Append, Journal, Result, Unit};
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex};

type Meddle = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// A journal with somebody behind it who meddles when a step is about to begin.
#[derive(Clone)]
struct Meddled {
    inner: Arc<dyn Journal>,
    step: Step,
    meddle: Arc<Mutex<Option<Meddle>>>,
}

impl fmt::Debug for Meddled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meddled").field("step", &self.step).finish_non_exhaustive()
    }
}

impl Meddled {
    fn begins(&self, append: &Append) -> bool {
        append.subject.starts_with("unit/")
            && Unit::from_bytes(&append.subject, &append.entry)
                .ok()
                .and_then(|unit| unit.run)
                .is_some_and(|run| run.tasks.iter().any(|task| task.step == self.step))
    }
}

#[async_trait]
impl Journal for Meddled {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.inner.subjects().await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.inner.load(subject).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.inner.append(all).await?;
        let due = all.iter().any(|append| self.begins(append));
        let meddle = if due { self.meddle.lock().unwrap().take() } else { None };
        if let Some(meddle) = meddle {
            meddle().await;
        }
        Ok(())
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.inner.fold(subject, expect, snapshot).await
    }
}

/// It is started, its guest writes, and it is stopped again or runs on.
fn somebody(life: &Life, stops: bool) -> Meddle {
    let (cloud, arm) = (life.cloud.clone(), life.arm.clone());
    let name = life.in_the_cloud().unwrap();
    Box::new(move || {
        async move {
            cloud.manager.start_from_outside(&name).expect("nothing keeps it from starting");
            cloud.write(&name, 1, 12 * 4096, &pattern(4711));
            if stops {
                let machines = arm.machines(crate::cloud::GROUP);
                machines.deallocate(&name).await.unwrap().done().await.unwrap();
            }
        }
        .boxed()
    })
}

fn somebody_starts_it(step: Step, stops: bool) {
    let ground = Ground::new();
    ground.live(async |life| {
        life.protect().await.unwrap();
        fail_over(life, OUT).await.unwrap();
        commit(life, false).await.unwrap();
        life.write(BACK, 1, 9).await.unwrap();
        reprotect(life, BACK, false).await.unwrap();
        life.write(BACK, 0, 11).await.unwrap();
    });
    let meddled = RefCell::new(None);
    let behind = |inner: Arc<dyn Journal>| -> Arc<dyn Journal> {
        let journal = Meddled { inner, step, meddle: Arc::default() };
        *meddled.borrow_mut() = Some(journal.clone());
        Arc::new(journal)
    };
    ground.live_behind(&behind, async |life| {
        let meddled = meddled.borrow().clone().unwrap();
        *meddled.meddle.lock().unwrap() = Some(somebody(life, stops));
        let job = life.web().unwrap().failover(planned(BACK)).await.unwrap();
        job.done().await.unwrap();
        assert!(meddled.meddle.lock().unwrap().is_none(), "nobody meddled");
        assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Planned));
        let shipped = job.tasks().into_iter().filter(|task| task.step == Step::ShipLast).count();
        assert_eq!(shipped, 2, "what was written last was shipped again");
        let there = life.bytes(BACK).await;
        assert!(there[1][12 * 4096..13 * 4096] == pattern(4711)[..], "the guest wrote");
        assert!(life.bytes(OUT).await == there, "what it wrote is here");
        assert!(life.here.runs().await && !life.runs_in_the_cloud(), "it runs here alone");
        life.nothing_is_astray("failed back").await;
    });
}

#[test]
fn s1_a_start_from_outside_that_goes_on_makes_the_last_delta_run_again() {
    somebody_starts_it(Step::Intend, false);
}

#[test]
fn s1_a_start_from_outside_that_is_over_already_makes_the_last_delta_run_again() {
    somebody_starts_it(Step::Materialise, true);
}

//! Decorators that fail on purpose: before the effect, late, or after it with the reply lost.
//!
//! [`Faulty`] wraps any role or journal and asks its [`FaultPlan`] at every call. Calls are named `<role>.<method>`, as
//! `here.fence` or `journal.append`; disks that a role hands out are wrapped too, as `here.disk.write`.
//!
//! ```
//! # use site_recovery::{ErrorKind, Source};
//! # use site_recovery_testkit::{clock::ManualClock, faults::{Fault, FaultPlan, Faulty}, world::World};
//! # use std::sync::Arc;
//! # tokio_test(async {
//! let world = World::new(7);
//! let plan = FaultPlan::new();
//! plan.next("here.discover", Fault::Before(ErrorKind::Unavailable));
//! let here: Arc<dyn Source> = Arc::new(Faulty::new(Arc::new(world.site("here")), &plan, world.clock()));
//! assert!(here.discover().await.is_err());
//! assert!(here.discover().await.is_ok());
//! # });
//! # fn tokio_test(f: impl Future<Output = ()>) {
//! #     tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(f)
//! # }
//! ```

mod disk;
mod replica;
mod site;

use crate::clock::SeededRandom;
use async_trait::async_trait;
use site_recovery::{
    Append, Capability, Clock, Error, ErrorKind, Finding, Journal, Lag, LastEntry, MachineId, Op, Point,
    ProcessServer, Random, Replica, Result, Role, RoleName, Shipment, Shipped, Source,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong at one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this kind, and has no effect.
    Before(ErrorKind),
    /// It has its effect, and the reply is lost: `Unavailable`.
    Lost,
    /// It begins this much later, by the clock.
    Late(Duration),
}

/// Which calls fail, and how. Clones share it, so that one plan goes through all roles of a test.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    calls: Vec<String>,
    faulted: u64,
    rules: Vec<Rule>,
    random: Option<(SeededRandom, u64)>,
    off: bool,
}

#[derive(Debug)]
struct Rule {
    /// A whole name, or what it ends in; none for every call.
    name: Option<String>,
    /// How many matching calls pass first.
    skip: u64,
    faults: VecDeque<Fault>,
    always: bool,
}

impl FaultPlan {
    /// Nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of a thousand calls about `per_mille` fail or lose their reply, by this seed.
    pub fn seeded(seed: u64, per_mille: u64) -> Self {
        let plan = Self::new();
        plan.plan().random = Some((SeededRandom::new(seed), per_mille));
        plan
    }

    /// The next call of this name. A name without a role, as `fence`, is that method of any role.
    pub fn next(&self, name: &str, fault: Fault) {
        self.nth(name, 0, fault);
    }

    /// The call of this name after `skip` more of them.
    pub fn nth(&self, name: &str, skip: u64, fault: Fault) {
        self.rule(Some(name), skip, fault, false);
    }

    /// Every call of this name from now on.
    pub fn always(&self, name: &str, fault: Fault) {
        self.rule(Some(name), 0, fault, true);
    }

    /// The `number`-th call of all, counted from 0 from the beginning, whatever its name.
    pub fn at(&self, number: u64, fault: Fault) {
        let made = self.plan().calls.len() as u64;
        assert!(number >= made, "call {number} was made already");
        self.rule(None, number - made, fault, false);
    }

    /// From now on nothing fails; calls are still noted.
    pub fn stop(&self) {
        self.plan().off = true;
    }

    /// The names of all calls so far, in order, failed ones too.
    pub fn calls(&self) -> Vec<String> {
        self.plan().calls.clone()
    }

    /// How many calls went wrong: a test of faults in which none happened has shown nothing.
    pub fn faulted(&self) -> u64 {
        self.plan().faulted
    }

    fn rule(&self, name: Option<&str>, skip: u64, fault: Fault, always: bool) {
        let (name, faults) = (name.map(str::to_owned), VecDeque::from([fault]));
        self.plan().rules.push(Rule { name, skip, faults, always });
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a call and says what goes wrong with it.
    fn call(&self, name: &str) -> Option<Fault> {
        let mut plan = self.plan();
        plan.calls.push(name.to_owned());
        let mut fault = None;
        for rule in plan.rules.iter_mut().filter(|rule| rule.speaks_of(name)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if fault.is_none() {
                fault = if rule.always { rule.faults.front().copied() } else { rule.faults.pop_front() };
            }
        }
        plan.rules.retain(|rule| !rule.faults.is_empty());
        if let (None, Some((random, per_mille))) = (fault, &plan.random)
            && random.below(1000) < *per_mille
        {
            let before = Fault::Before(ErrorKind::Unavailable);
            fault = Some(if random.bits() & 1 == 0 { before } else { Fault::Lost });
        }
        let fault = fault.filter(|_| !plan.off);
        plan.faulted += u64::from(fault.is_some());
        fault
    }
}

impl Rule {
    fn speaks_of(&self, name: &str) -> bool {
        match self.name.as_deref() {
            None => true,
            Some(wanted) => {
                name == wanted || name.strip_suffix(wanted).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }
}

/// A role, or a journal, whose calls go wrong by a plan. It has the name and the capability of what is inside.
#[derive(Debug)]
pub struct Faulty<T: ?Sized> {
    inner: Arc<T>,
    faults: Faults,
}

#[derive(Debug, Clone)]
struct Faults {
    plan: FaultPlan,
    clock: Arc<dyn Clock>,
}

impl<T: ?Sized> Faulty<T> {
    /// Wraps a role or a journal. Late calls wait by this clock.
    pub fn new(inner: Arc<T>, plan: &FaultPlan, clock: impl Clock + 'static) -> Self {
        Self { inner, faults: Faults { plan: plan.clone(), clock: Arc::new(clock) } }
    }
}

impl Faults {
    async fn around<R>(&self, name: String, call: impl Future<Output = Result<R>> + Send) -> Result<R> {
        match self.plan.call(&name) {
            None => call.await,
            Some(Fault::Before(kind)) => Err(Error::new(kind, format!("fault: {name} was not done"))),
            Some(Fault::Late(span)) => {
                self.clock.sleep(span).await;
                call.await
            }
            Some(Fault::Lost) => match call.await {
                // What fails anyway has no effect whose reply could be lost.
                Err(error) => Err(error),
                Ok(_) => {
                    Err(Error::new(ErrorKind::Unavailable, format!("fault: the reply of {name} was lost")))
                }
            },
        }
    }
}

impl<T: Role + ?Sized> Faulty<T> {
    async fn call<R>(&self, method: &str, call: impl Future<Output = Result<R>> + Send) -> Result<R> {
        self.faults.around(format!("{}.{method}", self.inner.name()), call).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Role + ?Sized> Role for Faulty<T> {
    fn name(&self) -> RoleName {
        self.inner.name()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    async fn claim(&self, op: &Op, machine: &MachineId) -> Result<()> {
        self.call("claim", self.inner.claim(op, machine)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: ProcessServer + ?Sized> ProcessServer for Faulty<T> {
    async fn ship(
        &self,
        op: &Op,
        what: &Shipment,
        source: &Arc<dyn Source>,
        replica: &Arc<dyn Replica>,
    ) -> Result<Shipped> {
        self.call("ship", self.inner.ship(op, what, source, replica)).await
    }

    async fn drain(&self, op: &Op, machine: &MachineId, replica: &Arc<dyn Replica>) -> Result<Vec<Point>> {
        self.call("drain", self.inner.drain(op, machine, replica)).await
    }

    async fn lag(&self, machine: &MachineId) -> Result<Lag> {
        self.call("lag", self.inner.lag(machine)).await
    }

    async fn knows(&self, roles: &[RoleName]) -> Result<Vec<Finding>> {
        self.call("knows", self.inner.knows(roles)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Journal + ?Sized> Journal for Faulty<T> {
    async fn subjects(&self) -> Result<Vec<String>> {
        self.faults.around("journal.subjects".into(), self.inner.subjects()).await
    }

    async fn load(&self, subject: &str) -> Result<(u64, Vec<Vec<u8>>)> {
        self.faults.around("journal.load".into(), self.inner.load(subject)).await
    }

    async fn last_entries(&self, prefix: &str, after: &str, most: usize) -> Result<Vec<LastEntry>> {
        self.faults.around("journal.last_entries".into(), self.inner.last_entries(prefix, after, most)).await
    }

    async fn append(&self, all: &[Append]) -> Result<()> {
        self.faults.around("journal.append".into(), self.inner.append(all)).await
    }

    async fn fold(&self, subject: &str, expect: u64, snapshot: Vec<u8>) -> Result<()> {
        self.faults.around("journal.fold".into(), self.inner.fold(subject, expect, snapshot)).await
    }
}

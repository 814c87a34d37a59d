use crate::memory::Wrap;
use crate::{journal, landing_site, master_target, process_server, replica, source, target};
use site_recovery::{
    BootPermit, Epoch, Error, ErrorKind, Journal, LandingSite, Machine, MachineId, MasterTarget, Op,
    ProcessServer, RecoveryPointStore, Result, Source, Target,
};
use site_recovery_testkit::journal::MemoryJournal;
use site_recovery_testkit::suite;
use site_recovery_testkit::world::Site;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Nothing is wrong.
pub(crate) const NONE: &str = "";

thread_local! {
    static FAULT: Cell<&'static str> = const { Cell::new(NONE) };
    /// What a broken implementation writes down so that it survives a crash.
    static DURABLE: RefCell<BTreeMap<MachineId, Epoch>> = const { RefCell::new(BTreeMap::new()) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Runs a case while this is wrong.
pub(crate) fn with_fault(fault: &'static str, case: fn()) {
    FAULT.set(fault);
    DURABLE.take();
    COUNT.set(0);
    case();
}

/// Whether this is wrong now.
pub(crate) fn is(fault: &str) -> bool {
    FAULT.get() == fault
}

/// A number that was never given out before in this case, not even before a crash.
pub(crate) fn fresh() -> u64 {
    COUNT.set(COUNT.get() + 1);
    COUNT.get()
}

/// The operation under a key of its own.
pub(crate) fn anew(op: &Op) -> Op {
    op.part(&format!("anew-{}", fresh()))
}

/// Lets everybody else go first.
pub(crate) async fn dawdle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// A permit that the broken implementation writes for itself.
pub(crate) async fn forge(op: &Op, machine: &Machine) -> BootPermit {
    suite::permit(op, machine).await
}

/// The register of a broken implementation, before the honest one, which then lets everything pass.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<BTreeMap<MachineId, Epoch>>);

impl Gate {
    /// The operation with which to call the honest implementation.
    pub(crate) fn pass(&self, op: &Op, machine: &MachineId, call: &str) -> Result<Op> {
        let every = Op { key: op.key.clone(), epoch: Epoch { number: 1_000_000, owner: "broken".into() } };
        if is("the register is kept in memory") {
            let mut register = self.0.lock().unwrap();
            check(op, register.get(machine))?;
            register.insert(machine.clone(), op.epoch.clone());
            return Ok(every);
        }
        let forgets = is("delete forgets the register");
        if forgets || is("only claim raises the register") {
            return DURABLE.with_borrow_mut(|register| {
                check(op, register.get(machine))?;
                if forgets || call == "claim" {
                    register.insert(machine.clone(), op.epoch.clone());
                }
                if forgets && call == "delete" {
                    register.remove(machine);
                }
                Ok(every)
            });
        }
        Ok(if is("the register is not checked") { every } else { op.clone() })
    }
}

fn check(op: &Op, register: Option<&Epoch>) -> Result<()> {
    if op.epoch.passes(register) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::StaleEpoch, "another engine holds the authority"))
}

/// Puts the decorators between the world and the suites.
pub(crate) struct Broken;

impl Wrap for Broken {
    fn source(site: &Site, honest: Arc<dyn Source>) -> Arc<dyn Source> {
        Arc::new(source::BrokenSource::new(site.clone(), honest))
    }
    fn store(honest: Arc<dyn RecoveryPointStore>) -> Arc<dyn RecoveryPointStore> {
        Arc::new(replica::BrokenStore::new(honest))
    }
    fn target(site: &Site, honest: Arc<dyn Target>) -> Arc<dyn Target> {
        Arc::new(target::BrokenTarget::new(site.clone(), honest))
    }
    fn landing_site(site: &Site, honest: Arc<dyn LandingSite>) -> Arc<dyn LandingSite> {
        Arc::new(landing_site::BrokenLanding::new(site.clone(), honest))
    }
    fn master_target(honest: Arc<dyn MasterTarget>) -> Arc<dyn MasterTarget> {
        Arc::new(master_target::BrokenMasterTarget::new(honest))
    }
    fn process_server(honest: Arc<dyn ProcessServer>) -> Arc<dyn ProcessServer> {
        Arc::new(process_server::BrokenProcessServer::new(honest))
    }
    fn journal(memory: &MemoryJournal) -> Result<Arc<dyn Journal>> {
        let opened = if is("a newer version is opened") { memory.clone() } else { memory.reopen()? };
        Ok(Arc::new(journal::BrokenJournal::new(Arc::new(opened))))
    }
}

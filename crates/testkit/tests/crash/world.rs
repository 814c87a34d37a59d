//! What the world looks like, apart from names that differ from run to run.

use site_recovery::state::{Direction, Divergence, DrillState, Phase};
use site_recovery::{Leg, MasterTarget, RecoveryPointStore, Replica, Result, Vault};
use site_recovery_testkit::faults::{FaultPlan, Faulty};
use site_recovery_testkit::world::{Image, Pair};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Legs whose every call goes through the plan.
pub(crate) fn faulty(pair: &Pair, plan: &FaultPlan) -> (Leg, Leg) {
    let clock = pair.world.clock();
    macro_rules! wrap {
        ($role:expr) => {
            Arc::new(Faulty::new(Arc::new($role.clone()), plan, clock.clone()))
        };
    }
    let store: Arc<dyn RecoveryPointStore> = wrap!(pair.store);
    let out = Leg::out(wrap!(pair.here), wrap!(pair.process_server), store, wrap!(pair.cloud));
    let master_target: Arc<dyn MasterTarget> = wrap!(pair.master_target);
    let back = Leg::back(wrap!(pair.cloud), wrap!(pair.process_server), master_target);
    (out, back)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    phase: Phase,
    direction: Direction,
    divergence: Divergence,
    drill: DrillState,
    proofs: usize,
    owed: usize,
    kept: usize,
    instances: usize,
    live: usize,
}

/// The world and the record of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    items: Vec<Standing>,
    running: BTreeMap<&'static str, Vec<Image>>,
    drills: usize,
    machines: BTreeMap<&'static str, usize>,
    captures: usize,
    pins: Vec<String>,
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running: BTreeMap<_, usize> = self.running.iter().map(|(s, i)| (*s, i.len())).collect();
        f.debug_struct("Shape")
            .field("items", &self.items)
            .field("running", &running)
            .field(
                "digest",
                &self
                    .running
                    .values()
                    .flatten()
                    .flatten()
                    .map(|(d, b)| (d.clone(), sum(b)))
                    .collect::<Vec<_>>(),
            )
            .field("drills", &self.drills)
            .field("machines", &self.machines)
            .field("captures", &self.captures)
            .field("pins", &self.pins)
            .finish()
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

impl Shape {
    pub(crate) async fn of(pair: &Pair, vault: &Vault) -> Result<Self> {
        let mut items = vec![];
        for handle in vault.items() {
            let item = handle.item()?;
            items.push(Standing {
                phase: item.state.phase,
                direction: item.state.direction,
                divergence: item.state.divergence,
                drill: item.state.drill,
                proofs: item.boot_proofs.len(),
                owed: item.owed.len(),
                kept: item.kept.len(),
                instances: item.instances.len(),
                live: item.lineage.live.len(),
            });
        }
        let images = |site: &site_recovery_testkit::world::Site| {
            let mut images: Vec<Image> = site.running().iter().map(|n| site.bytes(n)).collect();
            images.sort();
            images
        };
        let machines = vault.items();
        let mut pins = vec![];
        for handle in &machines {
            // Every point that is listed opens.
            for replica in [&pair.store as &dyn Replica, &pair.master_target] {
                for point in replica.points(handle.id()).await? {
                    pins.extend(point.pins.clone());
                    match replica.open(handle.id(), point.id).await {
                        Err(e) if e.kind() == site_recovery::ErrorKind::Refused => {}
                        other => drop(other?),
                    }
                }
            }
        }
        pins.sort();
        Ok(Self {
            items,
            running: [("here", images(&pair.here)), ("cloud", images(&pair.cloud))].into(),
            drills: pair.cloud.all().len() - pair.cloud.running().len().min(pair.cloud.all().len()),
            machines: [("here", pair.here.all().len()), ("cloud", pair.cloud.all().len())].into(),
            captures: pair.here.captures().len() + pair.cloud.captures().len(),
            pins,
        })
    }

    /// Whatever happened: never two writers, and never none without a person being asked.
    pub(crate) fn check_safe(&self, before: &Shape, when: &str) {
        let writers: usize = self.running.values().map(Vec::len).sum();
        let forced = self.items.iter().any(|i| i.divergence == Divergence::Possible);
        assert!(writers <= self.items.len().max(1) || forced, "{when}: {writers} writers in {self:?}");
        let ran = before.running.values().any(|r| !r.is_empty());
        assert!(writers > 0 || !ran || self.waits_for_a_person(), "{when}: nothing runs in {self:?}");
    }

    pub(crate) fn waits_for_a_person(&self) -> bool {
        use Phase::*;
        self.items.iter().any(|i| {
            matches!(
                i.phase,
                EnablingFailed
                    | InitialReplicationFailed
                    | FailoverCompletionFailed(_)
                    | CancelFailoverFailed(_)
                    | UndoFailoverFailed(_)
                    | CommitFailoverFailed
                    | ReprotectFailed
                    | DisablingFailed
            ) || i.drill == DrillState::CleanupFailed
        })
    }

    pub(crate) fn proofs(&self) -> usize {
        self.items.iter().map(|i| i.proofs).sum()
    }

    pub(crate) fn phase(&self) -> Option<Phase> {
        self.items.first().map(|i| i.phase)
    }

    pub(crate) fn running_at(&self, site: &str) -> usize {
        self.running[site].len()
    }
}

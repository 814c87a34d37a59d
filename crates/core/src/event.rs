//! What changes an item, and the one function that does.

use crate::state::{self, Refusal, Trigger};
use crate::{
    Armed, BootProof, Booted, Drill, Epoch, Generation, Instance, Item, Machine, Owed, PointId, Policy,
    Promotion, RoleName, Settings, Verdict,
};
use serde::{Deserialize, Serialize};

/// What happened to an item. [`apply`] is the only place that changes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The state moved, and nothing else did.
    Moved(Trigger),
    /// An operation began, under this authority.
    Began {
        /// What began.
        trigger: Trigger,
        /// Under which authority.
        epoch: Epoch,
    },
    /// Another engine, or this one started anew, goes on under its own authority.
    Claimed(Epoch),
    /// A generation was chosen for a promotion to come; it counts as dead until the intent to boot is recorded.
    Minted(Generation),
    /// The machine was found with other disks, NICs or facts.
    Described(Machine),
    /// The intent to boot: the pivot of a failover, of a change of point, of a promotion of the other side.
    Intended {
        /// Moves the state.
        trigger: Trigger,
        /// What will be booted.
        promotion: Promotion,
        /// Who could not be proven off.
        unproven: Vec<Instance>,
    },
    /// The machine runs.
    Booted(Booted),
    /// What the user's validation said.
    Judged(Verdict),
    /// An instance was taken out of the way.
    SetAside {
        /// What it was.
        was: Instance,
        /// What it is now.
        kept: Instance,
        /// Whether the machine stands on, as before the promotion: in place.
        stands: bool,
    },
    /// The first point of a new leg is sealed; `traced` as in [`Item::traced`].
    Opened {
        /// Whether everything was shipped by delta from a known distance.
        traced: bool,
    },
    /// An instance was seen running that must not: it is not proven off.
    Seen(Instance),
    /// An instance is gone, read back.
    Removed(Instance),
    /// The intent to start the source again: the pivot of an undo.
    SourceIntended {
        /// Who could not be proven off.
        unproven: Vec<Instance>,
    },
    /// An instance is proven off after all.
    Proven(Instance),
    /// A drill began.
    DrillBegan(Drill),
    /// The drill's disks stand, or it runs.
    DrillMoved {
        /// What was prepared.
        armed: Armed,
        /// How to reach it, once it runs.
        booted: Option<Booted>,
    },
    /// Nothing of the drill is left.
    DrillGone,
    /// A boot proof of a point came to a verdict.
    BootTried {
        /// Of which point.
        point: PointId,
        /// What it came to.
        proof: BootProof,
    },
    /// Points are gone, and with them what was known of their boots.
    BootForgotten(Vec<PointId>),
    /// Something is to be done later.
    Owes(Owed),
    /// It was done.
    Paid(Owed),
    /// Settings were edited.
    Set {
        /// For which recovery site.
        site: RoleName,
        /// What.
        settings: Settings,
    },
    /// The policy was edited.
    PolicySet(Policy),
    /// The next round uses other legs.
    Routed {
        /// Leg out.
        out: String,
        /// Leg back.
        back: String,
    },
}

/// Applies an event. Pure.
///
/// # Errors
/// [`Refusal`] when the state does not allow it; then nothing changed.
pub fn apply(item: &Item, event: &Event) -> Result<Item, Refusal> {
    let mut next = item.clone();
    next.revision += 1;
    match event {
        Event::Moved(trigger) => {
            next.state = state::next(&item.state, *trigger)?;
            match trigger {
                // A comparison skips what is equal, so the replica lists less than what was written.
                Trigger::Resynced => (next.traced, next.written_outside) = (false, false),
                Trigger::Turned => {
                    next.written_outside = false;
                    next.promotion = None;
                    next.unproven.clear();
                }
                Trigger::Committed | Trigger::Migrated => {
                    if let Some(promotion) = &mut next.promotion {
                        promotion.committed = true;
                    }
                }
                _ => {}
            }
        }
        Event::Began { trigger, epoch } => {
            next.state = state::next(&item.state, *trigger)?;
            next.epoch = epoch.clone();
        }
        Event::Claimed(epoch) => next.epoch = epoch.clone(),
        Event::Minted(generation) => next.lineage.dead.push(*generation),
        Event::Described(machine) => next.machine = machine.clone(),
        Event::Intended { trigger, promotion, unproven } => {
            next.state = state::next(&item.state, *trigger)?;
            if !unproven.is_empty() {
                next.state = state::next(&next.state, Trigger::FoundPossible)?;
            }
            if let Some(earlier) = &item.promotion
                && !earlier.committed
            {
                next.bury(earlier.armed.instance.generation);
            }
            let generation = promotion.armed.instance.generation;
            next.lineage.dead.retain(|g| *g != generation);
            next.lineage.live.push(generation);
            next.stand(&promotion.armed.instance);
            // What is about to run is owed to nobody's removal any more; nor is any machine of a circle that ended here.
            let turns = matches!(trigger, Trigger::Promoted(_));
            let void = |owed: &Owed| {
                owed.is_of(&promotion.armed.instance) || turns && matches!(owed, Owed::Remove { .. })
            };
            next.owed.retain(|owed| !void(owed));
            next.unproven = unproven.clone();
            next.promotion = Some(Box::new(promotion.clone()));
        }
        Event::Booted(booted) => {
            if let Some(promotion) = &mut next.promotion {
                promotion.booted = Some(booted.clone());
            }
        }
        Event::Judged(verdict) => {
            if let Some(promotion) = &mut next.promotion {
                promotion.verdict = Some(verdict.clone());
            }
        }
        Event::SetAside { was, kept, stands } => {
            if !stands {
                next.instances.retain(|i| !i.is(was));
            }
            if !next.instances.iter().any(|i| i.is(kept)) {
                next.instances.push(kept.clone());
            }
            next.unproven.retain(|i| !i.is(was));
            next.kept.retain(|k| !k.is(kept));
            next.kept.push(kept.clone());
        }
        Event::Opened { traced } => next.traced = *traced,
        Event::Seen(instance) => {
            next.written_outside = true;
            if !next.unproven.iter().any(|u| u.is(instance)) {
                next.unproven.push(instance.clone());
            }
        }
        Event::Removed(gone) => {
            next.instances.retain(|i| !i.is(gone));
            next.kept.retain(|i| !i.is(gone));
            next.unproven.retain(|i| !i.is(gone));
            next.owed.retain(|owed| !owed.is_of(gone));
        }
        Event::SourceIntended { unproven } => {
            if let Some(promotion) = next.promotion.take() {
                next.bury(promotion.armed.instance.generation);
                next.machine.instance = promotion.previous;
            }
            next.unproven = unproven.clone();
        }
        Event::Proven(instance) => next.unproven.retain(|i| !i.is(instance)),
        Event::DrillBegan(drill) => {
            next.lineage.dead.push(drill.recovery.generation);
            next.drill = Some(Box::new(drill.clone()));
        }
        Event::DrillMoved { armed, booted } => {
            if let Some(drill) = &mut next.drill {
                drill.armed = Some(armed.clone());
                drill.booted = booted.clone();
            }
        }
        Event::DrillGone => {
            next.drill = None;
            if next.state.drill != state::DrillState::None {
                next.state = state::next(&next.state, Trigger::DrillCleaned)?;
            }
        }
        Event::BootTried { point, proof } => next.remember_boot(*point, proof.clone()),
        Event::BootForgotten(points) => next.boot_proofs.retain(|point, _| !points.contains(point)),
        Event::Owes(owed) => {
            if !next.owed.contains(owed) {
                next.owed.push(owed.clone());
            }
        }
        Event::Paid(owed) => next.owed.retain(|o| o != owed),
        Event::Set { site, settings } => {
            next.settings.insert(site.clone(), settings.clone());
        }
        Event::PolicySet(policy) => next.policy = policy.clone(),
        Event::Routed { out, back } => (next.out, next.back) = (out.clone(), back.clone()),
    }
    Ok(next)
}

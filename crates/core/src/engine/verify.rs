//! Boot proofs: whether they can be made, when the next one is due, and what is said of the last.
//!
//! A proof is a drill of the engine's own, as one job: the newest point is booted in isolation, the embedder's
//! [`Validation`](crate::Validation) looks at it, and it is removed. While the guest comes up the job lends its turn, so
//! that replication goes on.

use super::job::{self, Beginning};
use super::report::Outcome;
use super::schedule::{Waits, is_over, policy, replicates};
use super::shared::{Shared, Slot};
use super::turn::{Cause, Turn};
use super::watch::alert;
use crate::state::{DrillState, Trigger, next};
use crate::{
    Error, ErrorKind, Event, Finding, Item, Operation, Point, Policy, Request, Result, Severity, Timestamp,
    Unit, Verdict,
};
use std::sync::atomic::Ordering;

/// The code of what is said of a point that does not boot.
pub(crate) const NOT_PROVEN: &str = "boot.not-proven";

/// A proof that could not be made, or that gave way, is tried again after this part of the time between two.
const AGAIN: u32 = 8;

/// Whether a proof can be made over this leg.
///
/// # Errors
/// `Unsupported`, with what is missing.
pub(crate) fn check_possible(shared: &Shared, out: &str) -> Result<()> {
    let site = &shared.leg(out)?.recovery_site;
    let missing = match (&shared.validation, site.capability().drills) {
        (None, _) => "the vault has no validation, so nothing says whether a guest has come up",
        (_, false) => "this site cannot run a copy in an isolated network",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::Unsupported, missing))
}

/// Whether what the policy wants can be had.
///
/// # Errors
/// `Invalid`, naming the field.
pub(crate) fn check_policy(shared: &Shared, policy: &Policy, out: &str) -> Result<()> {
    let Some(every) = policy.verify_every else { return Ok(()) };
    check_possible(shared, out).map_err(|e| {
        let remedy = "plug in what is missing, or leave boot proofs out";
        Error::invalid("policy.verify_every", format!("{every:?}"), e.message(), remedy)
    })
}

/// Since when the unit waits for a proof that is due, where nothing stands in its way.
pub(crate) fn due(slot: &Slot, now: Timestamp) -> Option<Waits> {
    let unit = slot.unit();
    let first = unit.members.first()?;
    let every = policy(first).verify_every?;
    let idle = |i: &Item| replicates(i) && i.state.drill == DrillState::None;
    if unit.run.is_some() || slot.wanted.load(Ordering::SeqCst) > 0 || !unit.members.iter().all(idle) {
        return None;
    }
    let over = |since: Option<Timestamp>, span| since.is_none_or(|since| is_over(since, span, now));
    let proven = unit.members.iter().map(|i| i.last_boot_proof().map(|(_, proof)| proof.at)).min().flatten();
    let tried = slot.with_pulse(first.id(), |pulse| pulse.proof_tried);
    (over(proven, every) && over(tried, every / AGAIN)).then(|| proven.max(tried))
}

/// Makes a proof that is due, unless somebody came first. Ends with it.
pub(crate) async fn prove(turn: Turn) {
    let (shared, slot, unit) = (turn.shared.clone(), turn.slot.clone(), turn.unit());
    let now = shared.clock.now();
    if due(&slot, now).is_none() {
        return;
    }
    for item in &unit.members {
        slot.with_pulse(item.id(), |pulse| pulse.proof_tried = Some(now));
    }
    let begun = async {
        for item in &unit.members {
            check_possible(&shared, &item.out)?;
            next(&item.state, Trigger::Begin(Operation::VerifyBoot))?;
        }
        let proof = Beginning {
            operation: Operation::VerifyBoot,
            request: Request::Plain,
            who: job::ENGINE.into(),
            by_engine: true,
        };
        job::open(&turn, proof).await
    };
    let ended = match begun.await {
        Ok(()) => match job::start(turn) {
            Ok(job) => job.wait().await,
            Err(error) => Err(error),
        },
        Err(error) => {
            drop(turn);
            Err(error)
        }
    };
    let why = match ended.map(|report| report.outcome) {
        Ok(Outcome::Done) => return,
        Ok(Outcome::Unwound { why } | Outcome::NeedsOperator { why }) => (why.kind, why.message),
        Err(error) => (error.kind(), error.to_string()),
    };
    // What gave way says nothing of what stands in the way.
    if why.0 != ErrorKind::Cancelled {
        untold(&shared, &slot, &unit, &why.1);
    }
}

fn untold(shared: &Shared, slot: &Slot, unit: &Unit, why: &str) {
    let now = shared.clock.now();
    for item in &unit.members {
        let first = slot.with_pulse(item.id(), |pulse| {
            let since = pulse.no_proof.take().map(|(since, _)| since);
            pulse.no_proof = Some((since.unwrap_or(now), why.to_owned()));
            since.is_none()
        });
        if first {
            let kind = super::events::NoticeKind::Alert(not_made(now, why));
            shared.bus.publish(now, &slot.id, Some(item.id()), kind);
        }
    }
}

/// What health says of proofs that are due and cannot be made.
pub(crate) fn not_made(since: Timestamp, why: &str) -> Finding {
    let cause = format!("no boot proof could be made since {since}: {why}");
    Finding::new("boot.not-tried", Severity::Warning, cause, "mend the cause; it is tried again by itself")
}

/// Tells what a proof came to, once it is written down.
pub(crate) fn tell(turn: &Turn) {
    let (unit, now) = (turn.unit(), turn.shared.clock.now());
    for item in &unit.members {
        turn.slot.with_pulse(item.id(), |pulse| pulse.no_proof = None);
        if let Some(finding) = not_proven(item, now) {
            alert(turn, item, finding);
        }
    }
}

/// What is said where the last proof was a bad one: which point, why, and which one is known to boot.
pub(crate) fn not_proven(item: &Item, now: Timestamp) -> Option<Finding> {
    let (point, proof) = item.last_boot_proof()?;
    let Verdict::Bad { reason } = &proof.verdict else { return None };
    let (good, remedy) = match item.last_good_boot() {
        Some((good, proof)) => {
            let age = now.since(proof.taken);
            let good = format!(
                "the last point that was proven to boot is {good}, taken {}, {age:?} old",
                proof.taken
            );
            (good, "see what has changed in the guest since then; PointChoice::LatestProven fails over to it")
        }
        None => (
            "no point was proven to boot".to_owned(),
            "see to the guest and to the recovery site, and prove it again",
        ),
    };
    let cause = format!("point {point}, taken {}, is not proven to boot: {reason}; {good}", proof.taken);
    Some(Finding::new(NOT_PROVEN, Severity::Critical, cause, remedy))
}

/// Forgets proofs of points that are gone.
///
/// # Errors
/// Those of the journal.
pub(crate) async fn forget(turn: &Turn, item: &Item, left: &[Point]) -> Result<()> {
    let gone = item.boots_of_none(left);
    if gone.is_empty() {
        return Ok(());
    }
    let events = [(item.id().clone(), Event::BootForgotten(gone))];
    turn.record(&Cause::engine("points are gone that a boot proof was of"), &events, |_| {}).await
}

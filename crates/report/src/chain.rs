//! The audit records of a job, cut out of its unit's trail.
//!
//! A record bears the SHA-256 of itself and of the record before, so a run of them is checked without the rest of the trail.
//! What must not leave the engine is taken out of them: the content of [sidecars](site_recovery::Sidecar), such as the state of
//! a TPM. The hash of such a record can be computed again from the trail alone, which
//! [`verify_against`](crate::verify_against) does: until then all of that record is unproven.

use serde::{Deserialize, Serialize};
use site_recovery::audit::AuditRecord;
use site_recovery::state::Trigger;
use site_recovery::{Error, Event, JobRun, Owed, Recovery, Sidecar, UnitId};

/// The records of a unit from the first of the job to the last, with what came between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainPart {
    /// Whose.
    pub unit: UnitId,
    /// Records in the whole trail when the report was made.
    pub length: u64,
    /// Hash of the last record of the whole trail.
    pub head: String,
    /// Why the whole trail did not verify when the report was made; none: it did.
    pub broken: Option<String>,
    /// Hash of the first record here; empty where there is none.
    pub first: String,
    /// Hash of the last record here.
    pub last: String,
    /// Numbers of the records that were stripped of the content of sidecars.
    pub withheld: Vec<u64>,
    /// The records, as they were hashed but for that.
    pub records: Vec<AuditRecord>,
}

impl ChainPart {
    /// The job's part of a trail, or why there is none.
    pub(crate) fn of(unit: &UnitId, run: &JobRun, trail: Result<&[AuditRecord], &Error>) -> Self {
        let told = trail.map_err(ToString::to_string);
        let whole = told.and_then(|trail| check(trail).map(|()| trail));
        let (trail, broken) = match whole {
            Ok(trail) => (trail, None),
            Err(why) => (&[][..], Some(why)),
        };
        let mut records = cut(run, trail).to_vec();
        let hash = |record: Option<&AuditRecord>| record.map_or_else(String::new, |r| r.hash.clone());
        let (first, last) = (hash(records.first()), hash(records.last()));
        let withheld = records.iter_mut().filter_map(|r| strip(&mut r.event).then_some(r.number)).collect();
        Self {
            unit: unit.clone(),
            length: trail.len() as u64,
            head: hash(trail.last()),
            broken,
            first,
            last,
            withheld,
            records,
        }
    }
}

/// Whether a record's reason names this operation: alone, or before the reason of a force.
pub(crate) fn is_of(record: &AuditRecord, operation: site_recovery::Operation) -> bool {
    let rest = record.why.strip_prefix(&format!("{operation:?}"));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

fn begins(event: &Event) -> bool {
    matches!(event, Event::Began { trigger: Trigger::Begin(_), .. })
}

/// From the first record of the run to the last one before something else begins.
fn cut<'a>(run: &JobRun, trail: &'a [AuditRecord]) -> &'a [AuditRecord] {
    let own = |r: &AuditRecord| is_of(r, run.operation);
    let Some(from) = trail.iter().position(|r| begins(&r.event) && own(r) && r.at >= run.started) else {
        return &[];
    };
    let later = |r: &AuditRecord| run.ended.is_some_and(|ended| r.at >= ended) && begins(&r.event);
    // Every member of a unit has a record of the beginning.
    let began = trail[from..].iter().take_while(|r| begins(&r.event)).count();
    let next = trail[from + began..].iter().position(later);
    let until = next.map_or(trail.len(), |at| from + began + at);
    let last = trail[from..until].iter().rposition(own).map_or(from, |at| from + at);
    &trail[from..=last]
}

/// Checks a run of records: numbered without a gap, each bound to the one before, each under its own hash. The content of
/// `withheld` ones is not looked at.
///
/// # Errors
/// Which does not fit.
pub(crate) fn check_run(records: &[AuditRecord], withheld: &[u64]) -> Result<(), String> {
    for (at, record) in records.iter().enumerate() {
        let odd = |what: &str| Err(format!("audit record {} {what}", record.number));
        if let Some(before) = at.checked_sub(1).map(|at| &records[at])
            && (record.number != before.number + 1 || record.previous != before.hash)
        {
            return odd("does not follow the one before it");
        }
        if record.clone().sealed().hash != record.hash && !withheld.contains(&record.number) {
            return odd("does not bear its hash");
        }
    }
    Ok(())
}

fn check(trail: &[AuditRecord]) -> Result<(), String> {
    match trail.first() {
        Some(first) if first.number != 0 || !first.previous.is_empty() => {
            Err("the trail does not begin with record 0".into())
        }
        _ => check_run(trail, &[]),
    }
}

/// Takes the content of sidecars out; whether there was any.
pub(crate) fn strip(event: &mut Event) -> bool {
    let sidecars = sidecars(event);
    let held = sidecars.iter().any(|s| !s.bytes.is_empty());
    sidecars.iter_mut().for_each(|s| s.bytes.clear());
    held
}

/// What may be withheld of an event. Every event is named, so that a new one that carries such files leaks none unseen.
pub(crate) fn sidecars(event: &mut Event) -> &mut [Sidecar] {
    use Event::*;
    let recovery: Option<&mut Recovery> = match event {
        Intended { promotion, .. } => promotion.recovery.as_mut(),
        DrillBegan(drill) => Some(&mut drill.recovery),
        Owes(owed) | Paid(owed) => match owed {
            Owed::Withdraw { recovery, .. } => Some(recovery),
            Owed::Fence(_) | Owed::Lift(_) | Owed::Unpin { .. } | Owed::Remove { .. } => None,
        },
        Moved(_)
        | Began { .. }
        | Claimed(_)
        | Minted(_)
        | Described(_)
        | Booted(_)
        | Judged(_)
        | SetAside { .. }
        | Opened { .. }
        | Seen(_)
        | Removed(_)
        | SourceIntended { .. }
        | Proven(_)
        | DrillMoved { .. }
        | DrillGone
        | BootTried { .. }
        | BootForgotten(_)
        | Set { .. }
        | PolicySet(_)
        | Routed { .. } => None,
    };
    recovery.map_or(&mut [][..], |r| &mut r.sidecars[..])
}

//! Whether a report holds together: under its digest, with its audit records, and with its own figures.
//!
//! The digest tells every change by whoever did not compute it anew. Who did is found where a table says something else than
//! the records do: who asked, for what and when; the point, the loss, who was not proven off, the intent, the boot and its
//! reach, the verdict, the end; and figures that do not follow from the tables. Who has forged the records as well is found by
//! [`verify_against`] alone: a hash is no secret, and a withheld record is not even looked at.
//!
//! What no record speaks of is held by the digest alone, and by its neighbours in time. `docs/report.md` lists it.

use crate::chain::{check_run, is_of, sidecars, strip};
use crate::top::Top;
use crate::{ChainPart, Ending, Figures, LossPart, MemberPart, ProofPart, Report, words};
use site_recovery::audit::{AuditRecord, sha256_hex};
use site_recovery::state::Trigger;
use site_recovery::{
    DataLoss, Error, ErrorKind, Event, LossBasis, Mark, Operation, Recovery, Result, Step, Timestamp, UnitId,
};
use std::time::Duration;

/// The engine reads its clock for a step, and once more for the record of it.
const SLACK: Duration = Duration::from_secs(1);

/// What was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Records whose hash was computed again.
    pub records: usize,
    /// Records whose hash was not, because the content of sidecars was taken out. Nothing proves them but [`verify_against`].
    pub withheld: usize,
}

/// Computes the hashes of all records again, and compares the tables with them.
///
/// # Errors
/// `Corrupt`, naming the first thing that does not fit; also where a trail was broken when the report was made, or has no record
/// of the job.
pub fn verify(report: &Report) -> Result<Verified> {
    if report.computed_digest() != report.digest {
        return Err(corrupt("the report does not bear its digest: something in it was changed"));
    }
    for (at, chain) in report.audit.iter().enumerate() {
        check(chain).map_err(|odd| corrupt(format!("{}: {odd}", chain.unit)))?;
        let twice = report.audit[..at].iter().any(|other| other.unit == chain.unit);
        must(!twice, &format!("{}: its audit records stand here twice", chain.unit)).map_err(corrupt)?;
    }
    for member in &report.members {
        let chain = report.chain(&member.unit);
        let chain = chain.ok_or_else(|| corrupt(format!("no audit records of {}", member.unit)))?;
        Witness::of(chain, member).compare().map_err(|odd| corrupt(format!("{}: {odd}", member.machine)))?;
    }
    header(report).map_err(corrupt)?;
    let all = report.audit.iter().map(|chain| chain.records.len()).sum::<usize>();
    let withheld = report.audit.iter().map(|chain| chain.withheld.len()).sum();
    Ok(Verified { records: all - withheld, withheld })
}

/// As [`verify`], and compares the records of one unit with its trail, which the vault still has: also those that were
/// stripped.
///
/// # Errors
/// As [`verify`]; `Corrupt` where the trail does not verify, or is not the one that the report was made of.
pub fn verify_against(report: &Report, unit: &UnitId, trail: &[AuditRecord]) -> Result<Verified> {
    let verified = verify(report)?;
    let odd = |what: String| corrupt(format!("{unit}: {what}"));
    let chain = report.chain(unit).ok_or_else(|| odd("the report is not of it".into()))?;
    check_run(trail, &[]).map_err(odd)?;
    let head = chain.length.checked_sub(1).and_then(|at| trail.get(at as usize));
    if head.is_none_or(|head| head.hash != chain.head) {
        return Err(odd("the trail is another one, or shorter than it was".into()));
    }
    for record in &chain.records {
        let mut kept = trail.get(record.number as usize).cloned();
        if let Some(kept) = &mut kept
            && chain.withheld.contains(&record.number)
        {
            strip(&mut kept.event);
        }
        if kept.as_ref() != Some(record) {
            return Err(odd(format!("audit record {} is another one in the trail", record.number)));
        }
    }
    Ok(Verified {
        records: verified.records + chain.withheld.len(),
        withheld: verified.withheld - chain.withheld.len(),
    })
}

fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn must(holds: bool, what: &str) -> std::result::Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn near(one: Timestamp, other: Timestamp) -> bool {
    one.since(other).max(other.since(one)) <= SLACK
}

fn check(chain: &ChainPart) -> std::result::Result<(), String> {
    if let Some(why) = &chain.broken {
        return Err(format!("its trail did not verify when the report was made: {why}"));
    }
    let (Some(first), Some(last)) = (chain.records.first(), chain.records.last()) else {
        return Err("its trail has no record of the job".into());
    };
    check_run(&chain.records, &chain.withheld)?;
    must(
        first.hash == chain.first && last.hash == chain.last,
        "first and last hash are not those of the records",
    )?;
    must(last.number < chain.length, "the records reach beyond the trail")?;
    must(
        last.number + 1 < chain.length || last.hash == chain.head,
        "the last hash is not the head of the trail",
    )?;
    must(chain.withheld.is_sorted_by(|a, b| a < b), "the numbers of what was stripped are out of order")?;
    for number in &chain.withheld {
        // That is no proof: whoever forges a record can add such a file to it. The trail tells.
        let mut told = chain.records.iter().find(|r| r.number == *number).cloned();
        let stripped = told.as_mut().is_some_and(|record| {
            let files = sidecars(&mut record.event);
            !files.is_empty() && files.iter().all(|file| file.bytes.is_empty())
        });
        must(stripped, &format!("audit record {number} is not one that was stripped"))?;
    }
    Ok(())
}

/// What stands at the top is what follows from the parts.
fn header(report: &Report) -> std::result::Result<(), String> {
    let plan = report.plan.as_ref();
    let Some(top) = Top::of(&report.members, plan) else { return Err("the report is of no machine".into()) };
    if let Some(untold) = plan.and_then(|plan| plan.untold(&report.members)) {
        return Err(format!("nothing is told of {untold}, which the plan names"));
    }
    must(report.who == top.who, "who asked is not who stands at the first machine")?;
    must(report.operation == top.operation, "the operation is not that of the first machine")?;
    must(report.direction == top.direction, "the direction is not that of the first machine")?;
    must(report.force == top.force, "the force is not that of a request")?;
    must(report.loss == top.loss, "the loss is not the largest of the machines")?;
    must(report.outcome == top.outcome, "the outcome is not the worst of the parts")?;
    must(report.started == top.started, "it began at another time than its jobs")?;
    must(report.ended == top.ended, "it ended at another time than its jobs")
}

/// What the records of a job say of one member, beside what the tables say.
struct Witness<'a> {
    told: &'a MemberPart,
    own: Vec<&'a AuditRecord>,
}

impl<'a> Witness<'a> {
    fn of(chain: &'a ChainPart, told: &'a MemberPart) -> Self {
        let own = |r: &&AuditRecord| r.machine == told.machine && is_of(r, told.operation);
        Self { told, own: chain.records.iter().filter(own).collect() }
    }

    fn last<T>(&self, see: impl Fn(&'a Event) -> Option<T>) -> Option<T> {
        self.own.iter().rev().find_map(|r| see(&r.event))
    }

    fn compare(&self) -> std::result::Result<(), String> {
        self.asked()?;
        self.times()?;
        self.facts()?;
        self.ending()?;
        must(self.told.figures == Figures::of(self.told), "its figures are not what its tables give")
    }

    fn asked(&self) -> std::result::Result<(), String> {
        let input = sha256_hex(&serde_json::to_vec(&self.told.request).map_err(|e| e.to_string())?);
        let begins = |r: &&&AuditRecord| matches!(&r.event, Event::Began { trigger: Trigger::Begin(o), .. } if *o == self.told.operation);
        let mut began = self.own.iter().filter(begins).peekable();
        let Some(first) = began.peek() else { return Err("no record of its beginning".into()) };
        must(near(first.at, self.told.started), "the records say that it began at another time")?;
        let same = |r: &&AuditRecord| r.who == self.told.who && r.input == input;
        must(began.any(same), "the records say that somebody else asked, or for something else")
    }

    fn times(&self) -> std::result::Result<(), String> {
        let MemberPart { steps, started, ended, .. } = self.told;
        let mut before = *started;
        for step in steps {
            let name = words::camel(&step.step);
            let late = |at: &Timestamp| ended.is_some_and(|end| *at > end);
            let order = step.started >= before && step.ended.is_none_or(|end| end >= step.started);
            must(order && !step.ended.as_ref().is_some_and(late), &format!("{name} is out of its time"))?;
            before = step.started;
            let mut seen = self.own.iter().filter(|r| leaves(step.step, &r.event)).peekable();
            if let (Mark::Done, Some(end), true) = (&step.mark, step.ended, seen.peek().is_some()) {
                must(
                    seen.any(|r| near(r.at, end)),
                    &format!("the records say that {name} ended at another time"),
                )?;
            }
        }
        for record in &self.own {
            let step = match record.event {
                Event::Intended { .. } => Step::Intend,
                Event::Booted(_) => Step::Boot,
                _ => continue,
            };
            let taken = |s: &&crate::StepPart| s.step == step && s.started <= record.at;
            must(
                steps.iter().any(|s| taken(&s)),
                &format!("the records know of {}, the steps do not", words::camel(&step)),
            )?;
        }
        Ok(())
    }

    fn facts(&self) -> std::result::Result<(), String> {
        let told = self.told;
        let recovered: Option<&Recovery> = self.last(|event| match event {
            Event::Intended { promotion, .. } => promotion.recovery.as_ref(),
            Event::DrillBegan(drill) => Some(&drill.recovery),
            _ => None,
        });
        if let Some(r) = recovered {
            let point = told.point.as_ref().map(|p| (p.id, p.taken, p.consistency));
            must(point == Some((r.point, r.taken, r.consistency)), "the records say another point")?;
        }
        let lost: Option<Option<&DataLoss>> = self.last(|event| match event {
            Event::Intended { promotion, .. } => Some(promotion.loss.as_ref()),
            Event::BootTried { proof, .. } => Some(Some(&proof.loss)),
            _ => None,
        });
        if let Some(lost) = lost {
            must(told.loss == lost.map(LossPart::from), "the records say another loss")?;
        }
        if let Some(loss) = &told.loss {
            must(*loss == computed(loss), "the loss is not what its moments give")?;
        }
        let unproven: Option<Vec<String>> = self.last(|event| match event {
            Event::Intended { unproven, .. } | Event::SourceIntended { unproven } => {
                Some(unproven.iter().map(words::instance).collect())
            }
            _ => None,
        });
        must(
            unproven.is_none_or(|who| who == told.unproven),
            "the records say that others were not proven off",
        )?;
        let reach = self.last(|event| match event {
            Event::Booted(booted) | Event::DrillMoved { booted: Some(booted), .. } => Some(&booted.reach),
            _ => None,
        });
        must(
            reach.is_none_or(|reach| *reach == told.reach),
            "the records say that it was reached otherwise",
        )?;
        let verdict = self.last(|event| match event {
            Event::Judged(verdict) => Some(verdict),
            Event::BootTried { proof, .. } => Some(&proof.verdict),
            _ => None,
        });
        must(verdict.is_none() || verdict == told.verdict.as_ref(), "the records say another verdict")?;
        let proof = self.last(|event| match event {
            Event::BootTried { proof, .. } => Some(ProofPart::from(proof)),
            _ => None,
        });
        let shown = told.point.as_ref().and_then(|p| p.proof.as_ref());
        must(proof.is_none() || proof.as_ref() == shown, "the records say another boot proof")
    }

    fn ending(&self) -> std::result::Result<(), String> {
        let class = |event: &Event| match event {
            Event::Moved(trigger) => class(*trigger, self.told.operation),
            _ => None,
        };
        let last = self.own.iter().rev().find_map(|r| Some((r.at, class(&r.event)?)));
        let Some((at, class)) = last else { return Ok(()) };
        let fits = match (&self.told.outcome, class) {
            (Ending::UnderWay, _) => return Ok(()),
            (Ending::Done, Class::Done) | (Ending::Undone { .. }, Class::Undone) => {
                must(
                    self.told.ended.is_none_or(|end| near(end, at)),
                    "the records say that it ended at another time",
                )?;
                true
            }
            (Ending::Failed { .. } | Ending::NeedsOperator { .. }, Class::Failed) => true,
            _ => false,
        };
        must(fits, "the records say that it ended otherwise")
    }
}

fn computed(loss: &LossPart) -> LossPart {
    LossPart::from(&match loss.basis {
        LossBasis::ShippedAfterFence => DataLoss { to: loss.to, ..DataLoss::none(loss.from) },
        LossBasis::AgeOfPoint => DataLoss::since(loss.from, loss.to),
    })
}

/// Whether a step, once it is done, leaves this event.
fn leaves(step: Step, event: &Event) -> bool {
    matches!(
        (step, event),
        (Step::Choose, Event::Minted(_))
            | (Step::Intend, Event::Intended { .. })
            | (Step::Boot, Event::Booted(_))
            | (Step::Validate, Event::Judged(_))
            | (Step::DrillChoose, Event::DrillBegan(_))
            | (Step::DrillPrepare, Event::DrillMoved { booted: None, .. })
            | (Step::DrillBoot, Event::DrillMoved { booted: Some(_), .. })
            | (Step::Probe, Event::BootTried { .. })
            | (Step::IntendSource, Event::SourceIntended { .. })
    )
}

enum Class {
    Done,
    Undone,
    Failed,
}

/// What a trigger says of the end of a job, where it does.
fn class(trigger: Trigger, operation: Operation) -> Option<Class> {
    use Trigger::*;
    let drill = matches!(operation, Operation::TestFailover | Operation::VerifyBoot);
    Some(match trigger {
        Booted | Undone | UndoneOwing | Committed | Migrated | Turned | Resynced | DrillStarted
        | Disabled | FirstSealed => Class::Done,
        Cancelled | UndoReverted | UndoStopped | ChangeReverted => Class::Undone,
        DrillCleaned if drill => Class::Undone,
        DrillCleanupFailed if !drill && operation != Operation::TestFailoverCleanup => return None,
        BootFailed | CancelFailed | UndoFailed | CommitFailed | ReprotectFailed | ResyncFailed
        | CopyFailed | EnableFailed | DisableFailed | ChangeFailed | DrillCleanupFailed => Class::Failed,
        _ => return None,
    })
}

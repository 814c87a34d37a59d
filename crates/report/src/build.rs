//! Makes a report of what the engine knows.

use crate::top::Top;
use crate::{
    ActionPart, ChainPart, FindingPart, FindingSource, MemberPart, PlanPart, PointPart, ProofPart, Report,
    VERSION, member,
};
use site_recovery::audit::AuditRecord;
use site_recovery::{
    Error, Event, Finding, Item, JobRun, MachineId, Readiness, Recovery, Result, Summary, Timestamp, UnitId,
};
use std::collections::BTreeMap;

/// One job, and what is known around it.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The unit that it is of.
    pub unit: &'a UnitId,
    /// The run, ended or not.
    pub run: &'a JobRun,
    /// Its machines as they stand now; of those that have left, none.
    pub items: &'a [Item],
    /// The unit's whole trail, as [`Vault::audit`](site_recovery::Vault::audit) gives it, or why it did not verify: that is
    /// told in the report.
    pub trail: std::result::Result<&'a [AuditRecord], &'a Error>,
}

/// A report that is being made.
#[derive(Debug, Clone)]
pub struct ReportBuilder<'a> {
    site: String,
    made_at: Timestamp,
    why: Option<String>,
    jobs: Vec<Job<'a>>,
    died: BTreeMap<MachineId, Timestamp>,
    plan: Option<PlanPart>,
    actions: Vec<ActionPart>,
    findings: Vec<FindingPart>,
}

impl Report {
    /// Begins a report of one job, made at this moment by whose engine it was: `site` is for people.
    pub fn of_job<'a>(site: &str, made_at: Timestamp, job: Job<'a>) -> ReportBuilder<'a> {
        ReportBuilder::new(site, made_at).job(job)
    }

    /// Begins a report of a run of a plan and its actions. Its jobs are added by [`job`](ReportBuilder::job); it may have none,
    /// where nobody's could begin.
    pub fn of_plan<'a>(
        site: &str,
        made_at: Timestamp,
        plan: PlanPart,
        actions: Vec<ActionPart>,
    ) -> ReportBuilder<'a> {
        ReportBuilder { plan: Some(plan), actions, ..ReportBuilder::new(site, made_at) }
    }
}

impl<'a> ReportBuilder<'a> {
    fn new(site: &str, made_at: Timestamp) -> Self {
        Self {
            site: site.to_owned(),
            made_at,
            why: None,
            jobs: vec![],
            died: BTreeMap::new(),
            plan: None,
            actions: vec![],
            findings: vec![],
        }
    }

    /// Adds a job. Who asked, for what and in which direction is told of the first.
    #[must_use]
    pub fn job(mut self, job: Job<'a>) -> Self {
        self.jobs.push(job);
        self
    }

    /// Why it was asked for. Where nobody says, the reason of a force stands there.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// When the machine's source died, as a monitor or a person knows it. Its RPO, RTO and outage are counted from there.
    #[must_use]
    pub fn died(mut self, machine: &MachineId, at: Timestamp) -> Self {
        self.died.insert(machine.clone(), at);
        self
    }

    /// What health says of a machine.
    #[must_use]
    pub fn health(mut self, summary: &Summary) -> Self {
        self.find(&summary.machine, FindingSource::Health, &summary.health.findings);
        self
    }

    /// What readiness says of a machine. What health has said in the same words already is not told twice.
    #[must_use]
    pub fn readiness(mut self, machine: &MachineId, readiness: &Readiness) -> Self {
        self.find(machine, FindingSource::Readiness, &readiness.findings);
        self
    }

    fn find(&mut self, machine: &MachineId, source: FindingSource, findings: &[Finding]) {
        for finding in findings {
            if !self.findings.iter().any(|f| &f.machine == machine && &f.finding == finding) {
                self.findings.push(FindingPart {
                    machine: machine.clone(),
                    source,
                    finding: finding.clone(),
                });
            }
        }
    }

    /// The report, under its digest.
    ///
    /// # Errors
    /// `Invalid`, naming the field: no job and nobody left out, a unit twice, a death after the report or of a machine that is
    /// in no job, a plan that names a machine twice, or a machine or an action of which nothing is told.
    pub fn build(self) -> Result<Report> {
        let members: Vec<MemberPart> = self.jobs.iter().flat_map(|job| self.members(job)).collect();
        self.check(&members)?;
        let Some(top) = Top::of(&members, self.plan.as_ref()) else {
            return Err(Error::invalid(
                "report.jobs",
                "empty",
                "a report is of a job, or of a plan whose members have none",
                "give one",
            ));
        };
        let Top { operation, direction, who, force, started, ended, outcome, loss } = top;
        let mut report = Report {
            version: VERSION,
            made_at: self.made_at,
            site: self.site,
            operation,
            direction,
            who,
            why: self.why.or_else(|| force.as_ref().map(|f| f.reason.clone())),
            force,
            started,
            ended,
            outcome,
            loss,
            plan: self.plan,
            members,
            actions: self.actions,
            findings: self.findings,
            audit: self.jobs.iter().map(|job| ChainPart::of(job.unit, job.run, job.trail)).collect(),
            digest: String::new(),
        };
        report.digest = report.computed_digest();
        Ok(report)
    }

    fn check(&self, members: &[MemberPart]) -> Result<()> {
        let wrong = |field, value: &dyn std::fmt::Display, rule, remedy| {
            Err(Error::invalid(field, value, rule, remedy))
        };
        for (at, job) in self.jobs.iter().enumerate() {
            if self.jobs[..at].iter().any(|other| other.unit == job.unit) {
                return wrong(
                    "report.jobs",
                    job.unit,
                    "a report has one job of a unit",
                    "make one report for each job",
                );
            }
        }
        for (machine, at) in &self.died {
            if !self.jobs.iter().any(|job| job.run.members.contains_key(machine)) {
                return wrong(
                    "report.died",
                    machine,
                    "it is a machine of a job of the report",
                    "name another machine",
                );
            }
            if *at > self.made_at {
                return wrong("report.died", at, "it lies before the report", "check the time and its zone");
            }
        }
        let Some(plan) = &self.plan else { return Ok(()) };
        let machines: Vec<&MachineId> = plan.groups.iter().flat_map(|g| &g.machines).collect();
        if let Some((_, twice)) = machines.iter().enumerate().find(|(at, m)| machines[..*at].contains(m)) {
            return wrong("plan.groups", twice, "a machine is in one group", "take it out of the others");
        }
        if let Some(untold) = plan.untold(members) {
            return wrong(
                "plan.left_out",
                untold,
                "every machine of a plan is of a job, or left out",
                "say why it has none",
            );
        }
        let named = plan.groups.iter().flat_map(|g| g.before.iter().chain(&g.after));
        match named.into_iter().find(|name| !self.actions.iter().any(|a| a.name == **name)) {
            Some(lost) => wrong("plan.actions", lost, "every action that a group names is told of", "add it"),
            None => Ok(()),
        }
    }

    fn members(&self, job: &Job<'_>) -> Vec<MemberPart> {
        let part = |machine: &MachineId| {
            let item = job.items.iter().find(|i| i.id() == machine);
            let point = point(job, machine, item);
            member::of(job.unit, job.run, machine, item, point, self.died.get(machine).copied())
        };
        job.run.members.keys().map(part).collect()
    }
}

/// The point of a failover stands in its run; that of a drill in the item, and in the trail when the drill is gone.
fn point(job: &Job<'_>, machine: &MachineId, item: Option<&Item>) -> Option<PointPart> {
    let progress = job.run.members.get(machine)?;
    let id = progress.point?;
    let drilled = item.and_then(|i| i.drill.as_ref()).map(|d| &d.recovery);
    let began = job.trail.unwrap_or_default().iter().rev().filter_map(|record| match &record.event {
        Event::DrillBegan(drill) if &record.machine == machine => Some(&drill.recovery),
        Event::Intended { promotion, .. } if &record.machine == machine => promotion.recovery.as_ref(),
        _ => None,
    });
    let known: Vec<&Recovery> = progress.recovery.iter().chain(drilled).chain(began).collect();
    let recovery = known.into_iter().find(|r| r.point == id)?;
    let proofs = item.and_then(|i| i.boot_proofs.get(&id));
    let proof = progress.proof.as_ref().or(proofs).filter(|p| p.taken == recovery.taken).map(ProofPart::from);
    Some(PointPart { id, taken: recovery.taken, consistency: recovery.consistency, proof })
}

//! What a person wants to see of a protected machine.

use super::handle::parked;
use super::job::without_proof;
use super::schedule::{not_dropped, policy};
use super::shared::{Shared, Slot};
use super::verify;
use crate::state::{Direction, Divergence, Operation, Phase, Resync, State};
use crate::workflow::{Course, JobRun};
use crate::{
    BootProof, Consistency, DiskId, DiskRole, Finding, Item, Machine, MachineId, Nic, Owed, PointId, Policy,
    Result, Settings, Severity, Timestamp, Unit,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Azure's levels of replication health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HealthLevel {
    /// Nothing replicates, and nothing should.
    NotApplicable,
    /// As it should be.
    Normal,
    /// Symptoms that may come to matter.
    Warning,
    /// It does not work, or somebody must act.
    Critical,
}

/// Health of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The worst of the findings.
    pub level: HealthLevel,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Now minus the instant of the newest sealed point; `None` before the first.
    pub rpo: Option<Duration>,
}

/// The newest point of one consistency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestPoint {
    /// Which.
    pub point: PointId,
    /// What it is good for.
    pub consistency: Consistency,
    /// Its instant.
    pub taken: Timestamp,
    /// Its age now.
    pub age: Duration,
}

/// One disk as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSummary {
    /// Its name.
    pub id: DiskId,
    /// What it is for.
    pub role: DiskRole,
    /// Bytes.
    pub size: u64,
    /// Whether it is replicated.
    pub included: bool,
}

/// A property of the recovered machine, its value, and the rule that limits it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetProperty {
    /// Its name in [`Settings`].
    pub name: Cow<'static, str>,
    /// Its value; `None`: proposed by the site.
    pub value: Option<String>,
    /// What limits it.
    pub rule: Cow<'static, str>,
}

/// A protected machine at a glance: Azure's page of a replicated item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name all round the circle.
    pub machine: MachineId,
    /// The machine.
    pub description: Machine,
    /// Where it stands.
    pub state: State,
    /// What may be asked for now.
    pub allowed: Vec<Operation>,
    /// Health.
    pub health: Health,
    /// The newest point.
    pub newest: Option<NewestPoint>,
    /// When the newest application-consistent point was taken, as far as this engine has seen.
    pub newest_application: Option<Timestamp>,
    /// The newest point that was proven to boot, and how.
    pub proven: Option<(PointId, BootProof)>,
    /// Version of the agent in the guest, or none.
    pub agent: Option<String>,
    /// Its disks.
    pub disks: Vec<DiskSummary>,
    /// Its network adapters.
    pub nics: Vec<Nic>,
    /// What it shall be at the recovery site.
    pub target: Vec<TargetProperty>,
    /// The policy in force.
    pub policy: Policy,
    /// The job under way, or parked.
    pub run: Option<JobRun>,
    /// What is owed.
    pub owed: Vec<Owed>,
}

pub(crate) fn of(shared: &Arc<Shared>, slot: &Slot, item: &Item) -> Result<Summary> {
    let (now, pulse, unit) = (shared.clock.now(), slot.pulse(item.id()), slot.unit());
    let newest = pulse.newest.as_ref().map(|p| NewestPoint {
        point: p.id,
        consistency: p.consistency,
        taken: p.taken,
        age: now.since(p.taken),
    });
    let settings = shared.leg(&item.out)?.settings_of(item);
    let disk = |d: &crate::DiskSpec| DiskSummary {
        id: d.id.clone(),
        role: d.role,
        size: d.size,
        included: d.included,
    };
    Ok(Summary {
        machine: item.id().clone(),
        state: item.state,
        allowed: allowed(slot, item.state),
        health: health(item, &pulse, parked(&unit), undriven(slot, &unit), now),
        newest,
        newest_application: pulse.newest_application,
        proven: item.last_good_boot().map(|(point, proof)| (point, proof.clone())),
        agent: item.machine.guest.agent.clone(),
        disks: item.machine.disks.iter().map(disk).collect(),
        nics: item.machine.nics.clone(),
        target: properties(&settings),
        policy: policy(item),
        run: unit.run.clone(),
        owed: item.owed.clone(),
        description: item.machine.clone(),
    })
}

/// A boot proof that is under way gives way to everything but another one.
fn allowed(slot: &Slot, state: State) -> Vec<Operation> {
    let then = without_proof(slot, state);
    let mut all = then.allowed_operations();
    all.retain(|operation| then == state || *operation != Operation::VerifyBoot);
    all
}

/// A run that an engine left, by its end or by a panic: nothing is done for the unit before it is resumed.
fn undriven(slot: &Slot, unit: &Unit) -> bool {
    let driven = slot.control.lock().expect("no panic under this lock").is_some();
    !driven && unit.run.as_ref().is_some_and(|run| run.course != Course::Parked)
}

fn health(item: &Item, pulse: &super::shared::Pulse, parked: bool, undriven: bool, now: Timestamp) -> Health {
    let mut findings = vec![];
    let mut say = |code: &str, severity, cause: String, remedy: &str| {
        findings.push(Finding::new(code, severity, cause, remedy));
    };
    let replicates = item.state.phase == Phase::Protected;
    let rpo = pulse.newest.as_ref().map(|p| if p.taken > now { Duration::MAX } else { now.since(p.taken) });
    let threshold = policy(item).rpo_threshold;
    if let (true, Some(rpo)) = (replicates, rpo.filter(|rpo| *rpo > threshold)) {
        let cause = format!("the newest point is {rpo:?} old, the threshold is {threshold:?}");
        say("rpo", Severity::Warning, cause, "see why cycles do not seal");
    }
    if let Some((since, reason)) = &pulse.failing_since {
        let long = now.since(*since) > threshold;
        let severity = if long { Severity::Critical } else { Severity::Warning };
        say(
            "replication",
            severity,
            format!("no cycle has sealed since {since}: {reason}"),
            "mend the cause; it goes on by itself",
        );
    }
    if let Some(reason) = &pulse.quiesce_failed {
        say(
            "quiesce",
            Severity::Warning,
            format!("points are less consistent than asked for: {reason}"),
            "see to the guest",
        );
    }
    if let (Some(_), Some(why)) = (policy(item).alarm, pulse.alarm.lasts()) {
        let remedy = "see what rewrites the machine; the point before it is pinned as `alarm`";
        say("alarm", Severity::Critical, why.to_owned(), remedy);
    }
    match item.state.resync {
        Resync::None => {}
        Resync::Failed => {
            say("resync", Severity::Critical, "the comparison failed".into(), "repair replication")
        }
        _ => say(
            "resync",
            Severity::Warning,
            "both sides are to be compared".into(),
            "it begins by itself, or repair now",
        ),
    }
    if item.state.divergence == Divergence::Possible {
        say(
            "diverged",
            Severity::Critical,
            "both sides may have run".into(),
            "decide which side's writes count",
        );
    }
    for outsider in &pulse.outsiders {
        say(
            "both-sides-running",
            Severity::Critical,
            format!("{outsider} must not run, and was seen running"),
            "find out who started it",
        );
    }
    for unproven in &item.unproven {
        say(
            "unproven",
            Severity::Critical,
            format!("{} is not proven off", unproven.name),
            "it is fenced as soon as it answers",
        );
    }
    if undriven {
        say(
            "undriven",
            Severity::Critical,
            "a job stands where an engine left it, and nothing else is done meanwhile".into(),
            "resume the vault",
        );
    }
    if parked {
        say(
            "needs-operator",
            Severity::Critical,
            format!("it waits in {}", item.state),
            "choose one of the allowed operations",
        );
    }
    if let Some(readiness) = &pulse.readiness {
        if now > readiness.expires {
            say(
                "readiness",
                Severity::Warning,
                "readiness was checked too long ago".into(),
                "check it again",
            );
        }
        // What is said of boot proofs is said anew below: another one may have been made since.
        let told = |f: &&Finding| f.severity > Severity::Info && f.code != verify::NOT_PROVEN;
        findings.extend(readiness.findings.iter().filter(told).cloned());
    }
    if let Some((since, why)) = pulse.not_dropped.as_ref().filter(|_| replicates) {
        findings.push(not_dropped(*since, why));
    }
    if replicates && item.state.direction == Direction::PrimaryToRecovery {
        findings.extend(verify::not_proven(item, now));
        let wanted = pulse.no_proof.as_ref().filter(|_| item.policy.verify_every.is_some());
        findings.extend(wanted.map(|(since, why)| verify::not_made(*since, why)));
    }
    let worst = findings.iter().map(|f| f.severity).max();
    let level = match worst {
        Some(Severity::Critical) => HealthLevel::Critical,
        Some(Severity::Warning) => HealthLevel::Warning,
        _ if replicates => HealthLevel::Normal,
        _ => HealthLevel::NotApplicable,
    };
    Health { level, findings, rpo }
}

fn properties(settings: &Settings) -> Vec<TargetProperty> {
    let property = |name: &'static str, value: Option<String>, rule: &'static str| TargetProperty {
        name: name.into(),
        value,
        rule: rule.into(),
    };
    let mut all = vec![
        property(
            "name",
            settings.name.clone(),
            "1-63 letters, digits and hyphens, a letter or digit first and last",
        ),
        property("group", settings.group.clone(), "any time before failover"),
        property(
            "size",
            settings.size.clone(),
            "the first that satisfies disks, NICs, processors and memory",
        ),
        property("placement", Some(format!("{:?}", settings.placement)), "must exist in the group"),
        property("network", settings.network.clone(), "must exist at the site"),
        property("test_network", settings.test_network.clone(), "isolated; never the production network"),
        property("datastore", settings.datastore.clone(), "for disks that must be made"),
        property("licence", settings.licence.clone(), "as the guest brings it"),
    ];
    for (nic, chosen) in &settings.nics {
        let address = chosen.address.map_or_else(|| "DHCP".into(), |a| a.to_string());
        let rule = "a fixed address that is taken at failover makes it fail".into();
        all.push(TargetProperty { name: format!("nics.{nic}.address").into(), value: Some(address), rule });
    }
    for (disk, chosen) in &settings.disks {
        let rule = "a kind that the site knows".into();
        let (name, value) = (format!("disks.{disk}.kind").into(), chosen.kind.clone());
        all.push(TargetProperty { name, value, rule });
    }
    all
}

//! Words for people.

use crate::{Ending, MemberPart, Outage, OutageBasis, Report};
use site_recovery::state::{Direction, Trigger};
use site_recovery::{Consistency, Instance, LossBasis, Operation};
use std::fmt::Debug;
use std::time::Duration;

/// A variant's name as words: `ShipLast` as `Ship last`.
pub(crate) fn camel(name: &impl Debug) -> String {
    let mut words = String::new();
    for c in format!("{name:?}").chars() {
        if c.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
            words.push(c.to_ascii_lowercase());
        } else {
            words.push(c);
        }
    }
    words
}

pub(crate) fn instance(instance: &Instance) -> String {
    format!("{} at {}", instance.name, instance.site)
}

/// `1 min 12 s`: two units at most, the smaller one left out where it is zero.
pub(crate) fn span(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let (seconds, ms) = (span.as_secs(), span.subsec_millis());
    match (seconds, ms) {
        (0, 0) => return "0 s".to_owned(),
        (0, ms) => return format!("{ms} ms"),
        (1..60, ms) if ms > 0 => return format!("{}.{} s", seconds, ms / 100),
        _ => {}
    }
    let at = UNITS.iter().position(|(size, _)| seconds >= *size).unwrap_or(UNITS.len() - 1);
    let (size, unit) = UNITS[at];
    match UNITS.get(at + 1).map(|(small, unit)| (seconds % size / small, unit)) {
        Some((rest, small)) if rest > 0 => format!("{} {unit} {rest} {small}", seconds / size),
        _ => format!("{} {unit}", seconds / size),
    }
}

pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(size, _)| bytes >= *size) {
        // In integers: the page is to be the same everywhere.
        Some((size, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

/// What the report is of, as its title.
pub(crate) fn operation(operation: Operation, direction: Option<Direction>) -> String {
    let back = direction == Some(Direction::RecoveryToPrimary);
    match operation {
        Operation::PlannedFailover if back => "Planned failback".to_owned(),
        Operation::UnplannedFailover if back => "Unplanned failback".to_owned(),
        Operation::TestFailover => "Drill".to_owned(),
        Operation::TestFailoverCleanup => "Clean-up of a drill".to_owned(),
        Operation::VerifyBoot => "Boot proof".to_owned(),
        Operation::ReverseReplicate => "Reprotect".to_owned(),
        Operation::PromoteTestFailover => "Promotion of a drill".to_owned(),
        Operation::PromoteOther => "Promotion of the side that is left".to_owned(),
        Operation::ChangePit => "Change of point".to_owned(),
        Operation::UndoFailover => "Undo of the failover".to_owned(),
        Operation::CancelFailover => "Cancel of the failover".to_owned(),
        Operation::RetryFailover => "Retry of the failover".to_owned(),
        other => camel(&other),
    }
}

pub(crate) fn title(report: &Report) -> String {
    let what = operation(report.operation, report.direction);
    match (&report.plan, report.members.as_slice()) {
        (Some(plan), _) => format!("{what} by the plan {}", plan.name),
        (None, [one]) => format!("{what} of {}", one.called),
        (None, [first, ..]) if report.audit.len() == 1 => {
            format!("{what} of {}, {} machines", first.unit, report.members.len())
        }
        (None, all) => format!("{what} of {} machines", all.len()),
    }
}

pub(crate) fn trigger(trigger: Trigger) -> String {
    match trigger {
        Trigger::Begin(operation) => camel(&operation),
        Trigger::Promoted(side) => format!("Promoted: {}", camel(&side).to_lowercase()),
        other => camel(&other),
    }
}

pub(crate) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::PrimaryToRecovery => "primary to recovery",
        Direction::RecoveryToPrimary => "recovery to primary",
    }
}

pub(crate) fn consistency(consistency: Consistency) -> &'static str {
    match consistency {
        Consistency::PerDisk => "each disk of its own instant",
        Consistency::Crash => "crash-consistent",
        Consistency::FileSystem => "file systems consistent",
        Consistency::Application => "application-consistent",
    }
}

/// A sign that needs no colour, and a word.
pub(crate) fn ending(ending: &Ending) -> (&'static str, &'static str, &'static str) {
    match ending {
        Ending::Done => ("ok", "✓", "Done"),
        Ending::UnderWay => ("warn", "…", "Under way"),
        Ending::Undone { .. } => ("warn", "↩", "Undone"),
        Ending::Failed { .. } => ("bad", "✗", "Failed"),
        Ending::NeedsOperator { .. } => ("bad", "!", "Needs a person"),
    }
}

pub(crate) fn loss_basis(basis: LossBasis) -> &'static str {
    match basis {
        LossBasis::ShippedAfterFence => {
            "the old side was proven off, and what it wrote last was shipped after that"
        }
        LossBasis::AgeOfPoint => {
            "everything written between the point and the moment at which the old side was proven off, or, where it was not, of the choice"
        }
    }
}

pub(crate) fn outage_basis(basis: OutageBasis) -> &'static str {
    match basis {
        OutageBasis::Told => "from when the source died, as was told",
        OutageBasis::StepBegan => "from the step that stops it, which lets it run on for a while",
        OutageBasis::Asked => "the source did not answer; from when the operation was asked for",
    }
}

/// What is said behind the length of an outage.
pub(crate) fn outage_end(outage: &Outage) -> &'static str {
    match (outage.over, outage.to) {
        (true, _) => "",
        (false, Some(_)) => ", and it ran nowhere when the job ended",
        (false, None) => ", and goes on",
    }
}

/// From when RPO and RTO are counted.
pub(crate) fn reference(member: &MemberPart) -> &'static str {
    if member.died.is_some() { "the death of the source" } else { "the request" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (ms, told) in [
            (0, "0 s"),
            (7, "7 ms"),
            (1_000, "1 s"),
            (58_240, "58.2 s"),
            (60_000, "1 min"),
            (72_900, "1 min 12 s"),
            (3_600_000, "1 h"),
            (3_660_000, "1 h 1 min"),
            (187_200_000, "2 d 4 h"),
            (86_401_000, "1 d"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), told);
        }
        assert_eq!(
            (bytes(1023), bytes(1024), bytes(1_610_612_736)),
            ("1023 B".into(), "1.0 KiB".into(), "1.5 GiB".into())
        );
        assert_eq!(camel(&Operation::UnplannedFailover), "Unplanned failover");
    }
}

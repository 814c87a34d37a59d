//! What an operator should see to: the rules, by the numbers of Azure Site Recovery's process server.

use crate::host::Load;
use site_recovery::{Finding, Lag, MachineId, Severity};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Below this share of free room nothing is spooled any more but the last changes before a failover.
pub(crate) const LEAST_FREE: f64 = 0.20;

/// What is measured.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    pub(crate) lags: Vec<(MachineId, Lag)>,
    /// Free share of the spool's limit, or of its volume where it has none.
    pub(crate) spool_free: Option<f64>,
    /// Over the last 15 minutes, where so long was looked at.
    pub(crate) load: Option<Load>,
}

/// What is wrong by these numbers.
pub(crate) fn findings(vitals: &Vitals) -> Vec<Finding> {
    let backlogs = vitals.lags.iter().filter_map(|(machine, lag)| backlog(machine, lag));
    let load = vitals.load.as_ref();
    let busy = |what, share: Option<f64>, remedy| share.and_then(|share| used(what, share, remedy));
    backlogs
        .chain(vitals.spool_free.and_then(spool))
        .chain(busy("cpu", load.map(|load| load.cpu), "give the host more processors, or move machines away"))
        .chain(busy(
            "memory",
            load.map(|load| load.memory),
            "give the host more memory, or move machines away",
        ))
        .collect()
}

fn backlog(machine: &MachineId, lag: &Lag) -> Option<Finding> {
    let time = lag.drain_time.filter(|_| lag.backlog > 0)?;
    let severity = match time {
        time if time > 45 * MINUTE => Severity::Critical,
        time if time > 30 * MINUTE => Severity::Warning,
        _ => return None,
    };
    let takes = match time {
        Duration::MAX => "nothing has moved for minutes".to_owned(),
        time => format!("they take {} minutes at the rate of the last ones", time.as_secs() / 60),
    };
    let cause = format!("{} bytes of {machine} wait: {takes}", lag.backlog);
    let remedy = "see to the line and the replica, raise the throttle, or move machines away";
    Some(Finding::new("process_server.backlog", severity, cause, remedy))
}

fn spool(free: f64) -> Option<Finding> {
    let severity = match free {
        free if free < 0.25 => Severity::Critical,
        free if free < 0.30 => Severity::Warning,
        _ => return None,
    };
    let closed = match free < LEAST_FREE {
        true => "; captures wait at their sources, and only last changes before a failover are still spooled",
        false => "",
    };
    let cause = format!("{:.0} % of the spool are free{closed}", free * 100.0);
    Some(Finding::new(
        "process_server.spool",
        severity,
        cause,
        "bring the replica back, or give it more room",
    ))
}

fn used(what: &str, share: f64, remedy: &str) -> Option<Finding> {
    let severity = match share {
        share if share > 0.95 => Severity::Critical,
        share if share > 0.80 => Severity::Warning,
        _ => return None,
    };
    let cause = format!("{:.0} % of the host's {what} were in use over 15 minutes", share * 100.0);
    Some(Finding::new(format!("process_server.{what}"), severity, cause, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::{Critical, Warning};

    fn told(vitals: &Vitals) -> Vec<(String, Severity)> {
        findings(vitals).into_iter().map(|f| (f.code, f.severity)).collect()
    }

    #[test]
    fn a_backlog_counts_by_how_long_it_takes() {
        let lag = |backlog, minutes| Lag { backlog, drain_time: Some(minutes * MINUTE), ..Lag::default() };
        let stuck = Lag { backlog: 1, drain_time: Some(Duration::MAX), ..Lag::default() };
        let new = Lag { backlog: 1, ..Lag::default() };
        for (lag, severity) in [
            (lag(9, 30), None),
            (lag(9, 31), Some(Warning)),
            (lag(9, 45), Some(Warning)),
            (lag(9, 46), Some(Critical)),
            (stuck, Some(Critical)),
            (new, None),
        ] {
            let vitals = Vitals { lags: vec![("vm".into(), lag)], ..Vitals::default() };
            let expected: Vec<_> =
                severity.map(|s| ("process_server.backlog".to_owned(), s)).into_iter().collect();
            assert_eq!(told(&vitals), expected);
        }
    }

    #[test]
    fn spool_processors_and_memory_have_two_bounds_each() {
        for (free, severity) in
            [(0.30, None), (0.29, Some(Warning)), (0.25, Some(Warning)), (0.1, Some(Critical))]
        {
            let vitals = Vitals { spool_free: Some(free), ..Vitals::default() };
            let expected: Vec<_> =
                severity.map(|s| ("process_server.spool".to_owned(), s)).into_iter().collect();
            assert_eq!(told(&vitals), expected);
        }
        let load = |cpu, memory| Vitals { load: Some(Load { cpu, memory }), ..Vitals::default() };
        assert_eq!(told(&load(0.80, 0.80)), []);
        let expected = [("process_server.cpu".into(), Warning), ("process_server.memory".into(), Critical)];
        assert_eq!(told(&load(0.81, 0.96)), expected);
    }
}

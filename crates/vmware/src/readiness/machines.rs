//! What is found of machines that are protected, or could be. What many have in common is told once.

use super::listed;
use crate::describe::can_be_captured;
use crate::vm::untold;
use site_recovery::{Finding, Severity};
use site_recovery_vim::{Details, Machine, Power};

/// Without these, a machine is not protected.
const NEEDED: &[&str] = &["CreateSnapshot_Task", "RemoveSnapshot_Task", "ReconfigVM_Task", "PowerOffVM_Task"];

struct Rule {
    code: &'static str,
    severity: Severity,
    /// After the names of the machines.
    what: &'static str,
    remedy: &'static str,
    breaks: fn(&Machine, &Details) -> bool,
}

const RULES: &[Rule] = &[
    Rule {
        code: "machine.disks",
        severity: Severity::Warning,
        what: "disks that no snapshot holds (independent, shared, or physically mapped): they are not replicated",
        remedy: "change their mode, or protect what is on them from inside the guest",
        breaks: |_, details| details.devices.disks.iter().any(|d| !can_be_captured(&details.devices, d)),
    },
    Rule {
        code: "machine.tracking",
        severity: Severity::Warning,
        what: "virtual hardware that tracks no changes: each cycle reads all of both sides",
        remedy: "upgrade the virtual hardware to version 7 or newer",
        breaks: |_, details| !details.change_tracking_supported,
    },
    Rule {
        code: "machine.tools",
        severity: Severity::Warning,
        what: "no VMware Tools running: points are crash-consistent, and a planned failover cuts the power",
        remedy: "install and start them (open-vm-tools on Linux)",
        breaks: |machine, details| machine.power == Power::On && !details.tools.running,
    },
    Rule {
        code: "machine.consolidation",
        severity: Severity::Warning,
        what: "files of removed snapshots left behind",
        remedy: "consolidate the disks",
        breaks: |_, details| details.consolidation_needed,
    },
    Rule {
        code: "machine.disabled",
        severity: Severity::Warning,
        what: "methods switched off by another product, most often a backup that runs or was broken off",
        remedy: "let it finish, or let it give them back",
        breaks: |_, details| NEEDED.iter().any(|method| details.disabled_methods.iter().any(|d| d == method)),
    },
];

/// What the engine says by itself is left out: snapshots of a machine are told by it.
pub(super) fn findings(machines: &[&Machine]) -> Vec<Finding> {
    let (unread, read): (Vec<&Machine>, Vec<&Machine>) =
        machines.iter().partition(|m| m.away().is_some() || untold(m).is_some());
    let mut found = vec![];
    if !unread.is_empty() {
        let cause = format!(
            "discovery is not complete: {} cannot be read (disconnected, inaccessible, or not allowed to be read)",
            listed(unread.iter().map(|machine| machine.name.as_str()))
        );
        let remedy = "bring the host or the datastore back, give the user System.Read, or take what is orphaned out of the inventory";
        found.push(Finding::new("machine.unread", Severity::Warning, cause, remedy));
    }
    for rule in RULES {
        let breaks = |m: &&&Machine| m.details.as_deref().is_some_and(|details| (rule.breaks)(m, details));
        let named: Vec<&str> = read.iter().filter(breaks).map(|machine| machine.name.as_str()).collect();
        if !named.is_empty() {
            let has = if named.len() == 1 { "has" } else { "have" };
            let cause = format!("{} {has} {}", listed(named.iter().copied()), rule.what);
            found.push(Finding::new(rule.code, rule.severity, cause, rule.remedy));
        }
    }
    found
}

/// Snapshots of somebody's, as the engine would tell of them.
pub(super) fn snapshots(machines: &[&Machine]) -> Option<Finding> {
    let strangers =
        |m: &&&Machine| m.details.as_deref().is_some_and(|d| crate::describe::strangers(&d.snapshots) > 0);
    let named: Vec<&str> = machines.iter().filter(strangers).map(|machine| machine.name.as_str()).collect();
    if named.is_empty() {
        return None;
    }
    let cause = format!("snapshots stand on {}; reprotect refuses them", listed(named.into_iter()));
    Some(Finding::new("snapshots", Severity::Warning, cause, "consolidate them before the way back"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::{codes, controller, disk, machine, snapshot};
    use site_recovery_vim::{BackingKind, ControllerKind, DiskMode, Fault, Missing};

    /// As it should be.
    fn right() -> Machine {
        let mut machine = machine("web");
        let details = machine.details.as_mut().expect("whole");
        details.devices.controllers = vec![controller(1000, ControllerKind::ParaVirtual, 0)];
        details.devices.disks = vec![disk(2000, 1000, 0), disk(2001, 1000, 1)];
        machine
    }

    fn with(change: impl FnOnce(&mut Details)) -> Vec<Finding> {
        let mut machine = right();
        change(machine.details.as_mut().expect("whole"));
        findings(&[&machine])
    }

    #[test]
    fn a_machine_as_it_should_be_has_nothing_to_be_told() {
        assert!(findings(&[&right()]).is_empty());
        assert_eq!(snapshots(&[&right()]), None);
    }

    #[test]
    fn disks_that_no_snapshot_holds_are_told_in_each_of_their_forms() {
        let told = |change: fn(&mut Details)| codes(&with(change)).join(",");
        assert_eq!(
            told(|d| d.devices.disks[1].backing.mode = DiskMode::IndependentPersistent),
            "machine.disks"
        );
        assert_eq!(told(|d| d.devices.disks[1].backing.shared = true), "machine.disks");
        assert_eq!(
            told(|d| d.devices.disks[0].backing.kind = BackingKind::RawMapping { physical: true }),
            "machine.disks"
        );
        assert_eq!(
            told(|d| d.devices.disks[0].backing.kind = BackingKind::RawMapping { physical: false }),
            ""
        );
        assert_eq!(told(|d| d.devices.controllers[0].shared = true), "machine.disks");
    }

    #[test]
    fn each_other_rule_is_told() {
        assert_eq!(codes(&with(|d| d.change_tracking_supported = false)), ["machine.tracking"]);
        assert_eq!(codes(&with(|d| d.tools.running = false)), ["machine.tools"]);
        assert_eq!(codes(&with(|d| d.consolidation_needed = true)), ["machine.consolidation"]);
        assert_eq!(
            codes(&with(|d| d.disabled_methods = vec!["RemoveSnapshot_Task".into()])),
            ["machine.disabled"]
        );
        assert!(with(|d| d.disabled_methods = vec!["MigrateVM_Task".into()]).is_empty());
        let mut off = right();
        off.power = Power::Off;
        off.details.as_mut().expect("whole").tools.running = false;
        assert!(findings(&[&off]).is_empty(), "of a machine that is off nothing is said by tools");
    }

    #[test]
    fn snapshots_of_somebody_are_told_and_ours_are_not() {
        let of = |name: &str| {
            let mut machine = right();
            machine.details.as_mut().expect("whole").snapshots = vec![snapshot(name)];
            snapshots(&[&machine])
        };
        assert_eq!(of("sr-capture-1"), None);
        assert_eq!(of("before the upgrade").map(|f| f.code), Some("snapshots".into()));
    }

    #[test]
    fn a_machine_that_cannot_be_read_makes_the_discovery_incomplete() {
        let mut gone = right();
        gone.connection = Some("inaccessible".into());
        let mut denied = right();
        let fault = Fault::NoPermission { privilege: None, object: None };
        denied.missing = vec![Missing { path: "config".into(), fault }];
        let mut bare = right();
        bare.details = None;
        for machine in [&gone, &denied, &bare] {
            assert_eq!(codes(&findings(&[machine])), ["machine.unread"]);
        }
    }

    #[test]
    fn what_many_have_in_common_is_told_once() {
        let all: Vec<Machine> = (0..12)
            .map(|n| {
                let mut machine = right();
                machine.name = format!("web-{n}");
                machine.details.as_mut().expect("whole").tools.running = false;
                machine
            })
            .collect();
        let told = findings(&all.iter().collect::<Vec<_>>());
        assert_eq!(codes(&told), ["machine.tools"]);
        assert!(
            told[0].cause.starts_with("web-0, web-1, web-2, web-3, web-4 and 7 more have no"),
            "{}",
            told[0].cause
        );
    }
}

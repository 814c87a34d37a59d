//! What is found of the appliance: whether disks of others can be attached to it, and are found there.

use super::listed;
use crate::appliance::room;
use crate::describe::family;
use site_recovery::{Finding, OsFamily, Severity};
use site_recovery_vim::{self as vim, Power};

/// Disks at one master target: what its controllers take, and Azure's limit.
const MOST_DISKS: usize = 60;

/// What is to land.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) os: OsFamily,
    /// Disks that are to be attached.
    pub(super) disks: usize,
    /// Those of them that are attached already.
    pub(super) held: usize,
}

pub(super) fn none(severity: Severity) -> Finding {
    Finding::new(
        "appliance.none",
        severity,
        "this site has no appliance: nothing can land here, and disks of machines that run are read over HTTPS, where the storage \
         lets them be, by VDDK or by leases, where the site is told of them",
        "run the program in a machine of this server, and tell the site its instance UUID",
    )
}

pub(super) fn unseen(uuid: &str) -> Finding {
    Finding::new(
        "appliance.unseen",
        Severity::Critical,
        format!("the appliance {uuid} is no machine that this server shows"),
        "check its instance UUID, that the user may see it, and that the discovery of its host is complete",
    )
}

pub(super) fn findings(appliance: &vim::Machine, wanted: Option<Wanted>) -> Vec<Finding> {
    let called = &appliance.name;
    let mut found = vec![];
    let mut say = |code: &str, severity, cause: String, remedy: &str| {
        found.push(Finding::new(format!("appliance.{code}"), severity, cause, remedy));
    };
    let Some(details) = &appliance.details else {
        let cause = format!("{called} tells nothing of its configuration");
        say("unread", Severity::Critical, cause, "see to its host, and to what the user may read of it");
        return found;
    };
    if appliance.power != Power::On {
        let cause = format!("{called} does not run: it keeps no machine from starting");
        say("off", Severity::Warning, cause, "start it; the program runs in it");
    }
    if !details.snapshots.is_empty() {
        let all = details.snapshots.iter().flat_map(vim::Snapshot::all).map(|s| s.name.as_str());
        let cause =
            format!("{called} has snapshots ({}): they would hold the disks of others as well", listed(all));
        say("snapshots", Severity::Critical, cause, "remove them, and leave it out of backups by snapshot");
    }
    if details.consolidation_needed {
        let cause = format!("a snapshot of {called} was removed and has left files behind");
        say("consolidation", Severity::Warning, cause, "consolidate its disks");
    }
    if !details.disk_uuid {
        let cause = format!("{called} does not show its disks' identifiers, by which they are found in it");
        let remedy = "switch it off, set disk.EnableUUID to TRUE, and start it";
        say("disk-uuid", Severity::Critical, cause, remedy);
    }
    let room = room(&details.devices);
    if !details.devices.controllers.iter().any(|c| c.kind.is_scsi() && !c.shared) {
        let (severity, more) = match room {
            0 => (Severity::Critical, "and there is no place for one"),
            _ => (Severity::Warning, "so one is added while it runs"),
        };
        let cause = format!(
            "{called} has no SCSI controller of its own, at which alone disks come and go while it runs, {more}"
        );
        say("controller", severity, cause, "give it a PVSCSI controller");
    }
    let Some(wanted) = wanted else { return found };
    let (there, more) = (details.devices.disks.len(), wanted.disks.saturating_sub(wanted.held));
    if there + more > MOST_DISKS {
        let cause = format!(
            "{called} has {there} disks, and {more} more are to be attached; {MOST_DISKS} is the most"
        );
        say("disks", Severity::Critical, cause, "finish other failbacks first, or land by another appliance");
    } else if room < more {
        let cause = format!("{called} has places for {room} more disks, and {more} are to be attached");
        let remedy = "take away controllers that are no SCSI ones of its own, or disks that it does not need";
        say("places", Severity::Critical, cause, remedy);
    }
    let os = family(details);
    if os != wanted.os && os != OsFamily::Other && wanted.os != OsFamily::Other {
        let cause = format!(
            "{called} runs {os:?}, the machine {:?}: blocks are written, and nothing in the guest",
            wanted.os
        );
        say("os", Severity::Info, cause, "nothing; Azure asks for the same family, this library does not");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::{codes, controller, disk, machine, snapshot};
    use site_recovery_vim::{ControllerKind, Machine};

    const LINUX: Wanted = Wanted { os: OsFamily::Linux, disks: 2, held: 0 };

    /// As it should be.
    fn right() -> Machine {
        let mut machine = machine("appliance");
        let details = machine.details.as_mut().expect("whole");
        details.disk_uuid = true;
        details.guest_id = Some("debian12_64Guest".into());
        details.devices.controllers = vec![controller(1000, ControllerKind::ParaVirtual, 0)];
        details.devices.disks = vec![disk(2000, 1000, 0)];
        machine
    }

    fn with(change: impl FnOnce(&mut vim::Details), wanted: Wanted) -> Vec<Finding> {
        let mut machine = right();
        change(machine.details.as_mut().expect("whole"));
        findings(&machine, Some(wanted))
    }

    #[test]
    fn one_that_is_as_it_should_be_has_nothing_to_be_told() {
        assert!(findings(&right(), Some(LINUX)).is_empty());
    }

    #[test]
    fn each_thing_that_stands_in_the_way_is_told() {
        assert_eq!(codes(&with(|d| d.disk_uuid = false, LINUX)), ["appliance.disk-uuid"]);
        assert_eq!(codes(&with(|d| d.snapshots.push(snapshot("nightly")), LINUX)), ["appliance.snapshots"]);
        assert_eq!(codes(&with(|d| d.consolidation_needed = true, LINUX)), ["appliance.consolidation"]);
        let windows = Wanted { os: OsFamily::Windows, ..LINUX };
        let told = with(|_| {}, windows);
        assert_eq!((codes(&told), told[0].severity), (vec!["appliance.os"], Severity::Info));
        let mut off = right();
        off.power = Power::Off;
        assert_eq!(codes(&findings(&off, None)), ["appliance.off"]);
        off.details = None;
        assert_eq!(codes(&findings(&off, None)), ["appliance.unread"]);
    }

    #[test]
    fn what_cannot_be_hot_added_to_is_told_and_whether_that_can_be_helped() {
        let only = |kind: ControllerKind| {
            move |d: &mut vim::Details| d.devices.controllers = vec![controller(1000, kind, 0)]
        };
        for kind in [ControllerKind::Ide, ControllerKind::Ahci, ControllerKind::Nvme] {
            let told = with(only(kind), LINUX);
            assert_eq!((codes(&told), told[0].severity), (vec!["appliance.controller"], Severity::Warning));
        }
        let told = with(
            |d| {
                let shared = |bus| vim::Controller {
                    shared: true,
                    ..controller(1000 + bus as i32, ControllerKind::ParaVirtual, bus)
                };
                d.devices.controllers = (0..4).map(shared).collect();
            },
            LINUX,
        );
        assert_eq!(codes(&told), ["appliance.controller", "appliance.places"]);
        assert!(told.iter().all(Finding::blocks));
    }

    #[test]
    fn sixty_disks_are_the_most_and_those_that_are_attached_count_once() {
        let full = |n: i32| {
            move |d: &mut vim::Details| {
                d.devices.controllers = (0..4)
                    .map(|bus| controller(1000 + bus as i32, ControllerKind::ParaVirtual, bus))
                    .collect();
                d.devices.disks = (0..n).map(|k| disk(2000 + k, 1000 + k / 15, (k % 15) as u32)).collect();
            }
        };
        assert!(with(full(58), LINUX).is_empty());
        assert_eq!(codes(&with(full(59), LINUX)), ["appliance.disks"]);
        assert!(with(full(60), Wanted { held: 2, ..LINUX }).is_empty());
        let few = |d: &mut vim::Details| {
            full(15)(d);
            d.devices.controllers.iter_mut().skip(1).for_each(|c| c.shared = true);
        };
        assert_eq!(codes(&with(few, LINUX)), ["appliance.places"]);
    }
}

//! Whether the whole circle would work, checked when protection is enabled and then on a schedule. Evidence expires.

use super::events::NoticeKind;
use super::shared::{Shared, Slot};
use super::verify;
use crate::state::Direction;
use crate::{
    DiskRole, Finding, Firmware, Item, Leg, Machine, MachineId, OsFamily, Platform, Readiness, Result,
    Severity, Timestamp,
};
use std::sync::Arc;
use std::time::Duration;

/// How long evidence counts; Azure validates its configuration every 12 hours.
const COUNTS_FOR: Duration = Duration::from_secs(12 * 3_600);

/// Boot drivers that a guest needs at boot start on Hyper-V (Azure's list in its failover tutorial).
const BOOT_DRIVERS: [&str; 5] = ["storvsc", "vmbus", "storflt", "intelide", "atapi"];

/// Checks an item now and remembers what was found.
pub(crate) async fn check(shared: &Arc<Shared>, slot: &Slot, item: &Item) -> Result<Readiness> {
    let (leg, far) = (shared.leg(&item.out)?, shared.leg(&item.back)?);
    let mut findings = circle(shared, leg, far, item).await?;
    findings.extend(unreplicated(item));
    if item.state.direction == Direction::PrimaryToRecovery {
        findings.extend(verify::not_proven(item, shared.clock.now()));
    }
    Ok(keep(shared, slot, item.id(), findings))
}

/// Disks that nobody has left out and that are not replicated: added since.
fn unreplicated(item: &Item) -> impl Iterator<Item = Finding> {
    let added = item.machine.disks.iter().filter(|d| !d.included && !item.excluded.contains(&d.id));
    added.map(|disk| {
        let cause = format!("disk {} was added to {} and is not replicated", disk.id, item.active().name);
        let remedy = "disable the protection and protect the machine again to include it";
        Finding::new("disk-added", Severity::Warning, cause, remedy)
    })
}

/// Remembers what was found, and tells what an operator should see to.
pub(crate) fn keep(shared: &Shared, slot: &Slot, machine: &MachineId, findings: Vec<Finding>) -> Readiness {
    let checked = shared.clock.now();
    for finding in findings.iter().filter(|f| f.severity > Severity::Info) {
        shared.bus.publish(checked, &slot.id, Some(machine), NoticeKind::Alert(finding.clone()));
    }
    let readiness = Readiness { findings, checked, expires: checked.after(COUNTS_FOR) };
    slot.with_pulse(machine, |pulse| pulse.readiness = Some(readiness.clone()));
    readiness
}

/// Whether the evidence is so old that it should be made again.
pub(crate) fn is_stale(slot: &Slot, machine: &MachineId, now: Timestamp) -> bool {
    let checked = slot.with_pulse(machine, |pulse| pulse.readiness.as_ref().map(|r| r.checked));
    checked.is_none_or(|checked| now.since(checked) > COUNTS_FOR / 2)
}

/// Checks both ways: requirements of the target, fencing, the process servers' reach, the way back, the guest.
pub(crate) async fn circle(shared: &Arc<Shared>, leg: &Leg, far: &Leg, item: &Item) -> Result<Vec<Finding>> {
    let (machine, limit) = (&item.machine, shared.deadlines.recovery_site);
    let (settings, back) = (leg.settings_of(item), far.settings_of(item));
    settings.validate()?;
    let mut findings = shared.within(limit, "check", leg.recovery_site.check(machine, &settings)).await?;
    for (way, leg) in [("out", leg), ("back", far)] {
        let names = [leg.source.name(), leg.replica.name()];
        findings.extend(shared.within(limit, "knows", leg.process_server.knows(&names)).await?);
        findings.extend(fencing(way, leg));
    }
    if !leg.recovery_site.capability().drills {
        let cause = format!("{} cannot run a copy in an isolated network", leg.recovery_site.name());
        findings.push(Finding::new(
            "drill.unavailable",
            Severity::Warning,
            cause,
            "test by a planned failover and undo",
        ));
    }
    match shared.within(limit, "check", far.recovery_site.check(machine, &back)).await {
        // What stands in the way of the way back does not refuse protection, but is known from now on.
        Ok(found) => findings.extend(found.into_iter().map(|f| Finding {
            code: format!("back.{}", f.code),
            severity: f.severity.min(Severity::Warning),
            ..f
        })),
        Err(error) => {
            let cause = format!("{} does not answer: {error}", far.recovery_site.name());
            findings.push(Finding::new(
                "back.unchecked",
                Severity::Warning,
                cause,
                "see to it before it is needed",
            ));
        }
    }
    findings.extend(guest(shared, machine));
    Ok(findings)
}

fn fencing(way: &str, leg: &Leg) -> Vec<Finding> {
    let (source, site) = (leg.source.capability(), leg.recovery_site.capability());
    let mut findings = vec![];
    if !source.fences {
        let cause = format!("{} cannot take a machine's power and keep it", leg.source.name());
        let remedy = "only a forced failover is possible; give the source a power control";
        findings.push(Finding::new(format!("{way}.fence.unavailable"), Severity::Warning, cause, remedy));
    }
    if !source.captures_off {
        let cause = format!("{} cannot read the disks of a machine that is off", leg.source.name());
        let remedy = "a planned failover cannot ship the last changes; use an unplanned one";
        findings.push(Finding::new(format!("{way}.planned.unavailable"), Severity::Warning, cause, remedy));
    }
    if !source.tracks {
        let cause = format!("{} does not know what changed: every cycle compares", leg.source.name());
        findings.push(Finding::new(
            format!("{way}.tracking.unavailable"),
            Severity::Info,
            cause,
            "expect reads of both sides",
        ));
    }
    if !site.branches {
        let cause = format!("{} cannot put a branch under disks", leg.recovery_site.name());
        let remedy = "a failover to it cannot be undone, and its point cannot be changed in place";
        findings.push(Finding::new(format!("{way}.undo.unavailable"), Severity::Warning, cause, remedy));
    }
    findings
}

fn guest(shared: &Shared, machine: &Machine) -> Vec<Finding> {
    let (guest, mut findings) = (&machine.guest, vec![]);
    if guest.snapshots.is_some_and(|n| n > 0) {
        let cause = format!("{machine} has snapshots; reprotect refuses them");
        findings.push(Finding::new(
            "snapshots",
            Severity::Warning,
            cause,
            "consolidate them before the way back",
        ));
    }
    if machine.included().all(|d| d.role != DiskRole::System) {
        let cause = format!("{machine} has no system disk among its replicated disks");
        findings.push(Finding::new("no-system-disk", Severity::Info, cause, "it is booted as the site can"));
    }
    if let Firmware::Uefi { secure_boot: true } = machine.firmware {
        let cause = "the machine boots with Secure Boot; its variables must fit the other side".to_owned();
        findings.push(Finding::new("secure-boot", Severity::Warning, cause, "drill it"));
    }
    let physical = machine.platform == Platform::Physical;
    let linux = machine.os == OsFamily::Linux && guest.boot_drivers.is_some();
    let missing =
        guest.boot_drivers.as_ref().is_some_and(|d| BOOT_DRIVERS.iter().any(|b| !d.iter().any(|x| x == b)));
    if (physical || linux || missing || guest.dhcp == Some(false)) && shared.preparation.is_none() {
        let cause = "the guest needs drivers or DHCP for its first boot on the other side, and nothing here prepares it";
        let remedy = "prepare it ahead, or give the vault a guest preparation";
        findings.push(Finding::new("guest-preparation", Severity::Warning, cause, remedy));
    }
    findings
}

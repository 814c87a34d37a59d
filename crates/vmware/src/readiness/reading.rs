//! Whether disks of machines that run can be read where there is no appliance: tried by one byte, which changes nothing.

use super::listed;
use crate::describe::can_be_captured;
use crate::read::flat_file;
use site_recovery::{ErrorKind, Finding, Result, Severity};
use site_recovery_vim::{Machine, Power, Vim};

/// More are not tried.
const MOST: usize = 32;

/// What came of the trials.
#[derive(Debug, Default)]
pub(super) struct Tried<'a> {
    /// With the first disk that cannot be read, and why.
    unreadable: Vec<(&'a str, String)>,
    untried: usize,
}

pub(super) async fn attempt<'a>(vim: &Vim, machines: &[&'a Machine]) -> Result<Tried<'a>> {
    let running: Vec<&Machine> =
        machines.iter().copied().filter(|machine| machine.power == Power::On).collect();
    let mut tried = Tried { untried: running.len().saturating_sub(MOST), ..Tried::default() };
    for machine in running.into_iter().take(MOST) {
        let Some(details) = &machine.details else { continue };
        for disk in details.devices.disks.iter().filter(|disk| can_be_captured(&details.devices, disk)) {
            match flat_file(vim, &details.datastores, disk).await {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Unavailable => return Err(e),
                Err(e) => {
                    tried.unreadable.push((&machine.name, e.message().to_owned()));
                    break;
                }
            }
        }
    }
    Ok(tried)
}

/// Refused are these at protect time, if a snapshot does not help.
pub(super) fn findings(tried: &Tried<'_>) -> Vec<Finding> {
    let mut found = vec![];
    if let Some((machine, why)) = tried.unreadable.first() {
        let names = listed(tried.unreadable.iter().map(|(name, _)| *name));
        let cause = format!("disks of {names}, which run, cannot be read as they stand ({machine}: {why})");
        let remedy = "give the site an appliance, VDDK, or a folder for leases; without any they are tried again below a snapshot when they are protected, and refused \
                      where that does not help";
        found.push(Finding::new("reading.none", Severity::Warning, cause, remedy));
    }
    if tried.untried > 0 {
        let cause =
            format!("whether disks of {} more machines that run can be read was not tried", tried.untried);
        found.push(Finding::new(
            "reading.untried",
            Severity::Info,
            cause,
            "each is tried when it is protected",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::codes;

    #[test]
    fn what_cannot_be_read_is_told_once_with_a_reason_and_what_was_not_tried_is_told() {
        assert!(findings(&Tried::default()).is_empty());
        let tried =
            Tried { unreadable: vec![("web", "in use".into()), ("db", "in use too".into())], untried: 3 };
        let told = findings(&tried);
        assert_eq!(codes(&told), ["reading.none", "reading.untried"]);
        assert!(
            told[0].cause.contains("web, db, which run") && told[0].cause.contains("web: in use)"),
            "{}",
            told[0].cause
        );
        assert!(told[1].cause.contains("of 3 more machines"));
    }
}

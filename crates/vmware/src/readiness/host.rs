//! What is found of hosts, and of what a host has.

use super::listed;
use site_recovery::{Finding, Offer, Severity};
use site_recovery_vim::Host;

/// The host of the appliance, on which machines land.
pub(super) fn of_appliance(host: &Host) -> Vec<Finding> {
    let name = &host.name;
    let mut found = vec![];
    if let Some(state) = host.away() {
        let cause = format!("{name}, the host of the appliance, is {state}: its discovery is not complete");
        found.push(Finding::new(
            "host.connection",
            Severity::Critical,
            cause,
            "connect it, or wait until it answers",
        ));
    }
    if host.maintenance {
        let cause = format!("{name}, the host of the appliance, is in maintenance: it takes no machines");
        found.push(Finding::new(
            "host.maintenance",
            Severity::Critical,
            cause,
            "end its maintenance, or move the appliance",
        ));
    }
    found
}

pub(super) fn unseen(appliance: &str) -> Finding {
    Finding::new(
        "host.unseen",
        Severity::Critical,
        format!("the host of {appliance} is not seen: its discovery is not complete"),
        "wait until the server shows it, and give the user System.Read on it",
    )
}

/// All others: their machines are not discovered.
pub(super) fn others(hosts: &[&Host]) -> Option<Finding> {
    let lost: Vec<&str> =
        hosts.iter().filter(|host| host.away().is_some()).map(|host| host.name.as_str()).collect();
    if lost.is_empty() {
        return None;
    }
    let cause = format!(
        "not connected: {}; machines there are not discovered, captured or fenced",
        listed(lost.into_iter())
    );
    Some(Finding::new("host.connection", Severity::Warning, cause, "connect them"))
}

/// What of the appliance's host has to be known before a machine is made on it, and is not.
pub(super) fn incomplete(host: &Host, offers: &[Offer], pool: bool, folder: bool) -> Option<Finding> {
    let missing = [
        ("no datastore", host.datastores.is_empty() || offers.is_empty()),
        ("no network", host.networks.is_empty()),
        ("no resource pool", !pool),
        ("no folder of machines", !folder),
    ];
    let missing: Vec<&str> = missing.iter().filter(|(_, missing)| *missing).map(|(what, _)| *what).collect();
    if missing.is_empty() {
        return None;
    }
    let cause =
        format!("the discovery of {} is not complete: {} of it is seen", host.name, missing.join(", "));
    let remedy = "wait until the server shows them, and give the user System.Read on them";
    Some(Finding::new("host.incomplete", Severity::Critical, cause, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::readiness::tests::{codes, host};
    use site_recovery_vim::Moref;

    fn offer() -> Offer {
        Offer { name: "one".into(), size: 2, free: 1, ineligible: None }
    }

    #[test]
    fn a_host_that_is_away_or_in_maintenance_takes_no_machine() {
        assert!(of_appliance(&host("esx-1")).is_empty());
        let away = Host { connection: Some("notResponding".into()), maintenance: true, ..host("esx-1") };
        let told = of_appliance(&away);
        assert_eq!(codes(&told), ["host.connection", "host.maintenance"]);
        assert!(told.iter().all(Finding::blocks) && told[0].cause.contains("notResponding"));
        let others = others(&[&host("esx-2"), &away]).expect("one is away");
        assert!(others.severity == Severity::Warning && !others.cause.contains("esx-2"), "{}", others.cause);
    }

    #[test]
    fn what_is_not_seen_of_a_host_is_named() {
        assert_eq!(incomplete(&host("esx-1"), &[offer()], true, true), None);
        let bare = Host { networks: vec![], datastores: vec![Moref::new("Datastore", "d")], ..host("esx-1") };
        let told = incomplete(&bare, &[], false, true).expect("incomplete");
        assert!(told.cause.contains("no datastore, no network, no resource pool of it"), "{}", told.cause);
        assert!(told.blocks());
    }
}

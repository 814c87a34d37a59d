//! Where a machine lands: on the datastores that it has, or as a new one under a name that is free.

use super::listed;
use site_recovery::{Finding, Offer, Severity};

/// Whether the host of the appliance can write where the machine's disks are: the original location.
pub(super) fn reach(machine: &str, datastores: &[&Offer]) -> Option<Finding> {
    let out_of_reach: Vec<String> = datastores
        .iter()
        .filter_map(|offer| Some(format!("{} ({})", offer.name, offer.ineligible.as_deref()?)))
        .collect();
    if out_of_reach.is_empty() {
        return None;
    }
    let cause = format!("disks of {machine} are on {}", listed(out_of_reach.iter().map(String::as_str)));
    let remedy = "mount it for reading and writing on the appliance's host, or let the machine land at the alternate location";
    Some(Finding::new("datastore.reach", Severity::Critical, cause, remedy))
}

/// Whether new disks could be made anywhere.
pub(super) fn any(offers: &[Offer]) -> Option<Finding> {
    if offers.is_empty() || offers.iter().any(|offer| offer.ineligible.is_none()) {
        return None;
    }
    let why = offers
        .iter()
        .map(|offer| format!("{}: {}", offer.name, offer.ineligible.as_deref().unwrap_or_default()));
    let why: Vec<String> = why.collect();
    let cause = format!(
        "the appliance's host can write to no datastore ({})",
        listed(why.iter().map(String::as_str))
    );
    Some(Finding::new("datastore.none", Severity::Critical, cause, "mount one for reading and writing"))
}

/// A new machine gets another name where its own is taken.
pub(super) fn name(wanted: &str, asked_for: bool, taken: bool) -> Option<Finding> {
    let severity = if asked_for { Severity::Warning } else { Severity::Info };
    taken.then(|| {
        let cause = format!("there is a machine {wanted} already: the new one is called {wanted}-2, or by the next number that is free");
        Finding::new("landing.name", severity, cause, "nothing; say settings.name where another one is wanted")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(name: &str, ineligible: Option<&str>) -> Offer {
        Offer { name: name.into(), size: 2, free: 1, ineligible: ineligible.map(str::to_owned) }
    }

    #[test]
    fn disks_out_of_reach_of_the_appliance_are_named_with_the_reason() {
        let (near, far) =
            (offer("near", None), offer("far", Some("the host of the appliance may only read it")));
        assert_eq!(reach("web", &[&near]), None);
        let told = reach("web", &[&near, &far]).expect("one is read-only");
        assert!(told.blocks() && told.cause.contains("far (the host of the appliance may only read it)"));
    }

    #[test]
    fn one_datastore_that_can_be_written_will_do() {
        assert_eq!(any(&[offer("far", Some("no host reaches it")), offer("near", None)]), None);
        assert!(
            any(&[offer("far", Some("no host reaches it"))])
                .is_some_and(|f| f.blocks() && f.cause.contains("no host"))
        );
        assert_eq!(any(&[]), None, "that nothing is seen is told otherwise");
    }

    #[test]
    fn a_name_that_is_taken_is_told_louder_where_it_was_asked_for() {
        assert_eq!(name("web", true, false), None);
        assert_eq!(name("web", true, true).map(|f| f.severity), Some(Severity::Warning));
        assert_eq!(name("web", false, true).map(|f| f.severity), Some(Severity::Info));
    }
}

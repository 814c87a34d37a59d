//! A protected machine changes: disks grow and are added, adapters come and go. Its source is asked again, and what it
//! tells becomes the item's description.

use super::turn::{Cause, Turn};
use super::watch::alert;
use crate::{Event, Finding, Item, Machine, Result, Severity};

/// Asks the source of the active instance, and journals what is new. A machine that is not told stays as it was.
///
/// # Errors
/// Those of the source and of the journal.
pub(crate) async fn anew(turn: &Turn, item: &Item) -> Result<()> {
    let shared = &turn.shared;
    let Some(source) = shared.sources.get(&item.active().site) else { return Ok(()) };
    let told = shared.within(shared.deadlines.source, "discover", source.discover()).await?;
    let Some(now) = told.into_iter().find(|m| m.instance.is(item.active())) else { return Ok(()) };
    for finding in differences(&item.machine, &now) {
        alert(turn, item, finding);
    }
    let described = merged(&item.machine, now);
    if described == item.machine {
        return Ok(());
    }
    let events = [(item.id().clone(), Event::Described(described))];
    turn.record(&Cause::engine("the machine is described anew"), &events, |_| {}).await
}

/// As it is told now, under the instance that it is here. A replicated disk that is missing stays in the description,
/// since its points do; and so does a title, which a site that knows none would take from the sites that do.
fn merged(known: &Machine, now: Machine) -> Machine {
    let mut disks = known.disks.clone();
    for disk in now.disks {
        match disks.iter_mut().find(|d| d.id == disk.id) {
            Some(known) => known.size = known.size.max(disk.size),
            None => disks.push(crate::DiskSpec { included: false, ..disk }),
        }
    }
    let title = now.title.or_else(|| known.title.clone());
    Machine { instance: known.instance.clone(), title, disks, ..now }
}

fn differences(known: &Machine, now: &Machine) -> Vec<Finding> {
    let mut found = vec![];
    for disk in &now.disks {
        let before = known.disks.iter().find(|d| d.id == disk.id);
        if let Some(before) = before.filter(|before| disk.size < before.size) {
            let cause =
                format!("disk {} of {known} shrank from {} to {} bytes", disk.id, before.size, disk.size);
            let remedy = "disable the protection and protect the machine again";
            found.push(Finding::new("disk-shrank", Severity::Critical, cause, remedy));
        }
    }
    for disk in known.included().filter(|d| !now.disks.iter().any(|n| n.id == d.id)) {
        let cause = format!("disk {} of {known} is gone", disk.id);
        let remedy = "attach it again, or disable the protection and protect the machine without it";
        found.push(Finding::new("disk-gone", Severity::Critical, cause, remedy));
    }
    found
}

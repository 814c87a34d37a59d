//! Names that lead nowhere, and values that the library refuses: told by their lines, before anything is opened.

use super::{LegSettings, Named, Place, Settings, SiteSettings, StoreSettings, refused};
use serde_spanned::Spanned;
use site_recovery::Result;
use std::collections::BTreeMap;

/// Checks all names and values.
///
/// # Errors
/// `Invalid`, naming the first that is wrong.
pub(crate) fn check(settings: &Settings, place: &Place<'_>) -> Result<()> {
    for leg in settings.legs.values() {
        check_leg(settings, leg, place)?;
    }
    for policy in settings.policies.values() {
        policy.get_ref().policy().validate().map_err(|e| refused(place, policy.span(), &e))?;
    }
    for machine in settings.machines.values().map(Spanned::get_ref) {
        known(&machine.policy, &settings.policies, "policies", place)?;
        known(&machine.out, &settings.legs, "legs", place)?;
        known(&machine.back, &settings.legs, "legs", place)?;
        if let Some(told) = &machine.settings {
            told.get_ref().settings().validate().map_err(|e| refused(place, told.span(), &e))?;
        }
    }
    let mut members: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, group) in &settings.groups {
        known(&group.get_ref().policy, &settings.policies, "policies", place)?;
        if group.get_ref().machines.is_empty() {
            return Err(place.refuse(group.span(), "a group has a machine at least", "name its machines"));
        }
        for machine in &group.get_ref().machines {
            if let Some(own) = settings.machines.get(machine.get_ref()).filter(|own| own.get_ref().is_told())
            {
                let rule = format!("{} is replicated with the group {name}, by one way", machine.get_ref());
                let remedy =
                    "leave its table out; a leg says what all machines shall be: [legs.NAME.settings]";
                return Err(place.refuse(own.span(), &rule, remedy));
            }
            if let Some(other) = members.insert(machine.get_ref(), name) {
                let rule = format!("{} is in the group {other} already", machine.get_ref());
                return Err(place.refuse(machine.span(), &rule, "name it in one group"));
            }
        }
    }
    Ok(())
}

fn check_leg(settings: &Settings, leg: &Spanned<LegSettings>, place: &Place<'_>) -> Result<()> {
    let told = leg.get_ref();
    exists(&told.from, &settings.sites, "sites", place)?;
    exists(&told.to, &settings.sites, "sites", place)?;
    if told.from.get_ref() == told.to.get_ref() {
        return Err(place.refuse(told.to.span(), "a leg leads to another site", "name the other site"));
    }
    let to = &settings.sites[told.to.get_ref()];
    let cannot = |what: &str| {
        place.refuse(told.to.span(), &format!("a site of the kind {} {what}", to.kind()), "name another site")
    };
    if let Some(landed) = &told.settings {
        let said = landed.get_ref().settings();
        said.validate().map_err(|e| refused(place, landed.span(), &e))?;
        if let Some(field) = said.of_one_machine() {
            let rule = format!("{field}: it is of one machine, and a leg is many machines' way");
            let remedy = "write it at the machine: [machines.NAME.settings]";
            return Err(place.refuse(landed.span(), &rule, remedy));
        }
    }
    match (&told.store, &told.retention) {
        (Some(store), None) if to.runs_recovered() => {
            exists(store, &settings.stores, "stores", place)?;
            check_store(settings, store, place)
        }
        (Some(_), None) => Err(cannot("runs no recovered machines: no leg out leads there")),
        (None, Some(_)) if !to.is_landed_on() => Err(cannot("is not landed on: no leg back leads there")),
        (None, Some(_)) => Ok(()),
        _ => {
            let rule = "a leg has either a store, and leads out, or a retention directory, and leads back";
            Err(place.refuse(leg.span(), rule, "give one of both"))
        }
    }
}

/// The points of a container belong to a site of Azure.
fn check_store(settings: &Settings, store: &Spanned<String>, place: &Place<'_>) -> Result<()> {
    let Some(StoreSettings::Azure(told)) = settings.stores.get(store.get_ref()) else { return Ok(()) };
    exists(&told.site, &settings.sites, "sites", place)?;
    match &settings.sites[told.site.get_ref()] {
        SiteSettings::Azure(_) => Ok(()),
        other => {
            let rule = format!("a site of the kind {} has no container", other.kind());
            Err(place.refuse(told.site.span(), &rule, "name a site of the kind azure"))
        }
    }
}

fn known<T>(name: &Option<Spanned<String>>, all: &Named<T>, of: &str, place: &Place<'_>) -> Result<()> {
    name.as_ref().map_or(Ok(()), |name| exists(name, all, of, place))
}

fn exists<T>(name: &Spanned<String>, all: &BTreeMap<String, T>, of: &str, place: &Place<'_>) -> Result<()> {
    if all.contains_key(name.get_ref()) {
        return Ok(());
    }
    let named: Vec<&str> = all.keys().map(String::as_str).collect();
    let remedy = match named.as_slice() {
        [] => format!("write [{of}.{}]", name.get_ref()),
        named => format!("name one of these, or write [{of}.{}]: {}", name.get_ref(), named.join(", ")),
    };
    Err(place.refuse(name.span(), &format!("no {of}.{} is there", name.get_ref()), &remedy))
}

//! Recovery plans: what can be seen to be wrong before the vault is opened, told by its boot group.

use super::{Place, Settings, refused};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_spanned::Spanned;
use site_recovery::{Error, Result};
use site_recovery_plans::{BootGroup, MOST_MACHINES, Plan, check_name};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where the boot groups of each plan stand.
#[derive(Debug, Deserialize)]
struct Outline {
    #[serde(default)]
    plans: BTreeMap<String, PlanOutline>,
}

#[derive(Debug, Deserialize)]
struct PlanOutline {
    groups: Vec<Spanned<IgnoredAny>>,
}

/// Checks all plans. What their names mean in the vault is checked when a run begins.
///
/// # Errors
/// `Invalid`, at the first boot group up to which a plan is wrong already, else at the plan.
pub(super) fn check(settings: &Settings, place: &Place<'_>) -> Result<()> {
    let outline: Outline = toml::from_str(place.text()).map_err(|e| place.told(&e))?;
    for (name, plan) in &settings.plans {
        let groups = outline.plans.get(name).map_or(&[][..], |plan| &plan.groups);
        let at = |number: usize| groups.get(number).map_or(plan.span(), Spanned::span);
        check_name(name).map_err(|e| refused(place, plan.span(), &e))?;
        if let Some((number, error)) = first_wrong(settings, plan.get_ref()) {
            return Err(told(place, at(number), &error));
        }
        plan.get_ref().validate().map_err(|e| told(place, plan.span(), &e))?;
    }
    Ok(())
}

/// The first boot group up to which the plan is wrong already, by its place.
fn first_wrong(settings: &Settings, plan: &Plan) -> Option<(usize, Error)> {
    (0..plan.groups.len()).find_map(|at| {
        let so_far = Plan { groups: plan.groups[..=at].to_vec(), ..Plan::default() };
        let checked = so_far.validate().and_then(|()| check_members(settings, &so_far.groups));
        checked.err().map(|error| (at, error))
    })
}

/// What the replication groups of the settings tell of members.
fn check_members(settings: &Settings, groups: &[BootGroup]) -> Result<()> {
    let mut machines = 0;
    for member in groups.iter().flat_map(|group| &group.members) {
        let unit = member.unit.as_str();
        let of =
            settings.groups.iter().find(|(_, g)| g.get_ref().machines.iter().any(|m| m.get_ref() == unit));
        if let Some((group, _)) = of {
            let value = format!("{unit}, a machine of groups.{group}");
            return Err(Error::invalid(
                "member.unit",
                value,
                "a replication group is never parted",
                "name the group",
            ));
        }
        machines += settings.groups.get(unit).map_or(1, |group| group.get_ref().machines.len());
    }
    if machines > MOST_MACHINES {
        let (value, rule) = (format!("{machines} machines"), format!("a plan has at most {MOST_MACHINES}"));
        return Err(Error::invalid("plan.groups", value, &rule, "make two plans"));
    }
    Ok(())
}

/// The library's own remedy stands in its message.
fn told(place: &Place<'_>, at: Range<usize>, error: &Error) -> Error {
    place.refuse(at, error.message(), "docs/cli.md describes plans")
}

//! What no plan may be, found before anything is changed.

use crate::plan::{Action, BootGroup, Does, Plan};
use site_recovery::state::Direction;
use site_recovery::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// Boot groups of a plan; Azure's limit.
pub const MOST_GROUPS: usize = 7;
/// Machines of a plan; Azure's limit.
pub const MOST_MACHINES: usize = 100;

impl Plan {
    /// Checks what can be seen without a vault. What its names mean, and how many machines they are, is checked when a run
    /// begins.
    ///
    /// # Errors
    /// [`Invalid`](site_recovery::ErrorKind::Invalid), naming field, value, rule and remedy: no group or more than seven, a
    /// group without a member, a member twice, one that waits for a stranger or, in the end, for itself; an action without
    /// a name, with another's name, without a program, instructions, a machine or a limit; a map of addresses between
    /// subnets of unequal size, or maps that overlap.
    pub fn validate(&self) -> Result<()> {
        let groups = self.groups.len();
        if !(1..=MOST_GROUPS).contains(&groups) {
            return refuse(
                "plan.groups",
                groups,
                "a plan has 1 to 7 boot groups",
                "merge groups, or make two plans",
            );
        }
        let mut units = BTreeSet::new();
        for (group, number) in self.groups.iter().zip(1..) {
            if group.members.is_empty() {
                return refuse(
                    "plan.groups",
                    format!("group {number} is empty"),
                    "a group has a member",
                    "remove it",
                );
            }
            for member in &group.members {
                if member.unit.is_empty() {
                    return refuse(
                        "member.unit",
                        "empty",
                        "a member is a machine or a replication group",
                        "name it",
                    );
                }
                if !units.insert(&member.unit) {
                    return refuse("member.unit", &member.unit, "it is a member already", "name it once");
                }
            }
            waves(group)?;
        }
        let mut names = BTreeSet::new();
        for action in self.actions() {
            check(action)?;
            if !names.insert(&action.name) {
                return refuse("action.name", &action.name, "names of actions are unique", "rename one");
            }
        }
        self.check_maps()
    }

    fn check_maps(&self) -> Result<()> {
        for (at, map) in self.networks.iter().enumerate() {
            if map.from.is_empty() || map.to.is_empty() {
                return refuse("plan.networks", format!("{map:?}"), "both networks have names", "name both");
            }
            let rule = "a network is mapped once, on either side";
            let same = |other: &&crate::NetworkMap| other.from == map.from || other.to == map.to;
            if let Some(other) = self.networks[..at].iter().find(same) {
                return refuse("plan.networks", format!("{map:?} beside {other:?}"), rule, "remove one");
            }
        }
        for (at, map) in self.addresses.iter().enumerate() {
            let value = format!("{} to {}", map.from, map.to);
            if !map.from.fits(map.to) {
                let rule = "both subnets are of one family and of one size";
                return refuse("plan.addresses", value, rule, "give both the same prefix");
            }
            let alike = self.addresses[..at].iter().filter(|other| other.machine == map.machine);
            for other in alike {
                if [Direction::PrimaryToRecovery, Direction::RecoveryToPrimary]
                    .into_iter()
                    .any(|way| map.sides(way).0.overlaps(other.sides(way).0))
                {
                    let value = format!("{value} beside {} to {}", other.from, other.to);
                    let rule = "maps do not overlap, on either side";
                    return refuse("plan.addresses", value, rule, "split or remove one");
                }
            }
        }
        Ok(())
    }
}

fn check(action: &Action) -> Result<()> {
    let name = &action.name;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !(1..=63).contains(&name.len()) || !name.chars().all(plain) {
        let rule = "1-63 letters, digits, hyphens and underscores";
        return refuse("action.name", format!("{name:?}"), rule, "choose another name");
    }
    if action.limit == 0 {
        return refuse("action.limit", format!("0 of {name}"), "an action has some time", "give it seconds");
    }
    match &action.does {
        Does::Command { program, .. } if program.first().is_none_or(String::is_empty) => {
            refuse("action.program", format!("empty of {name}"), "a command has a program", "name it")
        }
        Does::Manual { instructions } if instructions.trim().is_empty() => {
            let rule = "somebody has to know what to do";
            refuse("action.instructions", format!("empty of {name}"), rule, "write it down")
        }
        Does::Port { port: 0, .. } => {
            refuse("action.port", format!("0 of {name}"), "ports are 1-65535", "name one")
        }
        Does::Port { machine, .. } | Does::Probe { machine } if machine.is_empty() => {
            refuse("action.machine", format!("empty of {name}"), "it looks at a machine", "name it")
        }
        _ => Ok(()),
    }
}

/// Checks the name of a plan, which is part of names in the journal.
///
/// # Errors
/// [`Invalid`](site_recovery::ErrorKind::Invalid): it is not 1-63 letters, digits and hyphens.
pub fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if (1..=63).contains(&name.len()) && name.chars().all(plain) {
        return Ok(());
    }
    refuse("plan.name", format!("{name:?}"), "1-63 letters, digits and hyphens", "choose another name")
}

/// The members by their place in the group, in waves: each waits for none but those of earlier waves.
///
/// # Errors
/// `Invalid`: a member waits for one that is not in the group, or members wait for each other in a ring.
pub(crate) fn waves(group: &BootGroup) -> Result<Vec<Vec<usize>>> {
    let places: BTreeMap<&str, usize> =
        group.members.iter().enumerate().map(|(at, m)| (m.unit.as_str(), at)).collect();
    for member in &group.members {
        if let Some(stranger) = member.after.iter().find(|name| !places.contains_key(name.as_str())) {
            let value = format!("{stranger} of {}", member.unit);
            let rule = "a member waits for members of its own boot group";
            return refuse("member.after", value, rule, "remove it, or put it into an earlier group");
        }
    }
    let (mut waves, mut up) = (vec![], BTreeSet::<usize>::new());
    while up.len() < group.members.len() {
        let ready = |at: &usize| {
            let member = &group.members[*at];
            !up.contains(at) && member.after.iter().all(|name| up.contains(&places[name.as_str()]))
        };
        let wave: Vec<usize> = (0..group.members.len()).filter(ready).collect();
        if wave.is_empty() {
            let ring = group.members.iter().enumerate().filter(|(at, _)| !up.contains(at));
            let ring: Vec<&str> = ring.map(|(_, m)| m.unit.as_str()).collect();
            let rule = "no member waits for itself, by whatever way";
            return refuse("member.after", ring.join(", "), rule, "break the ring");
        }
        up.extend(wave.iter().copied());
        waves.push(wave);
    }
    Ok(waves)
}

pub(crate) fn refuse<T>(field: &'static str, value: impl Display, rule: &str, remedy: &str) -> Result<T> {
    Err(Error::invalid(field, value, rule, remedy))
}

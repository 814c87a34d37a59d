//! What a plan's names mean in a vault, and whether its members can do what is asked.

use crate::check::{MOST_MACHINES, refuse};
use crate::plan::{Part, Plan};
use crate::run::{MachineRun, MemberRun, MemberState, PlanRun};
use futures_util::future::join_all;
use site_recovery::state::{Direction, Phase, State};
use site_recovery::{
    Error, ErrorKind, GroupHandle, Item, ItemHandle, MachineId, Operation, PointChoice, ReprotectRequest,
    Request, Result, Vault,
};
use std::collections::{BTreeMap, BTreeSet};

/// A member of a plan as the vault has it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) name: String,
    pub(crate) group: usize,
    pub(crate) handle: GroupHandle,
    pub(crate) items: Vec<Item>,
}

/// One item by the name of its machine, or by the vault's own.
pub(crate) fn item(vault: &Vault, name: &str) -> Result<ItemHandle> {
    vault.item(&MachineId::from(name)).or_else(|_| vault.find(name))
}

/// The vault's name of a machine.
pub(crate) fn machine_id(vault: &Vault, name: &str) -> Result<MachineId> {
    Ok(item(vault, name)?.id().clone())
}

/// All members, in the plan's order.
///
/// # Errors
/// `Invalid`: a name that the vault does not know, a single machine of a replication group, a machine twice, more than
/// [`MOST_MACHINES`]; an action that looks at a machine which is no member, or has not booted by then; a map for a machine that
/// is no member. `Conflict` for a title that several machines have.
pub(crate) fn resolve(vault: &Vault, plan: &Plan) -> Result<Vec<Resolved>> {
    let (mut all, mut units) = (vec![], BTreeSet::new());
    for (group, number) in plan.groups.iter().zip(1..) {
        for member in &group.members {
            let handle = unit(vault, &member.unit)?;
            if !units.insert(handle.unit().clone()) {
                let value = format!("{}, the unit {}", member.unit, handle.unit());
                return refuse("member.unit", value, "it is a member already", "name it once");
            }
            let items = handle.items().iter().map(ItemHandle::item).collect::<Result<Vec<Item>>>()?;
            all.push(Resolved { name: member.unit.clone(), group: number, handle, items });
        }
    }
    let machines: usize = all.iter().map(|m: &Resolved| m.items.len()).sum();
    if machines > MOST_MACHINES {
        return refuse(
            "plan.groups",
            format!("{machines} machines"),
            "a plan has at most 100",
            "make two plans",
        );
    }
    let groups = all.iter().flat_map(|m| m.items.iter().map(|i| (i.id().clone(), m.group))).collect();
    check_actions(vault, plan, &groups)?;
    for name in plan.addresses.iter().filter_map(|map| map.machine.as_deref()) {
        if !groups.contains_key(&machine_id(vault, name)?) {
            return refuse("plan.addresses", name, "the machine is no member of the plan", "remove the map");
        }
    }
    Ok(all)
}

fn unit(vault: &Vault, name: &str) -> Result<GroupHandle> {
    match item(vault, name) {
        Ok(item) if item.unit().as_str() != item.id().as_str() => {
            let value = format!("{name}, a machine of the replication group {}", item.unit());
            refuse("member.unit", value, "a replication group is never parted", "name the group")
        }
        Ok(item) => vault.group(item.unit().as_str()),
        Err(error) if error.kind() == ErrorKind::NotFound => vault.group(name).or_else(|_| {
            let rule = "no machine and no replication group of this name is protected here";
            refuse("member.unit", name, rule, "protect it, or remove it from the plan")
        }),
        Err(error) => Err(error),
    }
}

fn check_actions(vault: &Vault, plan: &Plan, groups: &BTreeMap<MachineId, usize>) -> Result<()> {
    for part in plan.parts() {
        for (list, booted) in
            [(plan.before(part), booted_before(part)), (plan.after(part), booted_after(part))]
        {
            for action in list {
                let Some(machine) = action.does.machine() else { continue };
                let value = format!("{machine} of {}", action.name);
                let found = machine_id(vault, machine).ok().and_then(|id| groups.get(&id));
                match found {
                    None => {
                        let rule = "the machine is no member of the plan";
                        return refuse("action.machine", value, rule, "name a member's machine");
                    }
                    Some(group) if *group > booted => {
                        let rule = "its boot group boots later";
                        return refuse("action.machine", value, rule, "put the action after that group");
                    }
                    Some(_) => {}
                }
            }
        }
    }
    Ok(())
}

/// How many boot groups run by then.
fn booted_before(part: Part) -> usize {
    if let Part::Group(number) = part { number - 1 } else { 0 }
}

fn booted_after(part: Part) -> usize {
    if let Part::Group(number) = part { number } else { 0 }
}

/// Which way the members go: what is asked for, or else the way of the first one.
pub(crate) fn direction(members: &[Resolved], request: &Request) -> Direction {
    match request {
        Request::Failover(request) => request.direction,
        // Drills run at the recovery side of the way out.
        Request::Drill(_) => Direction::PrimaryToRecovery,
        _ => {
            let first = members.iter().flat_map(|m| &m.items).next();
            first.map_or(Direction::PrimaryToRecovery, |item| item.state.direction)
        }
    }
}

/// Checks all members, and gives their records. Changes nothing.
///
/// # Errors
/// `Invalid` for a direction that a member does not replicate in, or for a request that cannot be meant of several; `Busy`
/// while a member has another job; `Refused` for a member that cannot do it, or where none has anything to do; those of the
/// vault's own plan of it.
pub(crate) async fn check(
    members: &[Resolved],
    operation: Operation,
    request: &Request,
    before: Option<&PlanRun>,
) -> Result<Vec<MemberRun>> {
    check_request(members, request)?;
    let direction = direction(members, request);
    let notes = members.iter().map(|m| idle(m, operation, direction)).collect::<Result<Vec<_>>>()?;
    let boots = matches!(request, Request::Failover(_) | Request::Drill(_));
    let going = members.iter().zip(&notes).filter(|(_, note)| boots && note.is_none());
    let checked = join_all(going.map(async |(member, _)| {
        let possible = async {
            member.handle.plan(operation, request).await?;
            ready(member, operation).await
        };
        possible.await.map_err(|e| e.with("member", &member.name))
    }));
    checked.await.into_iter().collect::<Result<()>>()?;
    let mut runs = vec![];
    for (member, note) in members.iter().zip(notes) {
        runs.push(MemberRun {
            name: member.name.clone(),
            unit: member.handle.unit().clone(),
            group: member.group,
            state: if note.is_some() { MemberState::Skipped } else { MemberState::Waiting },
            job: None,
            earlier: vec![],
            started: None,
            ended: None,
            error: None,
            note,
            machines: member.items.iter().map(|item| machine_run(member, item, before)).collect(),
        });
    }
    if runs.iter().all(|run| run.state == MemberState::Skipped) {
        let notes: Vec<String> =
            runs.iter().map(|r| format!("{}: {}", r.name, r.note.as_deref().unwrap_or_default())).collect();
        let message = format!("no member has anything to do: {}", notes.join("; "));
        return Err(Error::new(ErrorKind::Refused, message));
    }
    Ok(runs)
}

fn machine_run(member: &Resolved, item: &Item, before: Option<&PlanRun>) -> MachineRun {
    let known = before.into_iter().flat_map(|run| run.members.iter().flat_map(|m| &m.machines));
    let known =
        known.filter(|m| m.machine == *item.id()).map(|m| m.mapped.clone()).next().unwrap_or_default();
    let alone = member.items.len() == 1;
    MachineRun {
        name: if alone { member.name.clone() } else { item.machine.called().to_owned() },
        machine: item.id().clone(),
        point: None,
        loss: None,
        reach: vec![],
        verdict: None,
        replaced: known.clone(),
        mapped: known,
    }
}

fn check_request(members: &[Resolved], request: &Request) -> Result<()> {
    let several = members.iter().map(|m| m.items.len()).sum::<usize>() > 1;
    match request {
        Request::Failover(r) => r.validate()?,
        Request::Commit(r) if r.force.as_ref().is_some_and(|f| f.operator.trim().is_empty()) => {
            return refuse("force", "nobody", "a force has a name and a reason", "give both");
        }
        _ => {}
    }
    let point = match request {
        Request::Failover(r) => Some(r.point),
        Request::Drill(r) => Some(r.point),
        _ => None,
    };
    if several && matches!(point, Some(PointChoice::Custom(_))) {
        return refuse("failover.point", "Custom", "a point belongs to one machine", "choose a latest form");
    }
    if let Request::Reprotect(ReprotectRequest { settings: Some(settings), .. }) = request
        && several
        && let Some(field) = settings.of_one_machine()
    {
        let rule = "it is of one machine, and the plan has several";
        return refuse("reprotect.settings", field, rule, "leave it out, and set it at each machine");
    }
    Ok(())
}

/// Why a member has nothing to do; none where it has.
fn idle(member: &Resolved, operation: Operation, direction: Direction) -> Result<Option<String>> {
    let fails_over = crate::plan::Kind::of(operation).is_some();
    for item in &member.items {
        let state = &item.state;
        if fails_over && is_up(state, direction) {
            return Ok(Some(format!("it was brought up in this direction already: {state}")));
        }
        if fails_over && state.direction != direction && state.phase != Phase::Unprotected {
            let rule = format!("{} replicates {:?}", member.name, state.direction);
            return refuse("plan.direction", format!("{direction:?}"), &rule, "check which side runs");
        }
        if state.allowed_operations().contains(&operation) {
            continue;
        }
        if !fails_over {
            return Ok(Some(format!("it stands at {state}")));
        }
        let run = member.handle.run();
        let kind = if run.is_some() { ErrorKind::Busy } else { ErrorKind::Refused };
        let job = run.map(|run| format!(", job {} is under way", run.id)).unwrap_or_default();
        let message = format!("{} cannot do {operation:?}: it stands at {state}{job}", member.name);
        return Err(Error::new(kind, message).with("member", &member.name));
    }
    Ok(None)
}

/// Whether a machine runs where this direction leads.
fn is_up(state: &State, direction: Direction) -> bool {
    use Phase::*;
    match state.phase {
        FailoverCompleted(_)
        | CommitFailoverInProgress
        | CommitFailoverFailed
        | CommitFailoverCompleted
        | ReprotectInitiated
        | ReprotectFailed
        | MigrationCompleted => state.direction == direction,
        Protected => state.direction == direction.turned(),
        _ => false,
    }
}

/// What readiness finds in the way of a planned failover; of an unplanned one nothing is, and a drill finds out.
async fn ready(member: &Resolved, operation: Operation) -> Result<()> {
    if operation != Operation::PlannedFailover {
        return Ok(());
    }
    for item in member.handle.items() {
        let readiness = item.check_readiness().await?;
        if let Some(found) = readiness.findings.iter().find(|f| f.blocks()) {
            let message =
                format!("{} is not ready: {}: {}; {}", member.name, found.code, found.cause, found.remedy);
            return Err(Error::new(ErrorKind::Refused, message));
        }
    }
    Ok(())
}

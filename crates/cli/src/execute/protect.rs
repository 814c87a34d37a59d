//! Takes machines and groups into care, as the settings say.

use super::{Out, Request, follow, page};
use crate::answer::{Answer, DonePage, Ended};
use crate::args::Protect;
use crate::engine::Engine;
use crate::settings::Settings;
use serde_spanned::Spanned;
use site_recovery::state::Phase;
use site_recovery::{Error, ErrorKind, ItemHandle, Policy, ProtectRequest, Result};

/// Protects one after the other, and waits for the first point of each.
///
/// # Errors
/// `Invalid` for a policy that the settings lack; those of [`Vault::protect`](site_recovery::Vault::protect).
pub(super) async fn protect(engine: &Engine, request: &Request, told: &Protect, out: &Out) -> Result<Answer> {
    let mut items: Vec<ItemHandle> = vec![];
    let mut last = None;
    let wishes = told.names.iter().map(|name| wish(&engine.settings, name, told.policy.as_deref()));
    for mut wish in wishes.collect::<Result<Vec<_>>>()? {
        wish.operator.clone_from(&request.operator);
        let answer = one(engine, wish, request, out, &mut items).await?;
        match &answer {
            Answer::Job(page) if page.outcome != Ended::Done => return Ok(answer),
            _ => last = Some(answer),
        }
    }
    match (told.names.len(), last) {
        (1, Some(answer)) => Ok(answer),
        (count, _) => {
            let said = format!("{count} are protected");
            Ok(Answer::Done(DonePage { said, items: page::lines(items).await }))
        }
    }
}

async fn one(
    engine: &Engine,
    wish: ProtectRequest,
    request: &Request,
    out: &Out,
    items: &mut Vec<ItemHandle>,
) -> Result<Answer> {
    let name = wish.group.clone().or_else(|| wish.machines.first().cloned()).unwrap_or_default();
    // What has failed before goes on, under the settings that it has.
    if let Ok(unit) = engine.unit(&name, &request.operator)
        && unit
            .items()
            .iter()
            .any(|item| item.state().is_ok_and(|state| state.phase == Phase::EnablingFailed))
    {
        items.extend(unit.items());
        return follow::begun(engine, &unit, out, unit.enable()).await;
    }
    let unit = match wish.group.is_some() {
        true => engine.vault.protect_group(wish).await?,
        false => engine.vault.group(engine.vault.protect(wish).await?.unit().as_str())?,
    };
    let unit = unit.acting_as(&request.operator);
    items.extend(unit.items());
    let job = unit.items().first().and_then(ItemHandle::job);
    match job {
        Some(job) => follow::follow(engine, job, &unit, out).await,
        None => {
            let said = format!("{name} is protected");
            Ok(Answer::Done(DonePage { said, items: page::lines(unit.items()).await }))
        }
    }
}

/// What the settings say of a machine or a group.
fn wish(settings: &Settings, name: &str, policy: Option<&str>) -> Result<ProtectRequest> {
    let named = |own: &Option<Spanned<String>>| {
        policy.or(own.as_ref().map(|p| p.get_ref().as_str())).map(str::to_owned)
    };
    if let Some(group) = settings.groups.get(name).map(Spanned::get_ref) {
        let machines: Vec<&str> = group.machines.iter().map(|m| m.get_ref().as_str()).collect();
        let wish = ProtectRequest::group(name, &machines).policy(find(settings, named(&group.policy))?);
        return Ok(wish);
    }
    let wish = ProtectRequest::machine(name);
    let Some(machine) = settings.machines.get(name).map(Spanned::get_ref) else {
        return Ok(wish.policy(find(settings, named(&None))?));
    };
    let mut wish = wish.policy(find(settings, named(&machine.policy))?);
    wish.settings = machine.settings.as_ref().map(|told| told.get_ref().settings());
    wish.excluded = machine.excluded.iter().map(|disk| disk.as_str().into()).collect();
    if machine.out.is_some() || machine.back.is_some() {
        let leg = |own: &Option<Spanned<String>>, usual: &str| {
            own.as_ref().map_or(usual, |l| l.get_ref()).to_owned()
        };
        wish.legs = Some((leg(&machine.out, "out"), leg(&machine.back, "back")));
    }
    Ok(wish)
}

fn find(settings: &Settings, name: Option<String>) -> Result<Policy> {
    match name {
        Some(name) => settings.policies.get(&name).map(|p| p.get_ref().policy()).ok_or_else(|| {
            let all: Vec<&str> = settings.policies.keys().map(String::as_str).collect();
            let message = format!("no policies.{name} is in the settings; these are: {}", all.join(", "));
            Error::new(ErrorKind::NotFound, message).with("field", "policy")
        }),
        None => Ok(settings.policies.get("default").map_or_else(Policy::default, |p| p.get_ref().policy())),
    }
}

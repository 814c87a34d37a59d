//! The question while the server is well: who would answer at its next start, and what.

use super::settings::{Guard, Through, is_name, shows_its_own};
use super::witnesses::{OfOne, Witnesses};
use super::{blocks, elsewhere};
use crate::settings::Agent;
use site_recovery::{ErrorKind, PhaseRecord, Result};
use site_recovery_physical::guard::{Mark, Verdict, verdict};
use std::process::ExitCode;

/// Asks everybody now, through the network that stands, and tells what each one answers. Nothing of the guard is changed.
pub(crate) async fn run(settings: &Agent, asked: &Guard) -> Result<ExitCode> {
    settings.check()?;
    shows_its_own(settings)?;
    let mark = match Mark::read(&settings.agent()?.guard_mark()) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("the server is not enrolled, and nothing is guarded yet: protect it, and check again");
            return Ok(ExitCode::FAILURE);
        }
        mark => mark?,
    };
    if let Some(why) = elsewhere(&settings.agent()?) {
        println!("nothing is guarded here: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut fine = network(asked).await;
    let witnesses = Witnesses { credentials: settings.service.credentials(), asked: asked.clone() };
    let told = witnesses.each(&mark).await?;
    let (authority, refreshed) = told.authority;
    match refreshed {
        Ok(()) => println!("authority at {authority}: it tells where all services are"),
        Err(error) => {
            println!("authority at {authority}: {error}; what it told last is used");
            fine = false;
        }
    }
    fine &= resolved(asked, &authority);
    let (mut records, mut all) = (vec![], true);
    for OfOne { name, address, answer } in told.witnesses {
        let place = address.as_deref().map_or_else(String::new, |address| format!(" at {address}"));
        match answer {
            Ok(record) => {
                println!("witness {name}{place}: {}", said(record.as_ref()));
                records.extend(record);
            }
            Err(error) => {
                println!("witness {name}{place}: no answer: {error}");
                all = false;
            }
        }
        fine &= address.is_none_or(|address| resolved(asked, &address));
    }
    if !all {
        println!("verdict: none, the server would be kept off: every witness has to answer");
        return Ok(ExitCode::FAILURE);
    }
    let newest = records.into_iter().max_by_key(PhaseRecord::order);
    match verdict(&mark, newest.as_ref()) {
        Verdict::TakesPart => println!("verdict: it takes part"),
        Verdict::NotNow { why } | Verdict::StaysOff { why } => {
            println!("verdict: it would be kept off: {why}");
            fine = false;
        }
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether what a question at a start goes through is there.
async fn network(asked: &Guard) -> bool {
    let Some(Through::Lent(network)) = asked.network.clone() else { return true };
    let adapter = network.adapter.clone();
    match blocks(move || network.stands()).await {
        Ok(_) => {
            println!("network: {adapter} is there");
            true
        }
        Err(error) => {
            println!("network: {error}");
            false
        }
    }
}

/// Whether an address counts before there is a resolver.
fn resolved(asked: &Guard, address: &str) -> bool {
    let needed = matches!(asked.network, Some(Through::Lent(_))) && is_name(&asked.pinned(address));
    if needed {
        println!("    {address} is a name, and nobody resolves it before the network: pin it in guard.hosts");
    }
    !needed
}

fn said(record: Option<&PhaseRecord>) -> String {
    record.map_or_else(
        || "nothing is recorded of this machine".to_owned(),
        |record| {
            let (item, order) = (&record.control.item, record.order());
            let active = item.active();
            format!(
                "{} at {} has write authority ({}), {order:?}",
                active.name, active.site, item.state.phase
            )
        },
    )
}

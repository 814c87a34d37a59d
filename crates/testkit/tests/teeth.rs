//! The suites bite: for every rule there is a broken implementation that its cases catch.
//!
//! Each role of the in-memory world is put behind a decorator that does one thing wrong. All cases of the role run
//! against it; the ones of the rule that it breaks have to fail, and all have to pass where nothing is wrong. The matrix
//! of rules and faults is printed (`--nocapture`). Every rule has to be the only one to catch something at least once:
//! a rule that never is says nothing of its own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod memory;

#[path = "teeth/bytes.rs"]
mod bytes;
#[path = "teeth/fault.rs"]
mod fault;
#[path = "teeth/journal.rs"]
mod journal;
#[path = "teeth/landing_site.rs"]
mod landing_site;
#[path = "teeth/limited.rs"]
mod limited;
#[path = "teeth/master_target.rs"]
mod master_target;
#[path = "teeth/process_server.rs"]
mod process_server;
#[path = "teeth/replica.rs"]
mod replica;
#[path = "teeth/source.rs"]
mod source;
#[path = "teeth/target.rs"]
mod target;

use fault::{Broken, with_fault};
use memory::{AtJournal, AtLanding, AtMasterTarget, AtProcessServer, AtSite, AtStore, AtTarget};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::Duration;

/// A case by its name.
type Case = (&'static str, fn());
/// The rule that is broken, and what is done wrong.
type Fault = (&'static str, &'static str);

/// The rules that need not be the only ones to catch a fault, and why.
const NEVER_ALONE: &[(&str, &str)] = &[];

macro_rules! cases {
    ($fixture:ty, $suite:ident, $($case:ident,)+) => {
        vec![$((stringify!($case), (|| run(site_recovery_testkit::suite::$suite::$case::<$fixture>())) as fn()),)+]
    };
}

/// A case that hangs has failed.
fn run(case: impl Future<Output = ()>) {
    site_recovery_testkit::suite::run(async {
        tokio::time::timeout(Duration::from_secs(30), case).await.expect("the case hangs");
    });
}

fn roles() -> Vec<(&'static str, Vec<Case>, &'static [Fault])> {
    use site_recovery_testkit::{
        journal_suite, landing_site_suite, master_target_suite, process_server_suite, recovery_site_suite,
        replica_suite, source_suite, store_suite, target_suite,
    };
    let mut store: Vec<Case> = replica_suite!([cases] AtStore<Broken>);
    store.extend(store_suite!([cases] AtStore<Broken>));
    let mut target: Vec<Case> = recovery_site_suite!([cases] AtTarget<Broken>);
    target.extend(target_suite!([cases] AtTarget<Broken>));
    vec![
        ("source", source_suite!([cases] AtSite<Broken>), source::FAULTS),
        ("store", store, replica::FAULTS),
        ("target", target, target::FAULTS),
        ("master target", master_target_suite!([cases] AtMasterTarget<Broken>), master_target::FAULTS),
        ("landing site", landing_site_suite!([cases] AtLanding<Broken>), landing_site::FAULTS),
        (
            "process server",
            process_server_suite!([cases] AtProcessServer<Broken, true>),
            process_server::FAULTS,
        ),
        (
            "process server without a spool",
            process_server_suite!([cases] AtProcessServer<Broken, false>),
            process_server::NO_SPOOL_FAULTS,
        ),
        ("journal", journal_suite!([cases] AtJournal<Broken>), journal::FAULTS),
    ]
}

/// `src_07_changes_are_never_less` is a case of `SRC-7`.
fn rule_of(case: &str) -> String {
    let mut parts = case.split('_');
    let prefix = parts.next().unwrap_or_default().to_uppercase();
    let number: u32 = parts.next().and_then(|n| n.parse().ok()).expect("cases are named after rules");
    format!("{prefix}-{number}")
}

/// The rules whose cases fail while this is wrong.
fn caught(cases: &[Case], fault: &'static str) -> BTreeSet<String> {
    let fails = |case: &&Case| catch_unwind(|| with_fault(fault, case.1)).is_err();
    cases.iter().filter(fails).map(|(name, _)| rule_of(name)).collect()
}

#[test]
fn every_rule_catches_a_broken_implementation() {
    // A case that fails is what is wanted here; its panic is no news.
    std::panic::set_hook(Box::new(|_| ()));
    let roles = roles();
    let mut rows = vec![];
    std::thread::scope(|scope| {
        let running: Vec<_> = roles
            .iter()
            .map(|(role, cases, faults)| {
                scope.spawn(move || {
                    let honest = caught(cases, fault::NONE);
                    let broken: Vec<_> = faults.iter().map(|f| (*f, caught(cases, f.1))).collect();
                    (*role, honest, broken)
                })
            })
            .collect();
        rows.extend(running.into_iter().map(|r| r.join().expect("cases are caught")));
    });
    let _ = std::panic::take_hook();
    let mut problems = vec![];
    let mut bites: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for (role, cases, _) in &roles {
        for (case, _) in cases {
            bites.entry(rule_of(case)).or_default();
        }
        println!("\n{role}");
        let (_, honest, broken) = rows.iter().find(|(r, ..)| r == role).expect("it ran");
        if !honest.is_empty() {
            problems.push(format!("the honest {role} fails {honest:?}"));
        }
        for ((rule, fault), caught) in broken {
            println!("  {fault}: breaks {rule}, caught by {}", Vec::from_iter(caught.clone()).join(" "));
            if !caught.contains(*rule) {
                problems.push(format!("{role}: {fault:?} breaks {rule}, and is caught by {caught:?}"));
            }
            for rule in caught {
                bites.entry(rule.clone()).or_default().push(caught.len() == 1);
            }
        }
    }
    let toothless: Vec<_> = bites.iter().filter(|(_, b)| b.is_empty()).map(|(r, _)| r.as_str()).collect();
    if !toothless.is_empty() {
        problems.push(format!("no broken implementation for {}", toothless.join(" ")));
    }
    for (rule, bites) in bites.iter().filter(|(_, b)| !b.is_empty()) {
        let excused = NEVER_ALONE.iter().any(|(excused, _)| excused == rule);
        match (bites.contains(&true), excused) {
            (false, false) => problems.push(format!("{rule} is never the only one to catch a fault")),
            (true, true) => problems.push(format!("{rule} is the only one to catch a fault, and is excused")),
            _ => {}
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

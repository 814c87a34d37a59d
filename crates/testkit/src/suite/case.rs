//! What every case is made of: operations, permits, and assertions that cite the rule.

use site_recovery::{
    BootPermit, Clock, Consistency, Epoch, Error, ErrorKind, Fenced, Generation, Item, Machine, Op, OpKey,
    PointId, Policy, Purpose, Recovery, Result, RoleName, Settings, Sources, SystemClock, Timestamp,
};
use std::fmt::Debug;
use std::time::Duration;

/// An operation of the suite's engine, at epoch 1: for what a fixture does through a role, as enrolling a machine.
pub fn op(name: &str) -> Op {
    op_at(name, 1)
}

/// An operation of the suite's engine, at this epoch.
pub(super) fn op_at(name: &str, number: u64) -> Op {
    Op { key: key(name), epoch: Epoch { number, owner: "suite".into() } }
}

/// An operation of another engine that holds the same number.
pub(super) fn op_of_another(name: &str, number: u64) -> Op {
    Op { key: key(name), epoch: Epoch { number, owner: "another-engine".into() } }
}

/// The key behind a short name, as uncomfortable as an engine's: with slashes, capitals and spaces, longer than a file
/// name of old or a label may be, and alike up to its end.
pub(super) fn key(name: &str) -> OpKey {
    OpKey(format!(
        "web-00c0ffee/Job-12-A1B2C3/Step-0/alone/Web 1 with a longer name than platforms like/{name}"
    ))
}

/// Says that a rule was not tried.
pub(super) fn skip(rule: &str, name: &RoleName, why: &str) {
    eprintln!("SKIPPED {rule} on {name}: {why}");
}

/// What a call that has to succeed returned.
#[track_caller]
pub(super) fn must<T>(rule: &str, what: &str, result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{rule}: {what} failed: {error}"),
    }
}

/// The error of a call that has to fail, with any kind.
#[track_caller]
pub(super) fn must_fail<T: Debug>(rule: &str, what: &str, result: Result<T>) -> Error {
    match result {
        Ok(value) => panic!("{rule}: {what} returned {value:?}"),
        Err(error) => error,
    }
}

/// The error of a call that has to fail with this kind.
#[track_caller]
pub(super) fn must_be<T: Debug>(rule: &str, what: &str, kind: ErrorKind, result: Result<T>) -> Error {
    let error = must_fail(rule, what, result);
    assert_eq!(error.kind(), kind, "{rule}: {what} failed as {:?}: {error}", error.kind());
    error
}

/// What a call returned that may be [`Busy`](ErrorKind::Busy) for a while: asks again, for a minute.
pub(super) async fn in_time<T, C: Future<Output = Result<T>>>(
    rule: &str,
    what: &str,
    call: impl Fn() -> C,
) -> T {
    for _ in 0..6_000 {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Busy => {
                SystemClock.sleep(Duration::from_millis(10)).await;
            }
            done => return must(rule, what, done),
        }
    }
    panic!("{rule}: {what} is Busy for ever");
}

/// Leave to run in this network, and for a drill alone.
pub(super) fn drill_permit(network: &str) -> BootPermit {
    BootPermit::Isolated { network: network.into() }
}

/// Leave to run for this machine, under this operation, as of one whose other instances do not exist.
pub async fn permit(op: &Op, machine: &Machine) -> BootPermit {
    let item = Item::new(machine.clone(), op.epoch.clone(), Policy::default(), "out", "back");
    let proof = Fenced::prove(op, &item, Some(&machine.instance), &Sources::new(), Duration::ZERO).await;
    BootPermit::Fenced(proof.expect("no other instance exists"))
}

/// What to start at a failover to the point 1, taken crash-consistent at the time 1, as the generation 1.
pub fn recovery(machine: &Machine, settings: Settings) -> Recovery {
    Recovery {
        machine: machine.clone(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(1),
        purpose: Purpose::Failover,
        settings,
    }
}

/// Asks once and stops waiting: the caller's future is dropped wherever it then stands.
pub(super) async fn dropped<T>(call: impl Future<Output = T>) {
    let mut call = std::pin::pin!(call);
    let _ = futures_util::poll!(call.as_mut());
}

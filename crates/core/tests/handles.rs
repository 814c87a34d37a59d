//! Everything that an embedder holds can be cloned, sent to another thread, shared, and kept for as long as it likes.
//! Compiling is the test.

use site_recovery::{
    Capability, Error, Events, FailoverRequest, GroupHandle, Item, ItemHandle, Job, Journal, LandingSite,
    Leg, MasterTarget, Notice, Policy, Pool, ProcessServer, ProtectRequest, Readiness, RecoveryPointStore,
    RecoverySite, Replica, Report, Settings, Source, Summary, Target, Vault, VaultBuilder,
};
use std::sync::Arc;

fn handle<T: Send + Sync + Clone + 'static>() {}
fn value<T: Send + Sync + 'static>() {}
fn waited_for<F: Future + Send + 'static>(_: impl Fn() -> F) {}

#[test]
fn handles_are_send_sync_clone_and_static() {
    handle::<Vault>();
    handle::<ItemHandle>();
    handle::<GroupHandle>();
    handle::<Job>();
    handle::<Events>();
    handle::<Leg>();
    handle::<Pool>();
}

#[test]
fn roles_are_shared_as_objects() {
    handle::<Arc<dyn Source>>();
    handle::<Arc<dyn ProcessServer>>();
    handle::<Arc<dyn Replica>>();
    handle::<Arc<dyn RecoveryPointStore>>();
    handle::<Arc<dyn RecoverySite>>();
    handle::<Arc<dyn Target>>();
    handle::<Arc<dyn MasterTarget>>();
    handle::<Arc<dyn LandingSite>>();
    handle::<Arc<dyn Journal>>();
}

#[test]
fn what_is_asked_and_answered_goes_between_threads() {
    handle::<(ProtectRequest, FailoverRequest, Settings, Policy)>();
    handle::<(Item, Summary, Report, Readiness, Notice, Capability)>();
    value::<(VaultBuilder, Error)>();
}

/// A job can be awaited in a task of its own: the futures of a handle are `Send`, and own what they need.
#[allow(dead_code, reason = "compiling it is the test")]
fn futures_can_be_spawned(vault: Vault, item: ItemHandle, group: GroupHandle, job: Job) {
    use site_recovery::state::Direction::PrimaryToRecovery;
    waited_for(|| {
        let (vault, item) = (vault.clone(), item.clone());
        async move {
            let _ = vault.protect(ProtectRequest::machine("web")).await;
            let _ = vault.resume().await;
            vault.run(std::future::pending()).await;
            item.failover(FailoverRequest::planned(PrimaryToRecovery)).await
        }
    });
    waited_for(|| {
        let group = group.clone();
        async move { group.failover(FailoverRequest::planned(PrimaryToRecovery)).await }
    });
    waited_for(|| {
        let job = job.clone();
        async move { job.done().await }
    });
}

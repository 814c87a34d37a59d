//! Every rule of a replica and of a store.

use crate::server;
use async_trait::async_trait;
use site_recovery::{RecoveryPointStore, Replica};
use site_recovery_azure::PageBlobs;
use site_recovery_azure_blob::Container;
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::{self, replica::ReplicaFixture, store::StoreFixture};
use std::sync::Arc;

/// A container of its own.
struct InAzurite {
    container: Container,
    store: PageBlobs,
    clock: ManualClock,
}

async fn opened(container: &Container, clock: &ManualClock) -> PageBlobs {
    let clock = Arc::new(clock.clone());
    PageBlobs::open("page-blobs".into(), container.clone(), clock).await.expect("it opens")
}

#[async_trait]
impl ReplicaFixture for InAzurite {
    async fn new() -> Self {
        let (container, clock) = (server::container().await, ManualClock::default());
        let store = opened(&container, &clock).await;
        Self { container, store, clock }
    }

    fn replica(&self) -> Arc<dyn Replica> {
        Arc::new(self.store.clone())
    }

    async fn reopen(&mut self) {
        self.store = opened(&self.container, &self.clock).await;
    }
}

impl StoreFixture for InAzurite {
    fn store(&self) -> Arc<dyn RecoveryPointStore> {
        Arc::new(self.store.clone())
    }
}

/// By the account's key, for whom nothing else is left.
#[tokio::test]
async fn a_store_opens_by_the_key_of_the_account_as_well() {
    if !server::is_here() {
        return;
    }
    let container = Container::new(&server::settings(&server::name()), server::key()).expect("settings");
    let store = opened(&container, &ManualClock::default()).await;
    assert_eq!(store.machines().await.expect("asked"), []);
}

macro_rules! on_azurite {
    ($fixture:ty, $suite:ident, $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                if server::is_here() {
                    suite::run(suite::$suite::$case::<$fixture>());
                }
            }
        )+
    };
}

site_recovery_testkit::replica_suite!([on_azurite] InAzurite);
site_recovery_testkit::store_suite!([on_azurite] InAzurite);

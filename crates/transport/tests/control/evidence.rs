//! Leave to start a machine, as it crosses.

use crate::odd_source::{OddSource, instance};
use crate::support::*;
use site_recovery::*;
use site_recovery_transport::{RemoteSource, Server};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

fn op(owner: &str) -> Op {
    Op { key: "lift".into(), epoch: Epoch { number: 3, owner: owner.into() } }
}

/// A proof that nothing else runs, by this engine: there is nothing else.
async fn proof(engine: &str) -> BootPermit {
    let mut item =
        Item::new(odd::manifest(&"web".into()).machine, op(engine).epoch, Policy::default(), "out", "back");
    item.machine.instance = instance();
    item.instances = vec![instance()];
    let sources = Sources::new();
    let fenced = Fenced::prove(&op(engine), &item, Some(&instance()), &sources, Duration::ZERO).await;
    BootPermit::Fenced(fenced.unwrap())
}

#[tokio::test]
async fn c2_leave_to_start_a_machine_comes_from_the_engine_that_proved_it() {
    let ca = Authority::new();
    let source = Arc::new(OddSource::default());
    let tls = server_tls(&ca.issue("localhost"), &ca);
    let server = Server::builder(tls).source(Arc::clone(&source) as _).listen(loopback()).await.unwrap();
    let lift = async |identity: &Identity, engine: &str| {
        let tls = client_tls(identity, &ca, "localhost");
        let far = RemoteSource::builder(server.address().to_string(), "hall".into(), tls);
        let far = far.connect().await.unwrap();
        far.unfence(&op(engine), &instance(), proof(engine).await, Start::Run).await
    };
    let nobody = lift(&ca.issue("process-server"), "dr").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Denied, "{nobody}");
    let another = lift(&ca.issue_uri("urn:site-recovery:engine:lab"), "dr").await.unwrap_err();
    assert_eq!(another.kind(), ErrorKind::StaleEpoch, "{another}");
    assert_eq!(source.started.load(SeqCst), 0);
    let lifted = lift(&ca.issue_uri("urn:site-recovery:engine:dr"), "dr").await.unwrap();
    assert!(lifted.running);
    assert_eq!(source.started.load(SeqCst), 1);
    server.stop(SOON).await;
}

//! Leave to start a machine, as it crosses.

use crate::odd_source::{OddSource, instance};
use crate::support::*;
use site_recovery::*;
use site_recovery_transport::{RemoteSource, RemoteStore, Server};
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
    let lift = async |identity: &Identity, asks: &str, proved: &str| {
        let tls = client_tls(identity, &ca, "localhost");
        let far = RemoteSource::builder(server.address().to_string(), "hall".into(), tls);
        let far = far.connect().await.unwrap();
        far.unfence(&op(asks), &instance(), proof(proved).await, Start::Run).await
    };
    let nobody = lift(&ca.issue("process-server"), "dr", "dr").await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Denied, "{nobody}");
    for asks in ["dr", "lab"] {
        let another = lift(&ca.issue_uri("urn:site-recovery:engine:lab"), asks, "dr").await.unwrap_err();
        assert_eq!(another.kind(), ErrorKind::StaleEpoch, "{asks}: {another}");
    }
    assert_eq!(source.started.load(SeqCst), 0);
    let lifted = lift(&ca.issue_uri("urn:site-recovery:engine:dr"), "dr", "dr").await.unwrap();
    assert!(lifted.running);
    assert_eq!(source.started.load(SeqCst), 1);
    server.stop(SOON).await;
}

#[tokio::test]
async fn c2_whoever_moves_bytes_decides_nothing_and_an_engine_speaks_for_itself() {
    let (ca, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let source = Arc::new(OddSource::default());
    let builder = Server::builder(server_tls(&ca.issue("localhost"), &ca));
    let server = builder.source(Arc::clone(&source) as _).store(points(dir.path()));
    let server = server.listen(loopback()).await.unwrap();
    let (address, machine) = (server.address().to_string(), MachineId::from("web"));
    let tls = |who: &str| client_tls(&ca.issue_uri(&format!("urn:site-recovery:{who}")), &ca, "localhost");
    let at_source = async |who: &str| {
        RemoteSource::builder(address.clone(), "hall".into(), tls(who)).connect().await.unwrap()
    };
    let at_store = async |who: &str| {
        RemoteStore::builder(address.clone(), "store".into(), tls(who)).connect().await.unwrap()
    };

    // By both protocols.
    let (reads, writes) = (at_source("process-server:ps-1").await, at_store("process-server:ps-1").await);
    reads.power(&instance()).await.unwrap();
    writes.head(&machine).await.unwrap();
    let decided = [
        reads.claim(&op("dr"), &machine).await,
        reads.fence(&op("dr"), &instance(), Duration::ZERO).await,
        writes.claim(&op("dr"), &machine).await,
        writes.delete(&op("dr"), &machine).await,
    ];
    for refused in decided {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!(source.fenced.load(SeqCst), 0);

    let (here, there) = (at_source("engine:lab").await, at_store("engine:lab").await);
    for refused in [here.claim(&op("dr"), &machine).await, there.claim(&op("dr"), &machine).await] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StaleEpoch);
    }
    // What was refused raised nothing.
    there
        .claim(&Op { key: "claim".into(), epoch: Epoch { number: 1, owner: "lab".into() } }, &machine)
        .await
        .unwrap();
    server.stop(SOON).await;
}

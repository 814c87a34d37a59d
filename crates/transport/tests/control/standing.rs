//! What a server is told that asks how its machine stands.

use crate::support::*;
use site_recovery::*;
use site_recovery_transport::enrol::ServiceKind;
use site_recovery_transport::{Client, Machines, RemoteWitness, Server};
use std::collections::BTreeSet;

/// What is recorded of a machine with one instance of this name.
fn record(machine: &MachineId, name: &str) -> PhaseRecord {
    let mut of = odd::manifest(machine).machine;
    of.instance.name = name.to_owned();
    let mut item = Item::new(of.clone(), shipping::op("x").epoch, Policy::default(), "out", "back");
    item.instances = vec![of.instance];
    let control = Control { unit: "unit".into(), members: vec![machine.clone()], item };
    PhaseRecord { written: Timestamp(1), run: None, prepared: None, control }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c2_an_agent_is_told_of_its_own_machine_and_of_one_of_which_nothing_is_recorded() {
    let (ca, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let store = points(dir.path());
    let (web, db): (MachineId, MachineId) = ("m-web".into(), "m-db".into());
    let server = Server::builder(server_tls(&ca.issue("localhost"), &ca))
        .store(store.clone())
        .witness(store.clone())
        .allow(Client::kind(ServiceKind::Agent), Machines::Only(BTreeSet::new()))
        .allow(Client::kind(ServiceKind::ProcessServer), Machines::Only([db.clone()].into()))
        .listen(loopback())
        .await
        .unwrap();
    let ask = async |service: &str, machine: &MachineId| {
        let identity = ca.issue_uri(&format!("urn:site-recovery:{service}"));
        let tls = client_tls(&identity, &ca, "localhost");
        let witness = RemoteWitness::builder(server.address().to_string(), "store".into(), tls);
        witness.connect().await.unwrap().standing(machine).await
    };
    // As while the first copy runs: the machine is on its way, and nothing was written down yet.
    assert_eq!(ask("agent:web-1", &web).await.unwrap(), None);
    let denied = |answer: Result<Option<PhaseRecord>>| answer.unwrap_err().kind() == ErrorKind::Denied;
    assert!(denied(ask("process-server:ps-1", &web).await), "it is no server, and may name another alone");

    let of_web = record(&web, "web-1");
    store.remember(&shipping::op("remember"), &web, &of_web).await.unwrap();
    assert_eq!(ask("agent:web-1", &web).await.unwrap(), Some(of_web), "its own");
    assert!(denied(ask("agent:db-1", &web).await), "another's, of which something is recorded");
    assert!(denied(ask("process-server:web-1", &web).await), "a namesake that is no agent");
    assert_eq!(ask("process-server:ps-1", &db).await.unwrap(), None, "whoever may name it");
    server.stop(SOON).await;
}

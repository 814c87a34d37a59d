//! Who of an authority is let in, and to which machines, where a server has rules about it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use site_recovery::*;
use site_recovery_transport::*;
use std::sync::Arc;
use support::odd::{Odd, manifest};
use support::shipping::op;
use support::*;

fn fingerprint(identity: &Identity) -> String {
    let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let bytes = digest(&SHA256, &der);
    bytes.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

struct Ground {
    ca: Authority,
    server: Server,
}

impl Ground {
    async fn new(ca: Authority, rules: Vec<(Client, Machines)>) -> Self {
        let role = Arc::new(Odd { machines: 3, ..Odd::default() });
        let builder = Server::builder(server_tls(&ca.issue("localhost"), &ca)).store(role);
        let builder = rules.into_iter().fold(builder, |b, (peer, machines)| b.allow(peer, machines));
        let server = builder.listen(loopback()).await.unwrap();
        Self { ca, server }
    }

    async fn connect(&self, identity: &Identity) -> Result<RemoteStore> {
        let tls = client_tls(identity, &self.ca, "localhost");
        let address = self.server.address().to_string();
        let connected = RemoteStore::builder(address, "store".into(), tls).connect();
        tokio::time::timeout(SOON, connected).await.expect("in time")
    }
}

#[tokio::test]
async fn c2_with_a_rule_those_it_names_are_let_in_and_no_others() {
    let ca = Authority::new();
    let (by_print, other) = (ca.issue("one.example.net"), ca.issue("one.example.net"));
    let (by_name, by_uri) = (ca.issue("Two.Example.net"), ca.issue_uri("spiffe://example.net/ps"));
    let wild = ca.issue("*.example.net");
    let rules = vec![
        (Client::fingerprint(&fingerprint(&by_print)).unwrap(), Machines::All),
        (Client::name("two.example.net"), Machines::All),
        (Client::name("spiffe://example.net/ps"), Machines::All),
    ];
    let ground = Ground::new(ca, rules).await;
    for identity in [&by_print, &by_name, &by_uri] {
        assert_eq!(ground.connect(identity).await.unwrap().machines().await.unwrap().len(), 3);
    }
    let shouted = ground.ca.issue_uri("spiffe://example.net/PS");
    for identity in [&other, &wild, &shouted] {
        let error = ground.connect(identity).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Denied && !error.is_temporary(), "{error}");
        let print = fingerprint(identity).replace(':', "").to_lowercase();
        assert!(error.message().contains(&print), "{error}");
    }
    ground.server.stop(SOON).await;
}

#[tokio::test]
async fn c2_a_peer_names_the_machines_of_its_rules_alone() {
    let (ca, machine) = (Authority::new(), |number| MachineId(format!("machine-{number:0>100}")));
    let only = |number| Machines::Only([machine(number)].into());
    let identity = ca.issue("ps");
    let print = Client::fingerprint(&fingerprint(&identity)).unwrap();
    let rules = vec![(Client::name("ps"), only(0)), (print, only(2)), (Client::name("other"), Machines::All)];
    let ground = Ground::new(ca, rules).await;
    let store = ground.connect(&identity).await.unwrap();
    assert_eq!(store.machines().await.unwrap(), [machine(0), machine(2)]);
    for number in [0, 2] {
        store.claim(&op("k"), &machine(number)).await.unwrap();
        store.delete(&op("k"), &machine(number)).await.unwrap();
    }
    let (id, op, point) = (machine(1), op("k"), PointId(1));
    let (whole, run) = (manifest(&id), Run::new(0, 4096));
    let ingest =
        |id: &MachineId| Ingest { op: op.clone(), machine: id.clone(), session: 1, resume: Landed::new() };
    let denied = |what: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} is let through"));
        assert!(error.kind() == ErrorKind::Denied && !error.is_temporary(), "{what}: {error}");
        assert_eq!(
            (error.fact("machine"), error.role()),
            (Some(id.as_str()), Some(&"store".into())),
            "{what}"
        );
    };
    let settings = Settings::default();
    denied("claim", store.claim(&op, &id).await.err());
    denied("prepare", store.prepare(&op, &whole.machine, &Seed::Fresh, &settings).await.err());
    denied("head", store.head(&id).await.err());
    denied("begin", store.begin(&op, &whole.machine, &"c".into(), &ChangeSet::new()).await.err());
    // The store would never end it.
    let write = tokio::time::timeout(SOON, store.write(&ingest(&id), 0, vec![])).await;
    denied("write", write.expect("refused at once").err());
    denied("seal", store.seal(&ingest(&id), &whole, Complete::admit(0, 0)).await.err());
    denied("seal of another", store.seal(&ingest(&machine(0)), &whole, Complete::admit(0, 0)).await.err());
    denied("points", store.points(&id).await.err());
    denied("manifest", store.manifest(&id, point).await.err());
    denied("open", store.open(&id, point).await.err());
    denied("hashes", store.hashes(&id, &"root".into(), run).await.err());
    denied("changed", store.changed(&id, None, point).await.err());
    denied("pin", store.pin(&op, &id, point, "why").await.err());
    denied("unpin", store.unpin(&op, &id, point, "why").await.err());
    denied("prune", store.prune(&op, &id, &[point]).await.err());
    denied("delete", store.delete(&op, &id).await.err());
    denied("recall", store.recall(&id).await.err());
    denied("lock", store.lock(&op, &id, point, Timestamp(1)).await.err());
    denied("scrub", store.scrub(&id, point).await.err());
    drop(store);
    ground.server.stop(SOON).await;
}

#[tokio::test]
async fn c2_a_peer_plants_no_control_state_that_names_another_machine() {
    let (ca, machine) = (Authority::new(), |number| MachineId(format!("machine-{number:0>100}")));
    let identity = ca.issue("ps");
    let allowed = Machines::Only([machine(0), machine(2)].into());
    let ground = Ground::new(ca, vec![(Client::name("ps"), allowed)]).await;
    let store = ground.connect(&identity).await.unwrap();
    let (own, other) = (machine(0), machine(1));
    let ingest = Ingest { op: op("k"), machine: own.clone(), session: 1, resume: Landed::new() };
    let denied = |what: &str, error: Option<Error>| {
        let error = error.unwrap_or_else(|| panic!("{what} is let through"));
        let told = (error.kind(), error.fact("machine"), error.is_temporary());
        assert_eq!(told, (ErrorKind::Denied, Some(other.as_str()), false), "{what}: {error}");
    };
    for (what, plant) in plants() {
        let (mut whole, mut record) = (manifest(&own), phase_record(&own));
        plant(&mut whole.control, &manifest(&other).machine);
        plant(&mut record.control, &manifest(&other).machine);
        denied(what, store.seal(&ingest, &whole, Complete::admit(0, 0)).await.err());
        denied(what, store.remember(&op("k"), &own, &record).await.err());
    }
    let whole = Manifest { members: vec![own.clone(), other.clone()], ..manifest(&own) };
    denied("members of a cut", store.seal(&ingest, &whole, Complete::admit(0, 0)).await.err());
    let made_by = OpKey::from("k");
    let prepared = Some(Prepared { made_by, recovery: recovery(&manifest(&other).machine) });
    let record = PhaseRecord { prepared, ..phase_record(&own) };
    denied("prepared disks", store.remember(&op("k"), &own, &record).await.err());
    let seed = Seed::Unknown { landing: Some(manifest(&other).machine.instance) };
    let (settings, captured) = (Settings::default(), manifest(&own).machine);
    denied("a landing", store.prepare(&op("k"), &captured, &seed, &settings).await.err());
    assert_eq!(store.recall(&own).await.unwrap(), None);
    assert_eq!(store.manifest(&own, PointId(1)).await.unwrap(), manifest(&own));
    // A group whose members it may name.
    let control =
        |control| Control { unit: "shop".into(), members: vec![own.clone(), machine(2)], ..control };
    let record = PhaseRecord { control: control(phase_record(&own).control), ..phase_record(&own) };
    store.remember(&op("k"), &own, &record).await.unwrap();
    assert_eq!(store.recall(&own).await.unwrap(), Some(record));
    let whole = Manifest { control: control(manifest(&own).control), ..manifest(&own) };
    store.seal(&ingest, &whole, Complete::admit(0, 0)).await.unwrap();
    assert_eq!(store.manifest(&own, PointId(1)).await.unwrap(), whole);
    drop(store);
    ground.server.stop(SOON).await;
}

type Plant = fn(&mut Control, &Machine);

/// Where in control state another machine can be named.
fn plants() -> Vec<(&'static str, Plant)> {
    vec![
        ("the item", |control, other| control.item.machine = other.clone()),
        ("a member", |control, other| control.members.push(other.id().clone())),
        ("an instance", |control, other| control.item.instances.push(other.instance.clone())),
        ("an unproven one", |control, other| control.item.unproven.push(other.instance.clone())),
        ("one that is kept", |control, other| control.item.kept.push(other.instance.clone())),
        ("what ran before", |control, other| {
            let own = control.item.machine.instance.clone();
            control.item.promotion =
                Some(Box::new(Promotion { previous: other.instance.clone(), ..promotion(&own) }));
        }),
        ("what is promoted", |control, other| {
            let own = control.item.machine.instance.clone();
            let armed = promotion(&other.instance).armed;
            control.item.promotion = Some(Box::new(Promotion { armed, ..promotion(&own) }));
        }),
        ("a recovery", |control, other| {
            let own = control.item.machine.instance.clone();
            control.item.promotion =
                Some(Box::new(Promotion { recovery: Some(recovery(other)), ..promotion(&own) }));
        }),
        ("a drill", |control, other| {
            let drill = Drill {
                recovery: recovery(other),
                made_by: "k".into(),
                armed: None,
                booted: None,
                network: "lab".into(),
                expires: Timestamp(1),
                proof: false,
            };
            control.item.drill = Some(Box::new(drill));
        }),
        ("a fence", |control, other| control.item.owed.push(Owed::Fence(other.instance.clone()))),
        ("a withdrawal", |control, other| {
            let (site, made_by) = ("there".into(), "k".into());
            control.item.owed.push(Owed::Withdraw { site, made_by, recovery: recovery(other) });
        }),
        ("a removal", |control, other| {
            let (site, instance) = ("there".into(), other.instance.clone());
            control.item.owed.push(Owed::Remove { site, instance, seen: vec![] });
        }),
    ]
}

fn phase_record(id: &MachineId) -> PhaseRecord {
    PhaseRecord { written: Timestamp(0), run: None, prepared: None, control: manifest(id).control }
}

fn promotion(instance: &Instance) -> Promotion {
    Promotion {
        armed: Armed { instance: instance.clone(), cursor: None, point: PointId(1) },
        recovery: None,
        made_by: "k".into(),
        previous: instance.clone(),
        booted: None,
        verdict: None,
        loss: None,
        observed: vec![],
        committed: false,
    }
}

fn recovery(machine: &Machine) -> Recovery {
    let (point, settings) = (PointId(1), Settings::default());
    Recovery::of(manifest(machine.id()), point, Generation(1), Purpose::Drill, settings)
}

#[test]
fn what_is_no_fingerprint_is_named() {
    let right = "0a".repeat(32);
    assert_eq!(Client::fingerprint(&right).unwrap(), Client::fingerprint(&right.to_uppercase()).unwrap());
    for wrong in ["", "0a", &"0a".repeat(33), &"0g".repeat(32), &"é".repeat(32), &"+a".repeat(32)] {
        let error = Client::fingerprint(wrong).unwrap_err();
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("fingerprint")), "{error}");
    }
}

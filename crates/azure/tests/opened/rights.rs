//! The list of rights is what is really called: a drill's calls, and those of the other operations, are of the list, and the list
//! has nothing that is not called, but for what Azure asks beside the call itself.

use crate::ground::Ground;
use crate::{drill, opened};
use site_recovery::{
    BootPermit, Epoch, Fenced, Item, MachineId, NicId, NicSettings, Op, Placement, Policy, Purpose, Recovery,
    RecoverySite, Replica, Settings, Source, Sources, Start,
};
use site_recovery_azure::{On, RIGHTS};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What Azure asks of whoever calls something else.
const BESIDE: &[&str] = &[
    "Microsoft.Network/networkInterfaces/join/action",
    "Microsoft.Network/virtualNetworks/subnets/join/action",
    // Where operations are asked after, which the fake has at one address for all.
    "Microsoft.Compute/locations/diskOperations/read",
    "Microsoft.Network/locations/operations/read",
    "Microsoft.Network/locations/operationResults/read",
];

/// The operation that a call needs: `PUT …/disks/web` is `Microsoft.Compute/disks/write`.
fn action(call: &str) -> String {
    let (method, path) = call.split_once(' ').expect("a method and a path");
    let Some((_, rest)) = path.rsplit_once("/providers/") else {
        assert_eq!(method, "GET", "{call}");
        return "Microsoft.Resources/subscriptions/resourceGroups/read".into();
    };
    let mut parts = rest.split('/');
    let provider = parts.next().expect("a provider");
    let mut kinds = vec![];
    let mut last = None;
    // Kinds and names take turns.
    while let Some(kind) = parts.next() {
        last = parts.next();
        kinds.push(kind);
    }
    let verb = match (method, last) {
        ("GET", _) => "read",
        ("PUT" | "PATCH", Some(_)) => "write",
        ("DELETE", Some(_)) => "delete",
        ("POST", None) => "action",
        other => panic!("{other:?} of {call}"),
    };
    format!("{provider}/{}/{verb}", kinds.join("/"))
}

fn op(name: &str) -> Op {
    Op { key: name.into(), epoch: Epoch { number: 2, owner: "test".into() } }
}

/// A failover whose machine is in a set and has a fixed address, its fence lifted, its captures swept, and its disks kept.
async fn failed_over(ground: &Ground) {
    let drill = drill(&opened(ground), "b").await;
    let point = drill.sealed().await.expect("a point");
    let nics =
        [(NicId::from("nic-0"), NicSettings { address: "10.0.1.40".parse().ok(), ..NicSettings::default() })];
    let settings = Settings {
        name: Some("failed-over".into()),
        nics: nics.into(),
        placement: Placement::Any,
        ..Settings::default()
    };
    let mut machine = drill.machine.clone();
    machine.nics =
        vec![site_recovery::Nic { id: "nic-0".into(), mac: None, network: None, addresses: vec![] }];
    let what = Recovery {
        machine,
        purpose: Purpose::Failover,
        settings,
        ..drill.recovery(&point).await.expect("a manifest")
    };
    let in_a_set = Settings { placement: Placement::AvailabilitySet("none".into()), ..what.settings.clone() };
    let found = drill.site.check(&what.machine, &in_a_set).await.expect("checked");
    assert!(found.iter().any(|finding| finding.code == "setting.placement"), "{found:?}");
    let small = Settings { size: Some("Standard_B1s".into()), ..what.settings.clone() };
    drill.site.check(&what.machine, &small).await.expect("checked");

    let replica: Arc<dyn Replica> = drill.points.clone();
    let armed = drill.site.materialise(&op("failover"), &what, &replica).await.expect("disks");
    let standing = what.machine.standing_as(armed.instance.clone());
    let item = Item::new(standing, op("boot").epoch, Policy::default(), "out", "back");
    let leave = async |op: &Op| {
        let proof = Fenced::prove(op, &item, Some(&armed.instance), &Sources::new(), Duration::ZERO).await;
        BootPermit::Fenced(proof.expect("nothing else is there"))
    };
    let permit = leave(&op("boot")).await;
    drill.site.boot(&op("boot"), &what, &armed, permit).await.expect("it runs");
    let of = std::slice::from_ref(&armed.instance);
    let want = site_recovery::Consistency::Crash;
    drill.site.capture(&op("capture"), of, want).await.expect("captured");
    drill.site.sweep(&op("sweep"), &armed.instance, &[]).await.expect("swept");
    drill.site.fence(&op("fence"), &armed.instance, Duration::from_secs(60)).await.expect("off");
    let permit = leave(&op("unfence")).await;
    let lifted = drill.site.unfence(&op("unfence"), &armed.instance, permit, Start::Run).await.expect("on");
    assert!(lifted.running);
    drill.site.fence(&op("again"), &armed.instance, Duration::ZERO).await.expect("off");
    let kept = drill.site.set_aside(&op("aside"), &armed.instance).await.expect("kept");
    drill.site.destroy(&op("destroy"), &kept).await.expect("gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_asked_for_as_they_are_used() {
    let ground = Ground::new(|_| {}).await;
    drill(&opened(&ground), "a").await.run().await.expect("a drill");
    opened(&ground).check("azure".into()).await.expect("looked at");
    failed_over(&ground).await;
    // An account of another region, whose points are uploaded.
    let far = Ground::new(|config| config.accounts[0].location = "northeurope".into()).await;
    drill(&opened(&far), "c").await.run().await.expect("a drill");
    let signs_in = |call: &String| call.ends_with("/oauth2/v2.0/token");
    let called: BTreeSet<String> = ground
        .asked()
        .iter()
        .chain(&far.asked())
        .filter(|call| !signs_in(call))
        .map(|call| action(call))
        .collect();
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let listed: Vec<_> =
        RIGHTS.iter().filter(|right| right.on != On::Blobs).map(|right| right.action).collect();
    for call in &called {
        assert!(listed.iter().any(|right| same(right, call)), "{call} is called, and not listed");
    }
    // Of the data plane, and not of Resource Manager.
    let container = "Microsoft.Storage/storageAccounts/blobServices/containers/write";
    for right in listed.iter().filter(|right| !BESIDE.contains(right) && **right != container) {
        assert!(called.iter().any(|call| same(right, call)), "{right} is listed, and not called");
    }
}

/// Of blobs: what a service's methods need.
#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_read_written_and_deleted_and_nothing_else() {
    let ground = Ground::new(|_| {}).await;
    let far = Ground::new(|config| config.accounts[0].location = "northeurope".into()).await;
    drill(&opened(&ground), "a").await.run().await.expect("a drill");
    drill(&opened(&far), "a").await.run().await.expect("a drill");
    let id: MachineId = "sr-test-a".into();
    assert!(!ground.blobs.log().is_empty() && !far.blobs.log().is_empty(), "{id}");
    for entry in ground.blobs.log().into_iter().chain(far.blobs.log()) {
        // What Azure has handed out is read by its signature, and uploaded by pages alone.
        if !entry.path.starts_with("/replicas/vault") {
            let is_read = entry.method == "GET";
            assert!(is_read || (entry.method.as_str(), entry.comp.as_str()) == ("PUT", "page"), "{entry:?}");
            continue;
        }
        let known = matches!(
            (entry.method.as_str(), entry.comp.as_str()),
            ("GET", "" | "list" | "pagelist")
                | ("HEAD", "")
                | ("PUT", "" | "page" | "properties" | "snapshot" | "copy")
                | ("DELETE", "")
        );
        assert!(known, "{entry:?}: which right does it need?");
    }
}

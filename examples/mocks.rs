//! A unit test of an embedder's, with all five roles mocked: **a machine is never booted when fencing its source fails**.
//!
//! Mocks answer *which calls are made, or never made*. What the calls do to bytes is better tested on the in-memory world
//! of `site-recovery-testkit`. `cargo run --example mocks` runs the test; so does `cargo test --example mocks`.
#![forbid(unsafe_code)]

use site_recovery::mock::*;
use site_recovery::state::{Direction, Phase};
use site_recovery::*;
use site_recovery_testkit::journal::MemoryJournal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::main]
async fn main() -> Result<()> {
    println!("{:?}", boot_is_never_called_when_fencing_fails().await?);
    Ok(())
}

/// The source says nothing of its power after it was fenced. Silence is never off.
async fn boot_is_never_called_when_fencing_fails() -> Result<Outcome> {
    let mut target = target();
    target.expect_boot().never();
    target.expect_materialise().never();
    fail_over(source(Power::Unknown), target).await
}

/// That the test above can fail: with a fence that holds, the same failover boots, once.
#[cfg(test)]
async fn boot_is_called_when_the_fence_holds() -> Result<Outcome> {
    let mut target = target();
    target.expect_materialise().once().returning(|_, what, _| {
        let (site, generation) = ("cloud".into(), what.generation);
        let instance = Instance { site, generation, ..what.machine.instance.clone() };
        Ok(Armed { instance, cursor: None, point: what.point })
    });
    target.expect_tend().returning(|_, _, _| Ok(()));
    target.expect_boot().once().returning(|_, _, _, permit| {
        assert!(matches!(permit, BootPermit::Fenced(_)), "nobody answers for anything here");
        Ok(Booted { reach: vec![], running: true })
    });
    fail_over(source(Power::Off { start: StartGuard::Blocked { until: None } }), target).await
}

/// Protects a machine, fails it over as planned, and tells how that ended.
async fn fail_over(source: MockSource, target: MockTarget) -> Result<Outcome> {
    let server = Arc::new(process_server());
    let vault = Vault::builder()
        .out(Leg::out(Arc::new(source), server.clone(), Arc::new(store()), Arc::new(target)))
        .back(Leg::back(Arc::new(cloud_source()), server, Arc::new(master_target())))
        .journal(Arc::new(MemoryJournal::new()))
        .build()
        .await?;
    let web = vault.protect(ProtectRequest::machine("web")).await?;
    web.until_done().await?;
    let outcome =
        web.failover(FailoverRequest::planned(Direction::PrimaryToRecovery)).await?.wait().await?.outcome;
    let replicates = web.state()?.phase == Phase::Protected;
    assert_eq!(replicates, matches!(outcome, Outcome::Unwound { .. }), "what was undone replicates again");
    Ok(outcome)
}

/// The source of `web`. After a fence its power reads as `fenced`.
fn source(fenced: Power) -> MockSource {
    let was_fenced = Arc::new(AtomicBool::new(false));
    let mut source = MockSource::new();
    source.expect_name().return_const(RoleName::from("here"));
    source.expect_capability().returning(Capability::default);
    source.expect_discover().returning(|| Ok(vec![web()]));
    source.expect_enrol().returning(|_, _| Ok(()));
    source.expect_sweep().returning(|_, _, _| Ok(vec![]));
    source.expect_capture().returning(|op, of, _| Ok(captured(&op.key.0, of)));
    source.expect_release().returning(|_, _, _, _| Ok(()));
    let holds = Arc::clone(&was_fenced);
    source.expect_fence().returning(move |_, _, _| {
        holds.store(true, Ordering::SeqCst);
        Ok(())
    });
    if fenced == Power::Unknown {
        // Going back lifts the fence that may stand after all, and starts what ran before. Once.
        let lift = source.expect_unfence().once();
        lift.withf(|_, instance, _, start| instance.name == "web" && *start == Start::AsBefore)
            .returning(|_, _, _, _| Ok(Lifted { running: true }));
    } else {
        source.expect_unfence().never();
    }
    source
        .expect_power()
        .returning(move |_| Ok(if was_fenced.load(Ordering::SeqCst) { fenced.clone() } else { Power::On }));
    source
}

/// The recovery site. Whether it materialises or boots anything is for each test to say.
fn target() -> MockTarget {
    let mut target = MockTarget::new();
    target.expect_name().return_const(RoleName::from("cloud"));
    target.expect_capability().returning(Capability::default);
    target.expect_claim().returning(|_, _| Ok(()));
    target.expect_check().returning(|_, _| Ok(vec![]));
    target
}

/// Who fences at the recovery site. Nothing is there.
fn cloud_source() -> MockSource {
    let mut source = MockSource::new();
    source.expect_name().return_const(RoleName::from("cloud"));
    source.expect_capability().returning(Capability::default);
    source
}

fn process_server() -> MockProcessServer {
    let mut server = MockProcessServer::new();
    server.expect_name().return_const(RoleName::from("process-server"));
    server.expect_knows().returning(|_| Ok(vec![]));
    let sealed = |what: &Shipment| {
        let point = point(&what.capture);
        Shipped::Sealed { point, changed: 0, shipped: 0, incompressible: 0 }
    };
    server.expect_ship().returning(move |_, what, _, _| Ok(sealed(what)));
    server
}

fn store() -> MockRecoveryPointStore {
    let mut store = MockRecoveryPointStore::new();
    store.expect_name().return_const(RoleName::from("store"));
    store.expect_capability().returning(Capability::default);
    store.expect_claim().returning(|_, _| Ok(()));
    store.expect_prepare().returning(|_, _, _, _| Ok(()));
    store.expect_remember().returning(|_, _, _| Ok(()));
    store.expect_points().returning(|_| Ok(vec![point(&captured("first", &[web().instance]))]));
    store.expect_manifest().returning(|machine, _| Ok(manifest(machine)));
    store.expect_pin().returning(|_, _, _, _| Ok(()));
    store
}

/// The way back, which this test does not go.
fn master_target() -> MockMasterTarget {
    let mut master_target = MockMasterTarget::new();
    master_target.expect_name().return_const(RoleName::from("here"));
    master_target.expect_capability().returning(Capability::default);
    master_target.expect_check().returning(|_, _| Ok(vec![]));
    master_target.expect_remember().returning(|_, _, _| Ok(()));
    master_target
}

fn web() -> Machine {
    let disk = DiskSpec { id: "root".into(), size: 1 << 20, role: DiskRole::System, included: true };
    Machine {
        instance: Instance {
            machine: "web".into(),
            site: "here".into(),
            name: "web".into(),
            generation: Generation(0),
        },
        title: None,
        disks: vec![disk],
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Firmware::Bios,
        os: OsFamily::Linux,
        platform: Platform::Virtual,
        guest: GuestFacts::default(),
    }
}

fn captured(key: &str, of: &[Instance]) -> Capture {
    let member =
        |i: &Instance| Member { machine: web().standing_as(i.clone()), cursor: None, sidecars: vec![] };
    Capture {
        cut: key.into(),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        quiesce_failed: None,
        members: of.iter().map(member).collect(),
    }
}

fn point(of: &Capture) -> Point {
    Point {
        id: PointId(1),
        cut: of.cut.clone(),
        members: of.members.iter().map(|m| m.machine.id().clone()).collect(),
        taken: of.taken,
        consistency: of.consistency,
        generation: Generation(0),
        pins: vec![],
        locked_until: None,
        verified: true,
        verified_boot: None,
    }
}

fn manifest(id: &MachineId) -> Manifest {
    let machine = web().standing_as(Instance { machine: id.clone(), ..web().instance });
    let epoch = Epoch { number: 1, owner: "engine".into() };
    let item = Item::new(machine.clone(), epoch, Policy::default(), "out", "back");
    Manifest {
        machine,
        members: vec![id.clone()],
        cut: "first".into(),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        cursor: None,
        sidecars: vec![],
        control: Control { unit: id.as_str().into(), members: vec![id.clone()], item },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn s2_boot_is_never_called_when_fencing_fails() {
        let outcome = super::boot_is_never_called_when_fencing_fails().await.expect("it is undone");
        let Outcome::Unwound { why } = outcome else { panic!("not undone: {outcome:?}") };
        assert_eq!(why.kind, ErrorKind::Refused);
        assert!(why.message.contains("reads back as Unknown"), "{}", why.message);
    }

    #[tokio::test]
    async fn boot_is_called_when_the_fence_holds() {
        let outcome = super::boot_is_called_when_the_fence_holds().await.expect("it runs there");
        assert_eq!(outcome, Outcome::Done);
    }
}

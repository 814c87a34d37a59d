//! The register as adapters use it: who passes, who waits, and who begins nothing.

use site_recovery::{Epoch, ErrorKind, MachineId, Op};
use site_recovery_register::{Register, act};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

fn op(number: u64, owner: &str) -> Op {
    Op { key: "key".into(), epoch: Epoch { number, owner: owner.into() } }
}

#[test]
fn s1_a_lower_epoch_or_another_owner_does_not_pass() {
    let dir = TempDir::new().unwrap();
    let web: MachineId = "Web 1".into();
    let register = Register::at(dir.path());
    drop(register.turn(&op(2, "us"), &web).unwrap());
    for stale in [op(1, "us"), op(2, "them")] {
        // Opened anew: what passed is on disk.
        let error = Register::at(dir.path()).turn(&stale, &web).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{error}");
    }
    register.turn(&op(1, "us"), &"another".into()).unwrap();
    register.turn(&op(3, "them"), &web).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rol_4_a_call_dropped_before_its_turn_begins_nothing() {
    let dir = TempDir::new().unwrap();
    let (register, web) = (Register::at(dir.path()), MachineId::from("web"));
    let held = register.turn(&op(1, "us"), &web).unwrap();
    let began = Arc::new(AtomicU32::new(0));
    let call = |number| {
        let (register, web, began) = (register.clone(), web.clone(), Arc::clone(&began));
        act(move || {
            let _turn = register.turn(&op(number, "us"), &web)?;
            began.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let waited = tokio::time::timeout(Duration::from_millis(50), call(1)).await;
    assert!(waited.is_err(), "the turn was held");
    drop(held);
    call(2).await.unwrap();
    drop(register.turn(&op(2, "us"), &web).unwrap()); // whoever waited has had the lock by now, or never will
    assert_eq!(began.load(Ordering::SeqCst), 1, "the dropped call began something");
}

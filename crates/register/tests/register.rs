//! The register as adapters use it: who passes, who waits, and who begins nothing.

use site_recovery::{Epoch, ErrorKind, MachineId, Op};
use site_recovery_register::{Register, act, belongs_to, blocking, durable, open_state};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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

#[test]
#[allow(clippy::disallowed_methods, reason = "a task of the runtime holds the panic back")]
fn an_act_that_panics_leaves_its_thread_to_others() {
    // One thread for all: the next work runs where the act panicked.
    let one = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let dir = TempDir::new().unwrap();
    let register = Register::at(dir.path());
    one.block_on(async {
        let panicked = tokio::spawn(act::<()>(|| panic!("as it was told to"))).await;
        assert!(panicked.unwrap_err().is_panic());
        let turn = blocking(move || register.turn(&op(1, "us"), &"web".into()).map(drop)).await;
        turn.expect("nobody's act: it has no caller who could have left");
    });
}

#[test]
fn a_draft_that_a_power_cut_left_is_no_record_and_stops_nobody() {
    let dir = TempDir::new().unwrap();
    durable::write(&dir.path().join("a.json"), &1).unwrap();
    // Of a process that was, and of one that had the number of this one.
    let left = |pid: u32, n: u32| dir.path().join(format!(".draft-{pid}-{n}"));
    fs::write(left(u32::MAX, 7), "{").unwrap();
    let ours: Vec<_> = (0..1000).map(|n| left(std::process::id(), n)).collect();
    ours.iter().for_each(|path| fs::write(path, "{").unwrap());
    durable::write(&dir.path().join("b.json"), &2).unwrap();

    assert_eq!(durable::list(dir.path()).unwrap(), ["a.json", "b.json"].map(|name| dir.path().join(name)));
    assert_eq!(durable::read::<u32>(&dir.path().join("b.json")).unwrap(), Some(2));
    assert!(ours.iter().all(|path| path.exists()), "somebody may be writing it now");
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    let dir = TempDir::new().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (above, file) = (dir.path().join("site"), dir.path().join("site/web/mark.json"));
    durable::write(&file, &1).unwrap();
    assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(&above)), (0o600, 0o700, 0o700));
    // A directory that was there keeps its mode; a file is replaced, and is ours then.
    fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    durable::write(&file, &2).unwrap();
    assert_eq!((mode(&file), mode(&above)), (0o600, 0o755));
    let register = Register::at(dir.path().join("register"));
    drop(register.turn(&op(1, "us"), &"web".into()).unwrap());
    assert_eq!(mode(&dir.path().join("register")), 0o700);
}

#[test]
fn a_state_directory_is_of_one_site_and_not_of_a_newer_version() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("made/state");
    let (here, there) = ("here".into(), "there".into());
    assert!(!belongs_to(&state, &here).unwrap() && !state.exists(), "asking makes nothing");
    open_state(&state, &here).unwrap();
    open_state(&state, &here).unwrap();
    assert!(belongs_to(&state, &here).unwrap());
    let path = state.join("site.json");
    let ours = fs::read_to_string(&path).unwrap();
    for error in [belongs_to(&state, &there).unwrap_err(), open_state(&state, &there).unwrap_err()] {
        assert_eq!((error.kind(), error.fact("asked")), (ErrorKind::Conflict, Some("there")), "{error}");
        assert!(error.message().ends_with("is of the site here"), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), ours);
    fs::write(&path, ours.replace("\"format\": 1", "\"format\": 2")).unwrap();
    assert_eq!(open_state(&state, &here).unwrap_err().kind(), ErrorKind::Unsupported);
    fs::write(&path, "{").unwrap();
    assert_eq!(open_state(&state, &here).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{");
}

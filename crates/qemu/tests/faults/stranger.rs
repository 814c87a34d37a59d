//! A process or a monitor that is not as the library left it.

use crate::protected::*;
use crate::support::*;
use site_recovery::*;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn o7_a_monitor_that_somebody_else_uses_is_told_with_the_remedy() {
    on_qemu(async {
        let world = World::told(|b, _| b.patience(PATIENCE)).await;
        let protected = Protected::running_in(world).await;
        let first = protected.seal("first").await;
        let mut taken = UnixStream::connect(protected.world.place("web").join("qmp")).unwrap();
        taken.set_read_timeout(Some(BOUND)).unwrap();
        taken.read_exact(&mut [0; 8]).unwrap(); // its greeting: the monitor is theirs now

        let begun = now();
        let error = protected.capture("taken").await.unwrap_err();
        let waited = begun.elapsed();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.is_temporary());
        for word in ["somebody else", "-qmp socket of its own"] {
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(waited >= PATIENCE && waited < 4 * PATIENCE, "it took {waited:?}");
        // The power is the process's, whoever has its monitor.
        assert_eq!(protected.site().power(&protected.instance).await.unwrap(), Power::On);
        protected.is_as_before();

        drop(taken);
        protected.world.put("web", 0, 0, b"meanwhile");
        protected.seal_delta("next", &first).await.expect("tracking was kept");
    });
}

/// Starts the machine as its command line says, changed.
async fn started_otherwise(world: &World, change: impl Fn(&str) -> String) {
    let line = world.site.command_line("web").await.unwrap();
    std::fs::create_dir_all(world.path(".site-recovery/run")).unwrap();
    let pidfile = line.iter().position(|w| w == "-pidfile").map(|at| &line[at + 1]).unwrap();
    std::fs::create_dir_all(std::path::Path::new(pidfile).parent().unwrap()).unwrap();
    let line: Vec<String> = line.iter().map(|w| change(w)).collect();
    let status = Command::new(&line[0]).args(&line[1..]).status().unwrap();
    assert!(status.success());
    world.monitor("web").unwrap().call("cont", serde_json::Value::Null).unwrap();
}

#[test]
fn d4_a_machine_started_with_another_command_line_is_refused_and_left_alone() {
    on_qemu(async {
        type Change = fn(&str) -> String;
        let cases: [(&str, Change, &str); 3] = [
            ("another device id", |w| w.replace("id=v1,", "id=theirs,"), "no device v1"),
            ("another node", |w| w.replace("\"d1\"", "\"theirs\"").replace("drive=d1", "drive=theirs"), "d1"),
            (
                "devices swapped",
                |w| w.replace("id=v0,drive=d0", "id=v1,drive=d0").replace("id=v1,drive=d1", "id=v0,drive=d1"),
                "v0 writes to",
            ),
        ];
        for (case, change, words) in cases {
            let world = World::new().await;
            world.machine("web");
            let instance = world.enrol("web").await;
            started_otherwise(&world, change).await;
            let before = (world.captures("web"), world.drives("web"));
            let protected = Protected { world, instance };
            let error = protected.capture("capture").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict, "{case}: {error}");
            for word in [words, "command_line"] {
                assert!(error.to_string().contains(word), "{case}: {error}");
            }
            assert_eq!((protected.world.captures("web"), protected.world.drives("web")), before, "{case}");
            assert!(protected.world.is_on("web"), "{case}: the guest was stopped");
            assert_eq!(bitmaps(&protected.world), 0, "{case}: something was left");
        }
    });
}

fn bitmaps(world: &World) -> usize {
    let mut monitor = world.monitor("web").unwrap();
    let nodes = monitor.call("query-named-block-nodes", serde_json::json!({ "flat": true })).unwrap();
    let of = |n: &serde_json::Value| n["dirty-bitmaps"].as_array().map_or(0, Vec::len);
    nodes.as_array().unwrap().iter().map(of).sum()
}

#[test]
fn the_printed_command_line_makes_a_machine_that_is_captured() {
    on_qemu(async {
        let world = World::new().await;
        world.machine("web");
        let instance = world.enrol("web").await;
        started_otherwise(&world, str::to_owned).await;
        let protected = Protected { world, instance };
        let first = protected.seal("first").await;
        protected.world.put("web", 1, 0, b"a change");
        protected.seal_delta("second", &first).await.expect("it is tracked");
        protected.is_as_before();
    });
}

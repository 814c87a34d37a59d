//! Recovery plans that do not go through by themselves: what fails is mended, or told; and who asked goes away.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use site_recovery_report::{Ending, Report, verify};
use std::fs;
use support::{Daemon, Gate, Ground, ended, signal, soon};

/// Of db, then web; with actions before the second.
fn pair(before: &str) -> Ground {
    let ground = Ground::new();
    let file = ground.path("site-recovery.toml");
    let settings = fs::read_to_string(&file).unwrap();
    let groups = format!(
        "\n[plans.pair]\n[[plans.pair.groups]]\nmembers = [{{ unit = \"db\" }}]\n\
         [[plans.pair.groups]]\nmembers = [{{ unit = \"web\" }}]\nbefore = [{before}]\n"
    );
    fs::write(&file, settings + &groups).unwrap();
    ground.machine("web", 1);
    ground
}

fn states(run: &Value) -> Vec<&str> {
    run["plan_run"]["members"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap()).collect()
}

#[track_caller]
fn is_over(ground: &Ground, machine: &str) {
    assert_eq!(ground.disks("cloud", machine), ground.disks("here", machine), "{machine}");
}

/// The report of the only failover.
fn report(ground: &Ground) -> Report {
    let files = fs::read_dir(ground.path("state/reports")).unwrap().map(|entry| entry.unwrap().path());
    let all: Vec<_> = files.filter(|file| file.to_string_lossy().ends_with("failover-pair.json")).collect();
    let [file] = all.as_slice() else { panic!("{all:?}") };
    let report = Report::from_json(&fs::read_to_string(file).unwrap()).unwrap();
    assert!(verify(&report).unwrap().records > 0);
    report
}

#[test]
fn what_stopped_a_plan_is_mended_and_the_plan_continues() {
    let action = r#"{ name = "dns", does.command = { program = ["/bin/sh", "-c", "cat > /dev/null; test -e mended"], again = true } }"#;
    // The program is run where the command is.
    let ground = pair(action);
    ground.machine("db", 1);
    ground.run("protect db web").with(0);
    let over = ground.run("plan failover pair").with(7);
    assert!(over.out.contains("plan continue pair"), "{}", over.out);
    let shown = ground.run("plan show pair --json").with(0).json();
    assert_eq!(shown["recovery_plan"]["run"]["state"], "stopped");
    is_over(&ground, "db");
    assert_eq!(ground.phase("web"), "PlannedFailoverInitiated");
    // It stops at the same place as long as nothing is mended.
    ground.run("plan continue pair").with(7);
    assert_eq!(ground.phase("web"), "PlannedFailoverInitiated");

    fs::write(ground.path("mended"), "").unwrap();
    let done = ground.run("plan continue pair --json").with(0).json();
    assert_eq!((&done["plan_run"]["state"], states(&done)), (&"done".into(), vec!["Done", "Done"]));
    for machine in ["db", "web"] {
        is_over(&ground, machine);
    }
    assert_eq!(report(&ground).outcome, Ending::Done);
    let over = ground.run("plan continue pair").with(3);
    assert!(over.err.contains("has not stopped"), "{}", over.err);
}

#[test]
fn an_unplanned_plan_brings_up_the_others_and_tells_whose_boot_was_refused() {
    let ground = pair(r#"{ name = "look", does.manual.instructions = "look at web" }"#);
    ground.machine("db", 1);
    ground.run("protect db web").with(0);
    ground.run("plan failover pair --unplanned --yes --reason dark").with(7);
    is_over(&ground, "db");
    // Prepared, it is described so that it never runs.
    let described = ground.path("cloud/web/machine.json");
    let mut machine: Value = serde_json::from_slice(&fs::read(&described).unwrap()).unwrap();
    machine["commands"] = json!({ "is_running": { "run": ["/bin/false"] } });
    fs::write(&described, machine.to_string()).unwrap();

    let partly = ground.run("plan complete pair look --note looked --json").with(1).json();
    assert_eq!((&partly["plan_run"]["state"], states(&partly)), (&"partly".into(), vec!["Done", "Failed"]));
    let why = partly["plan_run"]["members"][1]["why"].as_str().unwrap();
    assert!(why.contains("does not run now"), "{why}");
    let told = report(&ground);
    assert!(matches!(&told.outcome, Ending::NeedsOperator { .. }), "{:?}", told.outcome);
    assert!(told.to_html().contains("does not run now"));
    assert_eq!(ground.phase("db"), "UnplannedFailoverCompleted");

    machine.as_object_mut().unwrap().remove("commands");
    fs::write(&described, machine.to_string()).unwrap();
    ground.run("retry web").with(0);
    is_over(&ground, "web");
    assert_eq!(ground.phase("web"), "UnplannedFailoverCompleted");
}

#[test]
fn a_plan_of_a_daemon_goes_on_when_the_terminal_that_asked_is_lost() {
    let ground = pair("");
    let gate = Gate::make(ground.path("here/db"), "stop");
    ground.machine_with("db", 1, &format!(r#"{{ "stop": {} }}"#, Gate::command("stop")));
    ground.run("protect db web").with(0);
    let daemon = Daemon::start(&ground);

    let over = ground.start("plan failover pair --json");
    gate.reached();
    signal(&over, Signal::HUP);
    // The terminal is gone, and then the process that was on it.
    signal(&over, Signal::KILL);
    assert_eq!(ended(over).code, -1);
    let shown = ground.run("plan show pair --json").with(0).json();
    assert_eq!(shown["recovery_plan"]["run"]["state"], "under_way");
    gate.open();
    let run = || ground.run("plan show pair --json").with(0).json()["recovery_plan"]["run"].clone();
    soon("the end of the run", || run()["state"] != "under_way");
    assert_eq!((&run()["state"], &run()["who"]), (&"done".into(), &"ana".into()));
    for machine in ["db", "web"] {
        is_over(&ground, machine);
        assert_eq!(ground.phase(machine), "PlannedFailoverCompleted");
    }
    daemon.stop();
    assert_eq!(report(&ground).outcome, Ending::Done);
}

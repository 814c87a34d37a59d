//! Recovery plans by verbs: three machines over and back as one act, with a program and a person between them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use site_recovery_report::{ActionEnding, Ending, Left, LeftOut, Report, verify};
use std::fs;
use support::{Gate, Ground, ended, signal, with_last};

const SHOP: &str = r#"
[plans.shop]
[[plans.shop.groups]]
members = [{ unit = "db" }, { unit = "app", after = ["db"] }]
[[plans.shop.groups.after]]
name = "migrate"
does.command.program = ["/bin/sh", "-c", "cat > /dev/null; echo migrated"]

[[plans.shop.groups]]
members = [{ unit = "web" }]
[[plans.shop.groups.before]]
name = "firewall"
on = ["Planned"]
does.manual.instructions = "open port 443 at the other side"
"#;

const MACHINES: [&str; 3] = ["db", "app", "web"];

/// Three protected machines, and these plans.
fn shop(plans: &str) -> Ground {
    let ground = Ground::new();
    write(&ground, plans);
    for machine in MACHINES {
        ground.machine(machine, 1);
    }
    ground.run("protect db app web").with(0);
    ground
}

fn write(ground: &Ground, plans: &str) {
    let file = ground.path("site-recovery.toml");
    let settings = fs::read_to_string(&file).unwrap();
    fs::write(&file, settings + plans).unwrap();
}

/// Reports on disk of this kind, by their times; each one verified.
fn reports(ground: &Ground, what: &str) -> Vec<Report> {
    let dir = fs::read_dir(ground.path("state/reports")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        dir.filter(|path| path.to_string_lossy().ends_with(&format!("{what}.json"))).collect();
    files.sort();
    let read = |file: &std::path::PathBuf| {
        let report = Report::from_json(&fs::read_to_string(file).unwrap()).unwrap();
        assert!(verify(&report).unwrap().records > 0, "{}", file.display());
        assert_eq!(fs::read_to_string(file.with_extension("html")).unwrap(), report.to_html());
        report
    };
    files.iter().map(read).collect()
}

fn same(ground: &Ground) {
    for machine in MACHINES {
        assert_eq!(ground.disks("cloud", machine), ground.disks("here", machine), "{machine}");
    }
}

fn states(run: &Value) -> Vec<&str> {
    run["plan_run"]["members"].as_array().unwrap().iter().map(|m| m["state"].as_str().unwrap()).collect()
}

#[test]
fn three_machines_go_over_and_come_back_by_one_plan() {
    let ground = shop(SHOP);
    let listed = ground.run("plan list --json").with(0).json();
    assert_eq!(
        (&listed["recovery_plans"][0]["members"], &listed["recovery_plans"][0]["state"]),
        (&3.into(), &Value::Null)
    );

    let drill = ground.run("plan drill shop --json").with(0).json();
    assert_eq!(drill["plan_run"]["state"], "done");
    assert_eq!(drill["plan_run"]["actions"][0]["output"], "migrated\n");
    for machine in MACHINES {
        assert_eq!(ground.disks("cloud", &format!("{machine}-test")), ground.disks("here", machine));
    }
    ground.run("plan clean-up shop").with(0);
    assert!(MACHINES.iter().all(|machine| !ground.path(&format!("cloud/{machine}-test")).exists()));

    for machine in MACHINES {
        ground.write("here", machine, 4096, "written last here");
    }
    let over = ground.run("plan failover shop --reason exercise").with(7);
    assert!(over.out.contains("to be done: open port 443 at the other side"), "{}", over.out);
    assert!(over.out.contains("then: plan complete shop firewall --note TEXT"), "{}", over.out);
    assert!(over.err.contains("shop: boot group 1 boots"), "{}", over.err);
    // Group 1 runs over there, the other machine is held, and its source is off.
    let shown = ground.run("plan show shop --json").with(0).json();
    assert_eq!(shown["recovery_plan"]["run"]["state"], "waiting");
    assert_eq!(ground.phase("app"), "PlannedFailoverCompleted");
    assert_eq!(ground.phase("web"), "PlannedFailoverInitiated");
    ground.run("plan complete shop migrate --note done").with(3);
    ground.run("plan complete shop firewall").with(2);
    let done = ground.command("plan complete shop firewall --json --note");
    let done = with_last(done, "opened, ticket 4711").with(0).json();
    assert_eq!(states(&done), ["Done", "Done", "Done"]);
    same(&ground);
    ground.run("plan commit shop --yes").with(0);

    for machine in MACHINES {
        ground.write("cloud", machine, 65536, "written over there");
    }
    ground.run("plan reprotect shop").with(0);
    same(&ground);
    for machine in MACHINES {
        ground.write("cloud", machine, 131_072, "written last over there");
    }
    ground.run("plan failback shop").with(7);
    ground.run("plan complete shop firewall --note opened").with(0);
    same(&ground);
    ground.run("plan commit shop --yes").with(0);
    ground.run("plan reprotect shop").with(0);
    for machine in MACHINES {
        let shown = ground.run(&format!("show {machine} --json")).with(0).json();
        assert_eq!(
            (&shown["shown"][0]["phase"], &shown["shown"][0]["runs_at"]),
            (&"Protected".into(), &"here".into())
        );
    }

    let (over, back) = (reports(&ground, "failover-shop"), reports(&ground, "failback-shop"));
    let [over] = over.as_slice() else { panic!("one failover") };
    assert_eq!(
        (over.members.len(), over.outcome.clone(), over.why.as_deref()),
        (3, Ending::Done, Some("exercise"))
    );
    let plan = over.plan.as_ref().unwrap();
    assert_eq!(
        (plan.groups[0].machines.len(), plan.groups[1].before.as_slice()),
        (2, &["firewall".to_owned()][..])
    );
    let firewall = over.actions.iter().find(|action| action.name == "firewall").unwrap();
    assert_eq!((firewall.ending.clone(), firewall.who.as_deref()), (ActionEnding::Done, Some("ana")));
    assert!(firewall.notes.contains(&"opened, ticket 4711".to_owned()), "{firewall:?}");
    assert_eq!((back.len(), reports(&ground, "drill-shop").len()), (1, 1));
}

#[test]
fn o4_two_plans_that_share_a_machine_do_not_run_at_once() {
    let two = "\n[plans.front]\n[[plans.front.groups]]\nmembers = [{ unit = \"web\" }]\n";
    let ground = shop(&format!("{SHOP}{two}"));
    ground.run("plan failover shop").with(7);
    let before = ground.run("plan show shop --json").with(0).json();
    let run = before["recovery_plan"]["run"]["run"].as_str().unwrap();
    for words in ["plan failover front", "plan drill front"] {
        let refused = ground.run(words).with(6);
        assert!(
            refused.err.contains(&format!("web is a member of run {run} of plan shop")),
            "{}",
            refused.err
        );
    }
    let again = ground.run("plan failover shop").with(6);
    assert!(again.err.contains(&format!("run {run} of plan shop is under way")), "{}", again.err);
    assert_eq!(ground.phase("web"), "PlannedFailoverInitiated");
    // What stands prepared is taken back; what has booted stays, and is named.
    let cancelled = ground.run("plan cancel shop").with(1);
    assert!(cancelled.out.contains("CANCELLED: brought up by then: db, app"), "{}", cancelled.out);
    assert_eq!(
        (ground.phase("db"), ground.phase("web")),
        ("PlannedFailoverCompleted".into(), "Protected".into())
    );
    // So is who was waited for: nobody is any more.
    let run = ground.run("plan show shop --json").with(0).json()["recovery_plan"]["run"].clone();
    let firewall = &run["actions"][1];
    assert_eq!((&firewall["action"], &firewall["state"]), (&"firewall".into(), &"Dropped".into()));
    assert_eq!(run["waits_for"], Value::Null);
    let report = reports(&ground, "failover-shop").pop().unwrap();
    let firewall = report.actions.iter().find(|action| action.name == "firewall").unwrap();
    assert!(matches!(firewall.ending, ActionEnding::Skipped { .. }), "{firewall:?}");
    ground.run("plan failover front").with(0);
    assert_eq!(ground.disks("cloud", "web"), ground.disks("here", "web"));
}

#[test]
fn a_plan_that_is_lacking_or_lacks_a_machine_is_refused_before_anything_changes() {
    let ground = Ground::new();
    write(&ground, SHOP);
    ground.machine("db", 1);
    ground.run("protect db").with(0);
    let none = ground.run("plan failover shpo").with(5);
    assert!(none.err.contains("no plans.shpo is in the settings; these are: shop"), "{}", none.err);
    let lacking = ground.run("plan failover shop").with(4);
    assert!(
        lacking.err.contains("member.unit is app: no machine and no replication group"),
        "{}",
        lacking.err
    );
    assert!(ground.run("plan show shop").with(0).out.contains("app after db (NOT PROTECTED)"));
    for (words, wanted) in [("failover shop --unplanned", "--yes and --reason"), ("commit shop", "--yes")] {
        let refused = ground.run(&format!("plan {words}")).with(2);
        assert!(refused.err.contains(&format!("give {wanted}")), "{words}: {}", refused.err);
    }
    assert_eq!(ground.phase("db"), "Protected");
}

const ASKED: &str = r#"
[plans.pair]
[[plans.pair.failover.before]]
name = "ask"
does.manual.instructions = "ask the customers"
[[plans.pair.groups]]
members = [{ unit = "db" }, { unit = "web" }]
"#;

#[test]
fn a_member_whose_job_could_not_begin_stands_in_the_report_and_makes_it_a_failed_one() {
    let ground = Ground::new();
    write(&ground, ASKED);
    ground.machine("db", 1);
    ground.machine("web", 1);
    ground.run("protect db web").with(0);
    ground.run("plan failover pair --unplanned --yes --reason exercise").with(7);
    // While the plan waits somebody takes one of its machines over alone.
    ground.run("failover web").with(0);
    let partly = ground.run("plan complete pair ask --note asked --json").with(1).json();
    assert_eq!(states(&partly), ["Done", "Failed"]);

    let all = reports(&ground, "failover-pair");
    let [report] = all.as_slice() else { panic!("one report") };
    let left_out = &report.plan.as_ref().unwrap().left_out;
    let [LeftOut { name, machines, why: Left::Refused { why } }] = left_out.as_slice() else {
        panic!("{left_out:?}")
    };
    assert_eq!((report.members.len(), name.as_str(), machines.len()), (1, "web", 1));
    assert_eq!(report.members[0].outcome, Ending::Done);
    assert!(matches!(&report.outcome, Ending::Failed { .. }), "{:?}", report.outcome);
    assert!(report.to_html().contains("Could not begin") && !why.message.is_empty(), "{why:?}");
}

/// A plan of db, then web, whose shutdown of db waits at a gate.
fn held() -> (Ground, Gate) {
    let ground = Ground::new();
    let plan = "\n[plans.pair]\n[[plans.pair.groups]]\nmembers = [{ unit = \"db\" }]\n[[plans.pair.groups]]\nmembers = [{ unit = \"web\" }]\n";
    write(&ground, plan);
    let gate = Gate::make(ground.path("here/db"), "stop");
    ground.machine_with("db", 1, &format!(r#"{{ "stop": {} }}"#, Gate::command("stop")));
    ground.machine("web", 1);
    ground.run("protect db web").with(0);
    (ground, gate)
}

fn both_are_over(ground: &Ground) {
    for machine in ["db", "web"] {
        assert_eq!(ground.phase(machine), "PlannedFailoverCompleted");
        assert_eq!(ground.disks("cloud", machine), ground.disks("here", machine));
    }
    assert_eq!(reports(ground, "failover-pair").len(), 1);
}

#[test]
fn a_lost_terminal_in_the_middle_of_a_plan_does_not_end_it() {
    let (ground, gate) = held();
    let over = ground.start("plan failover pair");
    gate.reached();
    signal(&over, Signal::HUP);
    // Done by the process that drives the plan.
    let shown = ground.run("plan show pair --json").with(0).json();
    assert_eq!(shown["recovery_plan"]["run"]["state"], "under_way");
    gate.open();
    ended(over).with(0);
    both_are_over(&ground);
}

#[test]
fn a_plan_that_was_killed_goes_on_with_the_next_start() {
    let (ground, gate) = held();
    let mut over = ground.start("plan failover pair");
    gate.reached();
    over.kill().unwrap();
    over.wait().unwrap();
    // The shell that the dead command had started waits still.
    gate.open();
    let next = ground.start("ready web");
    gate.reached();
    gate.open();
    let next = ended(next).with(0);
    assert!(
        next.err.contains("resuming PlannedFailover of plan pair, which was interrupted"),
        "{}",
        next.err
    );
    assert!(next.err.contains("resumed PlannedFailover of plan pair: done"), "{}", next.err);
    both_are_over(&ground);
}

#[test]
fn ctrl_c_before_the_first_boot_turns_a_plan_back() {
    let (ground, gate) = held();
    let over = ground.start("plan failover pair");
    gate.reached();
    signal(&over, Signal::INT);
    gate.open();
    let over = ended(over).with(1);
    assert!(over.out.contains("CANCELLED"), "{}", over.out);
    assert!(over.err.contains("asked to turn back"), "{}", over.err);
    for machine in ["db", "web"] {
        assert_eq!(ground.phase(machine), "Protected");
        assert!(!ground.path("cloud").join(machine).exists());
    }
}

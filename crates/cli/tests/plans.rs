//! Recovery plans by verbs: three machines over and back as one act, with a program and a person between them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use site_recovery_report::{ActionEnding, Ending, Report, verify};
use std::fs;
use support::{Gate, Ground, ended, signal};

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

fn with_last(mut command: std::process::Command, word: &str) -> support::Ran {
    command.arg(word);
    ended(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap())
}

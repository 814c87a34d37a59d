//! Programs, their context, and people.

use super::world::*;
use site_recovery::{ErrorKind, FailoverRequest, Result};
use site_recovery_plans::{ActionState, Actions, Command, Outcome, Output, RunState, SystemActions};
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test]
async fn a_run_waits_until_somebody_completes_it_with_a_note() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    let mut shop = plan(&[&["db"]]);
    shop.groups[0].before.push(by_hand("cable"));
    site.plans.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    let run = site.wait("shop").await;
    assert_eq!(run.state(), RunState::WaitingForManualAction);
    assert_eq!(run.waiting().map(|a| a.name.as_str()), Some("cable"));
    assert!(site.in_cloud().is_empty());

    let bob = site.plans.clone().acting_as("bob");
    let empty = bob.complete("shop", "cable", " ").await.expect_err("no note");
    assert_eq!((empty.kind(), empty.fact("field")), (ErrorKind::Invalid, Some("note")));
    let other = bob.complete("shop", "tape", "done").await.expect_err("no such action");
    assert_eq!(other.kind(), ErrorKind::Refused);
    let refused = bob.go_on("shop").await.expect_err("it has not stopped");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(site.in_cloud().is_empty(), "none of that let it go on");
    bob.complete("shop", "cable", "it is in port 7").await?;
    let run = site.wait("shop").await;
    assert_eq!(run.outcome, Some(Outcome::Done));
    let cable = run.action("cable").expect("it began");
    assert_eq!(
        (cable.note.as_deref(), cable.completed_by.as_deref()),
        (Some("it is in port 7"), Some("bob"))
    );
    let twice = bob.complete("shop", "cable", "again").await.expect_err("it is done");
    assert_eq!(twice.kind(), ErrorKind::Refused);
    Ok(())
}

#[tokio::test]
async fn a_program_is_told_the_run_and_where_machines_are_once_they_are() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].after.push(runs("dns"));
    site.plans.failover("shop", &shop, FailoverRequest::unplanned(OUT, fire())).await?;
    let run = site.wait("shop").await;
    let command = site.actions.calls()[0].command.clone();
    let told = |name: &str| command.environment.get(name).cloned().unwrap_or_default();
    assert_eq!(told("SITE_RECOVERY_PLAN"), "shop");
    assert_eq!(told("SITE_RECOVERY_RUN"), run.id);
    assert_eq!(told("SITE_RECOVERY_KIND"), "Unplanned");
    assert_eq!(told("SITE_RECOVERY_DIRECTION"), "PrimaryToRecovery");
    assert_eq!((told("SITE_RECOVERY_GROUP"), told("SITE_RECOVERY_ACTION")), ("1".into(), "dns".into()));
    let context: serde_json::Value = serde_json::from_slice(&command.input).expect("JSON");
    let (db, web) = (&run.member("db").expect("a member").machines[0], &context["machines"]["web"]);
    assert_eq!(context["machines"]["db"]["addresses"][0], db.reach[0].as_str());
    assert_eq!(context["machines"]["db"]["point"], db.point.expect("a point").0);
    assert_eq!(web["addresses"].as_array().map(Vec::len), Some(0), "it has not booted by then");
    assert_eq!((&context["kind"], &context["plan"]), (&"Unplanned".into(), &"shop".into()));
    assert_eq!(run.action("dns").map(|a| (a.state, a.exit)), Some((ActionState::Done, Some(0))));
    Ok(())
}

fn shell(script: &str) -> Command {
    let program = ["sh", "-c", script].map(str::to_owned).to_vec();
    let environment = BTreeMap::from([("SITE_RECOVERY_PLAN".to_owned(), "shop".to_owned())]);
    Command { program, environment, input: b"{\"plan\":\"shop\"}".to_vec() }
}

#[tokio::test]
async fn c1_a_program_of_this_host_gets_its_context_and_none_of_our_environment() -> Result<()> {
    let output = Output::default();
    let script = "cat; env | cut -d= -f1 | sort | tr '\\n' ' '; echo oops >&2; exit 7";
    let code = SystemActions.run(&shell(script), &output).await?;
    assert_eq!(code, Some(7));
    let said = output.text();
    assert!(said.contains("{\"plan\":\"shop\"}") && said.contains("oops"), "{said}");
    assert!(said.contains("SITE_RECOVERY_PLAN") && said.contains("PATH"), "{said}");
    assert!(!said.contains("CARGO") && !said.contains("HOME"), "{said}");
    let missing = Command { program: vec!["/no/such/program".into()], ..shell("") };
    let error = SystemActions.run(&missing, &output).await.expect_err("there is none");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_program_ends_with_all_that_it_started_when_it_is_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let pids = dir.path().join("pids");
    let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; echo began; wait", pids.display());
    let (output, command) = (Output::default(), shell(&script));
    let mut running = Box::pin(SystemActions.run(&command, &output));
    let seen = async {
        while !pids.exists() || output.text().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    bounded(async {
        tokio::select! {
            ended = &mut running => panic!("it ended: {ended:?}"),
            () = seen => {}
        }
    })
    .await;
    let child: u32 = std::fs::read_to_string(&pids).expect("written").trim().parse().expect("a process id");
    drop(running);
    assert!(output.text().contains("began"), "what it said is kept");
    bounded(async {
        // Gone, or a zombie that nobody has collected yet.
        while std::fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|s| !s.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_port_of_this_host_is_open_or_closed() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    SystemActions.connect("127.0.0.1", port).await?;
    // Held, so that nobody else listens there meanwhile.
    let held = tokio::net::TcpSocket::new_v4().expect("a socket");
    held.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let port = held.local_addr().expect("an address").port();
    let closed =
        tokio::time::timeout(Duration::from_secs(10), SystemActions.connect("127.0.0.1", port)).await;
    let error = closed.expect("at once").expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    Ok(())
}

//! Plans with members that have no job: what is told of those, and how they weigh.

use crate::{page, runs};
use site_recovery::audit::sha256_hex;
use site_recovery::state::Direction::PrimaryToRecovery as OUT;
use site_recovery::{FailoverRequest, Force, Operation, Request, Result, Timestamp};
use site_recovery_report::{Ending, GroupPart, Left, LeftOut, PlanPart, Report, verify};

fn left_out(name: &str, why: Left) -> LeftOut {
    LeftOut { name: name.into(), machines: vec![name.into()], why }
}

fn refused(name: &str) -> LeftOut {
    left_out(name, Left::Refused { why: runs::failure("another job of it is under way") })
}

fn skipped(name: &str) -> LeftOut {
    left_out(name, Left::Skipped { reason: "it is over there already".into() })
}

/// A plan of two, of which nobody's job began.
pub(crate) fn nobody() -> Result<Report> {
    let force = Force::by("ben", "the hall burns");
    let plan = PlanPart {
        name: "whole shop".into(),
        run: "plan-4".into(),
        operation: Operation::UnplannedFailover,
        direction: OUT,
        request: Request::Failover(FailoverRequest::unplanned(OUT, force)),
        who: "ana".into(),
        started: Timestamp(1_790_000_000_000),
        ended: Some(Timestamp(1_790_000_004_200)),
        outcome: Ending::Failed { why: runs::failure("failed: db") },
        groups: vec![GroupPart {
            name: "boot group 1".into(),
            machines: vec!["db".into(), "web".into()],
            before: vec![],
            after: vec![],
        }],
        left_out: vec![refused("db"), skipped("web")],
    };
    Report::of_plan("vault of cloud", Timestamp(1_790_000_005_000), plan, vec![]).build()
}

#[test]
fn a_plan_of_which_nobody_s_job_began_has_a_report_all_the_same() -> Result<()> {
    let report = nobody()?;
    let why = report.outcome.why().map(|why| why.message.as_str());
    assert_eq!((why, report.who.as_str()), (Some("another job of it is under way"), "ana"));
    assert_eq!(report.force.as_ref().map(|f| f.operator.as_str()), Some("ben"));
    assert_eq!(verify(&Report::from_json(&report.to_json())?)?.records, 0);
    let text = page::check("nobody", &report.to_html());
    for told in ["Could not begin", "another job of it is under way", "Skipped", "it is over there already"] {
        assert!(text.contains(told), "{told}");
    }
    assert!(text.contains("its job could not begin, and nothing was done with it"), "a person has to look");
    Ok(())
}

/// The worst of all counts: a machine that is well says nothing of one that was never touched.
#[tokio::test]
async fn whoever_was_left_out_weighs_as_much_as_a_machine_that_failed() -> Result<()> {
    let ([shop, web], whole) = runs::plan().await?;
    let plan = |outcome: Ending, left_out: Vec<LeftOut>| -> Result<Report> {
        let mut plan = whole.plan.clone().expect("of a plan");
        plan.outcome = outcome;
        plan.groups[1].machines.extend(left_out.iter().flat_map(|left| left.machines.clone()));
        plan.left_out = left_out;
        let report = Report::of_plan("cloud", whole.made_at, plan, whole.actions.clone());
        let report = report.job(shop.job()).job(web.job()).build()?;
        verify(&report)?;
        Ok(report)
    };
    assert_eq!(plan(Ending::Done, vec![])?.outcome, Ending::Done);
    assert_eq!(plan(Ending::Done, vec![skipped("mail")])?.outcome, Ending::Done);
    let left = plan(Ending::Done, vec![skipped("mail"), refused("printer")])?;
    assert!(matches!(&left.outcome, Ending::Failed { why } if why.message.contains("another job")));
    let partly = Ending::Failed { why: runs::failure("failed: tell the customers") };
    assert_eq!(plan(partly.clone(), vec![])?.outcome, partly);
    assert!(page::check("left out", &left.to_html()).contains("printer"));

    let done: fn(&mut Report) = |r| r.outcome = Ending::Done;
    let forgotten: fn(&mut Report) = |r| {
        r.outcome = Ending::Done;
        r.plan.as_mut().expect("a plan").left_out.clear();
    };
    for (forge, found) in [(done, "the worst of the parts"), (forgotten, "nothing is told of")] {
        let mut forged = left.clone();
        forge(&mut forged);
        forged.digest = String::new();
        forged.digest = sha256_hex(&serde_json::to_vec(&forged).expect("plain data serialises"));
        let error = verify(&forged).expect_err(found).to_string();
        assert!(error.contains(found), "{error}");
    }
    Ok(())
}

//! Figures of each story, computed here once more from its run.

use crate::runs::{self, Ran};
use site_recovery::{Mark, Result, Step, Task, Timestamp};
use site_recovery_report::{Ending, OutageBasis};
use std::time::Duration;

fn task(ran: &Ran, step: Step) -> &Task {
    let done = |t: &&Task| t.step == step && t.mark == Mark::Done;
    ran.run.tasks.iter().rev().find(done).unwrap_or_else(|| panic!("{step:?} was not done"))
}

fn end(ran: &Ran, step: Step) -> Timestamp {
    task(ran, step).ended.expect("done, so ended")
}

#[tokio::test]
async fn a_planned_failover_loses_nothing_and_stands_still_from_its_fence_to_its_boot() -> Result<()> {
    for (ran, report) in [runs::planned().await?, runs::failback().await?] {
        let web = &report.members[0];
        assert_eq!(report.outcome, Ending::Done);
        assert_eq!(report.loss.as_ref().map(|l| l.at_most), Some(Some(Duration::ZERO)));
        assert_eq!(web.figures.rpo, Some(Duration::ZERO), "its point was taken after the request");
        assert_eq!(web.figures.rto_boot, Some(end(&ran, Step::Boot).since(ran.run.started)));
        assert_eq!(web.figures.rto_verdict, Some(end(&ran, Step::Validate).since(ran.run.started)));
        let outage = web.figures.outage.as_ref().expect("it was stopped");
        assert_eq!(
            (outage.from, outage.to, outage.over, outage.basis),
            (task(&ran, Step::Fence).started, Some(end(&ran, Step::Boot)), true, OutageBasis::StepBegan)
        );
        let length = outage.length(report.made_at);
        assert!(length > Duration::from_secs(21), "preparing the guest alone takes that long: {length:?}");
    }
    Ok(())
}

#[tokio::test]
async fn where_the_source_has_died_all_is_counted_from_there() -> Result<()> {
    let (ran, report) = runs::forced().await?;
    let web = &report.members[0];
    let died = web.died.expect("it was told");
    let point = web.point.as_ref().expect("a point was used");
    assert_eq!(web.figures.rpo, Some(died.since(point.taken)));
    assert!(web.figures.rpo > Some(Duration::from_secs(200)), "{:?}", web.figures.rpo);
    assert!(web.figures.rto_boot > Some(Duration::from_secs(75)), "{:?}", web.figures.rto_boot);
    assert_eq!(web.figures.outage.as_ref().map(|o| (o.from, o.basis)), Some((died, OutageBasis::Told)));
    assert_eq!(report.force.as_ref().map(|f| f.operator.as_str()), Some("ben"));
    assert_eq!(web.unproven.len(), 1, "nobody could prove the dead side off");
    let journalled = ran.items[0].promotion.as_ref().and_then(|p| p.loss.clone());
    let journalled = journalled.expect("a loss is journalled");
    assert_eq!(report.loss.as_ref().and_then(|l| l.at_most), Some(journalled.at_most));
    Ok(())
}

#[tokio::test]
async fn a_drill_stops_nothing() -> Result<()> {
    let (_, report) = runs::drill().await?;
    let web = &report.members[0];
    assert_eq!(web.figures.outage, None);
    assert!(web.stands.iter().any(|s| s.network.is_some() && s.booted == Some(true)));
    Ok(())
}

#[tokio::test]
async fn what_was_undone_loses_nothing_and_ran_again() -> Result<()> {
    let (_, report) = runs::undone().await?;
    let web = &report.members[0];
    assert!(matches!(web.outcome, Ending::Undone { .. }));
    assert_eq!((&report.loss, web.figures.rpo), (&None, None));
    let outage = web.figures.outage.as_ref().expect("it was stopped while it was held");
    assert!(outage.over && outage.length(report.made_at) > Duration::from_secs(300), "{outage:?}");

    let (ran, report) = runs::taken_back().await?;
    let outage = report.members[0].figures.outage.as_ref().expect("what was recovered was stopped");
    assert_eq!(
        (outage.from, outage.to, outage.over),
        (task(&ran, Step::FenceRecovered).started, Some(end(&ran, Step::StartSource)), true)
    );
    Ok(())
}

/// The engine starts the source again, but by a job of its own: this one ended while nothing ran.
#[tokio::test]
async fn of_a_boot_that_was_refused_the_outage_is_counted_to_the_end_of_the_job() -> Result<()> {
    let (ran, report) = runs::refused().await?;
    let web = &report.members[0];
    assert!(matches!(web.outcome, Ending::Failed { .. }), "{:?}", web.outcome);
    assert_eq!((web.figures.rto_boot, web.figures.rto_verdict), (None, None), "it never ran there");
    let outage = web.figures.outage.as_ref().expect("it was stopped");
    let fence = task(&ran, Step::Fence);
    assert_eq!((outage.from, outage.to, outage.over), (fence.started, ran.run.ended, false));
    let later = report.made_at.after(Duration::from_secs(3_600));
    assert_eq!(outage.length(later), outage.length(report.made_at), "it does not grow");
    let page = report.to_html();
    assert!(page.contains(", and it ran nowhere when the job ended") && !page.contains("goes on"));
    assert_eq!(web.stands[0].site, "here", "the undo that followed has started it again");
    Ok(())
}

#[tokio::test]
async fn an_outage_goes_on_while_the_job_waits_for_a_person() -> Result<()> {
    let (_, report) = runs::needs_operator().await?;
    let web = &report.members[0];
    assert!(matches!(report.outcome, Ending::NeedsOperator { .. }) && !web.waits.is_empty());
    assert_eq!(web.figures.outage.as_ref().map(|o| (o.to, o.over)), Some((None, false)));
    assert!(report.to_html().contains(", and goes on"));
    Ok(())
}

//! C3: what was changed in a report is found: by its digest, and, where somebody has computed that anew, by its records.

use crate::runs;
use site_recovery::audit::sha256_hex;
use site_recovery::{ErrorKind, Event, Mark, Result, Step};
use site_recovery_report::{Ending, MemberPart, OutageBasis, Report, StepPart, verify, verify_against};
use std::time::Duration;

/// Under a digest that fits what it says now.
fn redone(mut report: Report) -> Report {
    report.digest = String::new();
    report.digest = sha256_hex(&serde_json::to_vec(&report).expect("plain data serialises"));
    report
}

fn must_find(what: &str, report: &Report) -> String {
    match verify(report) {
        Ok(_) => panic!("{what}: not found"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
            error.to_string()
        }
    }
}

/// One change to a report, by a forger who knows the digest.
type Forgery = (&'static str, fn(&mut Report));

fn step(member: &mut MemberPart, which: Step) -> &mut StepPart {
    member.steps.iter_mut().find(|s| s.step == which).expect("the step was taken")
}

const FORGERIES: &[Forgery] = &[
    ("who asked", |r| {
        r.who = "eve".into();
        r.members[0].who = "eve".into();
    }),
    ("who asked, at the top alone", |r| r.who = "eve".into()),
    ("who answers", |r| r.force.as_mut().expect("forced").operator = "eve".into()),
    ("the request", |r| r.members[0].request = site_recovery::Request::Plain),
    ("the operation", |r| {
        r.operation = site_recovery::Operation::PlannedFailover;
        r.members[0].operation = r.operation;
    }),
    ("the machine", |r| r.members[0].machine = "another".into()),
    ("when it began", |r| {
        r.started = r.started.before(Duration::from_secs(60));
        r.members[0].started = r.started;
    }),
    ("when it ended", |r| {
        r.ended = r.ended.map(|at| at.after(Duration::from_secs(60)));
        r.members[0].ended = r.ended;
    }),
    ("when the boot ended", |r| {
        let boot = step(&mut r.members[0], Step::Boot);
        boot.ended = boot.ended.map(|at| at.before(Duration::from_secs(20)));
    }),
    ("when the intent ended", |r| {
        let intend = step(&mut r.members[0], Step::Intend);
        intend.ended = intend.ended.map(|at| at.before(Duration::from_secs(20)));
    }),
    ("an earlier fence", |r| {
        let fence = step(&mut r.members[0], Step::Fence);
        fence.started = fence.started.before(Duration::from_secs(600));
    }),
    ("that nothing was booted", |r| r.members[0].steps.retain(|s| s.step != Step::Boot)),
    ("the loss", |r| {
        let less = Some(Duration::from_secs(1));
        r.members[0].loss.as_mut().expect("a loss").at_most = less;
        r.loss.as_mut().expect("a loss").at_most = less;
    }),
    ("the loss and its moments", |r| {
        let loss = r.members[0].loss.as_mut().expect("a loss");
        loss.from = loss.to.before(Duration::from_secs(1));
        loss.at_most = Some(Duration::from_secs(1));
        r.loss = Some(loss.clone());
    }),
    ("the loss at the top alone", |r| r.loss = None),
    ("the age of the point", |r| r.members[0].figures.rpo = Some(Duration::ZERO)),
    ("the time until it ran", |r| r.members[0].figures.rto_boot = Some(Duration::from_secs(1))),
    ("the outage", |r| {
        r.members[0].figures.outage.as_mut().expect("an outage").basis = OutageBasis::StepBegan
    }),
    ("when the source died", |r| r.members[0].died = None),
    ("which point", |r| r.members[0].point.as_mut().expect("a point").id.0 += 1),
    ("when the point was taken", |r| {
        let point = r.members[0].point.as_mut().expect("a point");
        point.taken = point.taken.after(Duration::from_secs(100));
    }),
    ("what the point is good for", |r| {
        r.members[0].point.as_mut().expect("a point").consistency = site_recovery::Consistency::Application;
    }),
    ("who was not proven off", |r| r.members[0].unproven.clear()),
    ("how it was reached", |r| r.members[0].reach = vec!["203.0.113.66".into()]),
    ("the verdict", |r| r.members[0].verdict = None),
    ("the outcome", |r| {
        let kind = ErrorKind::Refused;
        let why = site_recovery::Failure { kind, temporary: false, message: "it failed".into() };
        r.outcome = Ending::Undone { why };
        r.members[0].outcome = r.outcome.clone();
    }),
    ("a record's time", |r| r.audit[0].records[1].at.0 += 1),
    ("a record's author", |r| r.audit[0].records[1].who = "eve".into()),
    ("a record less", |r| drop(r.audit[0].records.remove(2))),
    ("the first record less", |r| drop(r.audit[0].records.remove(0))),
    ("the last record less", |r| drop(r.audit[0].records.pop())),
    ("two records exchanged", |r| r.audit[0].records.swap(1, 2)),
    ("a record that is called stripped", |r| {
        let number = r.audit[0].records[1].number;
        r.audit[0].records[1].who = "eve".into();
        r.audit[0].withheld.push(number);
    }),
    ("records that stand there twice", |r| {
        let again = r.audit[0].clone();
        r.audit.push(again);
    }),
    ("no records", |r| r.audit[0].records.clear()),
    ("no chain", |r| r.audit.clear()),
    ("a trail that was broken", |r| r.audit[0].broken = Some("audit record 3 was changed".into())),
    ("a shorter trail", |r| r.audit[0].length = 1),
    ("another head", |r| r.audit[0].last = "0".repeat(64)),
    ("no machine", |r| r.members.clear()),
];

#[tokio::test]
async fn c3_a_report_that_was_forged_is_found_even_under_a_new_digest() -> Result<()> {
    let (_, report) = runs::forced().await?;
    verify(&redone(report.clone()))?;
    for (what, forge) in FORGERIES {
        let mut forged = report.clone();
        forge(&mut forged);
        assert_ne!(forged, report, "{what}: nothing was changed");
        must_find(what, &forged);
        must_find(what, &redone(forged));
    }
    Ok(())
}

/// Every value of the JSON, one after the other: numbers, words and switches; of tables, records and all else.
#[tokio::test]
async fn c3_every_changed_value_is_found() -> Result<()> {
    let (_, report) = runs::forced().await?;
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    let mut places = vec![];
    walk(&json, String::new(), &mut places);
    assert!(places.len() > 250, "a whole report: {}", places.len());
    let mut refused = 0;
    for place in places {
        let mut changed = json.clone();
        let value = changed.pointer_mut(&place).expect("a place");
        *value = match value.clone() {
            serde_json::Value::Bool(b) => (!b).into(),
            serde_json::Value::Number(n) => (n.as_u64().expect("all are whole") ^ 1).into(),
            serde_json::Value::String(s) => changed_text(&s).into(),
            other => other,
        };
        match Report::from_json(&changed.to_string()) {
            // No word that this form has.
            Err(_) => refused += 1,
            Ok(read) => drop(must_find(&place, &read)),
        }
    }
    assert!(refused > 20, "{refused}");
    Ok(())
}

fn changed_text(text: &str) -> String {
    match text.char_indices().last() {
        Some((at, c)) => format!("{}{}", &text[..at], if c == '0' { '1' } else { '0' }),
        None => "0".into(),
    }
}

fn walk(value: &serde_json::Value, place: String, places: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (key, value) in fields {
                walk(value, format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        serde_json::Value::Array(all) => {
            for (at, value) in all.iter().enumerate() {
                walk(value, format!("{place}/{at}"), places);
            }
        }
        serde_json::Value::Null => {}
        _ => places.push(place),
    }
}

/// What `docs/report.md` says of the digest: who computes it anew changes these unseen. So it is to be kept, or signed.
#[tokio::test]
async fn c3_what_no_record_speaks_of_is_held_by_the_digest_alone() -> Result<()> {
    const UNSEEN: &[Forgery] = &[
        ("why", |r| r.why = Some("an exercise".into())),
        ("the site", |r| r.site = "another vault".into()),
        ("when it was made", |r| r.made_at = r.made_at.after(Duration::from_secs(60))),
        ("what the machine is called", |r| r.members[0].called = "mail".into()),
        ("whether it ran", |r| r.members[0].ran = Some(true)),
        ("where it stands", |r| r.members[0].stands.clear()),
        ("bytes changed", |r| r.members[0].changed += 1),
        ("bytes sent", |r| r.members[0].shipped += 1),
        ("an earlier boot proof", |r| {
            let proof = site_recovery_report::ProofPart {
                at: r.members[0].started,
                verdict: site_recovery::Verdict::Good,
                boot: None,
                lost_records: None,
                notes: vec![],
            };
            r.members[0].point.as_mut().expect("a point").proof = Some(proof);
        }),
        ("notes", |r| r.members[0].notes.push("all is well".into())),
        ("what is owed", |r| r.members[0].owed.push("a rest".into())),
        ("what waits", |r| r.members[0].waits.clear()),
        ("findings", |r| r.findings.clear()),
    ];
    let (ran, report) = runs::forced().await?;
    let unseen = |what: &str, forged: Report| {
        assert!(forged != report, "{what}: nothing was changed");
        verify_against(&forged, &ran.unit, &ran.trail).unwrap_or_else(|e| panic!("{what}: {e}"));
        must_find(what, &Report { digest: report.digest.clone(), ..forged });
    };
    for (what, forge) in UNSEEN {
        let mut forged = report.clone();
        forge(&mut forged);
        unseen(what, redone(forged));
    }
    // The figures that follow from it are computed anew as well.
    let mut later = Report::of_job("cloud", report.made_at, ran.job());
    let web = &report.members[0];
    later = later.died(&web.machine, web.died.expect("it was told").after(Duration::from_secs(60)));
    let later = later.build()?;
    assert_ne!(later.members[0].figures, web.figures);
    unseen("when the source died", later);
    Ok(())
}

/// Who forges a record of the kind that may be stripped, and calls it stripped, is found by the trail alone.
#[tokio::test]
async fn c3_a_forged_record_that_is_called_stripped_is_found_by_the_trail() -> Result<()> {
    let (ran, report) = runs::forced().await?;
    let mut forged = report.clone();
    forged.members[0].unproven.clear();
    let records = &mut forged.audit[0].records;
    let record = records.iter_mut().find(|r| matches!(r.event, Event::Intended { .. })).expect("an intent");
    let number = record.number;
    if let Event::Intended { promotion, unproven, .. } = &mut record.event {
        unproven.clear();
        let recovery = promotion.recovery.as_mut().expect("from a point");
        recovery.sidecars.push(site_recovery::Sidecar { name: "tpm".into(), bytes: vec![] });
    }
    must_find("not called so", &redone(forged.clone()));
    forged.audit[0].withheld = vec![number; 40];
    must_find("called so again and again", &redone(forged.clone()));
    forged.audit[0].withheld = vec![number];
    let forged = redone(forged);
    assert_eq!(verify(&forged)?.withheld, 1, "told as unproven, and no more");
    assert!(forged.to_html().contains("without the trail nothing proves these records"));
    let error = verify_against(&forged, &ran.unit, &ran.trail).expect_err("forged");
    assert!(error.to_string().contains(&format!("audit record {number} is another one")), "{error}");
    Ok(())
}

#[tokio::test]
async fn c3_a_trail_that_is_not_the_one_of_the_report_is_found() -> Result<()> {
    let (ran, report) = runs::forced().await?;
    verify_against(&report, &ran.unit, &ran.trail)?;
    let mut longer = ran.trail.clone();
    let last = longer.last().expect("records").clone();
    let next =
        site_recovery::audit::AuditRecord { number: last.number + 1, previous: last.hash.clone(), ..last };
    longer.push(next.sealed());
    verify_against(&report, &ran.unit, &longer)?;
    let shorter = &ran.trail[..ran.trail.len() - 1];
    let mut another = ran.trail.clone();
    let mut previous = String::new();
    for record in &mut another {
        record.previous = previous;
        record.at.0 += 1;
        *record = record.clone().sealed();
        previous = record.hash.clone();
    }
    let mut damaged = ran.trail.clone();
    damaged[0].at.0 += 1;
    for (what, trail) in [("shorter", shorter), ("another", &another), ("damaged", &damaged)] {
        let error = verify_against(&report, &ran.unit, trail).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn c3_a_report_of_a_broken_trail_says_so_and_does_not_verify() -> Result<()> {
    let (ran, whole) = runs::forced().await?;
    let broken =
        site_recovery::Error::new(ErrorKind::Corrupt, "audit record 4 was changed, added or removed");
    let job = site_recovery_report::Job { trail: Err(&broken), ..ran.job() };
    let report = Report::of_job("cloud", whole.made_at, job).build()?;
    assert!(
        report.to_html().contains("Trail did not verify")
            && report.to_html().contains("audit record 4 was changed")
    );
    assert!(must_find("broken", &report).contains("did not verify"));

    let mut trail = ran.trail.clone();
    let at = trail.iter().position(|r| matches!(r.event, Event::Booted(_))).expect("it booted");
    trail[at].at.0 += 1;
    let job = site_recovery_report::Job { trail: Ok(&trail), ..ran.job() };
    let report = Report::of_job("cloud", whole.made_at, job).build()?;
    assert!(must_find("tampered", &report).contains(&format!("audit record {at} does not bear its hash")));
    Ok(())
}

#[tokio::test]
async fn bad_input_is_refused_by_field_and_value() -> Result<()> {
    let (ran, report) = runs::forced().await?;
    let builder = || Report::of_job("cloud", report.made_at, ran.job());
    let late = report.made_at.after(Duration::from_secs(1));
    let machine = report.members[0].machine.clone();
    for (what, built, field) in [
        ("twice", builder().job(ran.job()).build(), "report.jobs"),
        ("too late", builder().died(&machine, late).build(), "report.died"),
        ("a stranger", builder().died(&"stranger".into(), report.started).build(), "report.died"),
    ] {
        let error = built.expect_err(what);
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some(field)), "{what}: {error}");
    }
    let ([shop, web], whole) = runs::plan().await?;
    let plan = |change: fn(&mut site_recovery_report::PlanPart)| {
        let mut plan = whole.plan.clone().expect("of a plan");
        change(&mut plan);
        let report = Report::of_plan("cloud", whole.made_at, plan, whole.actions.clone());
        report.job(shop.job()).job(web.job()).build()
    };
    let twice = plan(|p| {
        let machine = p.groups[0].machines[0].clone();
        p.groups[1].machines.push(machine);
    });
    assert_eq!(twice.expect_err("twice").fact("field"), Some("plan.groups"));
    let lost = plan(|p| p.groups[0].before.push("lost".into()));
    assert_eq!(lost.expect_err("lost").fact("field"), Some("plan.actions"));
    let untold = plan(|p| p.groups[0].machines.push("mail".into()));
    assert_eq!(untold.expect_err("untold").fact("field"), Some("plan.left_out"));
    let nobody = whole.plan.clone().map(|p| site_recovery_report::PlanPart { groups: vec![], ..p });
    let nobody = Report::of_plan("cloud", whole.made_at, nobody.expect("of a plan"), vec![]).build();
    assert_eq!(nobody.expect_err("nobody").fact("field"), Some("report.jobs"));
    Ok(())
}

#[tokio::test]
async fn a_step_under_way_is_told_as_such() -> Result<()> {
    let (mut ran, _) = runs::planned().await?;
    ran.run.ended = None;
    let last = ran.run.tasks.last_mut().expect("steps");
    (last.mark, last.ended) = (Mark::Started, None);
    let report =
        Report::of_job("cloud", ran.run.started.after(Duration::from_secs(90)), ran.job()).build()?;
    assert_eq!((report.ended, &report.outcome), (None, &Ending::UnderWay));
    assert!(report.to_html().contains("Under way"));
    Ok(())
}

//! The audit trail.

use super::world::*;
use site_recovery::{CommitRequest, ErrorKind, FailoverRequest, Result};
use site_recovery_plans::{Change, replay};

#[tokio::test]
async fn c3_the_trail_says_who_and_why_and_comes_to_the_run() -> Result<()> {
    let site = Site::with(&["db", "web"]).await?;
    let mut shop = plan(&[&["db"], &["web"]]);
    shop.groups[0].before = vec![by_hand("look"), runs("dns")];
    site.actions.ends("dns", &[1]);
    let ana = site.plans.clone().acting_as("ana").because("exercise 7");
    let run = ana.failover("shop", &shop, FailoverRequest::planned(OUT)).await?;
    site.wait("shop").await;
    let bob = site.plans.clone().acting_as("bob").because("on call");
    bob.complete("shop", "look", "it is well").await?;
    site.wait("shop").await;
    bob.go_on("shop").await?;
    let run = (run.id, site.wait("shop").await);
    let trail = site.plans.audit("shop").await?;
    let of = |who: &str| trail.iter().filter(|r| r.who == who).count();
    assert_eq!((of("bob"), of("ana") + of("bob")), (2, trail.len()));
    assert!(trail.iter().all(|r| r.run == run.0 && r.digest == run.1.digest));
    assert!(matches!(trail[0].change, Change::Began(_)) && trail[0].why == "exercise 7");
    let went_on = trail.iter().find(|r| matches!(&r.change, Change::WentOn { by } if by == "bob"));
    assert_eq!(went_on.map(|r| r.why.as_str()), Some("on call"));
    assert_eq!(replay(trail.iter().map(|r| (r.at, &r.change))), Some(run.1));
    // What the vault did, it did in the run's name.
    let operator = site.plans.status("shop")?.operator();
    assert!(operator.starts_with("ana by plan shop run "), "{operator}");
    let vault = site.engine.vault.audit(site.engine.vault.find("db")?.unit()).await?;
    assert!(vault.iter().any(|r| r.who == operator));

    site.plans.commit("shop", &shop, CommitRequest::default()).await?;
    let commit = site.wait("shop").await;
    let trail = site.plans.audit("shop").await?;
    assert_eq!(replay(trail.iter().map(|r| (r.at, &r.change))), Some(commit), "one trail over all runs");
    Ok(())
}

#[tokio::test]
async fn c3_a_record_that_was_changed_is_found() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    site.plans.failover("shop", &plan(&[&["db"]]), FailoverRequest::planned(OUT)).await?;
    site.wait("shop").await;
    let trail = site.plans.audit("shop").await?;
    use site_recovery::{Append, Journal};
    let (count, entries) = site.engine.journal.load("plan-audit/shop").await?;
    for at in 0..entries.len() {
        let journal = site_recovery_testkit::journal::MemoryJournal::new();
        for (number, entry) in entries.iter().enumerate() {
            let mut entry = entry.clone();
            if number == at {
                let text = String::from_utf8(entry).expect("JSON");
                entry = text.replacen("embedder", "somebody", 1).into_bytes();
            }
            let append = Append { subject: "plan-audit/shop".into(), expect: number as u64, entry };
            journal.append(&[append]).await?;
        }
        let plans =
            builder_of(&site.engine.vault, std::sync::Arc::new(journal), &site.engine.pair, &site.actions);
        let error = plans.open().await?.audit("shop").await.expect_err("a name was changed");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(&format!("audit record {at} ")), "{error}");
    }
    assert_eq!(count, trail.len() as u64);
    Ok(())
}

#[tokio::test]
async fn o9_a_run_of_a_newer_schema_is_refused() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    site.plans.failover("shop", &plan(&[&["db"]]), FailoverRequest::planned(OUT)).await?;
    site.wait("shop").await;
    use site_recovery::{Append, Journal};
    let (_, entries) = site.engine.journal.load("plan/shop").await?;
    assert_eq!(entries.len(), 1, "it is folded at its end");
    let text = String::from_utf8(entries[0].clone()).expect("JSON");
    let newer = text.replacen("\"schema\":1", "\"schema\":2", 1).into_bytes();
    let journal = site_recovery_testkit::journal::MemoryJournal::new();
    journal.append(&[Append { subject: "plan/shop".into(), expect: 0, entry: newer }]).await?;
    let plans =
        builder_of(&site.engine.vault, std::sync::Arc::new(journal), &site.engine.pair, &site.actions);
    let error = plans.open().await.expect_err("newer");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("schema 2") && error.to_string().contains("knows 1"), "{error}");
    Ok(())
}

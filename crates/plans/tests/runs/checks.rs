//! What is refused before anything changes: field, value, rule, remedy.

use super::world::*;
use site_recovery::{ErrorKind, FailoverRequest, PointChoice, PointId, Result};
use site_recovery_plans::{AddressMap, BootGroup, Does, NetworkMap, Plan};

/// The fields that a plan is refused for, with a part of what is said.
fn refused(field: &str, said: &str, change: impl FnOnce(&mut Plan)) {
    let mut shop = plan(&[&["db"], &["app", "web"]]);
    shop.groups[0].before.push(runs("one"));
    shop.validate().expect("sound");
    change(&mut shop);
    let error = shop.validate().expect_err(said);
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some(field)), "{error}");
    assert!(error.to_string().contains(said), "{error} does not say {said}");
}

fn map(from: &str, to: &str) -> AddressMap {
    AddressMap { machine: None, from: from.parse().expect(from), to: to.parse().expect(to) }
}

#[test]
fn a_plan_that_cannot_be_meant_is_refused_with_field_value_rule_and_remedy() {
    refused("plan.groups", "is 0", |p| p.groups.clear());
    refused("plan.groups", "is 8", |p| p.groups.extend((0..6).map(|_| BootGroup::default())));
    refused("plan.groups", "group 1 is empty", |p| p.groups[0].members.clear());
    refused("member.unit", "empty", |p| p.groups[0].members[0].unit.clear());
    refused("member.unit", "db", |p| p.groups[1].members[0].unit = "db".into());
    refused("member.after", "db of web", |p| p.groups[1].members[1].after.push("db".into()));
    refused("member.after", "app, web", |p| {
        p.groups[1].members[1].after.push("app".into());
        p.groups[1].members[0].after.push("web".into());
    });
    refused("member.after", "web", |p| p.groups[1].members[1].after.push("web".into()));
    refused("action.name", "one", |p| p.shutdown.after.push(runs("one")));
    refused("action.name", "a b", |p| p.shutdown.after.push(runs("a b")));
    refused("action.limit", "0 of one", |p| p.groups[0].before[0].limit = 0);
    refused("action.program", "empty of one", |p| {
        p.groups[0].before[0].does = Does::Command { program: vec![], again: false };
    });
    refused("action.instructions", "empty of one", |p| {
        p.groups[0].before[0].does = Does::Manual { instructions: " ".into() };
    });
    refused("action.port", "0 of one", |p| {
        p.groups[0].before[0].does = Does::Port { machine: "db".into(), port: 0 };
    });
    refused("action.machine", "empty of one", |p| {
        p.groups[0].before[0].does = Does::Probe { machine: String::new() };
    });
    refused("plan.networks", "from", |p| {
        p.networks = vec![NetworkMap { from: String::new(), to: "there".into() }];
    });
    refused("plan.networks", "beside", |p| {
        p.networks = ["a", "b"].map(|from| NetworkMap { from: from.into(), to: "there".into() }).to_vec();
    });
    refused("plan.addresses", "10.0.1.0/24 to 10.9.0.0/16", |p| {
        p.addresses = vec![map("10.0.1.0/24", "10.9.0.0/16")];
    });
    refused("plan.addresses", "same prefix", |p| p.addresses = vec![map("10.0.1.0/24", "fd00::/24")]);
    refused("plan.addresses", "overlap", |p| {
        p.addresses = vec![map("10.0.0.0/16", "10.9.0.0/16"), map("10.0.1.0/24", "10.8.1.0/24")];
    });
    refused("plan.addresses", "overlap", |p| {
        p.addresses = vec![map("10.0.0.0/24", "10.9.1.0/24"), map("10.0.1.0/24", "10.9.1.0/24")];
    });
}

#[test]
fn a_plan_is_read_from_toml_and_an_unknown_key_is_refused() {
    let text = r#"
        networks = [{ from = "production", to = "recovered" }]
        addresses = [{ from = "10.0.1.0/24", to = "10.9.1.0/24" },
                     { machine = "db", from = "10.0.1.7", to = "10.9.1.70" }]

        [[groups]]
        members = [{ unit = "db" }]
        [[groups.after]]
        name = "sql"
        limit = 120
        does.port = { machine = "db", port = 5432 }

        [[groups]]
        members = [{ unit = "app" }, { unit = "web", after = ["app"] }]
        [[groups.before]]
        name = "cable"
        on = ["Planned", "Unplanned"]
        directions = ["PrimaryToRecovery"]
        does.manual.instructions = "move the cable"

        [[shutdown.before]]
        name = "drain"
        does.command = { program = ["/usr/local/bin/drain", "shop"], again = true }
    "#;
    let shop: Plan = toml::from_str(text).expect("reads");
    shop.validate().expect("sound");
    assert_eq!((shop.groups.len(), shop.actions().count()), (2, 3));
    assert_eq!(shop.groups[1].members[1].after, ["app"]);
    assert_eq!(shop.shutdown.before[0].limit, 600, "ten minutes where none is given");
    let again: Plan = toml::from_str(&toml::to_string(&shop).expect("writes")).expect("reads again");
    assert_eq!(again, shop);
    for (right, wrong) in [("unit = ", "machine = "), ("port = 5432", "ports = 5432"), ("limit", "wait")] {
        let error = toml::from_str::<Plan>(&text.replacen(right, wrong, 1)).expect_err(wrong);
        let (said, key) = (error.message(), wrong.split(' ').next().expect("a key"));
        assert!(said.starts_with("un") && said.contains(key), "{said}");
    }
    let error = toml::from_str::<Plan>(&text.replace("10.0.1.0/24", "10.0.1.5/24")).expect_err("no subnet");
    assert!(error.to_string().contains("host part is not zero"), "{error}");
}

#[cfg(feature = "schema")]
#[test]
fn its_schema_names_every_key() {
    let schema = serde_json::to_string(&schemars::schema_for!(Plan)).expect("plain data serialises");
    for key in ["groups", "members", "after", "does", "command", "manual", "addresses", "PrimaryToRecovery"] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key} is not in {schema}");
    }
}

#[tokio::test]
async fn what_the_vault_does_not_know_or_would_part_is_refused_and_nothing_changes() -> Result<()> {
    let site = Site::with(&["db"]).await?;
    site.protect_group("pair", &["left", "right"]).await?;
    let before = site.engine.journal.snapshot();
    let refusal = async |plan: &Plan| {
        site.plans.failover("shop", plan, FailoverRequest::planned(OUT)).await.expect_err("refused")
    };
    for (unit, said) in [("ghost", "no machine and no replication group"), ("left", "name the group")] {
        let error = refusal(&plan(&[&["db"], &[unit]])).await;
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("member.unit")));
        assert!(error.to_string().contains(unit) && error.to_string().contains(said), "{error}");
    }
    let id = site.engine.vault.find("db")?.id().to_string();
    let error = refusal(&plan(&[&["db"], &[id.as_str()]])).await;
    assert!(error.to_string().contains("a member already"), "{error}");
    let mut early = plan(&[&["db"], &["pair"]]);
    early.groups[0].after.push(action("probe", Does::Probe { machine: "left".into() }));
    assert!(refusal(&early).await.to_string().contains("boots later"));
    early.groups[0].after[0].does = Does::Probe { machine: "ghost".into() };
    assert_eq!(refusal(&early).await.fact("field"), Some("action.machine"));
    let error = site.plans.failover("a/b", &plan(&[&["db"]]), FailoverRequest::planned(OUT)).await;
    assert_eq!(error.expect_err("no name").fact("field"), Some("plan.name"));

    let shop = plan(&[&["db"], &["pair"]]);
    let back =
        site.plans.failover("shop", &shop, FailoverRequest::planned(BACK)).await.expect_err("it goes out");
    assert_eq!((back.kind(), site.here().len()), (ErrorKind::Refused, 3), "{back}");
    let point = FailoverRequest::unplanned(OUT, fire()).to(PointChoice::Custom(PointId(1)));
    let error = site.plans.failover("shop", &shop, point).await.expect_err("of one machine");
    assert_eq!(error.fact("field"), Some("failover.point"));
    let nobody = FailoverRequest::unplanned(OUT, site_recovery::Force::by("", "fire"));
    assert_eq!(
        site.plans.failover("shop", &shop, nobody).await.expect_err("nobody").fact("field"),
        Some("force")
    );
    use site_recovery::Journal;
    assert_eq!(site.engine.journal.subjects().await?, before.subjects().await?, "no plan was written");
    assert!(site.plans.list().is_empty() && site.in_cloud().is_empty());
    Ok(())
}

#[tokio::test]
async fn more_than_a_hundred_machines_are_refused() -> Result<()> {
    let site = Site::with(&[]).await?;
    let names: Vec<String> = (0..101).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    site.protect_group("many", &names).await?;
    let error = site.plans.failover("shop", &plan(&[&["many"]]), FailoverRequest::planned(OUT)).await;
    let error = error.expect_err("too many");
    assert_eq!(error.fact("field"), Some("plan.groups"));
    assert!(error.to_string().contains("101 machines"), "{error}");
    Ok(())
}

use super::*;

const FINE: &str = r#"[vault]
state = "state"

[sites.here]
kind = "local"
directory = "here"

[sites.cloud]
kind = "qemu"
directory = "cloud"

[stores.points]
kind = "directory"
directory = "points"

[legs.out]
from = "here"
to = "cloud"
store = "points"

[legs.back]
from = "cloud"
to = "here"
retention = "retention"

[policies.quick]
interval = "30s"
retention = { all = "36h" }

[machines.web]
policy = "quick"

[groups.shop]
machines = ["db", "app"]
"#;

fn of(text: &str) -> Result<Settings> {
    parse(Path::new("/etc/x/site-recovery.toml"), text)
}

#[test]
fn paths_count_from_the_file() {
    let settings = of(FINE).unwrap();
    assert_eq!(settings.vault.state, Path::new("/etc/x/state"));
    let SiteSettings::Local(here) = &settings.sites["here"] else { panic!("a directory") };
    assert_eq!(here.directory, Path::new("/etc/x/here"));
    assert_eq!(settings.legs["back"].get_ref().retention.as_deref(), Some(Path::new("/etc/x/retention")));
    let policy = settings.policies["quick"].get_ref().policy();
    assert_eq!(policy.interval.as_secs(), 30);
    assert_eq!(settings.run.metrics, Metrics::At("127.0.0.1:9464".parse().unwrap()));
}

#[test]
fn what_is_wrong_is_told_by_line_key_rule_and_remedy() {
    let add = |text: &str| format!("{FINE}{text}");
    let swap = |from: &str, to: &str| FINE.replace(from, to);
    // What is written, the line that is named (the last that begins so), the key, and what is said.
    let cases = [
        (add("colour = 1\n"), "colour", "groups.shop.colour", "unknown field"),
        (add("[other]\n"), "[other]", "other", "unknown field"),
        (swap("state = \"state\"", "state = 7"), "state", "vault.state", "invalid type"),
        (
            swap("kind = \"local\"", "kind = \"lokal\""),
            "kind = \"lokal",
            "sites.here.kind",
            "local, qemu, vsphere, esxi, azure",
        ),
        (swap("kind = \"local\"\n", ""), "[sites.here]", "sites.here", "no kind"),
        (swap("directory = \"here\"", "folder = \"here\""), "folder", "sites.here.folder", "unknown field"),
        (
            swap("directory = \"here\"", "directory = true"),
            "directory = true",
            "sites.here.directory",
            "invalid type",
        ),
        (swap("from = \"here\"", "from = \"there\""), "from = \"there", "legs.out.from", "cloud, here"),
        (swap("to = \"here\"", "to = \"cloud\""), "to", "legs.back.to", "another site"),
        (swap("store = \"points\"", "store = \"pts\""), "store", "legs.out.store", "no stores.pts"),
        (swap("store = \"points\"\n", ""), "[legs.out]", "legs.out", "either a store"),
        (
            swap("store = \"points\"", "store = \"points\"\nsettings = { name = \"web\" }"),
            "settings",
            "legs.out.settings",
            "[machines.NAME.settings]",
        ),
        (
            swap("retention = \"retention\"", "retention = \"retention\"\nsettings = { name = \"-web\" }"),
            "settings",
            "legs.back.settings",
            "letters, digits",
        ),
        (swap("interval = \"30s\"", "interval = \"30\""), "interval", "policies.quick.interval", "as in 5m"),
        (swap("interval = \"30s\"", "interval = \"2d\""), "[policies.quick]", "policies.quick", "24 hours"),
        (
            swap("policy = \"quick\"", "policy = \"slow\""),
            "policy",
            "machines.web.policy",
            "no policies.slow",
        ),
        (add("policy = \"slow\"\n"), "policy = \"slow", "groups.shop.policy", "no policies.slow"),
        (
            add("[groups.two]\nmachines = [\"db\"]\n"),
            "machines",
            "groups.two.machines",
            "in the group shop already",
        ),
        (
            add("[machines.db]\npolicy = \"quick\"\n"),
            "[machines.db",
            "machines.db",
            "replicated with the group shop",
        ),
        (
            add("[machines.db.settings]\nname = \"-db\"\n"),
            "[machines.db",
            "machines.db.settings",
            "letters, digits",
        ),
        (add("[run]\nmetrics = \"here\"\n"), "metrics", "run.metrics", "127.0.0.1:9464"),
        (add("[vault]\n"), "[vault]", "vault", "duplicate key"),
        ("[vault\n".to_owned(), "[vault", "vault", "unclosed"),
    ];
    for (text, begins, key, said) in cases {
        let error = of(&text).expect_err(&text);
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("settings")));
        let line =
            text.lines().collect::<Vec<_>>().iter().rposition(|line| line.starts_with(begins)).unwrap() + 1;
        let (told, place) = (error.to_string(), format!("/etc/x/site-recovery.toml, line {line}, {key}: "));
        assert!(told.starts_with(&place), "{place} {told}");
        assert!(told.contains(said), "{said}: {told}");
    }
}

const SHOP: &str = r#"
[plans.shop]
[[plans.shop.groups]]
members = [{ unit = "shop" }]

[[plans.shop.groups]]
members = [{ unit = "web" }, { unit = "mail", after = ["web"] }]
before = [{ name = "open", does.manual.instructions = "open port 443" }]
"#;

#[test]
fn a_plan_is_read_and_its_mistakes_are_told_at_their_groups() {
    let fine = format!("{FINE}{SHOP}");
    let settings = of(&fine).unwrap();
    let plan = settings.plans["shop"].get_ref();
    assert_eq!((plan.groups.len(), plan.actions().count()), (2, 1));
    let swap = |from: &str, to: &str| fine.replace(from, to);
    let groups = |count: usize| -> String {
        (0..count).map(|n| format!("[[plans.shop.groups]]\nmembers = [{{ unit = \"m{n}\" }}]\n")).collect()
    };
    let many: Vec<String> = (0..98).map(|n| format!("{{ unit = \"m{n}\" }}")).collect();
    let hundred = format!("[[plans.shop.groups]]\nmembers = [{}]\n", many.join(", "));
    // What is written, the number of the header that is named among those of boot groups, and what is said.
    let cases = [
        (
            swap("after = [\"web\"]", "after = [\"db\"]"),
            2,
            "a member waits for members of its own boot group",
        ),
        (
            swap("{ unit = \"web\" }", "{ unit = \"web\", after = [\"mail\"] }"),
            2,
            "member.after is web, mail: no member waits",
        ),
        (
            swap("unit = \"web\" }", "unit = \"db\" }").replace("[\"web\"]", "[\"db\"]"),
            2,
            "a replication group is never parted",
        ),
        (swap("unit = \"mail\"", "unit = \"shop\""), 2, "it is a member already"),
        (format!("{fine}{}", groups(6)), 8, "a plan has 1 to 7 boot groups"),
        (
            format!("{fine}{hundred}"),
            3,
            "plan.groups is 102 machines: a plan has at most 100; make two plans",
        ),
        (swap("443", " ").replace("open port  ", " "), 2, "somebody has to know what to do"),
    ];
    for (text, number, said) in cases {
        let told = of(&text).expect_err(&text).to_string();
        let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with("[[plans.shop.groups]]"));
        let line = lines.map(|(at, _)| at + 1).nth(number - 1).unwrap();
        let place = format!("/etc/x/site-recovery.toml, line {line}, plans.shop.groups: ");
        assert!(told.starts_with(&place) && told.contains(said), "{place}{said}\n{told}");
    }
    let unknown = of(&swap("after = [\"web\"]", "behind = [\"web\"]")).unwrap_err().to_string();
    assert!(unknown.contains("plans.shop.groups.members: unknown field `behind`"), "{unknown}");
    let unnamed = of(&swap("plans.shop", "plans.\"the shop\"")).unwrap_err().to_string();
    assert!(unnamed.contains("1-63 letters, digits and hyphens"), "{unnamed}");
}

#[test]
fn the_schema_is_the_published_one() {
    let published = include_str!("../../../../docs/site-recovery.schema.json");
    assert!(schema() == published, "run `site-recovery schema > docs/site-recovery.schema.json`");
}

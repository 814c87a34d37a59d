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
        (swap("kind = \"local\"", "kind = \"lokal\""), "kind = \"lokal", "sites.here.kind", "local, qemu"),
        (swap("kind = \"local\"\n", ""), "[sites.here]", "sites.here", "no kind"),
        (swap("directory = \"here\"", "folder = \"here\""), "folder", "sites.here.folder", "unknown field"),
        (swap("directory = \"here\"", "directory = true"), "directory = true", "sites.here.directory", "invalid type"),
        (swap("from = \"here\"", "from = \"there\""), "from = \"there", "legs.out.from", "cloud, here"),
        (swap("to = \"here\"", "to = \"cloud\""), "to", "legs.back.to", "another site"),
        (swap("store = \"points\"", "store = \"pts\""), "store", "legs.out.store", "no stores.pts"),
        (swap("store = \"points\"\n", ""), "[legs.out]", "legs.out", "either a store"),
        (swap("interval = \"30s\"", "interval = \"30\""), "interval", "policies.quick.interval", "as in 5m"),
        (swap("interval = \"30s\"", "interval = \"2d\""), "[policies.quick]", "policies.quick", "24 hours"),
        (swap("policy = \"quick\"", "policy = \"slow\""), "policy", "machines.web.policy", "no policies.slow"),
        (add("policy = \"slow\"\n"), "policy = \"slow", "groups.shop.policy", "no policies.slow"),
        (add("[groups.two]\nmachines = [\"db\"]\n"), "machines", "groups.two.machines", "in the group shop already"),
        (add("[machines.db.settings]\nname = \"-db\"\n"), "[machines.db", "machines.db.settings", "letters, digits"),
        (add("[run]\nmetrics = \"here\"\n"), "metrics", "run.metrics", "127.0.0.1:9464"),
        (add("[vault]\n"), "[vault]", "vault", "duplicate key"),
        ("[vault\n".to_owned(), "[vault", "vault", "unclosed"),
    ];
    for (text, begins, key, said) in cases {
        let error = of(&text).expect_err(&text);
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("settings")));
        let line = text.lines().collect::<Vec<_>>().iter().rposition(|line| line.starts_with(begins)).unwrap() + 1;
        let (told, place) = (error.to_string(), format!("/etc/x/site-recovery.toml, line {line}, {key}: "));
        assert!(told.starts_with(&place), "{place} {told}");
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn the_schema_is_the_published_one() {
    let published = include_str!("../../../../docs/site-recovery.schema.json");
    assert!(schema() == published, "run `site-recovery schema > docs/site-recovery.schema.json`");
}

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
    let cases: [(String, usize, &str, &str); 20] = [
        (add("colour = 1\n"), 37, "groups.shop.colour", "unknown field"),
        (add("[other]\n"), 37, "other", "unknown field"),
        (swap("state = \"state\"", "state = 7"), 2, "vault.state", "invalid type"),
        (swap("kind = \"local\"", "kind = \"lokal\""), 5, "sites.here.kind", "local, qemu"),
        (swap("kind = \"local\"\n", ""), 4, "sites.here", "no kind"),
        (swap("directory = \"here\"", "folder = \"here\""), 6, "sites.here.folder", "unknown field"),
        (swap("directory = \"here\"", "directory = true"), 6, "sites.here.directory", "invalid type"),
        (swap("from = \"here\"", "from = \"there\""), 17, "legs.out.from", "cloud, here"),
        (swap("to = \"here\"", "to = \"cloud\""), 23, "legs.back.to", "another site"),
        (swap("store = \"points\"", "store = \"pts\""), 19, "legs.out.store", "no stores.pts"),
        (swap("store = \"points\"\n", ""), 16, "legs.out", "either a store"),
        (swap("interval = \"30s\"", "interval = \"30\""), 27, "policies.quick.interval", "as in 5m"),
        (swap("interval = \"30s\"", "interval = \"2d\""), 26, "policies.quick", "24 hours"),
        (swap("policy = \"quick\"", "policy = \"slow\""), 31, "machines.web.policy", "no policies.slow"),
        (add("policy = \"slow\"\n"), 36, "groups.shop.policy", "no policies.slow"),
        (add("[groups.two]\nmachines = [\"db\"]\n"), 37, "groups.two.machines", "in the group shop already"),
        (add("[machines.db.settings]\nname = \"-db\"\n"), 36, "machines.db.settings", "letters, digits"),
        (add("[run]\nmetrics = \"here\"\n"), 37, "run.metrics", "127.0.0.1:9464"),
        (add("[vault]\n"), 36, "vault", "duplicate key"),
        ("[vault\n".to_owned(), 1, "vault", "unclosed"),
    ];
    for (text, line, key, said) in cases {
        let error = of(&text).expect_err(&text);
        assert_eq!((error.kind(), error.fact("field")), (ErrorKind::Invalid, Some("settings")));
        let told = error.to_string();
        let place = format!("/etc/x/site-recovery.toml, line {line}, {key}: ");
        // Of a key that is not known the reader names the place by the line before it, or by its own.
        let near = format!("/etc/x/site-recovery.toml, line {}, ", line.saturating_sub(1));
        assert!(told.starts_with(&place) || told.starts_with(&near), "{place} {told}");
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn the_schema_is_the_published_one() {
    let published = include_str!("../../../../docs/site-recovery.schema.json");
    assert!(schema() == published, "run `site-recovery schema > docs/site-recovery.schema.json`");
}

//! Three live guests that need each other, protected, drilled, failed over and brought back by one recovery plan, from the
//! terminal alone. What the terminal showed, and the reports, are left in `target/tmp/live_shop`.
#![cfg(feature = "qemu")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use serde_json::{Value, json};
use site_recovery_examples::live::{
    Emulator, Guest, GuestOptions, LiveStage, Machines, inspect, is_here, tool,
};
use site_recovery_guest::{Lan, record::Record};
use site_recovery_qemu::Network;
use site_recovery_report::{Ending, Report, verify};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use support::{Daemon, Ground, Ran};

/// In the order in which they boot. Each but the first needs the one before it: it writes no record unless that answers, and
/// ends where it does not answer at the start.
const SHOP: [&str; 3] = ["db", "app", "web"];
/// Records that each writes between two looks at it.
const SOME: u64 = 5;

const LEGS: &str = r#"
[stores.points]
kind = "directory"
directory = "store"
[legs.out]
from = "here"
to = "cloud"
store = "points"
[legs.back]
from = "cloud"
to = "here"
retention = "kept"
[policies.default]
interval = "1h"
[validation]
command = ["./serves"]
"#;

const PLANS: &str = r#"
[plans.shop]
[[plans.shop.groups]]
members = [{ unit = "db" }]
after = [{ name = "database-serves", does.probe.machine = "db" }]
[[plans.shop.groups]]
members = [{ unit = "app" }]
after = [{ name = "application-serves", does.probe.machine = "app" }]
[[plans.shop.groups]]
members = [{ unit = "web" }]
after = [{ name = "web-serves", does.probe.machine = "web" }]

[plans.app-alone]
[[plans.app-alone.groups]]
members = [{ unit = "app" }]
after = [{ name = "serves-alone", does.probe.machine = "app" }]
"#;

/// Looks at a guest as a person at its console does: since its last boot it has written a record, or it says why not.
const SERVES: &str = r#"#!/bin/sh
console=$(printf '%s\n' "$SITE_RECOVERY_REACH" | head -n 1)/console.log
tries=0
while [ $tries -lt 2400 ]; do
    case $(tac "$console" 2>/dev/null | sed '/^GUEST /q') in
        *STOPPED*) ;; # The boot before this one.
        *"ACK "*) exit 0 ;;
        *ABSENT*) echo "it serves nobody: what it needs does not answer" >&2; exit 1 ;;
    esac
    sleep 0.1
    tries=$((tries + 1))
done
echo "it says nothing" >&2
exit 1
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d5_three_guests_that_need_each_other_go_over_and_come_back_by_one_plan() {
    if !is_here("three guests by one plan", &Emulator::default()) {
        return;
    }
    let mut shop = Shop::open().await;
    shop.the_application_is_nothing_without_its_database().await;

    shop.run("protect web").with(0);
    shop.drill().await;

    let here = shop.over("failover", "here").await;
    for (records, name) in here.iter().zip(SHOP) {
        assert!(records.iter().all(|record| record.site == 'A'), "{name}");
    }
    shop.run("plan commit shop --yes").with(0);
    shop.run("plan reprotect shop").with(0);
    let cloud = shop.over("failback", "cloud").await;
    shop.run("plan commit shop --yes").with(0);
    shop.run("plan reprotect shop").with(0);
    shop.run("list").with(0);
    shop.daemon.take().unwrap().stop();

    let mut home = vec![];
    for (at, name) in SHOP.into_iter().enumerate() {
        shop.machines.kill("here", name).await.unwrap();
        let last = shop.records("here", name).await;
        assert_eq!(cloud[at][..here[at].len()], here[at], "{name}: what was written here came over");
        assert_eq!(last[..cloud[at].len()], cloud[at], "{name}: what was written there came back");
        let mut sites: Vec<char> = last.iter().map(|record| record.site).collect();
        sites.dedup();
        assert_eq!(sites, ['A', 'B', 'A'], "{name}");
        home.push(last);
    }
    follows(&here, &cloud);
    follows(&cloud, &home);
    shop.reports();
}

/// Two QEMU sites with one production network, and one network for drills.
struct Shop {
    // Found by files of the directory, and so ended before that goes.
    machines: Machines,
    ground: Ground,
    lan: Lan,
    apart: Lan,
    daemon: Option<Daemon>,
    /// What a terminal has shown until now.
    session: String,
}

impl Shop {
    /// Database and application run and are protected, and the web server boots.
    async fn open() -> Self {
        let mut wires = vec![];
        let mut lans = None;
        let ground = Ground::with(|dir| {
            let mut plug = |lan: &'static str, sites: &[&'static str]| {
                fs::create_dir(dir.join(lan)).unwrap();
                let mut made = Lan::new(&dir.join(lan));
                for (site, name) in sites.iter().flat_map(|site| SHOP.map(|name| (*site, name))) {
                    let backend = made.backend(&format!("{site}-{name}")).unwrap();
                    wires.push(Wire { site, network: format!("{lan}-{name}"), backend });
                }
                made
            };
            lans = Some((plug("lan", &["here", "cloud"]), plug("apart", &["cloud"])));
            settings(&wires)
        });
        let serves = ground.path("serves");
        fs::write(&serves, SERVES).unwrap();
        fs::set_permissions(&serves, fs::Permissions::from_mode(0o755)).unwrap();
        let (lan, apart) = lans.unwrap();
        let machines = power_on(ground.root(), &wires).await;
        let mut shop = Self { machines, ground, lan, apart, daemon: None, session: String::new() };
        shop.daemon = Some(Daemon::start(&shop.ground));
        shop.session.push_str("$ site-recovery run &\n");
        shop.run("protect db app").with(0);
        shop
    }

    /// Alone in a drill it finds no database, says so, and ends; the check of its plan sees that it does not serve.
    async fn the_application_is_nothing_without_its_database(&mut self) {
        let alone = self.run("plan drill app-alone").with(1);
        assert!(alone.out.contains("what it needs does not answer"), "{}", alone.out);
        let said = self.guest("cloud", "app-test").lines();
        assert!(said.contains(&"ABSENT 10.77.0.1".to_owned()), "{said:?}");
        assert!(!said.iter().any(|line| line.starts_with("ACK ")), "{said:?}");
        self.run("plan clean-up app-alone").with(0);
        assert!(!self.ground.path("cloud/app-test").exists());
        self.guest("here", "web").writes(SOME).await.unwrap();
    }

    /// All three serve in a network of their own, of which production hears nothing, and are gone afterwards.
    async fn drill(&mut self) {
        told_in_order(&self.run("plan drill shop").with(0).err);
        for name in SHOP {
            let copy = format!("{name}-test");
            self.guest("cloud", &copy).writes(SOME).await.unwrap();
            self.guest("here", name).writes(SOME).await.unwrap();
            assert!(heard(&self.apart, &format!("B-{name}")) > 0, "{copy} is heard where it is");
        }
        for name in SHOP {
            assert_eq!(heard(&self.apart, &format!("A-{name}")), 0, "{name} is heard among the drills");
            let drill = (heard(&self.lan, &format!("B-{name}")), self.lan.frames(&format!("cloud-{name}")));
            assert_eq!(drill, (0, 0), "production hears of the drill of {name}");
        }
        self.run("plan clean-up shop").with(0);
        for name in SHOP {
            let copy = format!("{name}-test");
            assert!(!self.ground.path("cloud").join(&copy).exists(), "{copy} is left");
            assert!(self.machines.process("cloud", &copy).is_err(), "{copy} runs");
        }
    }

    /// All three go to the other side, and write there. What the side that they came from holds of each.
    async fn over(&mut self, verb: &str, from: &str) -> [Vec<Record>; 3] {
        let to = if from == "here" { "cloud" } else { "here" };
        let before = SHOP.map(|name| self.guest(from, name));
        for guest in &before {
            guest.writes(SOME).await.unwrap();
        }
        let there = SHOP.map(|name| self.guest(to, name).from_here());
        told_in_order(&self.run(&format!("plan {verb} shop --reason exercise")).with(0).err);
        let run = self.ground.run("plan show shop --json").with(0).json();
        boots_in_order(&run["recovery_plan"]["run"]);
        let mut left = vec![];
        for (at, name) in SHOP.into_iter().enumerate() {
            there[at].writes(SOME).await.unwrap();
            let records = self.records(from, name).await;
            // One may be durable whose word the shutdown came before.
            let (durable, told) = (records.len() as u64, before[at].acknowledged());
            assert!((told..=told + 1).contains(&durable), "{name} has {durable} records and told of {told}");
            assert_eq!(there[at].resumed().await.unwrap(), records.len() as u64, "{name} goes on there");
            left.push(records);
        }
        left.try_into().unwrap()
    }

    /// What stands on the disk of a machine that is off.
    async fn records(&self, site: &str, name: &str) -> Vec<Record> {
        let home = self.ground.path(site).join(name);
        let disks = [home.join("fenced"), home.join("disks")].into_iter().find(|dir| dir.exists()).unwrap();
        let described: Value = serde_json::from_slice(&fs::read(home.join("machine.json")).unwrap()).unwrap();
        let image = disks.join(described["disks"][0]["file"].as_str().unwrap());
        let raw = self.ground.path("look.raw");
        let convert = ["convert", "-O", "raw"].map(str::as_ref);
        tool("qemu-img", convert.into_iter().chain([image.as_os_str(), raw.as_os_str()])).unwrap();
        inspect(&raw).await.unwrap().records
    }

    /// One of each kind of run, verified, of all three machines.
    fn reports(&self) {
        let reports = self.ground.path("state/reports");
        let mut files: Vec<PathBuf> = fs::read_dir(reports).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for what in ["drill", "clean-up", "failover", "failback"] {
            let ends = |end: &str| {
                let name = format!("-{what}-shop.{end}");
                let found: Vec<_> =
                    files.iter().filter(|file| file.to_string_lossy().ends_with(&name)).collect();
                let [file] = found[..] else { panic!("{name}: {files:?}") };
                (file, fs::read_to_string(file).unwrap())
            };
            let (file, text) = ends("json");
            let report = Report::from_json(&text).unwrap();
            assert!(verify(&report).unwrap().records > 0, "{}", file.display());
            assert_eq!(report.outcome, Ending::Done, "{what}");
            let (page, html) = ends("html");
            for name in SHOP {
                assert!(report.members.iter().any(|member| member.called == name), "{what} has no {name}");
                assert!(html.contains(&format!(">{name}<")), "the page of the {what} has no {name}");
            }
            fs::copy(page, left().join(format!("{what}.html"))).unwrap();
        }
    }

    /// Runs the command, and keeps what a terminal shows.
    fn run(&mut self, words: &str) -> Ran {
        let ran = self.ground.run(words);
        let shown = format!("$ site-recovery {words}\n{}{}", ran.err, ran.out);
        self.session.push_str(&shown.replace(&format!("{}/", self.ground.root().display()), ""));
        fs::write(left().join("session.txt"), &self.session).unwrap();
        ran
    }

    fn guest(&self, site: &str, name: &str) -> Guest {
        Guest::of(self.ground.path(site).join(name).join("console.log"))
    }
}

/// A port of a network that a machine is put to at a site.
struct Wire {
    site: &'static str,
    network: String,
    backend: String,
}

impl Wire {
    fn isolated(&self) -> bool {
        self.network.starts_with("apart")
    }
}

fn settings(wires: &[Wire]) -> String {
    let mut text = "[vault]\nstate = \"state\"\n[run]\nmetrics = \"off\"\n".to_owned();
    for site in ["here", "cloud"] {
        writeln!(text, "[sites.{site}]\nkind = \"qemu\"\ndirectory = \"{site}\"\naccelerator = \"tcg\"")
            .unwrap();
        for wire in wires.iter().filter(|wire| wire.site == site) {
            let (network, backend, isolated) = (&wire.network, &wire.backend, wire.isolated());
            writeln!(text, "networks.{network} = {{ backend = \"{backend}\", isolated = {isolated} }}")
                .unwrap();
        }
    }
    for name in SHOP {
        // At the other side the guest is told that it is there: what it writes says so.
        let told = format!("site = {{ serial = \"B-{name}\", console = \"on\" }}");
        writeln!(text, "[machines.{name}]\nsettings = {{ test_network = \"apart-{name}\", {told} }}")
            .unwrap();
    }
    text + LEGS + PLANS
}

/// The database, then the application, which needs it, and the web server, which is not waited for. Who switches them on leaves.
async fn power_on(dir: &Path, wires: &[Wire]) -> Machines {
    let emulator = Emulator::default();
    let stage = LiveStage::open_with(dir, &emulator, |site, builder| {
        let wires = wires.iter().filter(|wire| wire.site == site && !wire.isolated());
        wires
            .fold(builder, |builder, wire| builder.network(&wire.network, Network::production(&wire.backend)))
    });
    let stage = stage.await.unwrap();
    for (at, name) in SHOP.into_iter().enumerate() {
        let needs = if at == 0 { String::new() } else { format!(" needs=10.77.0.{at}") };
        let (network, mac) = (format!("lan-{name}"), format!("52:54:00:00:00:0{}", at + 1));
        let described = json!({
            "nics": [{ "id": "n0", "network": network, "mac": mac }],
            // It boots in less time than one with all that can be emulated.
            "cpu": "qemu64",
        });
        let options = GuestOptions {
            words: format!("delay=100 ip=10.77.0.{}{needs}", at + 1),
            described: described.as_object().unwrap().clone(),
            ..GuestOptions::default()
        };
        let guest = stage.add_guest(name, &options).await.unwrap();
        if name != "web" {
            guest.writes(1).await.unwrap();
        }
    }
    stage.leave()
}

/// How often somebody was heard in a network.
fn heard(lan: &Lan, name: &str) -> usize {
    let beacon = format!("BEACON {name} ");
    lan.heard().iter().filter(|heard| heard.text.starts_with(&beacon)).count()
}

/// Each boot group was found to serve before the next one was begun.
fn boots_in_order(run: &Value) {
    let time = |name: &str, which: &str| {
        let stages = run["stages"].as_array().unwrap();
        let stage = stages.iter().find(|stage| stage["stage"] == name).unwrap_or_else(|| panic!("{run:#}"));
        stage[which].as_str().unwrap().to_owned()
    };
    for group in 1..3 {
        let found = time(&format!("actions after boot group {group}"), "ended");
        assert!(found <= time(&format!("boot group {} boots", group + 1), "started"), "{run:#}");
    }
}

/// And so it was told.
fn told_in_order(told: &str) {
    let at = |line: &str| told.lines().position(|l| l == line).unwrap_or_else(|| panic!("{line}: {told}"));
    let wanted = ["db is Done", "the action database-serves is done", "boot group 2 boots", "app is Done"];
    let places = wanted.map(|line| at(&format!("shop: {line}")));
    assert!(places.is_sorted(), "{told}");
}

/// What a machine wrote first at the new side it wrote when the one that it needs had written there already, and what it wrote
/// last at the old side it wrote when that one had not been shut down yet.
fn follows(old: &[Vec<Record>], new: &[Vec<Record>]) {
    for at in 1..SHOP.len() {
        let (needs, needed) = (SHOP[at], SHOP[at - 1]);
        let (before, there) = (old[at].len(), old[at - 1].len() as u64);
        assert!(old[at][before - 1].cause <= there, "{needs} has outlived {needed}");
        assert!(new[at][before].cause > there, "{needs} has not waited for {needed}");
    }
}

/// Where session and pages are left.
fn left() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live_shop");
    fs::create_dir_all(&dir).unwrap();
    dir
}

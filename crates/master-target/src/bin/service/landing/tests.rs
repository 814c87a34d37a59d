//! Disks of this host, as the settings name them, with a server that programs switch.

use super::{BareDisks, Landing, Settings, on_disks, open};
use bytes::Bytes;
use site_recovery::{
    Consistency, DiskId, DiskRole, DiskSpec, Epoch, ErrorKind, Generation, GuestFacts, Instance, LandingSite,
    Machine, Op, OsFamily, Platform, PointId, Purpose, Recovery, Result, Role, SystemClock, Timestamp,
};
use site_recovery_testkit::suite::permit;
use site_recovery_transport::enrol::Credentials;
use site_recovery_transport::enrol::{
    Authority, EnrolmentLimits, EnrolmentServer, Invitation, RoleKind, ServedRole, Service, ServiceKind,
    Stated,
};
use site_recovery_transport::{Client, Machines, Server};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SIZE: u64 = 300 << 10;

/// An outlet: a directory with a file `on` while there is power and a file `locked` while nobody may give it.
const OUTLET: &str = r#"#!/bin/sh
cd "$2" || exit 9
case "$1" in
on) test ! -e locked && : > on ;;
off) rm -f on ;;
is-off) test ! -e on ;;
lock) : > locked ;;
unlock) rm -f locked ;;
is-locked) test -e locked ;;
*) exit 9 ;;
esac
"#;

struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("outlet"), OUTLET).unwrap();
        std::fs::File::create(dir.path().join("root.raw")).unwrap().set_len(SIZE).unwrap();
        Self { dir }
    }

    fn has(&self, file: &str) -> bool {
        self.dir.path().join(file).exists()
    }

    /// All that the power of a server may be told by.
    fn power(&self, verbs: &[(&str, &str)]) -> String {
        let dir = self.dir.path().display();
        let line = |(key, verb): &(&str, &str)| {
            format!("{key} = {{ run = [\"/bin/sh\", \"{dir}/outlet\", \"{verb}\", \"{dir}\"] }}\n")
        };
        format!("[landing.disks.server.power.commands]\n{}", verbs.iter().map(line).collect::<String>())
    }

    fn settings(&self, landing: &str) -> Result<Settings> {
        let dir = self.dir.path().display();
        let text = format!(
            "[service]\nstate = \"{dir}/state\"\nlisten = \"127.0.0.1:0\"\naddress = \"mt-1:7443\"\n\
             [master_target]\nname = \"hall-1\"\nretention = \"{dir}/retention\"\n{landing}"
        );
        let file = self.dir.path().join("master-target.toml");
        std::fs::write(&file, text).unwrap();
        site_recovery_service::read(&file)
    }

    fn open(&self, power: &str) -> Result<BareDisks> {
        let dir = self.dir.path().display();
        let slot = format!("{{ id = \"root\", path = \"{dir}/root.raw\" }}");
        let settings =
            self.settings(&format!("[[landing.disks.server]]\nname = \"web-1\"\nslots = [{slot}]\n{power}"))?;
        let Landing::Disks(disks) = &settings.landing else { panic!("{:?}", settings.landing) };
        on_disks("hall-1".into(), settings.service.state.join("landing"), disks, Arc::new(SystemClock))
    }
}

const ALL: [(&str, &str); 6] = [
    ("off", "off"),
    ("is_off", "is-off"),
    ("on", "on"),
    ("hold", "lock"),
    ("release", "unlock"),
    ("is_held", "is-locked"),
];

fn op(key: &str) -> Op {
    Op { key: key.into(), epoch: Epoch { number: 1, owner: "engine".into() } }
}

fn web() -> Machine {
    let instance = Instance {
        machine: "m-web".into(),
        site: "hall-1".into(),
        name: "web-1".into(),
        generation: Generation(0),
    };
    let root = DiskSpec { id: DiskId("root".into()), size: SIZE, role: DiskRole::System, included: true };
    Machine {
        instance,
        title: None,
        disks: vec![root],
        nics: vec![],
        cpus: 1,
        memory: 1 << 30,
        firmware: Default::default(),
        os: OsFamily::Linux,
        platform: Platform::Physical,
        guest: GuestFacts::default(),
    }
}

#[tokio::test]
async fn d5_a_server_whose_disks_are_here_is_held_while_they_are_written_then_started_and_stopped() {
    let scene = Scene::new();
    let landing = scene.open(&scene.power(&ALL)).unwrap();
    let (web, here) = (web(), site_recovery::Settings::default());
    // Nothing lands under a system that runs.
    std::fs::write(scene.dir.path().join("on"), "").unwrap();
    let runs = landing.attach(&op("attach"), &web, Some(web.instance.clone()), &here).await.unwrap_err();
    assert_eq!(runs.kind(), ErrorKind::Refused, "{runs}");
    std::fs::remove_file(scene.dir.path().join("on")).unwrap();

    let instance = landing.attach(&op("attach"), &web, Some(web.instance.clone()), &here).await.unwrap();
    assert!(scene.has("locked"), "nobody gives it power while its disks are written");
    let disk = landing.disk(&instance, &"root".into()).await.unwrap();
    disk.write(8192, Bytes::from_static(b"landed")).await.unwrap();
    disk.flush().await.unwrap();
    let armed = landing.arm(&op("arm"), &instance, Generation(1)).await.unwrap().instance;
    landing.detach(&op("detach"), &armed).await.unwrap();

    let start = op("start");
    let leave = permit(&start, &web.standing_as(armed.clone())).await;
    let recovery = Recovery {
        machine: web.clone(),
        sidecars: vec![],
        point: PointId(1),
        taken: Timestamp(1),
        consistency: Consistency::Crash,
        generation: Generation(1),
        purpose: Purpose::Failover,
        settings: here,
    };
    assert!(landing.start(&start, &armed, &recovery, leave).await.unwrap().running);
    assert!(scene.has("on") && !scene.has("locked"), "it was let go and switched on");
    assert_eq!(&std::fs::read(scene.dir.path().join("root.raw")).unwrap()[8192..8198], b"landed");
    // An undo writes the disks again: not under a system that runs.
    let again = landing.attach(&op("undo"), &web, Some(armed.clone()), &Default::default()).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Refused);
    landing.stop(&op("stop"), &armed, Duration::ZERO).await.unwrap();
    assert!(!scene.has("on") && scene.has("locked"), "it is off, and held");
    landing.attach(&op("undo"), &web, Some(armed), &Default::default()).await.unwrap();
}

/// Serves disks of its own as the keeper of the site would, from a port that nobody knew before, and says so.
async fn keeper(dir: &Path, authority: &Authority, enrolment: &EnrolmentServer) -> (Server, BareDisks) {
    let landing = BareDisks::builder("hall-1".into(), dir.join("state"), Arc::new(SystemClock));
    let landing = landing.room(dir.join("room"), None).open().unwrap();
    let role = ServedRole::new(RoleKind::LandingSite, "hall-1");
    let invitation = Invitation::new(
        Service::new(ServiceKind::Keeper, "hall-1").unwrap(),
        enrolment.address().to_string(),
    );
    let token = authority.mint(invitation.role(role.clone())).await.unwrap();
    // Once to have a certificate, and once to say which port the system chose.
    let credentials = Credentials::at(dir.join("credentials")).join(&token).await.unwrap();
    let server = Server::builder(credentials.server_tls())
        .landing_site(Arc::new(landing.clone()))
        .allow(Client::kind(ServiceKind::MasterTarget), Machines::All)
        .listen("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let stated = Stated { address: Some(server.address().to_string()), roles: vec![role] };
    let credentials = Credentials::at(dir.join("credentials")).states(stated).open().await.unwrap();
    credentials.renew().await.unwrap();
    (server, landing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_may_come_after_its_master_target_and_move() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open(dir.path().join("authority"), Arc::new(SystemClock)).unwrap();
    let port = "127.0.0.1:0".parse().unwrap();
    let enrolment =
        EnrolmentServer::listen(authority.clone(), port, EnrolmentLimits::default()).await.unwrap();
    let mt = Service::new(ServiceKind::MasterTarget, "mt-1").unwrap();
    let token = authority.mint(Invitation::new(mt, enrolment.address().to_string())).await.unwrap();
    let credentials = Credentials::at(dir.path().join("mt")).join(&token).await.unwrap();

    let scene = Scene::new();
    let settings = scene.settings("[landing.servers]\nsite = \"hall-1\"\n").unwrap();
    let landing = open(&settings, &credentials).await.unwrap();
    assert_eq!(landing.name().as_str(), "hall-1");
    let (web, claims) =
        (web(), |number| Op { key: "claim".into(), epoch: Epoch { number, owner: "engine".into() } });
    let nobody = landing.claim(&claims(1), web.id()).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Unavailable, "{nobody}");
    assert!(nobody.to_string().contains("no keeper of hall-1"), "{nobody}");

    // It comes, and each call reaches it; what it promises of itself is what was told before.
    let (first, disks) = keeper(&dir.path().join("first"), &authority, &enrolment).await;
    landing.claim(&claims(2), web.id()).await.unwrap();
    let stale = disks.claim(&claims(1), web.id()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleEpoch, "the claim came there");
    assert_eq!(landing.capability(), disks.capability());

    // It moves to another host, with a register that knows no claim.
    first.stop(Duration::from_secs(5)).await;
    let (_second, disks) = keeper(&dir.path().join("second"), &authority, &enrolment).await;
    credentials.refresh_roster().await.unwrap();
    landing.claim(&claims(3), web.id()).await.unwrap();
    let stale = disks.claim(&claims(2), web.id()).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::StaleEpoch, "the claim came to the other one");
}

#[test]
fn a_server_that_nobody_can_switch_is_refused_before_anything_lands() {
    let scene = Scene::new();
    let absent = scene.open("").unwrap_err();
    assert!(absent.to_string().contains("missing field `power`"), "{absent}");
    let start = format!("start = {{ run = [\"/bin/true\"] }}\n{}", scene.power(&ALL));
    assert!(scene.open(&start).unwrap_err().to_string().contains("start"));
    let without = |keys: &[&str]| -> Vec<_> { ALL.into_iter().filter(|(k, _)| !keys.contains(k)).collect() };
    for (keys, field, said) in [
        (&["on"][..], "landing.disks.server.power", "switches it on"),
        (&["hold", "release", "is_held"], "landing.disks.server.power", "kept off"),
        (&["is_held"], "power.hold", "come together"),
    ] {
        let error = scene.open(&scene.power(&without(keys))).unwrap_err();
        assert_eq!((error.fact("field"), error.fact("server")), (Some(field), Some("web-1")), "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(!Path::new(&scene.dir.path().join("state")).exists(), "{keys:?}: nothing was made");
    }
    let redfish = |more: &str| {
        format!(
            "[landing.disks.server.power.redfish]\nurl = \"https://bmc/redfish/v1/Systems/1\"\n\
             trust = {{ sha256 = \"{}\" }}\nuser = \"us\"\npassword = {{ file = \"/nowhere\" }}\n{more}",
            "ab".repeat(32)
        )
    };
    scene.open(&redfish("hold = \"pxe\"\n")).unwrap();
    let neither = scene.open(&redfish("")).unwrap_err();
    assert_eq!(neither.fact("field"), Some("landing.disks.server.power"), "{neither}");
}

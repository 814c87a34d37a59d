//! A physical server to a directory, and from there to a new machine of VMware's: all of it comes over, and from then on that
//! machine is the one that is protected.

use crate::circle::{commit, fail_over, sweep};
use crate::ground::{BACK, Ground, Life, OUT, OUT_OF_VMWARE, done, is_here};
use crate::hall::{self, SERVER};
use crate::process::Mode;
use site_recovery::state::{Divergence, Kind, Phase};
use site_recovery::{
    Cutover, ErrorKind, FailoverRequest, Location, OnUnfenced, Power, ReprotectRequest, Result, Settings,
    Shutdown, Source, StartGuard,
};
use site_recovery_testkit::crash::Crash;
use site_recovery_vim::{ControllerKind, Machine, Network};
use std::time::Duration;

const DATASTORE: &str = "LocalDS_1";
const NETWORK: &str = "VM Network";

impl Life {
    /// All machines of the server but the appliance.
    pub(crate) async fn at_vmware(&self) -> Vec<Machine> {
        let eyes = &self.world.eyes;
        let all = eyes.machines_whole(&eyes.content().root_folder).await.unwrap();
        let is_other = |m: &Machine| m.instance_uuid.as_deref() != Some(self.world.appliance.as_str());
        all.into_iter().filter(is_other).collect()
    }

    /// The only one of them that is not among these.
    pub(crate) async fn made_beside(&self, others: &[&str], when: &str) -> Machine {
        let mut all = self.at_vmware().await;
        all.retain(|m| !others.contains(&m.instance_uuid.as_deref().unwrap()));
        assert_eq!(all.len(), 1, "{when}: one machine was made: {:?}", names(&all));
        all.remove(0)
    }

    /// No disk at the server is without its machine.
    pub(crate) async fn nothing_is_orphaned(&self, when: &str) {
        let mut files: Vec<String> = vec![];
        let appliance = self.world.moref(&self.world.appliance).await;
        let appliance = self.world.eyes.machine(&appliance).await.unwrap();
        for machine in self.at_vmware().await.into_iter().chain([appliance]) {
            let disks = machine.details.unwrap().devices.disks;
            files.extend(disks.iter().map(|d| d.backing.file.as_ref().unwrap().path().to_owned()));
        }
        for found in self.world.everything().await.iter().filter(|name| name.ends_with(".vmdk")) {
            // A flat file is its descriptor's.
            let descriptor = found.replace("-flat.vmdk", ".vmdk");
            let is_used = files.iter().any(|file| descriptor.ends_with(file.as_str()));
            assert!(is_used, "{when}: {found} is no machine's, of {files:?}");
        }
    }

    /// It is off, and whoever presses its button gets its rescue system alone.
    async fn the_server_stays_fenced(&self, when: &str) {
        let hall = self.hall.as_ref().unwrap();
        assert!(!hall.server.runs() && hall.server.truth().held, "{when}: the physical server is not held");
        let item = self.web().unwrap().item().unwrap();
        let instance = item.instances.iter().find(|i| i.name == SERVER).expect("it is one of them still");
        let power = hall.site(self.world.dir.path()).power(instance).await.unwrap();
        assert_eq!(power, Power::Off { start: StartGuard::Blocked { until: None } }, "{when}");
    }
}

fn names(all: &[Machine]) -> Vec<&str> {
    all.iter().map(|m| m.name.as_str()).collect()
}

fn to_vmware(location: Location) -> ReprotectRequest {
    let settings = Settings {
        location,
        datastore: Some(DATASTORE.into()),
        network: Some(NETWORK.into()),
        ..Settings::default()
    };
    ReprotectRequest {
        settings: Some(settings),
        legs: Some((OUT_OF_VMWARE.into(), "back".into())),
        // What the server wrote between the last point and the fence, if anything.
        other_side_loses: true,
        ..ReprotectRequest::default()
    }
}

async fn reprotect(life: &Life, request: ReprotectRequest) -> Result<()> {
    life.web()?.reprotect(request).await?.done().await.map(drop)
}

/// Its agent falls silent with it, so nothing can be shipped after the fence: it was quiet before.
async fn fails_over(life: &Life) {
    let planned = fail_over(life, OUT).await.unwrap_err();
    assert_eq!(planned.kind(), ErrorKind::Unsupported, "{planned}");
    life.vault.replicate_now(life.web().unwrap().id()).await.unwrap();
    let shutdown = Shutdown::Try { limit: Duration::from_secs(60) };
    let cutover = Cutover::Unplanned { shutdown, on_unfenced: OnUnfenced::Unwind };
    let request = FailoverRequest { cutover, ..FailoverRequest::planned(OUT) };
    done(life.web().unwrap().failover(request).await).await;
    assert_eq!(life.phase(), Phase::FailoverCompleted(Kind::Unplanned));
}

/// It runs in the cloud for good, and has written there.
fn in_the_cloud(ground: &Ground) {
    ground.live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        life.write(OUT, 0, 7).await.unwrap();
        fails_over(life).await;
        life.both_sides_are_the_same("failed over").await;
        life.the_server_stays_fenced("failed over").await;
        commit(life).await;
        life.write(BACK, 1, 9).await.unwrap();
    });
}

/// As the server was described, with what the settings say.
async fn is_as_described(life: &Life) {
    let machine = life.made_beside(&[], "made").await;
    let uuid = machine.instance_uuid.clone().unwrap();
    assert_eq!(machine.name, SERVER);
    let details = machine.details.unwrap();
    assert_eq!((details.cpus, details.memory_mib), (2, 1024));
    let item = life.web().unwrap().item().unwrap();
    assert_eq!(details.firmware, Some(site_recovery_vim::Firmware::Bios));
    let [nic] = &details.devices.nics[..] else { panic!("{:?}", details.devices.nics) };
    let plugged = matches!(&nic.network, Some(Network::Standard { name, .. }) if name == NETWORK);
    assert!(plugged, "{:?}", nic.network);
    assert_ne!(nic.mac.as_deref(), Some("52:54:00:00:00:01"), "the server may be there still");
    let kinds: Vec<&ControllerKind> =
        details.devices.disks.iter().map(|disk| &details.devices.controller_of(disk).unwrap().kind).collect();
    assert_eq!(kinds, [&ControllerKind::ParaVirtual; 2]);
    for disk in &details.devices.disks {
        assert_eq!(disk.backing.file.as_ref().unwrap().datastore(), DATASTORE);
    }
    assert!(details.disk_uuid && details.change_tracking);
    let mark: serde_json::Value = serde_json::from_str(&details.extra["site-recovery.mark"]).unwrap();
    assert_eq!(mark["machine"], item.id().as_str());
    let key = mark["made"].as_str().expect("it says what made it");
    assert_eq!(uuid, derived(key), "its identifier is that of the key");
}

/// The identifier of a machine that was made under this key.
fn derived(key: &str) -> String {
    let digest = site_recovery::audit::sha256_hex(format!("site-recovery/{key}").as_bytes());
    let part = |from: usize, to: usize| &digest[from..to];
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// Whatever the settings say of the location: the server is no machine of VMware's to land on.
fn comes_back_as_a_machine_of(mode: Mode, location: Location) {
    if !is_here() || !hall::is_here() {
        return;
    }
    let ground = Ground::physical(mode);
    in_the_cloud(&ground);
    ground.live(Crash::Never, async |life| {
        reprotect(life, to_vmware(location)).await.unwrap();
        is_as_described(life).await;
        let uuid = life.made_beside(&[], "replicated").await.instance_uuid.unwrap();
        assert!(!life.world.power(&uuid, "on").await, "somebody started a machine that lands");
        let item = life.web().unwrap().item().unwrap();
        assert_eq!((item.out.as_str(), item.back.as_str()), (OUT_OF_VMWARE, "back"));
        assert_eq!(item.state.divergence, Divergence::None);
        life.write(BACK, 0, 11).await.unwrap();
        fail_over(life, BACK).await.unwrap();
        assert_eq!(life.at_the_server(), Some(uuid.clone()));
        life.both_sides_are_the_same("failed back").await;
        assert!(life.world.runs(&uuid).await, "it does not run at the server");
        life.the_server_stays_fenced("failed back").await;
        life.write(OUT, 0, 13).await.unwrap();
        commit(life).await;
        life.nothing_is_left("committed").await;

        reprotect(life, ReprotectRequest::default()).await.unwrap();
        life.a_cycle_is_a_delta(OUT, "protected again").await;
        life.nothing_is_left("protected again").await;
        life.nothing_is_orphaned("protected again").await;
        // The machine at the server is the source for good: it goes over as any other.
        life.write(OUT, 1, 15).await.unwrap();
        fail_over(life, OUT).await.unwrap();
        life.both_sides_are_the_same("failed over from the server").await;
        assert!(!life.world.runs(&uuid).await, "both sides run");
        life.the_server_stays_fenced("failed over from the server").await;
    });
}

#[test]
fn d4_a_physical_server_comes_back_as_a_machine_of_vcenter() {
    comes_back_as_a_machine_of(Mode::VCenter, Location::Alternate);
}

#[test]
fn d4_a_physical_server_comes_back_as_a_machine_of_a_host() {
    comes_back_as_a_machine_of(Mode::Esxi, Location::Original);
}

#[test]
fn o6_a_crash_at_any_write_while_a_machine_is_made_leaves_that_one_alone() {
    if !is_here() || !hall::is_here() {
        return;
    }
    let then = async |life: &Life, when: &str| {
        if life.phase() != Phase::Protected {
            reprotect(life, to_vmware(Location::Alternate)).await.unwrap();
        }
        let uuid = life.made_beside(&[], when).await.instance_uuid.unwrap();
        life.nothing_is_orphaned(when).await;
        fail_over(life, BACK).await.unwrap();
        assert_eq!(life.at_the_server(), Some(uuid.clone()), "{when}");
        life.both_sides_are_the_same(when).await;
        life.made_beside(&[], when).await;
        life.the_server_stays_fenced(when).await;
    };
    let act = async |life: &Life| reprotect(life, to_vmware(Location::Alternate)).await;
    sweep(|| Ground::physical(Mode::VCenter), in_the_cloud, act, BACK, then);
}

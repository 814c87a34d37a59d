//! VMware to a directory and back to a new machine, though the old one stands there still: that one is never touched.

use crate::circle::{commit, fail_over};
use crate::ground::{BACK, Content, Ground, Life, OUT, done, is_here, same};
use crate::process::Mode;
use site_recovery::{Location, ReprotectRequest, Settings};
use site_recovery_testkit::crash::Crash;
use site_recovery_vim::{Details, Power};

impl Life {
    async fn old(&self) -> (Content, Details) {
        let moref = self.world.moref(&self.web).await;
        let machine = self.world.eyes.machine(&moref).await.unwrap();
        assert_eq!((machine.power, machine.name.as_str()), (Power::Off, "web"));
        let disks = [self.world.content(&self.web, 0).await, self.world.content(&self.web, 1).await];
        (disks.to_vec(), *machine.details.unwrap())
    }

    /// Neither its bytes nor its devices have changed, and nobody has started it.
    async fn the_old_one_is_as_it_was(&self, stood: &(Content, Details), when: &str) {
        let now = self.old().await;
        assert!(now.0 == stood.0, "{when}: its bytes");
        assert_eq!(now.1.devices, stood.1.devices, "{when}");
        assert_eq!(now.1.snapshots, stood.1.snapshots, "{when}");
        assert!(now.1.extra.contains_key("site-recovery.fence"), "{when}: it is not fenced");
        assert_eq!(now.1.extra["site-recovery.mark"], stood.1.extra["site-recovery.mark"], "{when}");
    }
}

fn to_a_new_machine() -> ReprotectRequest {
    let datastore = Some("LocalDS_1".to_owned());
    let settings = Settings { location: Location::Alternate, datastore, ..Settings::default() };
    ReprotectRequest { settings: Some(settings), ..ReprotectRequest::default() }
}

fn beside_the_old_one(mode: Mode) {
    if !is_here() {
        return;
    }
    let ground = Ground::new(mode);
    ground.live(Crash::Never, async |life| {
        life.protect().await.unwrap();
        fail_over(life, OUT).await.unwrap();
        commit(life).await;
        let stood = life.old().await;
        life.write(BACK, 1, 9).await.unwrap();

        done(life.web().unwrap().reprotect(to_a_new_machine()).await).await;
        let made = life.made_beside(&[&life.web], "replicated").await;
        assert_eq!((made.name.as_str(), made.power), ("web-2", Power::Off), "a free name");
        let made = made.instance_uuid.unwrap();
        life.write(BACK, 0, 11).await.unwrap();
        life.a_cycle_is_a_delta(BACK, "replicated").await;
        life.the_old_one_is_as_it_was(&stood, "replicated").await;

        fail_over(life, BACK).await.unwrap();
        assert_eq!(life.at_the_server(), Some(made.clone()));
        assert!(life.world.runs(&made).await, "the new one does not run");
        life.both_sides_are_the_same("failed back").await;
        life.the_old_one_is_as_it_was(&stood, "failed back").await;
        commit(life).await;
        life.the_old_one_is_as_it_was(&stood, "committed").await;

        done(life.web().unwrap().reprotect(ReprotectRequest::default()).await).await;
        life.a_cycle_is_a_delta(OUT, "protected again").await;
        life.nothing_is_left("protected again").await;
        life.the_old_one_is_as_it_was(&stood, "protected again").await;

        // The next round goes back to where it came from, by what changed alone.
        fail_over(life, OUT).await.unwrap();
        commit(life).await;
        let settings = Settings { datastore: Some("LocalDS_1".into()), ..Settings::default() };
        let request = ReprotectRequest { settings: Some(settings), ..ReprotectRequest::default() };
        done(life.web().unwrap().reprotect(request).await).await;
        life.a_cycle_is_a_delta(BACK, "replicated again").await;
        let found = life.made_beside(&[&life.web], "replicated again").await;
        assert_eq!(found.instance_uuid, Some(made), "the same machine");
        life.the_old_one_is_as_it_was(&stood, "replicated again").await;
        assert!(same(&life.bytes(OUT).await, &life.bytes(BACK).await), "replicated again");
        life.nothing_is_orphaned("replicated again").await;
    });
}

#[test]
fn d4_a_machine_of_vcenter_comes_back_as_a_new_one_beside_the_old() {
    beside_the_old_one(Mode::VCenter);
}

#[test]
fn d4_a_machine_of_a_host_comes_back_as_a_new_one_beside_the_old() {
    beside_the_old_one(Mode::Esxi);
}

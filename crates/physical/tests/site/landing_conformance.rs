//! The suite of a landing site, over a keeper and a rescue system, as far as it goes.
//!
//! Left out are the rules that make a machine (`attach` without an existing one): hardware cannot be made, and a keeper has no
//! room; a refusal of that is a test below. And that our own acts leave the stamp: it is the rescue system's life, which a start
//! of ours ends.

use crate::hall::{DISKS, Floor};
use crate::rescue::{Leaves, RescueSystem, Rescued};
use crate::support::*;
use async_trait::async_trait;
use site_recovery::*;
use site_recovery_physical::site::Returning;
use site_recovery_testkit::suite::LandingSiteFixture;
use std::sync::Arc;

struct Through {
    floor: Floor,
    web: Machine,
    returning: Returning,
}

fn returning(floor: &Floor, web: &Machine) -> Returning {
    floor.site.returning(Arc::new(Rescued(RescueSystem::of(floor, web, Leaves::Restarts))))
}

#[async_trait]
impl LandingSiteFixture for Through {
    async fn new() -> Self {
        let floor = Floor::new(HOLDS).await;
        let web = floor.enrolled_by("suite", "web").await;
        let returning = returning(&floor, &web);
        Self { floor, web, returning }
    }
    fn landing_site(&self) -> Arc<dyn LandingSite> {
        Arc::new(self.returning.clone())
    }
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(self.floor.site.clone())
    }
    async fn reopen(&mut self) {
        self.floor.again().await;
        self.returning = returning(&self.floor, &self.web);
    }
    fn existing(&self) -> Machine {
        self.web.clone()
    }
    async fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let (system, data) = (&self.floor.agent(name).system, bytes::Bytes::copy_from_slice(bytes));
        system.write_disk(name, &DISKS[disk].0.into(), at, data).await.unwrap();
    }
    async fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        std::fs::read(self.floor.system(name).join(format!("{}.raw", DISKS[disk].0))).unwrap()
    }
    async fn is_running(&self, name: &str) -> bool {
        self.floor.server(name).runs()
    }
    async fn everything(&self) -> Vec<String> {
        self.floor.servers.keys().cloned().collect()
    }
    async fn start_outside(&self, name: &str) -> bool {
        self.floor.server(name).press()
    }
    /// The keeper sees it off, and then somebody starts its rescue system.
    async fn stop_outside(&self, name: &str) {
        let server = self.floor.server(name);
        server.unplug();
        assert!(matches!(self.floor.site.power(&self.web.instance).await.unwrap(), Power::Off { .. }));
        server.truth().held = true;
        assert!(!server.press());
    }
}

site_recovery_testkit::each_case! { Through, landing_site,
    lnd_1_older_handles_end,
    lnd_2_what_was_not_attached_is_not_found,
    lnd_3_a_running_machine_is_refused,
    lnd_3_the_bytes_are_left_as_they_are,
    lnd_3_while_attached_no_start_goes_unseen,
    lnd_4_a_start_past_us_changes_the_stamp,
    lnd_6_all_that_is_written_is_in_the_changes,
    lnd_7_a_permit_of_another_is_refused,
    lnd_7_leave_for_a_drill_is_refused,
    lnd_7_a_repeat_starts_nothing_again,
    rol_2_a_stale_epoch_changes_nothing,
    dsk_1_size_never_changes,
    dsk_2_extents_cover_the_range,
    dsk_3_zero_extents_read_as_zeros,
    dsk_4_reads_are_exact_and_pooled,
    dsm_1_what_was_written_is_read_back,
    dsm_2_a_zeroed_run_reads_as_zeros,
    dsm_3_after_flush_it_survives_a_power_cut,
}

#[tokio::test]
async fn lnd3_lnd8_hardware_is_neither_made_nor_removed() {
    let world = Through::new().await;
    world.stop_outside("web").await;
    let (web, settings) = (&world.web, Settings::default());
    let made = world.returning.attach(&op_of("suite", 1, "make"), web, None, &settings).await;
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Refused);
    let existing = Some(web.instance.clone());
    let landing =
        world.returning.attach(&op_of("suite", 1, "attach"), web, existing, &settings).await.unwrap();
    let removed = world.returning.remove(&op_of("suite", 1, "remove"), &landing).await;
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Refused);
    assert!(world.returning.disk(&landing, &web.disks[0].id).await.is_ok(), "it is still there");
}

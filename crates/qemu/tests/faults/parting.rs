//! A part that broke off in the middle: nothing else is done to the machine until it is repeated.

use crate::landed::Landed;
use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_testkit::suite::{pattern, permit};
use std::fs;

#[test]
fn o1_a_machine_whose_part_broke_off_is_not_started_by_anyone_until_that_is_repeated() {
    on_qemu(async {
        let landed = Landed::attached().await;
        let (site, instance) = (&landed.world.site, &landed.instance);
        let below = landed.truth();
        site.branch(&op("branch"), instance).await.unwrap();
        let disk = landed.disk(0).await.unwrap();
        disk.write(0, Bytes::from(pattern(4, 8192))).await.unwrap();
        disk.flush().await.unwrap();
        let above = landed.truth();

        // What is kept cannot be made: no directory is to be had for it.
        let making = landed.world.path(".site-recovery/making");
        fs::remove_dir_all(&making).ok();
        fs::write(&making, "in the way").unwrap();
        let part = || async { site.part(&op("part"), instance).await };
        answered("part", part).await.unwrap_err();

        let standing = landed.machine.standing_as(instance.clone());
        let error = landed.try_start("start").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(error.message().contains("part"), "it is not said why: {error}");
        for start in [Start::Stay, Start::Run] {
            let key = op(&format!("unfence {start:?}"));
            let lifted = site.unfence(&key, instance, permit(&key, &standing).await, start).await;
            let error = lifted.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{start:?}: {error}");
        }
        assert_eq!(site.power_on("web").await.unwrap_err().kind(), ErrorKind::Refused);
        assert_eq!(landed.disk(0).await.err().map(|e| e.kind()), Some(ErrorKind::Refused));
        assert_eq!(site.merge(&op("merge"), instance).await.unwrap_err().kind(), ErrorKind::Refused);
        let power = site.power(instance).await.unwrap();
        assert_eq!(power, Power::Off { start: StartGuard::Blocked { until: None } });

        fs::remove_file(&making).unwrap();
        let kept = answered("part", part).await.unwrap();
        assert!(landed.truth() == below, "it is not what was below the branch");
        let found: Vec<_> = (0..2).map(|n| landed.world.content(&kept.name, n)).collect();
        assert!(found == above, "what stood above is lost");
        // Repeated when all is over, also while it runs again.
        assert!(landed.start("start").await.running);
        assert_eq!(part().await.unwrap(), kept);
        assert!(landed.world.is_on("web"));
    });
}

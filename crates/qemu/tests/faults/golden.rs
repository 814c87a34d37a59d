//! Machines whose images stand on golden ones, which others stand on, too: whatever becomes of a branch, those stay as they
//! are.

use crate::landed::Landed;
use crate::protected::{Image, Protected};
use crate::support::*;
use bytes::Bytes;
use site_recovery::*;
use site_recovery_testkit::suite::pattern;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

struct OnGolden {
    landed: Landed,
    golden: Vec<(PathBuf, Vec<u8>)>,
}

impl OnGolden {
    /// A machine called web that has written something of its own, has been captured, is off, and is landed on.
    async fn attached() -> Self {
        let world = World::new().await;
        world.machine("web");
        let mut golden = vec![];
        for disk in ["root", "data"] {
            let (own, base) = (
                world.path(format!("web/disks/{disk}.qcow2")),
                world.dir.path().join(format!("golden-{disk}.qcow2")),
            );
            fs::rename(&own, &base).unwrap();
            let base_text = text_of(&base);
            run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base_text, text_of(&own)]);
            golden.push((base.clone(), fs::read(&base).unwrap()));
        }
        world.site.power_on("web").await.unwrap();
        let instance = world.enrol("web").await;
        let protected = Protected { world, instance };
        for disk in 0..2 {
            protected.world.put("web", disk, 64 * KIB, &pattern(1, 4096));
        }
        protected.seal("before").await;
        let landed = Landed::attached_in(protected.world).await;
        Self { landed, golden }
    }

    fn golden_is_untouched(&self, when: &str) {
        for (path, before) in &self.golden {
            assert!(fs::read(path).unwrap() == *before, "{when}: {} is another one", path.display());
        }
    }

    /// The disks hold this, the golden ones what they held, and no image of a branch is left.
    fn is_merged(&self, truth: &Image, when: &str) {
        self.golden_is_untouched(when);
        assert!(self.landed.truth() == *truth, "{when}: the machine's bytes are others");
        let left =
            ["disks", "fenced"].iter().flat_map(|d| fs::read_dir(self.landed.world.path("web").join(d)));
        let left: Vec<_> = left.flatten().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{when}: something of a branch is left: {left:?}");
        for (disk, (base, _)) in self.golden.iter().enumerate() {
            let image = self.landed.world.image("web", disk);
            let told = run_for("qemu-img", &["info", "-U", "--output=json", text_of(&image)]);
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["backing-filename"], text_of(base), "{when}: it stands on another image");
        }
    }

    /// It starts, is captured as it is, and stops.
    async fn lives_on(self, truth: &Image) {
        assert!(self.landed.start("start again").await.running);
        self.is_merged(truth, "started again");
        let Self { landed: Landed { world, instance, machine }, golden } = self;
        let protected = Protected { world, instance };
        let sealed = protected.seal("after").await;
        assert!(sealed.image == *truth, "the point after the merge is another");
        let landed = Landed { world: protected.world, instance: protected.instance, machine };
        landed.world.switch_off("web");
        Self { landed, golden }.is_merged(truth, "stopped again");
    }
}

#[test]
fn d6_a_merge_of_a_running_machine_leaves_the_golden_image_below_it_alone() {
    on_qemu(async {
        let here = OnGolden::attached().await;
        let (site, instance) = (&here.landed.world.site, &here.landed.instance);
        site.branch(&op("branch"), instance).await.unwrap();
        site.detach(&op("detach"), instance).await.unwrap();
        assert!(here.landed.start("start").await.running);
        for disk in 0..2 {
            here.landed.world.put("web", disk, 128 * KIB, &pattern(2, 8192));
        }
        let truth = here.landed.truth();
        here.landed.merge("merge").await.unwrap();
        assert!(here.landed.world.is_on("web"), "it stands still after the merge");
        here.is_merged(&truth, "merged");
        for disk in 0..2 {
            here.landed.world.put("web", disk, 192 * KIB, &pattern(3, 4096));
        }
        let truth = here.landed.truth();
        site.stop(&op("stop"), instance, Duration::ZERO).await.unwrap();
        here.is_merged(&truth, "stopped");
        here.lives_on(&truth).await;
    });
}

#[test]
fn d6_a_merge_of_a_machine_that_is_off_leaves_the_golden_image_below_it_alone() {
    on_qemu(async {
        let here = OnGolden::attached().await;
        here.landed.world.site.branch(&op("branch"), &here.landed.instance).await.unwrap();
        for n in 0..2 {
            let disk = here.landed.disk(n).await.unwrap();
            disk.write(128 * KIB, Bytes::from(pattern(2, 8192))).await.unwrap();
            disk.flush().await.unwrap();
        }
        let truth = here.landed.truth();
        here.landed.merge("merge").await.unwrap();
        here.is_merged(&truth, "merged");
        here.lives_on(&truth).await;
    });
}

#[test]
fn d6_a_part_leaves_the_golden_image_alone_and_what_is_kept_needs_none_of_them() {
    on_qemu(async {
        let here = OnGolden::attached().await;
        let below = here.landed.truth();
        let (site, instance) = (&here.landed.world.site, &here.landed.instance);
        site.branch(&op("branch"), instance).await.unwrap();
        for n in 0..2 {
            let disk = here.landed.disk(n).await.unwrap();
            disk.write(128 * KIB, Bytes::from(pattern(2, 8192))).await.unwrap();
            disk.flush().await.unwrap();
        }
        let above = here.landed.truth();
        let part = || async { site.part(&op("part"), instance).await };
        let kept = answered("part", part).await.unwrap();
        here.is_merged(&below, "parted");
        for (disk, written) in above.iter().enumerate() {
            assert!(here.landed.world.content(&kept.name, disk) == *written, "what stood above is lost");
            let image = here.landed.world.image(&kept.name, disk);
            let told = run_for("qemu-img", &["info", "--output=json", text_of(&image)]);
            assert!(!told.contains("backing-filename"), "what was parted reads from another image");
        }
        here.lives_on(&below).await;
    });
}

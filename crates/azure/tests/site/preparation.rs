//! Guests that are prepared before their first start.

use crate::given::{boot, op, recovery, replica};
use crate::world::World;
use site_recovery::*;
use site_recovery_azure::{Azure, Images, Preparation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const AT: u64 = 128 * 1024;

/// Looks whether it is done already, and writes if not; may be broken off the first time.
#[derive(Debug, Default)]
struct Once {
    breaks: AtomicBool,
}

#[async_trait::async_trait]
impl Preparation for Once {
    async fn prepare(&self, _: &Machine, disks: &Images) -> Result<()> {
        let disk = &disks[&DiskId::from("system")];
        if disk.read(Run::new(AT, 4096), &Pool::new(1 << 20)).await?[0] != 5 {
            disk.write(AT, vec![5; 4096].into()).await?;
        }
        if self.breaks.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "broken off"));
        }
        Ok(())
    }
}

/// The site of the world, with a preparation; `natively`: it makes machines by copies at the service.
async fn preparing(world: &World, breaks: bool, natively: bool) -> Azure {
    let preparation = Arc::new(Once { breaks: breaks.into() });
    let mut site = Azure::builder("azure".into()).look_every(Duration::from_millis(1)).network("vnet");
    if natively {
        site = site.points(world.points.clone());
    }
    site.preparation(preparation).open(world.place(world.container.clone())).await.expect("it opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_prepared_on_copies_that_the_service_made() {
    for world in [World::new().await, World::far().await] {
        let site = preparing(&world, false, true).await;
        let what = recovery(&world, Purpose::Failover, Settings::default()).await;
        let armed = site.materialise(&op("make"), &what, &replica(&world)).await.expect("prepared");
        let content = world.content(&armed.instance.name, 0);
        assert_eq!((content[0], content[AT as usize]), (1, 5));
        assert!(world.blob_names().iter().all(|name| !name.contains("/work/")), "a copy is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sit_3_what_a_preparation_wrote_before_it_was_broken_off_is_in_the_changes() {
    for (natively, is_far) in [(false, false), (true, false), (false, true), (true, true)] {
        let world = if is_far { World::far().await } else { World::new().await };
        let site = preparing(&world, true, natively).await;
        let what = recovery(&world, Purpose::Failover, Settings::default()).await;
        let broken = site.materialise(&op("make"), &what, &replica(&world)).await.expect_err("broken off");
        assert_eq!(broken.kind(), ErrorKind::Unavailable, "{broken}");
        let armed = site.materialise(&op("make"), &what, &replica(&world)).await.expect("made");
        assert_eq!(world.content(&armed.instance.name, 0)[AT as usize], 5, "it was prepared");
        boot(&world, &what, &armed).await;
        let instance = [armed.instance.clone()];
        let capture = site.capture(&op("capture"), &instance, Consistency::Crash).await.expect("captured");
        let since = armed.cursor.expect("armed");
        let told = site.changes(&capture, what.machine.id(), &since).await.expect("told");
        let Changes::Known(set) = told else { panic!("{told:?}") };
        let told = set.contains(&"system".into(), Run::new(AT, 4096));
        assert!(told, "the disk differs from the point there, and it is in no change: {set:?}");
    }
}

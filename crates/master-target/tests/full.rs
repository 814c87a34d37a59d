//! A retention volume that is really full.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod bench;

use bench::{Dice, Fate, Landing, Oracle, same};
use site_recovery::{ErrorKind, LandingSite, MasterTarget as Role, PointId, Seed, SystemClock};
use site_recovery_master_target::MasterTarget;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// A file system of a size, in memory. Taken down when it is dropped.
struct Volume(TempDir);

impl Volume {
    /// `None` where this user may mount nothing.
    fn of(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if !mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], dir.path()) {
            println!("SKIPPED a full retention volume: nothing can be mounted here");
            assert!(std::env::var("SITE_RECOVERY_PEERS").as_deref() != Ok("required"), "root is required");
            return None;
        }
        Some(Self(dir))
    }

    fn grow(&self, size: &str) {
        assert!(mount(&["-o", &format!("remount,size={size}")], self.0.path()));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn mount(words: &[&str], at: &Path) -> bool {
    Command::new("mount").args(words).arg(at).status().is_ok_and(|status| status.success())
}

async fn opened(landing: &Landing, retention: &Path) -> Arc<dyn Role> {
    let landing: Arc<dyn LandingSite> = Arc::new(landing.clone());
    Arc::new(MasterTarget::open("here", landing, retention, Arc::new(SystemClock)).await.unwrap())
}

#[tokio::test]
async fn d1_a_retention_volume_that_is_full_ends_a_landing_and_loses_no_point() {
    let Some(volume) = Volume::of("1m") else { return };
    let (mut dice, landing) = (Dice::new(11), Landing::new());
    let mut to = opened(&landing, volume.0.path()).await;
    let mut oracle = Oracle::new(&[5 * 65536, 3 * 65536 + 1234]);
    oracle.image = oracle.random(&mut dice);
    landing.add("old", oracle.image.clone());
    let seed = Seed::Known {
        at: None,
        landing: Some(oracle.existing()),
        cursor: oracle.cursor(),
        differs: Default::default(),
    };
    oracle.prepare(&to, "prepare", seed).await.unwrap();
    oracle.points.insert(PointId(0), landing.bytes("old"));

    let mut full = None;
    for step in 0..200 {
        oracle.scribble(&mut dice, 6);
        if let Err(error) = oracle.ship(&to, &format!("op-{step}"), Fate::Sealed, &mut dice).await {
            full = Some(error);
            break;
        }
    }
    let full = full.expect("what is overwritten does not fit at some time");
    assert_eq!(full.kind(), ErrorKind::OutOfSpace, "{full}");
    assert!(oracle.points.len() > 3, "it held some");
    // What had been acknowledged opens as it was: here, and for whoever starts anew on the full volume.
    assert_eq!(oracle.verify(&to, "full").await.len(), oracle.points.len());
    to = opened(&landing, volume.0.path()).await;
    assert_eq!(oracle.verify(&to, "opened again").await.len(), oracle.points.len());

    // With room it goes on where it was.
    volume.grow("16m");
    oracle.ship(&to, "with-room", Fate::Sealed, &mut dice).await.unwrap();
    same("with room", "landing", &landing.bytes("old"), &oracle.image);
    assert_eq!(oracle.verify(&to, "with room").await.len(), oracle.points.len());
}

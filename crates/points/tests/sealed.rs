//! Points at rest under keys: nothing is readable without them, and what comes without a seal gets one.

mod support;

use site_recovery::*;
use site_recovery_points::Points;
use site_recovery_record::{KEY_BYTES, Key, Keyring};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use support::*;

fn keyed(dir: &Path, keys: Keyring) -> Points {
    let clock = Arc::new(HandClock::default()) as Arc<dyn Clock>;
    Points::directory("store".into(), dir, clock).expect("a directory").with_keys(keys)
}

/// Whether any file below tells this.
fn tells(dir: &Path, needle: &[u8]) -> bool {
    fs::read_dir(dir).expect("a directory").any(|entry| {
        let path = entry.expect("an entry").path();
        let found = |bytes: Vec<u8>| bytes.windows(needle.len()).any(|w| w == needle);
        if path.is_dir() { tells(&path, needle) } else { found(fs::read(&path).expect("a file")) }
    })
}

#[tokio::test]
async fn c5_points_at_rest_open_with_their_key_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = Key::new([7; KEY_BYTES]);
    // Random enough that it is not compressed: without a seal it would stand there as it is.
    let mut image = blank();
    let mut dice = Dice(4711);
    let secret: Vec<u8> = (0..4096).map(|_| dice.below(256) as u8).collect();
    image.get_mut(&DiskId::from("boot")).expect("a disk")[8192..12_288].copy_from_slice(&secret);

    let open = tempfile::tempdir().expect("a directory");
    let unsealed = keyed(open.path(), Keyring::new());
    prepared(&unsealed).await.expect("prepared");
    ship(&unsealed, &op("one", 1), "one", &image, &whole()).await.expect("sealed");
    assert!(tells(open.path(), &secret[..64]), "the test would see it");

    let points = keyed(dir.path(), Keyring::new().seal_with(key.clone()));
    prepared(&points).await.expect("prepared");
    let point = ship(&points, &op("one", 1), "one", &image, &whole()).await.expect("sealed");
    assert!(!tells(dir.path(), &secret[..16]), "the bytes stand there in the open");
    assert_eq!(image_at(&points, point.id).await.expect("its key"), image);

    let lost = keyed(dir.path(), Keyring::new());
    let error = image_at(&lost, point.id).await.expect_err("no key");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(&key.id().to_string()), "{error}");
    let rotated = Keyring::new().seal_with(Key::new([8; KEY_BYTES])).open_with(key);
    assert_eq!(image_at(&keyed(dir.path(), rotated), point.id).await.expect("the older key"), image);
}

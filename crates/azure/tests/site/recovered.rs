//! A machine with a point in the vault, and what it goes through at the site, driven by hand.

use crate::world::World;
use bytes::Bytes;
use fake_arm::Config;
use fake_blob::{Fault, Hits, Match};
use serde_json::Value;
use site_recovery::*;
use site_recovery_testkit::suite::{self, checksum, op, pattern, permit};
use std::sync::Arc;
use std::time::Duration;

/// A world with a point of the machine `web`.
pub(crate) struct Recovered {
    pub(crate) world: World,
    pub(crate) what: Recovery,
    /// The bytes of the point.
    pub(crate) images: Vec<Vec<u8>>,
}

impl Recovered {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    /// With the account in another region.
    pub(crate) async fn far() -> Self {
        Self::within(World::far().await, Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::within(World::new().await, settings).await
    }

    /// In another subscription.
    pub(crate) async fn under(settings: Settings, change: impl FnOnce(&mut Config)) -> Self {
        Self::within(World::with(change).await, settings).await
    }

    async fn within(world: World, settings: Settings) -> Self {
        let machine = suite::machine("web");
        let images: Vec<_> = machine.included().map(|disk| pattern(disk.size, disk.size as usize)).collect();
        let (points, id) = (&world.points, machine.id().clone());
        let prepared = points.prepare(&op("prepare"), &machine, &Seed::Fresh, &settings).await;
        prepared.expect("prepared");
        let set = ChangeSet::whole(machine.included());
        let cut: CutId = "cut".into();
        let ingest = points.begin(&op("cycle"), &machine, &cut, &set).await.expect("begun");
        let mut tally = Tally::new(&set);
        for (batch, (disk, bytes)) in (0..).zip(machine.included().zip(&images)) {
            let payload = Payload::Plain(Bytes::copy_from_slice(bytes));
            let run = Run::new(0, disk.size);
            let record = Record { disk: disk.id.clone(), run, checksum: checksum(bytes), payload };
            tally.landed(&record);
            points.write(&ingest, batch, vec![record]).await.expect("written");
        }
        let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
        let members = vec![id.clone()];
        let manifest = Manifest {
            control: Control { unit: id.as_str().into(), members: members.clone(), item },
            machine,
            members,
            cut,
            taken: Timestamp(1),
            consistency: Consistency::Crash,
            cursor: None,
            sidecars: vec![],
        };
        let point =
            points.seal(&ingest, &manifest, tally.finish().expect("all landed")).await.expect("sealed");
        let what = Recovery::of(manifest, point.id, Generation(1), Purpose::Failover, settings);
        Self { world, what, images }
    }

    pub(crate) async fn materialise(&self, key: &str) -> Result<Armed> {
        let points: Arc<dyn Replica> = Arc::new(self.world.points.clone());
        self.world.site.materialise(&op(key), &self.what, &points).await
    }

    /// From now on no address that Azure signs is taken for putting, but for the first so many times.
    pub(crate) fn nothing_is_put_after(&self, pages: usize) -> Hits {
        let put = Match::any().method("PUT").path_contains("/md-").after(pages).times(1000);
        let refused = Fault::Status { code: 403, azure_code: "AuthenticationFailed", retry_after: None };
        self.world.blobs.faults().next(put, refused)
    }

    /// A call of this key whose uploads are broken off in the midst.
    pub(crate) async fn upload_in_part(&self, key: &str) {
        let refused = self.nothing_is_put_after(1);
        let error = self.materialise(key).await.expect_err("nothing is put any more");
        assert!(error.kind() == ErrorKind::Denied && refused.count() > 0, "{error}");
        self.world.blobs.faults().clear();
    }

    /// What each disk of `web` holds is the point, and zeros behind.
    pub(crate) fn holds_the_point(&self) {
        for (number, image) in self.images.iter().enumerate() {
            let content = self.world.content("web", number);
            let (disk, behind) = content.split_at(image.len());
            assert!(disk == image && behind.iter().all(|byte| *byte == 0), "disk {number} holds other bytes");
        }
    }

    pub(crate) async fn permit(&self, key: &str, instance: &Instance) -> BootPermit {
        permit(&op(key), &self.what.machine.standing_as(instance.clone())).await
    }

    pub(crate) async fn boot(&self, key: &str, armed: &Armed) -> Result<Booted> {
        let permit = self.permit(key, &armed.instance).await;
        self.world.site.boot(&op(key), &self.what, armed, permit).await
    }

    /// Made and running.
    pub(crate) async fn booted(&self, key: &str) -> Armed {
        let armed = self.materialise(&format!("{key}-materialise")).await.expect("materialised");
        assert!(self.boot(&format!("{key}-boot"), &armed).await.expect("booted").running);
        armed
    }

    /// Made by this key, and running.
    pub(crate) async fn booted_of(&self, key: &str) {
        let armed = self.materialise(key).await.expect("materialised");
        assert!(self.boot(&format!("{key}-boot"), &armed).await.expect("booted").running);
    }

    pub(crate) async fn fence(&self, key: &str, instance: &Instance) -> Result<()> {
        self.world.site.fence(&op(key), instance, Duration::ZERO).await
    }

    pub(crate) async fn unfence(&self, key: &str, instance: &Instance) -> Result<Lifted> {
        let permit = self.permit(key, instance).await;
        self.world.site.unfence(&op(key), instance, permit, Start::Run).await
    }

    pub(crate) async fn capture(&self, key: &str, instance: &Instance) -> Result<Capture> {
        self.world.site.capture(&op(key), std::slice::from_ref(instance), Consistency::Crash).await
    }

    /// All that is there, each thing on a line, without what differs from run to run.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut all = vec![];
        for thing in self.world.manager.world() {
            if thing.kind.starts_with("Microsoft.Network/virtualNetworks") {
                continue;
            }
            let part =
                |path: &str| thing.body.pointer(path).and_then(Value::as_str).unwrap_or("-").to_owned();
            let owner = plain(part("/managedBy").rsplit('/').next().unwrap_or_default());
            let card = plain(part("/properties/virtualMachine/id").rsplit('/').next().unwrap_or_default());
            let power = self.world.manager.machine(&thing.name).power();
            let bytes = match thing.kind.as_str() {
                "Microsoft.Compute/disks" => self.world.manager.disk(&thing.name),
                "Microsoft.Compute/snapshots" => self.world.manager.snapshot(&thing.name),
                _ => None,
            };
            let sum = bytes.map(|image| checksum(&image.read(0, image.size())));
            all.push(format!(
                "{} {} {} owner={owner} of={card} power={power:?} bytes={sum:?} granted={} busy={} kept={} machine={}",
                thing.kind,
                plain(&thing.name),
                part("/properties/provisioningState"),
                thing.granted,
                thing.busy,
                part("/tags/sr-kept"),
                part("/tags/sr-machine"),
            ));
        }
        let documents = self.world.blob_names().into_iter().filter(|name| !name.contains("/withdrawn/"));
        all.extend(documents.map(|name| name.split('/').map(plain).collect::<Vec<_>>().join("/")));
        all.sort();
        all
    }
}

/// A name without the digest of its key.
fn plain(name: &str) -> String {
    match name.rsplit_once('-') {
        Some((front, end)) if end.len() >= 8 && end.chars().all(|c| c.is_ascii_hexdigit()) => {
            front.to_owned()
        }
        _ => name.to_owned(),
    }
}

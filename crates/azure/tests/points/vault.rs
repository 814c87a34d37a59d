//! A store on our fake of Blob Storage, `tests/fake-blob`, and one machine's timeline in it, driven by hand.

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use bytes::Bytes;
use fake_blob::{Config, Fake};
use serde_json::Value;
use site_recovery::*;
use site_recovery_azure::PageBlobs;
use site_recovery_azure_blob::{Container, Limits, Settings as Storage, Trust, Who};
use site_recovery_testkit::clock::ManualClock;
use site_recovery_testkit::suite::{self, checksum, pattern};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const ACCOUNT: &str = "replicas";
pub(crate) const CONTAINER: &str = "vault";
const HOUR: Duration = Duration::from_secs(3600);
const RECORD: u64 = HASH_BLOCK;

/// What the fake takes for a token, until it is revoked.
#[derive(Debug)]
struct Token(Arc<Fake>, Arc<AtomicBool>);

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        if self.1.load(Ordering::SeqCst) {
            let words = "AADSTS7000222: the client secret is expired";
            return Err(azure_core::Error::with_message(azure_core::error::ErrorKind::Credential, words));
        }
        Ok(AccessToken::new(self.0.token(HOUR), OffsetDateTime::now_utc() + HOUR))
    }
}

pub(crate) struct Vault {
    pub(crate) blobs: Arc<Fake>,
    pub(crate) container: Container,
    pub(crate) revoked: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl Vault {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let blobs = Arc::new(Fake::start(Config::account(ACCOUNT)));
        let ca = dir.path().join("blobs.pem");
        std::fs::write(&ca, blobs.ca_pem()).expect("written");
        let revoked = Arc::new(AtomicBool::new(false));
        let settings = Storage {
            container: format!("{}/{CONTAINER}", blobs.endpoint().join(ACCOUNT).expect("a path")),
            trust: Trust::Ca(ca),
            limits: Limits { pause_ms: 1, tries: 3, ..Limits::default() },
        };
        let token = Token(Arc::clone(&blobs), Arc::clone(&revoked));
        let container = Container::new(&settings, Who::Signed(Arc::new(token))).expect("settings");
        Self { blobs, container, revoked, _dir: dir }
    }

    /// A process that knows nothing of what another one did.
    pub(crate) async fn open(&self) -> PageBlobs {
        let clock = Arc::new(ManualClock::default());
        PageBlobs::open("page-blobs".into(), self.container.clone(), clock).await.expect("it opens")
    }

    pub(crate) async fn life(&self, id: &str) -> Life<'_> {
        let machine = suite::machine(id);
        let images = machine.included().map(|disk| vec![0; disk.size as usize]).collect();
        let (store, behind) = (self.open().await, ChangeSet::new());
        Life { vault: self, store, machine, images, behind, epoch: 1, ingest: None, sealed: vec![] }
    }
}

/// One machine's timeline.
pub(crate) struct Life<'a> {
    pub(crate) vault: &'a Vault,
    pub(crate) store: PageBlobs,
    pub(crate) machine: Machine,
    /// The bytes of the source.
    pub(crate) images: Vec<Vec<u8>>,
    /// What the source holds otherwise than the newest point, beside what the next cycle changes.
    pub(crate) behind: ChangeSet,
    pub(crate) epoch: u64,
    pub(crate) ingest: Option<Ingest>,
    /// What was sealed and not dropped, with its bytes.
    pub(crate) sealed: Vec<(PointId, Vec<Vec<u8>>)>,
}

impl Life<'_> {
    pub(crate) fn op(&self, key: &str) -> Op {
        Op { epoch: Epoch { number: self.epoch, owner: "engine".into() }, ..suite::op(key) }
    }

    pub(crate) fn id(&self) -> &MachineId {
        self.machine.id()
    }

    pub(crate) async fn prepare(&self) -> Result<()> {
        let op = self.op(&format!("prepare-{}", self.epoch));
        self.store.prepare(&op, &self.machine, &Seed::Fresh, &Settings::default()).await
    }

    /// Changes what the source holds, the same for each number; what may differ from before.
    pub(crate) fn change(&mut self, number: u64) -> ChangeSet {
        let mut set = ChangeSet::new();
        let disks: Vec<_> = self.machine.included().cloned().collect();
        for (disk, bytes) in disks.iter().zip(&mut self.images) {
            if number == 1 {
                let half = bytes.len() / 2;
                bytes[..half].copy_from_slice(&pattern(disk.size, half));
                set.add(&disk.id, Run::new(0, disk.size));
                continue;
            }
            let start = (number as usize * 8192) % 32_768;
            bytes[start..start + 4096].copy_from_slice(&pattern(number * 10, 4096));
            bytes[start + 4096..start + 8192].fill(0);
            set.add(&disk.id, Run::new(start as u64, 8192));
        }
        set
    }

    /// The records of a change set, in batches.
    pub(crate) fn batches(&self, set: &ChangeSet) -> Vec<Vec<Record>> {
        let mut records = vec![];
        for (disk, bytes) in self.machine.included().zip(&self.images) {
            for run in set.runs(&disk.id).iter().flat_map(|run| run.pieces(RECORD)) {
                for run in run.pieces(if run.len < RECORD { 4096 } else { RECORD }) {
                    let bytes = &bytes[run.start as usize..run.end() as usize];
                    let sum = checksum(bytes);
                    let plain = || Payload::Plain(Bytes::copy_from_slice(bytes));
                    let payload = if sum == 0 { Payload::Zero } else { plain() };
                    records.push(Record { disk: disk.id.clone(), run, checksum: sum, payload });
                }
            }
        }
        records.chunks(3).map(<[Record]>::to_vec).collect()
    }

    pub(crate) fn cut(&self, number: u64) -> CutId {
        format!("cut-{number}").into()
    }

    pub(crate) async fn begin(&self, number: u64, set: &ChangeSet) -> Result<Ingest> {
        let op = self.op(&format!("cycle-{number}"));
        self.store.begin(&op, &self.machine, &self.cut(number), set).await
    }

    pub(crate) async fn write(&self, ingest: &Ingest, set: &ChangeSet) -> Result<()> {
        for (batch, records) in self.batches(set).into_iter().enumerate() {
            self.store.write(ingest, batch as u64, records).await?;
        }
        Ok(())
    }

    pub(crate) fn manifest(&self, number: u64) -> Manifest {
        let (machine, members) = (self.machine.clone(), vec![self.id().clone()]);
        let item = Item::new(machine.clone(), suite::op("item").epoch, Policy::default(), "out", "back");
        let cursor = Cursor { generation: Generation(0), token: number.to_le_bytes().to_vec() };
        let control = Control { unit: self.id().as_str().into(), members: members.clone(), item };
        let consistency = Consistency::Crash;
        let (cut, taken, cursor) = (self.cut(number), Timestamp(number * 1000), Some(cursor));
        Manifest { machine, members, cut, taken, consistency, cursor, sidecars: vec![], control }
    }

    pub(crate) async fn seal(&self, ingest: &Ingest, number: u64, set: &ChangeSet) -> Result<Point> {
        let mut tally = Tally::new(set);
        self.batches(set).iter().flatten().for_each(|record| tally.landed(record));
        self.store.seal(ingest, &self.manifest(number), tally.finish()?).await
    }

    /// A whole cycle, untroubled.
    pub(crate) async fn cycle(&mut self, number: u64) -> PointId {
        let behind = std::mem::take(&mut self.behind);
        let set = self.change(number).union(&behind);
        let ingest = self.begin(number, &set).await.expect("begun");
        self.write(&ingest, &set).await.expect("written");
        let point = self.seal(&ingest, number, &set).await.expect("sealed").id;
        self.sealed.push((point, self.images.clone()));
        point
    }

    /// All bytes of a point.
    pub(crate) async fn bytes(&self, point: PointId) -> Result<Vec<Vec<u8>>> {
        let (disks, pool, mut all) = (self.store.open(self.id(), point).await?, Pool::new(4 << 20), vec![]);
        for disk in self.machine.included() {
            all.push(disks[&disk.id].read(Run::new(0, disk.size), &pool).await?.to_vec());
        }
        Ok(all)
    }

    /// The state's document.
    pub(crate) fn state(&self) -> Value {
        let name = format!("m/{}/state", self.id());
        let held = self.vault.blobs.blob(ACCOUNT, CONTAINER, &name).expect("a state");
        let bytes = held.bytes.expect("a document");
        let text = std::str::from_utf8(&bytes).expect("text");
        serde_json::from_str(text.split_once('\n').expect("a checksum").1).expect("JSON")
    }

    /// The page blob of a disk.
    pub(crate) fn blob_of(&self, disk: usize) -> String {
        let id = self.machine.disks[disk].id.as_str().to_owned();
        self.state()["timeline"]["disks"][id]["blob"].as_str().expect("a blob").to_owned()
    }

    /// D1: every point that was sealed is listed, and holds its bytes.
    pub(crate) async fn must_be_sealed(&self, what: &str) {
        let listed = self.store.points(self.id()).await.expect("points");
        let listed: Vec<_> = listed.iter().map(|point| point.id).collect();
        let sealed: Vec<_> = self.sealed.iter().map(|(id, _)| *id).collect();
        assert_eq!(listed, sealed, "{what}: points");
        for (point, expected) in &self.sealed {
            assert!(self.bytes(*point).await.expect("read") == *expected, "{what}: bytes of point {point}");
            let found = self.store.scrub(self.id(), *point).await.expect("scrubbed");
            assert_eq!(found, [], "{what}: point {point}");
        }
    }

    /// D2 and O6: every point that was sealed is listed and holds its bytes, and nothing stands in the container that the state
    /// does not name, as what is or as what it owes.
    pub(crate) async fn must_be_whole(&self, what: &str) {
        self.must_be_sealed(what).await;
        // What a process that is gone has left behind is swept by the first prune of the next one.
        let swept = self.vault.open().await.prune(&self.op("sweep"), self.id(), &[]).await;
        if let Err(error) = swept {
            assert_eq!(error.kind(), ErrorKind::StaleEpoch, "{what}: {error}");
        }
        let Named { mut blobs, mut snapshots, owed } = named(&self.state(), self);
        let prefix = format!("m/{}/", self.id());
        let there = self.vault.blobs.blobs(ACCOUNT, CONTAINER).into_iter();
        let there: BTreeSet<_> = there.filter(|name| name.starts_with(&prefix)).collect();
        // What is owed may be deleted already.
        blobs.extend(there.intersection(&owed).cloned());
        assert_eq!(there, blobs, "{what}: blobs, left those that are there, right those that are named");
        for (blob, expected) in &mut snapshots {
            let taken = self.vault.blobs.snapshots(ACCOUNT, CONTAINER, blob);
            let taken: BTreeSet<_> = taken.into_iter().map(|(at, _)| at).collect();
            expected.extend(taken.intersection(&owed).cloned());
            assert_eq!(taken, *expected, "{what}: snapshots of {blob}");
        }
    }
}

/// What a state refers to.
struct Named {
    blobs: BTreeSet<String>,
    /// Of each blob that is a disk.
    snapshots: BTreeMap<String, BTreeSet<String>>,
    /// What is to be deleted: blobs, and snapshots by their times.
    owed: BTreeSet<String>,
}

fn named(state: &Value, life: &Life<'_>) -> Named {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let prefix = format!("m/{}/", life.id());
    let there = life.vault.blobs.blobs(ACCOUNT, CONTAINER);
    let below = |folder: &str| {
        let below = there.iter().filter(|name| name.starts_with(folder));
        below.cloned().collect::<Vec<_>>()
    };
    let mut blobs = BTreeSet::from([format!("{prefix}state")]);
    let (mut snapshots, mut owed) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeSet::new());
    for debt in list(&state["owed"]) {
        let (_, debt) = debt.as_object().and_then(|debt| debt.iter().next()).expect("of one kind");
        owed.extend(debt["notes"].as_str().into_iter().flat_map(&below));
        owed.extend(["name", "snapshot"].iter().filter_map(|part| debt[*part].as_str()).map(str::to_owned));
        if debt["snapshot"].is_null() {
            owed.extend(debt["blob"].as_str().map(str::to_owned));
        }
    }
    let timeline = &state["timeline"];
    for disk in timeline["disks"].as_object().into_iter().flat_map(|disks| disks.values()) {
        blobs.insert(text(&disk["blob"]));
        snapshots.entry(text(&disk["blob"])).or_default();
    }
    for open in
        list(&timeline["carried"]).iter().chain(Some(&timeline["open"]).filter(|open| !open.is_null()))
    {
        blobs.insert(text(&open["plan"]));
        let session = open["session"].as_u64().expect("a session");
        blobs.extend(below(&format!("{prefix}note/{session}/")));
    }
    for kept in list(&timeline["points"]) {
        for at in kept["snapshots"].as_object().expect("snapshots").values() {
            snapshots.entry(text(&at["blob"])).or_default().insert(text(&at["snapshot"]));
        }
        for document in list(&kept["inherits"]).iter().chain([&kept["document"]]) {
            let held = life.vault.blobs.blob(ACCOUNT, CONTAINER, &text(document)).expect("it is there");
            let bytes = held.bytes.expect("a document");
            let sealed = std::str::from_utf8(&bytes).expect("text").split_once('\n').expect("a checksum").1;
            let sealed: Value = serde_json::from_str(sealed).expect("JSON");
            let layers = list(&sealed["layers"]);
            let notes = layers.iter().flat_map(|layer| list(&layer["notes"]));
            notes.for_each(|folder| blobs.extend(below(&text(&folder))));
            blobs.insert(text(document));
        }
    }
    Named { blobs, snapshots, owed }
}

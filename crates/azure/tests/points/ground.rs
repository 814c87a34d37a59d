//! A store on the fake of Blob Storage, where what goes wrong is told beforehand.

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use fake_blob::Hits;
use site_recovery::*;
use site_recovery_azure::PageBlobs;
use site_recovery_azure_blob::{Container, Limits, Settings as Place, Trust, Who};
use site_recovery_record::hash;
use site_recovery_testkit::suite;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const BLOCK: u64 = HASH_BLOCK;
const ACCOUNT: &str = "replicas";
const VAULT: &str = "vault";
const HOUR: Duration = Duration::from_secs(3600);

/// What the fake takes for a token.
#[derive(Debug)]
struct Token(Arc<fake_blob::Fake>);

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(self.0.token(HOUR), OffsetDateTime::now_utc() + HOUR))
    }
}

/// An account, and the timeline of `web` in it, of two disks: `system` and `data`.
pub(crate) struct Ground {
    pub(crate) store: PageBlobs,
    pub(crate) machine: Machine,
    pub(crate) blobs: Arc<fake_blob::Fake>,
    container: Container,
    _dir: tempfile::TempDir,
}

impl Ground {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let blobs = Arc::new(fake_blob::Fake::start(fake_blob::Config::account(ACCOUNT)));
        let authority = dir.path().join("blobs.pem");
        std::fs::write(&authority, blobs.ca_pem()).expect("written");
        let place = Place {
            container: format!("{}/{VAULT}", blobs.endpoint().join(ACCOUNT).expect("a path")),
            trust: Trust::Ca(authority),
            limits: Limits { pause_ms: 1, ..Limits::default() },
        };
        let who = Who::Signed(Arc::new(Token(Arc::clone(&blobs))));
        let container = Container::new(&place, who).expect("settings");
        let store = opened(&container).await;
        let machine = suite::machine("web");
        let ground = Self { store, machine, blobs, container, _dir: dir };
        ground.prepare("prepare").await;
        ground
    }

    pub(crate) async fn prepare(&self, key: &str) {
        let opened = self.store.prepare(&op(key), &self.machine, &Seed::Fresh, &Settings::default()).await;
        opened.expect("a timeline");
    }

    pub(crate) fn id(&self) -> &MachineId {
        self.machine.id()
    }

    /// Another process at the same container.
    pub(crate) async fn another(&self) -> PageBlobs {
        opened(&self.container).await
    }

    pub(crate) async fn begin(&self, key: &str, plan: &ChangeSet) -> Ingest {
        self.store.begin(&op(key), &self.machine, &key.into(), plan).await.expect("an ingest")
    }

    pub(crate) async fn seal(&self, ingest: &Ingest, plan: &ChangeSet, sent: &[Record]) -> Result<Point> {
        let cut = ingest.op.key.0.as_str();
        self.store.seal(ingest, &self.manifest(cut), counted(plan, sent)).await
    }

    /// Seals what these records say, as a point of its own.
    pub(crate) async fn sealed(&self, key: &str, records: Vec<Record>) -> Point {
        let plan: ChangeSet = records.iter().map(|r| (r.disk.clone(), r.run)).collect();
        let ingest = self.begin(key, &plan).await;
        self.store.write(&ingest, 0, records.clone()).await.expect("landed");
        self.seal(&ingest, &plan, &records).await.expect("a point")
    }

    pub(crate) async fn read(&self, point: &Point, disk: &str, run: Run) -> Vec<u8> {
        let disks = self.store.open(self.id(), point.id).await.expect("it opens");
        disks[&DiskId::from(disk)].read(run, &Pool::new(8 << 20)).await.expect("read").to_vec()
    }

    pub(crate) async fn scrubbed(&self, point: &Point) -> Vec<Finding> {
        self.store.scrub(self.id(), point.id).await.expect("scrubbed")
    }

    /// What may differ between two points.
    pub(crate) async fn changed(&self, from: &Point, to: &Point) -> ChangeSet {
        let changed = self.store.changed(self.id(), Some(from.id), to.id).await;
        changed.expect("asked").expect("listed")
    }

    /// Names that stand in the container, with a word in them.
    pub(crate) fn names(&self, word: &str) -> Vec<String> {
        let all = self.blobs.blobs(ACCOUNT, VAULT).into_iter();
        all.filter(|name| name.contains(word)).collect()
    }

    pub(crate) fn snapshots(&self, blob: &str) -> usize {
        self.blobs.snapshots(ACCOUNT, VAULT, blob).len()
    }

    /// The state document, as JSON.
    pub(crate) fn state(&self) -> serde_json::Value {
        let state = self.blobs.blob(ACCOUNT, VAULT, "m/web/state").and_then(|held| held.bytes);
        let text = String::from_utf8(state.expect("a state").to_vec()).expect("text");
        serde_json::from_str(text.split_once('\n').expect("a sum").1).expect("JSON")
    }

    /// Somebody else writes a page.
    pub(crate) async fn damage(&self, disk: &str, at: u64, session: u64) {
        let page = vec![0xee; 512];
        self.container.pages(disk).write(at, page.into(), session).await.expect("written");
    }

    /// Somebody else writes over a document.
    pub(crate) async fn spoil(&self, name: &str) {
        let document = self.container.document(name);
        document.delete().await.expect("deleted");
        document.create("nonsense".into()).await.expect("written");
    }

    fn manifest(&self, cut: &str) -> Manifest {
        let machine = self.machine.clone();
        let item = Item::new(machine.clone(), op("item").epoch, Policy::default(), "out", "back");
        let members = vec![machine.id().clone()];
        Manifest {
            members: members.clone(),
            cut: cut.into(),
            taken: Timestamp(1_000),
            consistency: Consistency::Crash,
            cursor: None,
            sidecars: vec![],
            control: Control { unit: "web".into(), members, item },
            machine,
        }
    }
}

async fn opened(container: &Container) -> PageBlobs {
    PageBlobs::open("page-blobs".into(), container.clone(), Arc::new(SystemClock)).await.expect("it opens")
}

/// Goes on with a call until a request of it is held.
pub(crate) async fn until<T: std::fmt::Debug>(held: Hits, call: &mut (impl Future<Output = T> + Unpin)) {
    tokio::select! {
        done = call => panic!("nothing of it was held: {done:?}"),
        () = held.reach(1) => {}
    }
}

pub(crate) fn op(name: &str) -> Op {
    Op { key: OpKey(name.into()), epoch: Epoch { number: 1, owner: "here".into() } }
}

/// Bytes that are all the same.
pub(crate) fn bytes(disk: &str, start: u64, len: u64, byte: u8) -> Record {
    let bytes = vec![byte; len as usize];
    let run = Run::new(start, len);
    Record { disk: disk.into(), run, checksum: hash(&bytes), payload: Payload::Plain(bytes.into()) }
}

pub(crate) fn zeros(disk: &str, start: u64, len: u64) -> Record {
    Record { disk: disk.into(), run: Run::new(start, len), checksum: 0, payload: Payload::Zero }
}

pub(crate) fn set(disk: &str, start: u64, len: u64) -> ChangeSet {
    [(disk.into(), Run::new(start, len))].into_iter().collect()
}

/// A count of a plan of which these were sent, and the rest found equal.
fn counted(plan: &ChangeSet, sent: &[Record]) -> Complete {
    let mut tally = Tally::new(plan);
    for (disk, runs) in plan.disks() {
        runs.iter().for_each(|run| tally.equal(disk, *run));
    }
    sent.iter().for_each(|record| tally.landed(record));
    tally.finish().expect("all of it")
}

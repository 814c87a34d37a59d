//! A subscription of fakes, and the site in it.

use ahead::Ahead;
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use fake_arm::{Account, Config, Network};
use fake_blob::Image;
use serde_json::Value;
use site_recovery::{Clock, Error, ErrorKind};
use site_recovery_azure::{Azure, PageBlobs, Place};
use site_recovery_azure_arm::{Arm, NewDisk, NewMachine, NewNic, Origin, OsType};
use site_recovery_azure_blob::{Container, Limits, Secret, Settings, Trust, Who};
use site_recovery_testkit::clock::ManualClock;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[path = "ahead.rs"]
mod ahead;

pub(crate) const GROUP: &str = "rg";
pub(crate) const REGION: &str = "westeurope";
pub(crate) const ACCOUNT: &str = "replicas";
pub(crate) const CONTAINER: &str = "vault";
/// Longer than Azure's limits of imports and snapshots look back.
pub(crate) const SPAN: Duration = Duration::from_secs(331);
/// Where the account of [`World::far`] is.
pub(crate) const ELSEWHERE: &str = "northeurope";
/// An account of the region, of somebody else: what they made their disks of.
const THEIRS: &str = "theirs";
const HOUR: Duration = Duration::from_secs(3600);
/// Of a site whose claims wait.
const WINDOW: Duration = Duration::from_secs(5);
/// Of one whose claims wait for nobody: no machine is too busy for that.
const LONG: Duration = Duration::from_secs(120);
/// What `claim` waits for requests of somebody older.
const CLAIM: Duration = Duration::from_secs(132);

/// What a fake takes for a token, and all that were given.
struct Token(Arc<fake_blob::Fake>, Arc<Mutex<Vec<String>>>);

// By hand: tests look for tokens wherever something is shown.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let token = self.0.token(HOUR);
        self.1.lock().expect("whole").push(token.clone());
        Ok(AccessToken::new(token, OffsetDateTime::now_utc() + HOUR))
    }
}

/// The clocks of the points and of the site, and the site's window.
type Times = ([Arc<dyn Clock>; 2], Duration);

/// All of it. Fields are dropped in their order.
pub(crate) struct World {
    pub(crate) site: Azure,
    pub(crate) points: PageBlobs,
    pub(crate) arm: Arm,
    pub(crate) container: Container,
    /// In an account of somebody else.
    pub(crate) theirs: Container,
    /// That of the points.
    pub(crate) clock: ManualClock,
    /// That of the site.
    pub(crate) time: Ahead,
    pub(crate) manager: fake_arm::Fake,
    pub(crate) blobs: Arc<fake_blob::Fake>,
    /// All that were given.
    pub(crate) tokens: Arc<Mutex<Vec<String>>>,
    subscription: String,
    trust: [Trust; 2],
    _dir: tempfile::TempDir,
}

/// The id of an account.
pub(crate) fn account_id(subscription: &str, account: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/Microsoft.Storage/storageAccounts/{account}"
    )
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A world whose account is in another region: no disk is imported from it.
    pub(crate) async fn far() -> Self {
        Self::with(|config| config.accounts[0].location = ELSEWHERE.into()).await
    }

    /// A world with another subscription.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let accounts = fake_blob::Config::account(ACCOUNT).with(fake_blob::Account::new(THEIRS));
        let blobs = Arc::new(fake_blob::Fake::start(accounts));
        let mut config = Config::default();
        let subnets = vec![("servers".into(), (Ipv4Addr::new(10, 9, 1, 0), 24))];
        config.networks.push(Network {
            group: GROUP.into(),
            name: "isolated".into(),
            location: REGION.into(),
            prefix: (Ipv4Addr::new(10, 9, 0, 0), 16),
            subnets,
        });
        for account in [ACCOUNT, THEIRS] {
            config.accounts.push(Account {
                id: account_id(&config.subscription, account),
                location: REGION.into(),
                endpoint: blobs.endpoint().join(account).expect("a path").to_string(),
                credential: None,
                authority: Some(blobs.ca_pem().to_owned()),
            });
        }
        change(&mut config);
        let subscription = config.subscription.clone();
        let manager = fake_arm::Fake::start(config, Arc::clone(&blobs)).await.expect("a port");
        let write = |name: &str, text: &str| -> Trust {
            let path: PathBuf = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            Trust::Ca(path)
        };
        let trust = [write("manager.pem", manager.authority()), write("blobs.pem", blobs.ca_pem())];
        let clock = ManualClock::default();
        let (tokens, time) = (Arc::default(), Ahead::default());
        let clocks = [shared(&clock), shared(&time)];
        let (site, points, arm, container) =
            opened(&manager, &blobs, &tokens, &trust, &subscription, (clocks, WINDOW)).await;
        let theirs = stored(&blobs, &tokens, &trust[1], THEIRS);
        theirs.make().await.expect("a container");
        Self {
            site,
            points,
            arm,
            container,
            theirs,
            clock,
            time,
            manager,
            blobs,
            tokens,
            subscription,
            trust,
            _dir: dir,
        }
    }

    /// Where another site of the same group is opened.
    pub(crate) fn place(&self, container: Container) -> Place {
        place(&self.arm, &self.subscription, &self.trust[1], container)
    }

    /// The container of this account, as somebody who has nothing but a signature sees it.
    pub(crate) fn by_signature(&self, account: &str) -> Container {
        let settings = Settings {
            container: format!("{}/{CONTAINER}", self.blobs.endpoint().join(account).expect("a path")),
            trust: self.trust[1].clone(),
            limits: limits(),
        };
        Container::new(&settings, Who::Sas(Secret::new("sv=2024&sig=none".to_owned()))).expect("settings")
    }

    /// A crash of our process.
    pub(crate) async fn reopen(&mut self) {
        let clocks = [shared(&self.clock), shared(&self.time)];
        let (site, points, arm, container) = self.opened((clocks, WINDOW)).await;
        (self.site, self.points, self.arm, self.container) = (site, points, arm, container);
    }

    /// Another process of ours over the same subscription, after all before it are gone, with what they had under way: its
    /// claims wait for nobody.
    pub(crate) async fn again(&self) -> (Azure, PageBlobs, Arm, Container) {
        let time = shared(&self.time.skipping(CLAIM));
        self.opened(([Arc::clone(&time), time], LONG)).await
    }

    /// Another process of ours, with another window.
    pub(crate) async fn within(&self, window: Duration) -> Azure {
        self.opened(([shared(&self.clock), shared(&self.time)], window)).await.0
    }

    async fn opened(&self, times: Times) -> (Azure, PageBlobs, Arm, Container) {
        opened(&self.manager, &self.blobs, &self.tokens, &self.trust, &self.subscription, times).await
    }

    /// Time passes, for Azure and for the site.
    pub(crate) fn passes(&self, span: Duration) {
        self.manager.advance(span);
        self.time.put(span);
    }

    /// A machine that runs and that nobody has enrolled, with disks of so many bytes.
    pub(crate) async fn make(&self, name: &str, sizes: &[u64]) {
        let mut disks = vec![];
        for (number, size) in sizes.iter().enumerate() {
            let blob = format!("{name}-{number}.vhd");
            let mut image = Image::new(*size);
            image.write(0, &vec![number as u8 + 1; 8192]);
            assert!(self.blobs.put_image(THEIRS, CONTAINER, &blob, image.with_footer()), "{blob}");
            let new = NewDisk {
                location: REGION.into(),
                zone: None,
                sku: "StandardSSD_LRS".into(),
                tags: Default::default(),
                os_type: (number == 0).then_some(OsType::Linux),
                generation: None,
                from: Origin::Import {
                    source_uri: self.theirs.url(&blob).to_string(),
                    storage_account_id: account_id(&self.subscription, THEIRS),
                },
            };
            let put = self.arm.disks(GROUP).put(&format!("{name}-{number}"), &new).await.expect("asked for");
            disks.push(put.done().await.expect("a disk").id);
        }
        let subnet = format!("{}/subnets/servers", self.network("vnet"));
        let new = NewNic {
            location: REGION.into(),
            subnet_id: subnet,
            address: None,
            tags: Default::default(),
            accelerated: false,
        };
        let nic = self.arm.nics(GROUP).put(&format!("{name}-nic"), &new).await.expect("asked for");
        let nic = nic.done().await.expect("a card").id;
        let new = NewMachine {
            location: REGION.into(),
            size: "Standard_B2s".into(),
            os_disk: disks.remove(0),
            os_type: OsType::Linux,
            data_disks: (0..).zip(disks).collect(),
            nics: vec![nic],
            availability_set: None,
            zone: None,
            licence: None,
            tags: Default::default(),
            boot_diagnostics: false,
        };
        let put = self.arm.machines(GROUP).put(name, &new).await.expect("asked for");
        put.done().await.expect("a machine");
    }

    pub(crate) fn network(&self, name: &str) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{GROUP}/providers/Microsoft.Network/virtualNetworks/{name}",
            self.subscription
        )
    }

    /// What the site has written down of an instance.
    pub(crate) fn mark(&self, name: &str) -> Option<Value> {
        let mark = self.blobs.blob(ACCOUNT, CONTAINER, &format!("s/azure/mark/{name}"))?.bytes?;
        let text = std::str::from_utf8(&mark).expect("text");
        let (_, json) = text.split_once('\n').expect("a checksum before");
        Some(serde_json::from_str(json).expect("JSON"))
    }

    /// The resources of an instance's disks, in the order of the machine's description, as its mark has them.
    pub(crate) fn disks_of(&self, name: &str) -> Vec<String> {
        let Some(mark) = self.mark(name) else {
            let mut given: Vec<_> = self.names("Microsoft.Compute/disks");
            given.retain(|disk| disk.starts_with(&format!("{name}-")));
            given.sort();
            return given;
        };
        let told = mark["description"]["disks"].as_array().expect("disks").clone();
        let resource = |disk: &Value| {
            let held = &mark["disks"][disk["id"].as_str().expect("an id")];
            held["resource"].as_str().expect("a resource").to_owned()
        };
        told.iter().map(resource).collect()
    }

    /// The guest writes.
    pub(crate) fn write(&self, name: &str, disk: usize, at: u64, bytes: &[u8]) {
        let disk = &self.disks_of(name)[disk];
        self.manager.machine(name).write(disk, at, bytes).expect("the guest writes");
    }

    /// What a disk holds; the first `size` bytes.
    pub(crate) fn content(&self, name: &str, disk: usize) -> Vec<u8> {
        let image = self.manager.disk(&self.disks_of(name)[disk]).expect("the disk is there");
        image.read(0, image.size())
    }

    pub(crate) fn names(&self, kind: &str) -> Vec<String> {
        let world = self.manager.world();
        world.into_iter().filter(|thing| thing.kind == kind).map(|thing| thing.name).collect()
    }

    /// Of all documents and images of the site.
    pub(crate) fn blob_names(&self) -> Vec<String> {
        self.documents().into_iter().filter(|name| name.starts_with("s/")).collect()
    }

    /// Blobs of the container.
    pub(crate) fn documents(&self) -> Vec<String> {
        self.blobs.blobs(ACCOUNT, CONTAINER)
    }

    pub(crate) fn runs(&self, name: &str) -> bool {
        self.manager.machine(name).power() == Some(fake_arm::Power::Running)
    }

    pub(crate) async fn stop_outside(&self, name: &str) {
        let asked = self.arm.machines(GROUP).deallocate(name).await.expect("asked for");
        asked.done().await.expect("it stops");
    }
}

fn place(arm: &Arm, subscription: &str, blobs: &Trust, container: Container) -> Place {
    Place {
        arm: arm.clone(),
        subscription: subscription.to_owned(),
        group: GROUP.into(),
        region: REGION.into(),
        container,
        account: account_id(subscription, ACCOUNT),
        images: (blobs.clone(), limits()),
    }
}

fn shared(clock: &(impl Clock + Clone + 'static)) -> Arc<dyn Clock> {
    Arc::new(clock.clone())
}

fn token(blobs: &Arc<fake_blob::Fake>, tokens: &Arc<Mutex<Vec<String>>>) -> Arc<dyn TokenCredential> {
    Arc::new(Token(Arc::clone(blobs), Arc::clone(tokens)))
}

/// The container of an account.
fn stored(
    blobs: &Arc<fake_blob::Fake>,
    tokens: &Arc<Mutex<Vec<String>>>,
    trust: &Trust,
    account: &str,
) -> Container {
    let settings = Settings {
        container: format!("{}/{CONTAINER}", blobs.endpoint().join(account).expect("a path")),
        trust: trust.clone(),
        limits: limits(),
    };
    Container::new(&settings, Who::Signed(token(blobs, tokens))).expect("settings")
}

fn limits() -> Limits {
    Limits { pause_ms: 1, ..Limits::default() }
}

/// What a person reads holds all of these.
#[track_caller]
pub(crate) fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let said = error.to_string();
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

async fn opened(
    manager: &fake_arm::Fake,
    blobs: &Arc<fake_blob::Fake>,
    tokens: &Arc<Mutex<Vec<String>>>,
    trust: &[Trust; 2],
    subscription: &str,
    ([clock, time], window): Times,
) -> (Azure, PageBlobs, Arm, Container) {
    let quick = site_recovery_azure_arm::Limits { pause_ms: 1, poll_ms: 1, ..Default::default() };
    let settings = site_recovery_azure_arm::Settings {
        resource_manager: manager.url().parse().expect("an address"),
        scope: "https://management.azure.com/.default".into(),
        subscription: subscription.to_owned(),
        trust: trust[0].clone(),
        limits: quick,
    };
    let arm = Arm::new(&settings, token(blobs, tokens)).expect("settings");
    let container = stored(blobs, tokens, &trust[1], ACCOUNT);
    let points = PageBlobs::open("page-blobs".into(), container.clone(), clock).await.expect("it opens");
    let place = place(&arm, subscription, &trust[1], container.clone());
    let site = Azure::builder("azure".into()).clock(time).look_every(Duration::from_millis(1));
    let site = site.network("vnet").test_network("isolated").window(window);
    let site = site.points(points.clone()).open(place).await.expect("it opens");
    (site, points, arm, container)
}

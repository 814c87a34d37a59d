//! A3: how many requests to Resource Manager a failover sends one after the other.
//!
//! The fake holds each answer back for so long that what is asked at once overlaps, and what waits for an answer does not: the
//! longest chain of requests that do not overlap is the critical path.

use crate::Outcome;
use crate::noise::Noise;
use crate::report::{Limit, figure};
use crate::ship::{machine, op, ship, store};
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::OffsetDateTime;
use fake_arm::{Account, Config};
use serde_json::Value;
use site_recovery::*;
use site_recovery_azure::{Azure, PageBlobs, Place};
use site_recovery_azure_arm::{self as arm, Arm};
use site_recovery_azure_blob::{Container, Limits, Trust, Who};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const GROUP: &str = "rg";
const REGION: &str = "westeurope";
const ACCOUNT: &str = "replicas";
const HOUR: Duration = Duration::from_secs(3600);
/// More than it takes to send what is sent at once.
const LATENCY: Duration = Duration::from_millis(250);

/// What a fake takes for a token.
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

/// Fields are dropped in their order.
struct World {
    site: Azure,
    points: PageBlobs,
    manager: fake_arm::Fake,
    _dir: TempDir,
}

/// Requests, and how many of them wait for another's answer, one after the other.
#[derive(Debug, Clone, Copy)]
struct Path {
    requests: usize,
    depth: usize,
}

pub(crate) async fn of_disks() -> Outcome<()> {
    let mut depths = vec![];
    for disks in [1, 4, 16] {
        let [made, booted] = failover(disks).await?;
        for (what, path) in [("materialise", made), ("boot", booted)] {
            let (depth, all) = (path.depth as f64, path.requests as f64);
            let what = format!("{what}, {disks} disks");
            figure(
                "A3",
                &format!("round trips to Resource Manager one after the other, {what}"),
                depth,
                Limit::None,
            );
            figure("A3", &format!("requests, {what}"), all, Limit::None);
        }
        depths.push(made.depth + booted.depth);
    }
    let [one, .., sixteen] = depths[..] else { return Err("three were measured".into()) };
    let more = sixteen as f64 - one as f64;
    figure("A3", "round trips that 15 more disks add to the path", more, Limit::AtMost(0.0));
    Ok(())
}

/// The paths of `materialise` and `boot`.
async fn failover(count: usize) -> Outcome<[Path; 2]> {
    let world = World::new().await?;
    let mut disks = BTreeMap::new();
    for number in 0..count {
        disks.insert(DiskId(format!("disk-{number:02}")), Arc::new(Noise::named("small")?));
    }
    ship(&disks, "0", &world.points).await?;
    let machine = machine(&disks);
    let point = world.points.points(machine.id()).await?.last().ok_or("there is no point")?.clone();
    let settings = world.site.propose(&machine).await?;
    let what = Recovery {
        machine: machine.clone(),
        sidecars: vec![],
        point: point.id,
        taken: point.taken,
        consistency: point.consistency,
        generation: Generation(1),
        purpose: Purpose::Failover,
        settings,
    };
    let replica: Arc<dyn Replica> = Arc::new(world.points.clone());
    let before = world.manager.recording().len();
    let armed = world.site.materialise(&op("materialise"), &what, &replica).await?;
    let made = world.manager.recording().len();
    let boot = op("boot");
    let item = Item::new(
        machine.standing_as(armed.instance.clone()),
        boot.epoch.clone(),
        Policy::default(),
        "out",
        "back",
    );
    let proof = Fenced::prove(&boot, &item, Some(&armed.instance), &Sources::new(), Duration::ZERO).await?;
    let booted = world.site.boot(&boot, &what, &armed, BootPermit::Fenced(proof)).await?;
    if !booted.running {
        return Err("the machine does not run".into());
    }
    let lines = world.manager.recording();
    Ok([path(&lines[before..made])?, path(&lines[made..])?])
}

/// The longest chain in which each request is sent after the one before was answered.
fn path(lines: &[Value]) -> Outcome<Path> {
    let mut seen: Vec<(u64, usize)> = vec![];
    let mut times = vec![];
    for line in lines {
        let time = |name: &str| line[name].as_u64().ok_or(format!("a request has no {name}"));
        times.push((time("began")?, time("ended")?));
    }
    times.sort_unstable();
    for (began, ended) in times {
        let before = seen.iter().filter(|(ended, _)| *ended <= began).map(|(_, depth)| *depth).max();
        seen.push((ended, before.unwrap_or(0) + 1));
    }
    Ok(Path { requests: lines.len(), depth: seen.iter().map(|(_, depth)| *depth).max().unwrap_or(0) })
}

impl World {
    async fn new() -> Outcome<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let blobs = Arc::new(fake_blob::Fake::start(fake_blob::Config::account(ACCOUNT)));
        // What is asked after once is over.
        let mut config = Config { latency: LATENCY, looks: 0, ..Config::default() };
        let subscription = config.subscription.clone();
        let account = format!(
            "/subscriptions/{subscription}/resourceGroups/{GROUP}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
        );
        config.accounts.push(Account {
            id: account.clone(),
            location: REGION.into(),
            endpoint: blobs.endpoint().join(ACCOUNT)?.to_string(),
            credential: None,
            authority: Some(blobs.ca_pem().to_owned()),
        });
        let manager = fake_arm::Fake::start(config, Arc::clone(&blobs)).await?;
        let trust = |name: &str, text: &str| -> Outcome<Trust> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(Trust::Ca(path))
        };
        let token = || -> Arc<dyn TokenCredential> { Arc::new(Token(Arc::clone(&blobs))) };
        let settings = arm::Settings {
            resource_manager: manager.url().parse()?,
            scope: "https://management.azure.com/.default".into(),
            subscription: subscription.clone(),
            trust: trust("manager.pem", manager.authority())?,
            limits: arm::Limits { poll_ms: 1, ..Default::default() },
        };
        let arm = Arm::new(&settings, token())?;
        let authority = trust("blobs.pem", blobs.ca_pem())?;
        let settings = site_recovery_azure_blob::Settings {
            container: format!("{}/points", blobs.endpoint().join(ACCOUNT)?),
            trust: authority.clone(),
            limits: Limits::default(),
        };
        let container = Container::new(&settings, Who::Signed(token()))?;
        let points = store(container.clone()).await?;
        let images = (authority, Limits::default());
        let (group, region) = (GROUP.into(), REGION.into());
        let place = Place { arm, subscription, group, region, container, account, images };
        let site = Azure::builder("azure".into()).look_every(Duration::from_millis(1)).network("vnet");
        let site = site.points(points.clone()).open(place).await?;
        Ok(Self { site, points, manager, _dir: dir })
    }
}

//! Q4: what replication leaves of the guest's own work: records that it made durable, with it and without it in turn.

use crate::Outcome;
use crate::host::{Host, Image, guest, op, wait_for_records};
use crate::report::{Limit, figure, pairs};
use site_recovery::*;
use site_recovery_guest::Console;
use site_recovery_points::Points;
use site_recovery_process_server::ProcessServer as Shipper;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long each half of a pair takes, and how often it takes a point.
const HALF: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_secs(5);

/// Both ends of replication.
struct Replication {
    source: Arc<dyn Source>,
    shipper: Shipper,
    points: Arc<dyn Replica>,
    web: Instance,
    taken: u64,
    shipped: u64,
}

pub(crate) async fn beside_replication(dir: &Path, times: usize) -> Outcome<()> {
    let (host, image) = (Host::open(dir).await?, guest()?);
    let web = host.running("web", &[Image::CopyOf(&image)], "delay=0").await?;
    let console = host.console("web");
    wait_for_records(&console, 100)?;
    let points = Points::directory("points".into(), host.dir().join("points"), Arc::new(SystemClock))?;
    let mut replication = Replication {
        source: Arc::new(host.site.clone()),
        shipper: Shipper::builder("process-server").build().await?,
        points: Arc::new(points),
        web,
        taken: 0,
        shipped: 0,
    };
    replication.cycle().await?;
    let (first, mut rates) = ((replication.taken, replication.shipped), vec![]);
    for pair in 0..times {
        let mut halves = [0.0; 2];
        for half in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            let (began, before) = (Instant::now(), console.acknowledged());
            while began.elapsed() < HALF {
                let due = began.elapsed() + EVERY;
                if half == 0 {
                    replication.cycle().await?;
                }
                tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            }
            halves[half] = rate(&console, before, began);
        }
        rates.push((halves[0], halves[1]));
    }
    let what = format!("records a second that are durable, a point each {} s, against none", EVERY.as_secs());
    pairs("Q4", &what, &rates, Limit::AtLeast(0.9));
    let (taken, shipped) = (replication.taken - first.0, replication.shipped - first.1);
    figure("Q4", "KiB that crossed for a point", shipped as f64 / 1024.0 / taken as f64, Limit::None);
    Ok(())
}

fn rate(console: &Console, before: u64, began: Instant) -> f64 {
    (console.acknowledged() - before) as f64 / began.elapsed().as_secs_f64()
}

impl Replication {
    /// Takes a point, and ships it.
    async fn cycle(&mut self) -> Outcome<()> {
        let cut = op(&format!("cut {}", self.taken));
        let capture = self.source.capture(&cut, std::slice::from_ref(&self.web), Consistency::Crash).await?;
        let machine = capture.member(&self.web.machine)?.machine.clone();
        let basis = if self.taken == 0 {
            let settings = Settings::default();
            self.points.prepare(&op("prepare"), &machine, &Seed::Fresh, &settings).await?;
            Basis::Compare
        } else {
            Basis::Delta
        };
        let item = Item::new(machine.clone(), cut.epoch.clone(), Policy::default(), "out", "back");
        let control = Control { unit: "web".into(), members: vec![self.web.machine.clone()], item };
        let what = Shipment { capture: capture.clone(), machine: self.web.machine.clone(), basis, control };
        match self.shipper.ship(&cut, &what, &self.source, &self.points).await? {
            Shipped::Sealed { shipped, .. } => self.shipped += shipped,
            other => return Err(format!("it was not sealed: {other:?}").into()),
        }
        self.source.release(&cut, &capture, &self.web.machine, Fate::Sealed).await?;
        self.taken += 1;
        Ok(())
    }
}

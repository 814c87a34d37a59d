//! Q1: how long a guest of four disks stands still for a point, by QEMU's own clock.

use crate::Outcome;
use crate::host::{Host, Image, guest, op, wait_for_records};
use crate::report::{Limit, figure, median, quantile};
use serde_json::json;
use site_recovery::{Consistency, Fate, Source};
use site_recovery_qmp::Monitor;
use std::path::Path;
use std::time::{Duration, Instant};

const POINTS: u64 = 100;
const SWITCHES: u64 = 50;
const EVENT: Duration = Duration::from_secs(10);

pub(crate) async fn of_four_disks(dir: &Path) -> Outcome<()> {
    let (host, image) = (Host::open(dir).await?, guest()?);
    let blank = Image::Blank(1 << 30);
    let web = host.running("web", &[Image::CopyOf(&image), blank, blank, blank], "delay=0").await?;
    let console = host.console("web");
    wait_for_records(&console, 20)?;
    let mut monitor = host.monitor("web")?;

    let (mut pauses, mut whole) = (vec![], vec![]);
    for n in 0..POINTS {
        let op = op(&format!("point {n}"));
        let began = Instant::now();
        let capture = host.site.capture(&op, std::slice::from_ref(&web), Consistency::Crash).await?;
        whole.push(began.elapsed().as_secs_f64() * 1e3);
        pauses.push(pause(&mut monitor)?);
        host.site.release(&op, &capture, &web.machine, Fate::Sealed).await?;
        wait_for_records(&console, console.acknowledged() + 3)?;
    }
    let of = |numbers: &[f64], part| quantile(numbers.iter().copied(), part);
    let what = format!("ms that a guest of four disks stands still, median of {POINTS} points");
    figure("Q1", &what, median(pauses.iter().copied()), Limit::AtMost(10.0));
    figure("Q1", "the same, of 99 in a hundred", of(&pauses, 0.99), Limit::None);
    figure("Q1", "the same, the longest", of(&pauses, 1.0), Limit::None);
    figure("Q1", "ms of the whole capture, median", median(whole.into_iter()), Limit::None);
    let switches = switches(&mut monitor)?;
    figure(
        "Q1",
        "ms of one `qom-set` to a filter, asked by itself, median",
        median(switches.iter().copied()),
        Limit::None,
    );
    Ok(())
}

/// Milliseconds of the stop that has just been.
fn pause(monitor: &mut Monitor) -> Outcome<f64> {
    let mut at = |name: &str| -> Outcome<Duration> {
        let event = monitor.wait_for(EVENT, |event| event.name == name)?;
        event.at.ok_or_else(|| "QEMU does not say when".into())
    };
    let (stop, resume) = (at("STOP")?, at("RESUME")?);
    Ok(resume.checked_sub(stop).ok_or("it went on before it stopped")?.as_secs_f64() * 1e3)
}

/// Milliseconds of each switch of the busy disk to a filter of our own and back, answer included.
fn switches(monitor: &mut Monitor) -> Outcome<Vec<f64>> {
    let nodes = monitor.call("query-named-block-nodes", json!({ "flat": true }))?;
    let top = nodes.as_array().and_then(|all| all.iter().find(|n| n["node-name"] == "d0"));
    let size = top.ok_or("there is no d0")?["image"]["virtual-size"].clone();
    let target =
        json!({ "driver": "null-co", "node-name": "bench-target", "size": size, "read-zeroes": true });
    monitor.call("blockdev-add", target)?;
    let filter = json!({ "driver": "copy-before-write", "node-name": "bench", "file": "d0", "target": "bench-target" });
    monitor.call("blockdev-add", filter)?;
    let mut spans = vec![];
    for _ in 0..SWITCHES {
        for node in ["bench", "d0"] {
            let began = Instant::now();
            let drive = json!({ "path": "/machine/peripheral/v0", "property": "drive", "value": node });
            monitor.call("qom-set", drive)?;
            spans.push(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    for node in ["bench", "bench-target"] {
        monitor.call("blockdev-del", json!({ "node-name": node }))?;
    }
    Ok(spans)
}

//! V3: the SOAP calls of a delta, as the simulator counts them: a constant, and one for each page of changed areas. Waits for its
//! two tasks are left out: a server answers one whenever a task has come further.

use crate::Outcome;
use crate::report::{self, Limit};
use crate::site::{Site, connect};
use serde_json::{Value, json};
use site_recovery_vim::{Moref, Vim};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

const DISK: u64 = 256 << 20;
const GRAIN: u64 = 64 << 10;
/// Changed areas in one answer.
const PAGE: u64 = 100;
const LONG: Duration = Duration::from_secs(60);

/// Calls of one delta: all but waits, and those that ask for areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    all: u64,
    pages: u64,
}

pub(crate) async fn of_a_delta() -> Outcome<()> {
    let site = Site::start(2)?;
    site.tell("settings", &json!({ "page": PAGE }))?;
    let words = site.words()?;
    let (vim, _) = connect(&words).await?;
    let mut found = vec![];
    for (disks, pages) in [(1, 1), (1, 10), (2, 10)] {
        let count = delta(&site, &vim, disks, pages).await?;
        if count.pages != disks * pages {
            return Err(
                format!("{disks} disks of {pages} pages each took {} calls for areas", count.pages).into()
            );
        }
        let what =
            format!("SOAP calls of a delta, waits left out; disks: {disks}, pages of areas of each: {pages}");
        report::figure("V3", &what, count.all as f64, Limit::None);
        found.push(count);
    }
    let [one, ten, two] = found[..] else { return Err("three were measured".into()) };
    let more = |a: Count, b: Count, by: u64| (b.all - a.all) as f64 / by as f64;
    report::figure("V3", "SOAP calls that a page adds", more(one, ten, 9), Limit::AtMost(1.0));
    report::figure(
        "V3",
        "SOAP calls that a disk adds, beside its pages",
        more(ten, two, 1) - 10.0,
        Limit::AtMost(0.0),
    );
    vim.log_out().await?;
    Ok(())
}

/// Changes that many pages of areas on each disk, and asks for them as a capture does: snapshot, its devices, areas, removal.
async fn delta(site: &Site, vim: &Vim, disks: u64, pages: u64) -> Outcome<Count> {
    let name = format!("of {disks} and {pages}");
    site.machine(&name, &vec![DISK; disks as usize])?;
    let all = vim.machines(&vim.content().root_folder).await?;
    let machine = all.into_iter().find(|m| m.name == name).ok_or("the machine is not found")?.moref;
    // Tracking begins at a stun.
    remove(vim, &snapshot(vim, &machine).await?).await?;
    let before = snapshot(vim, &machine).await?;
    let ids: Vec<String> = vim
        .snapshot_devices(&before)
        .await?
        .disks
        .into_iter()
        .map(|disk| disk.backing.change_id.ok_or("a disk is not tracked"))
        .collect::<Result<_, _>>()?;
    remove(vim, &before).await?;
    for file in site.files(&name)? {
        change(&file, pages * PAGE)?;
    }

    site.tell("calls", &json!({ "reset": true }))?;
    let after = snapshot(vim, &machine).await?;
    let devices = vim.snapshot_devices(&after).await?.disks;
    for (disk, id) in devices.iter().zip(&ids) {
        let areas = vim.changed_areas(&machine, Some(&after), disk.key, disk.capacity, id).await?;
        if areas.len() as u64 != pages * PAGE {
            return Err(format!("{} areas are told of {}", areas.len(), pages * PAGE).into());
        }
    }
    remove(vim, &after).await?;
    let calls = site.tell("calls", &json!({}))?;
    let soap = calls["soap"].as_object().ok_or("calls are by method")?;
    let of = |method: &str| soap.get(method).and_then(Value::as_u64).unwrap_or_default();
    let all: u64 = soap.values().filter_map(Value::as_u64).sum();
    Ok(Count { all: all - of("WaitForUpdatesEx"), pages: of("QueryChangedDiskAreas") })
}

/// Every other grain, from the first on.
fn change(file: &PathBuf, grains: u64) -> Outcome<()> {
    let file = File::options().write(true).open(file)?;
    for n in 0..grains {
        file.write_all_at(&[1], 2 * n * GRAIN)?;
    }
    Ok(())
}

async fn snapshot(vim: &Vim, machine: &Moref) -> Outcome<Moref> {
    Ok(vim.create_snapshot(machine, "dr", "of a benchmark", false).await?.object(LONG).await?)
}

async fn remove(vim: &Vim, snapshot: &Moref) -> Outcome<()> {
    vim.remove_snapshot(snapshot).await?.wait(LONG).await?;
    Ok(())
}

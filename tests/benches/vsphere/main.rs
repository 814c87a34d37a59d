//! The client of vCenter and ESXi, measured against VMware's simulator: the goals V1 to V3 of `docs/performance.md`.
//!
//! ```text
//! cargo bench -p site-recovery-tests --bench vsphere -- [V1 … V3]... [--pairs N] [--machines N]
//! ```
//!
//! - V1: discovery of 5,000 machines, against pyVmomi, and govmomi, which read the same.
//! - V2: ranges of a disk over datastore HTTPS, against curl, which reads the same.
//! - V3: how many SOAP calls a delta takes, by the simulator's count.
//!
//! It needs what `tests/run --setup` makes, Go, and curl. An absent program is an error.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]

mod calls;
mod discovery;
#[path = "../against_peers/meter.rs"]
#[allow(dead_code, reason = "another benchmark uses all of it")]
mod meter;
mod reads;
#[path = "../on_qemu/report.rs"]
#[allow(dead_code, reason = "another benchmark uses all of it")]
mod report;
mod site;

use std::error::Error;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const GOALS: [&str; 3] = ["V1", "V2", "V3"];
const MIB: f64 = 1048576.0;

struct Wanted {
    goals: Vec<&'static str>,
    pairs: usize,
    machines: usize,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| match words.split_first() {
        Some((first, rest)) if first == "--child" => runtime.block_on(child(rest)),
        _ => runtime.block_on(measured(&words)),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One run of ours, in a process of its own: a task of its runtime, as an engine's jobs are.
async fn child(words: &[String]) -> Outcome<()> {
    let Some((what, words)) = words.split_first() else { return Err("a child does something".into()) };
    let words = words.to_vec();
    match what.as_str() {
        "discover" => tokio::spawn(async move { discovery::child(&words).await }).await?,
        "read" => tokio::spawn(async move { reads::child(&words).await }).await?,
        other => Err(format!("{other} is nothing that a child does").into()),
    }
}

async fn measured(words: &[String]) -> Outcome<()> {
    let wanted = wanted(words)?;
    println!("{}\n\n{}", report::machine(), report::HEAD);
    for goal in &wanted.goals {
        match *goal {
            "V1" => discovery::against_vmwares_clients(wanted.machines, wanted.pairs)?,
            "V2" => reads::against_curl(wanted.pairs).await?,
            _ => calls::of_a_delta().await?,
        }
    }
    Ok(())
}

fn wanted(words: &[String]) -> Outcome<Wanted> {
    let (mut wanted, mut words) = (Wanted { goals: vec![], pairs: 5, machines: 5000 }, words.iter());
    while let Some(word) = words.next() {
        let place = match word.as_str() {
            "--pairs" => &mut wanted.pairs,
            "--machines" => &mut wanted.machines,
            word => {
                let known = GOALS.into_iter().find(|goal| goal.eq_ignore_ascii_case(word));
                wanted
                    .goals
                    .push(known.ok_or(format!("{word} is none of V1 to V3, --pairs N, --machines N"))?);
                continue;
            }
        };
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        *place = value.parse::<usize>().map_err(|e| format!("{word}: {e}"))?.max(1);
    }
    wanted.goals.sort_unstable();
    if wanted.goals.is_empty() {
        wanted.goals = GOALS.to_vec();
    }
    Ok(wanted)
}

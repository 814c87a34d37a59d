//! Azure as a site, measured against fakes and Microsoft's emulator: the goals A1 to A4 of `docs/performance.md`.
//!
//! ```text
//! cargo bench -p site-recovery-tests --bench azure -- [A1 … A4]... [--pairs N]
//! ```
//!
//! - A1: upload of a file into a page blob, against azure-storage-blob for Python: on Azurite, and on a fake that drops the bytes.
//! - A2: a first copy and deltas into page blobs: requests, and bytes that cross.
//! - A3: how many requests to Resource Manager a failover sends one after the other.
//! - A4: the memory that a first copy of a sparse disk of 4 TiB takes.
//!
//! It needs what `tests/run --setup` installs. What cannot be run is named, and is an error at the end.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]

mod account;
mod azurite;
mod blobs;
mod failover;
#[path = "../against_peers/meter.rs"]
#[allow(dead_code, reason = "another benchmark uses all of it")]
mod meter;
mod noise;
mod relay;
mod replica;
#[path = "../on_qemu/report.rs"]
#[allow(dead_code, reason = "another benchmark uses all of it")]
mod report;
mod ship;
mod upload;

use std::error::Error;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const GOALS: [&str; 4] = ["A1", "A2", "A3", "A4"];
const MIB: f64 = 1048576.0;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let done = match words.split_first() {
        Some((first, rest)) if first == "--child" => child(rest),
        _ => running(measured(words)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A task of a runtime, as an engine's jobs are.
fn running(what: impl Future<Output = Outcome<()>> + Send + 'static) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async { tokio::spawn(what).await? })
}

/// A server, or one run of ours, in a process of its own.
fn child(words: &[String]) -> Outcome<()> {
    let Some((what, words)) = words.split_first() else { return Err("a child does something".into()) };
    let words = words.to_vec();
    match what.as_str() {
        "serve" => blobs::serve(&words),
        "upload" => running(async move { upload::child(&words).await }),
        "ship" => running(async move { ship::child(&words).await }),
        "check" => running(async move { ship::check(&words).await }),
        other => Err(format!("{other} is nothing that a child does").into()),
    }
}

async fn measured(words: Vec<String>) -> Outcome<()> {
    let (goals, pairs) = wanted(&words)?;
    println!("{}\nCPU seconds {}\n\n{}", report::machine(), meter::Meter::new().how(), report::HEAD);
    let mut failed = vec![];
    for goal in goals {
        let parts = match goal {
            "A1" => vec![
                ("A1 on Azurite", upload::on_azurite(pairs).await),
                ("A1 on the fake", upload::on_the_fake(pairs).await),
            ],
            "A2" => vec![("A2", replica::of_copies().await)],
            "A3" => vec![("A3", failover::of_disks().await)],
            _ => vec![("A4", replica::of_a_sparse_disk().await)],
        };
        for (part, done) in parts {
            if let Err(error) = done {
                println!("NOT RUN to its end: {part}: {error}");
                failed.push(part);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not run to the end: {}", failed.join(", ")).into()) }
}

fn wanted(words: &[String]) -> Outcome<(Vec<&'static str>, usize)> {
    let (mut goals, mut pairs, mut words) = (vec![], 7, words.iter());
    while let Some(word) = words.next() {
        if word == "--pairs" {
            let value = words.next().ok_or("--pairs wants a value")?;
            pairs = value.parse::<usize>().map_err(|e| format!("--pairs: {e}"))?.max(1);
            continue;
        }
        let known = GOALS.into_iter().find(|goal| goal.eq_ignore_ascii_case(word));
        goals.push(known.ok_or(format!("{word} is none of A1 to A4, --pairs N"))?);
    }
    goals.sort_unstable();
    Ok((if goals.is_empty() { GOALS.to_vec() } else { goals }, pairs))
}

//! The services as processes on hosts of their own, measured: the goals S1 to S4 of `docs/performance.md`.
//!
//! ```text
//! cargo bench -p site-recovery-tests --bench services -- [S1 … S4]... [--pairs N]
//! ```
//!
//! - S1: agent, process server and store against `zstd | socat | zstd -d`, first copy, compressed and sealed.
//! - S2: the same as it is, over mutual TLS, against `nbdcopy` to `nbdkit` over TLS.
//! - S3: what the trace of a disk costs its writers.
//! - S4: what an agent takes of its server's memory, with a disk of 4 TiB.
//!
//! Hosts are network namespaces on a bridge. Needs root, 12 GiB of disk, and minutes a goal. An absent program is an error.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]
#![allow(clippy::unwrap_used, reason = "the harness of hosts is one of tests")]

#[path = "../against_peers/bench.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod bench;
mod child;
mod copy;
mod fleet;
mod group;
#[path = "../../hosts/mod.rs"]
mod hosts;
#[path = "../against_peers/images.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod images;
mod memory;
#[path = "../against_peers/meter.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod meter;
mod peers;
mod programs;
#[path = "../against_peers/report.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod report;
mod rounds;
mod tracking;

use report::Report;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const GOALS: [&str; 4] = ["S1", "S2", "S3", "S4"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| match words.split_first() {
        Some((first, rest)) if first == "--child" => runtime.block_on(child::run(rest)),
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

async fn measured(words: &[String]) -> Outcome<()> {
    let (goals, pairs) = wanted(words)?;
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let report = Report::new(dir.parent().ok_or("the target directory has no name")?.join("services.json"));
    println!("{}", machine());
    let mut failed = vec![];
    for goal in goals {
        println!("\n{goal}");
        let done = match goal {
            "S1" => copy::sealed(&report, &dir, pairs.unwrap_or(5)).await,
            "S2" => copy::plain(&report, &dir, pairs.unwrap_or(5)).await,
            "S3" => tracking::of_a_disk(&report, pairs.unwrap_or(10)),
            _ => memory::of_the_agent(&report, pairs.unwrap_or(5)).await,
        };
        if let Err(error) = done {
            report.failed(goal, &error.to_string())?;
            failed.push(goal);
        }
    }
    println!("\nwritten to {}", report.path().display());
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("{} did not run to the end", failed.join(", ")).into()),
    }
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{threads} x {}, Linux {}, load {}\nCPU seconds of cgroups, one for each process of ours and one for the peer's tree; \
         ratios are medians over pairs of ours / peer",
        cpu.trim_start_matches(['\t', ' ', ':']),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}

fn wanted(words: &[String]) -> Outcome<(Vec<&'static str>, Option<usize>)> {
    let (mut goals, mut pairs, mut words) = (vec![], None, words.iter());
    while let Some(word) = words.next() {
        if word == "--pairs" {
            let value = words.next().ok_or("--pairs wants a value")?;
            pairs = Some(value.parse::<usize>().map_err(|e| format!("--pairs: {e}"))?.max(1));
            continue;
        }
        let known = GOALS.into_iter().find(|goal| goal.eq_ignore_ascii_case(word));
        goals.push(known.ok_or(format!("{word} is none of S1 to S4, --pairs N"))?);
    }
    goals.sort_unstable();
    Ok((if goals.is_empty() { GOALS.to_vec() } else { goals }, pairs))
}

//! Ours and the peer program in turn, in one run, on the same images: the goals G1 to G10 of `docs/performance.md`.
//!
//! ```text
//! cargo bench --bench against_peers -- [G1 … G10]... [--pairs N] [--images DIR] [--keep]
//! ```
//!
//! Every run is a tree of processes of its own, ours as well: this program starts itself again. It prints ratios of CPU
//! seconds, wall time, memory and bytes, and writes them to `target/against-peers.json`. An absent peer is an error.
//! It needs Linux, 12 GiB of disk under the target directory, and up to ten minutes a group.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]

mod bench;
mod chain;
mod child;
mod churn;
mod client;
mod copy;
mod create;
mod dedup;
mod delta;
mod images;
mod meter;
mod open;
mod ours;
mod programs;
mod report;
mod site;
mod sizes;
mod wire;

use bench::Bench;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Group = (&'static str, fn(&Bench) -> Outcome<()>);

/// In the order in which they run: the last four share the histories that they build.
const GROUPS: [Group; 10] = [
    ("G1", wire::plain),
    ("G2", wire::sealed),
    ("G3", copy::compressed),
    ("G4", delta::by_scan),
    ("G5", delta::by_known_changes),
    ("G6", dedup::into_history),
    ("G7", open::first_bytes),
    ("G8", open::random_reads),
    ("G9", sizes::of_history),
    ("G10", create::and_expire),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let done = match words.split_first() {
        Some((first, rest)) if first == "--child" => child::run(rest),
        _ => against_peers(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Wanted {
    groups: Vec<Group>,
    pairs: Option<usize>,
    images: Option<PathBuf>,
    keep: bool,
}

fn against_peers(words: &[String]) -> Outcome<()> {
    let Wanted { groups, pairs, images, keep } = wanted(words)?;
    let bench = Bench::open(pairs, images)?;
    println!("{}", bench.header());
    let mut failed = vec![];
    for (name, run) in groups {
        let began = std::time::Instant::now();
        println!("\n{name}");
        if let Err(error) = run(&bench) {
            bench.report.failed(name, &error.to_string())?;
            failed.push(name);
        }
        bench.tidy_after(name)?;
        println!("  ({:.0} s in all)", began.elapsed().as_secs_f64());
    }
    if !keep {
        bench.remove()?;
    }
    println!("\nwritten to {}", bench.report.path().display());
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("{} did not run to the end", failed.join(", ")).into())
    }
}

fn wanted(words: &[String]) -> Outcome<Wanted> {
    let mut wanted = Wanted { groups: vec![], pairs: None, images: None, keep: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--pairs" => {
                wanted.pairs = Some(value()?.parse::<usize>().map_err(|e| format!("--pairs: {e}"))?.max(1))
            }
            "--images" => wanted.images = Some(value()?.into()),
            "--keep" => wanted.keep = true,
            name => {
                let group = GROUPS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                wanted.groups.push(
                    group.ok_or(format!("{name} is none of G1 to G10, --pairs N, --images DIR, --keep"))?,
                );
            }
        }
    }
    if wanted.groups.is_empty() {
        wanted.groups = GROUPS.to_vec();
    }
    wanted.groups.sort_by_key(|(name, _)| GROUPS.iter().position(|(known, _)| known == name));
    Ok(wanted)
}

//! QEMU as a site, measured: the goals Q1 to Q4 of `docs/performance.md`.
//!
//! ```text
//! cargo bench --bench on_qemu -- [Q1 … Q4]... [--pairs N]
//! ```
//!
//! - Q1: how long the guest of four disks stands still for a point.
//! - Q2: what copying a delta out of QEMU costs our client, against a program on libnbd.
//! - Q3: what a machine reads of its point before it has written its first record.
//! - Q4: what replication leaves of the guest's own work.
//!
//! It runs QEMU by emulation, with the guest that `tests/run --setup` makes. An absent program is an error.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time by the machine's clock")]

mod delta;
mod host;
#[path = "../against_peers/meter.rs"]
#[allow(dead_code, reason = "the other benchmark uses all of it")]
mod meter;
mod pause;
mod records;
mod recovery;
mod report;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const GOALS: [&str; 4] = ["Q1", "Q2", "Q3", "Q4"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.map_err(Into::into).and_then(|runtime| match words.split_first() {
        Some((first, rest)) if first == "--child" => runtime.block_on(delta::child(rest)),
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
    println!("{}\n\n{}", report::machine(), report::HEAD);
    for goal in goals {
        match goal {
            "Q1" => pause::of_four_disks(&dir).await?,
            "Q2" => delta::against_libnbd(&dir, pairs.unwrap_or(15)).await?,
            "Q3" => recovery::before_the_first_record(&dir, pairs.unwrap_or(3)).await?,
            _ => records::beside_replication(&dir, pairs.unwrap_or(8)).await?,
        }
    }
    Ok(())
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
        goals.push(known.ok_or(format!("{word} is none of Q1 to Q4, --pairs N"))?);
    }
    goals.sort_unstable();
    Ok((if goals.is_empty() { GOALS.to_vec() } else { goals }, pairs))
}

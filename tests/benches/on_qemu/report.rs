//! Rows of a table in the manner of `docs/performance.md`, printed as they come.

use std::fs;

pub(crate) const HEAD: &str =
    "| goal | what | ours | peer | ratio | limit | |\n|---|---|---|---|---|---|---|";

/// What was promised of a figure, or of the ratio where there is a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    None,
}

impl Limit {
    fn columns(self, found: f64) -> String {
        let (limit, met) = match self {
            Self::AtMost(limit) => (format!("≤ {limit}"), found <= limit),
            Self::AtLeast(limit) => (format!("≥ {limit}"), found >= limit),
            Self::None => return "none | |".into(),
        };
        format!("{limit} | {} |", if met { "met" } else { "**missed**" })
    }
}

/// One figure of ours alone.
pub(crate) fn figure(goal: &str, what: &str, found: f64, limit: Limit) {
    println!("| {goal} | {what} | {} | | | {}", short(found), limit.columns(found));
}

/// Figures of ours and of the peer, pair by pair. The ratio is the median over the pairs.
pub(crate) fn pairs(goal: &str, what: &str, pairs: &[(f64, f64)], limit: Limit) {
    let (ours, peer) = (median(pairs.iter().map(|p| p.0)), median(pairs.iter().map(|p| p.1)));
    let ratios = || pairs.iter().map(|(ours, peer)| ours / peer);
    let ratio = median(ratios());
    let [least, most] = [ratios().fold(f64::MAX, f64::min), ratios().fold(0.0, f64::max)];
    println!(
        "| {goal} | {what} | {} | {} | {ratio:.3} ({least:.2} to {most:.2}) | {}",
        short(ours),
        short(peer),
        limit.columns(ratio)
    );
}

/// The machine that it runs on, now.
pub(crate) fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    format!(
        "{threads} x {}, Linux {}, load {}",
        cpu.trim_start_matches(['\t', ' ', ':']),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?"),
    )
}

pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    quantile(numbers, 0.5)
}

/// The number below which this part of them is, or the next one up.
pub(crate) fn quantile(numbers: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Three digits.
fn short(number: f64) -> String {
    let decimals = if number >= 100.0 { 0 } else { 2 - number.abs().max(1.0).log10() as usize };
    format!("{number:.decimals$}")
}

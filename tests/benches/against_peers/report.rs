//! What was found, printed as it comes and kept as JSON.

use crate::Outcome;
use crate::meter::Cost;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

const MIB: f64 = 1048576.0;

#[derive(Debug)]
pub(crate) struct Report {
    path: PathBuf,
    rows: Mutex<Vec<Value>>,
}

/// The most that a ratio may be; none where nothing was promised.
pub(crate) type Limit = Option<f64>;

impl Report {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, rows: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One figure of ours and of the peer, pair by pair. The ratio is the median over the pairs.
    pub(crate) fn figures(&self, goal: &str, what: &str, pairs: &[(f64, f64)], limit: Limit) -> Outcome<()> {
        let (ours, peer) = (median(pairs.iter().map(|p| p.0)), median(pairs.iter().map(|p| p.1)));
        let ratio = median(pairs.iter().map(|(ours, peer)| ours / peer));
        let (least, most) = pairs
            .iter()
            .map(|(ours, peer)| ours / peer)
            .fold((f64::MAX, 0.0), |(least, most), ratio| (ratio.min(least), ratio.max(most)));
        let met = limit.map(|limit| ratio <= limit);
        let verdict = match (limit, met) {
            (Some(limit), Some(met)) => format!("limit {limit:<6} {}", if met { "met" } else { "MISSED" }),
            _ => "reported".into(),
        };
        println!(
            "  {goal:<4} {what:<64} {ours:>10.3} {peer:>10.3}  {ratio:>7.3}x ({least:.3}..{most:.3}, {} pairs)  {verdict}",
            pairs.len()
        );
        self.keep(json!({
            "goal": goal, "what": what, "ours": ours, "peer": peer, "ratio": ratio, "limit": limit, "met": met,
            "pairs": pairs.len(),
        }))
    }

    /// CPU seconds, wall seconds and memory of whole runs.
    pub(crate) fn costs(
        &self,
        goal: &str,
        peer: &str,
        pairs: &[(Cost, Cost)],
        cpu: Limit,
        wall: Limit,
    ) -> Outcome<()> {
        let of = |part: fn(&Cost) -> f64| pairs.iter().map(|(a, b)| (part(a), part(b))).collect::<Vec<_>>();
        self.figures(goal, &format!("CPU s, {peer}"), &of(|c| c.cpu), cpu)?;
        self.figures(goal, &format!("wall s, {peer}"), &of(|c| c.wall), wall)?;
        self.figures(goal, &format!("memory MiB, {peer}"), &of(|c| c.memory / MIB), None)
    }

    /// Bytes, in MiB.
    pub(crate) fn bytes(&self, goal: &str, what: &str, pairs: &[(u64, u64)], limit: Limit) -> Outcome<()> {
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (*a as f64 / MIB, *b as f64 / MIB)).collect();
        self.figures(goal, &format!("MiB {what}"), &pairs, limit)
    }

    /// A group, or a part of it, that did not run.
    pub(crate) fn failed(&self, goal: &str, why: &str) -> Outcome<()> {
        println!("  {goal:<4} ERROR {why}");
        self.keep(json!({
            "goal": goal, "what": format!("error: {why}"), "ours": null, "peer": null, "ratio": null, "limit": null,
            "met": false,
        }))
    }

    fn keep(&self, row: Value) -> Outcome<()> {
        let mut rows = self.rows.lock().map_err(|_| "a group panicked")?;
        rows.push(row);
        Ok(std::fs::write(&self.path, serde_json::to_vec_pretty(&*rows)?)?)
    }
}

pub(crate) fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

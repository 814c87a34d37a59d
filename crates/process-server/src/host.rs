//! How busy this host was over the last 15 minutes, by `/proc`.

use site_recovery::Timestamp;
use std::collections::VecDeque;
use std::time::Duration;

const SPAN: Duration = Duration::from_secs(15 * 60);
/// More often is not kept.
const APART: Duration = Duration::from_secs(5);

/// Shares in use, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) cpu: f64,
    pub(crate) memory: f64,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    at: Timestamp,
    /// Ticks since boot.
    busy: u64,
    ticks: u64,
    /// Share in use.
    memory: f64,
}

/// The looks of the last 15 minutes, and the one before them.
#[derive(Debug, Default)]
pub(crate) struct Window(VecDeque<Sample>);

impl Sample {
    /// Reads `/proc`; none where there is none. Blocks.
    pub(crate) fn take(at: Timestamp) -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        Self::parse(at, &read("/proc/stat")?, &read("/proc/meminfo")?)
    }

    fn parse(at: Timestamp, stat: &str, meminfo: &str) -> Option<Self> {
        let ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests' time is part of user's.
        let ticks: Vec<u64> = ticks.take(8).map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let idle = ticks.get(3)? + ticks.get(4)?;
        let all: u64 = ticks.iter().sum();
        let kib = |name: &str| -> Option<f64> {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix(" kB")?.parse().ok()
        };
        let memory = 1.0 - kib("MemAvailable:")? / kib("MemTotal:")?;
        Some(Self { at, busy: all - idle, ticks: all, memory })
    }
}

impl Window {
    /// Takes a look in; the load once 15 minutes were looked at.
    pub(crate) fn add(&mut self, now: Sample) -> Option<Load> {
        if self.0.back().is_some_and(|last| now.at < last.at) {
            // The clock was set back: what was looked at by the other one is in no order to this.
            self.0.clear();
        }
        if self.0.back().is_none_or(|last| now.at.since(last.at) >= APART) {
            self.0.push_back(now);
        }
        while self.0.get(1).is_some_and(|second| now.at.since(second.at) >= SPAN) {
            self.0.pop_front();
        }
        let first = self.0.front().filter(|first| now.at.since(first.at) >= SPAN)?;
        let ticks = now.ticks.checked_sub(first.ticks).filter(|ticks| *ticks > 0)?;
        let cpu = now.busy.saturating_sub(first.busy) as f64 / ticks as f64;
        let memory = self.0.iter().map(|sample| sample.memory).sum::<f64>() / self.0.len() as f64;
        Some(Load { cpu, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_that_of_fifteen_minutes() {
        let at = |minute: u64, busy| Sample {
            at: Timestamp(minute * 60_000),
            busy,
            ticks: minute * 100,
            memory: 0.5,
        };
        let mut window = Window::default();
        for minute in 0..15 {
            assert_eq!(window.add(at(minute, 0)), None, "too early to tell");
        }
        assert_eq!(window.add(at(15, 0)), Some(Load { cpu: 0.0, memory: 0.5 }));
        for minute in 16..=30 {
            window.add(at(minute, (minute - 15) * 90));
        }
        let load = window.add(at(31, 16 * 90)).expect("told");
        assert!((load.cpu - 0.9).abs() < 0.01, "{load:?}");
        assert!(window.0.len() <= 17);
        assert_eq!(window.add(at(2, 0)), None, "the clock jumped back");
    }

    #[test]
    fn proc_is_read_as_it_is_written() {
        let stat = "cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 2 3\n";
        let meminfo = "MemTotal:       1000 kB\nMemFree:  10 kB\nMemAvailable:    250 kB\n";
        let sample = Sample::parse(Timestamp(1), stat, meminfo).expect("reads");
        assert_eq!(sample, Sample { at: Timestamp(1), busy: 150, ticks: 1000, memory: 0.75 });
        assert_eq!(Sample::parse(Timestamp(1), "cpu  1 2", meminfo), None);
        assert_eq!(Sample::parse(Timestamp(1), stat, "MemTotal: many"), None);
    }
}

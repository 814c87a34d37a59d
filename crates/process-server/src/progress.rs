//! How far the transfer of one machine is: at the source, on the way, at the destination.

use metrics::{Counter, Gauge};
use site_recovery::{ChangeSet, Clock, DiskId, DiskLag, Lag, MachineId, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The rate is measured over so long.
const SPAN: Duration = Duration::from_secs(300);
const SLOT: Duration = Duration::from_secs(5);

/// How far the transfer under way is.
#[derive(Debug)]
pub(crate) struct Progress {
    machine: MachineId,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shipped: u64,
    transfer: Option<Transfer>,
}

struct Transfer {
    bytes: u64,
    landed: u64,
    disks: BTreeMap<DiskId, (DiskLag, [Gauge; 3])>,
    rate: Rate,
    crossed: Counter,
    backlog: Gauge,
    drain: Gauge,
}

// By hand: gauges show nothing.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("shipped", &self.shipped).finish_non_exhaustive()
    }
}

impl Progress {
    pub(crate) fn new(machine: MachineId, clock: Arc<dyn Clock>) -> Self {
        Self { machine, clock, state: Mutex::default() }
    }

    pub(crate) fn begin(&self, set: &ChangeSet) {
        let name = |m: &MachineId| m.0.clone();
        let disk = |disk: &DiskId| {
            let gauges = ["source", "in_flight", "destination"].map(|place| {
                metrics::gauge!(
                    "site_recovery_disk_bytes",
                    "machine" => name(&self.machine), "disk" => disk.0.clone(), "place" => place
                )
            });
            let to_read = set.runs(disk).iter().map(|run| run.len).sum();
            (disk.clone(), (DiskLag { to_read, ..DiskLag::default() }, gauges))
        };
        let transfer = Transfer {
            bytes: set.bytes(),
            landed: 0,
            disks: set.disks().map(|(id, _)| disk(id)).collect(),
            rate: Rate::from(self.clock.now()),
            crossed: metrics::counter!("site_recovery_sent_bytes_total", "machine" => name(&self.machine)),
            backlog: metrics::gauge!("site_recovery_backlog_bytes", "machine" => name(&self.machine)),
            drain: metrics::gauge!("site_recovery_drain_seconds", "machine" => name(&self.machine)),
        };
        transfer.show(self.clock.now());
        self.state().transfer = Some(transfer);
    }

    /// So much of a disk is on its way.
    pub(crate) fn taken(&self, disk: &DiskId, bytes: u64) {
        self.with_disk(disk, |lag| {
            lag.to_read = lag.to_read.saturating_sub(bytes);
            lag.in_flight += bytes;
        });
    }

    /// So much of what was taken is settled at the destination.
    pub(crate) fn landed(&self, disk: &DiskId, bytes: u64) {
        self.with_disk(disk, |lag| {
            lag.in_flight = lag.in_flight.saturating_sub(bytes);
            lag.landed += bytes;
        });
        if let Some(transfer) = &mut self.state().transfer {
            transfer.landed += bytes;
            transfer.rate.add(self.clock.now(), bytes);
        }
    }

    /// A batch is over, for so many bytes that crossed.
    pub(crate) fn crossed(&self, bytes: u64) {
        let mut state = self.state();
        state.shipped += bytes;
        if let Some(transfer) = &state.transfer {
            transfer.crossed.increment(bytes);
            transfer.show(self.clock.now());
        }
    }

    /// The transfer is over, whatever it came to.
    pub(crate) fn end(&self) {
        if let Some(transfer) = self.state().transfer.take() {
            let gauges = transfer.disks.values().flat_map(|(_, gauges)| gauges);
            gauges.chain([&transfer.backlog, &transfer.drain]).for_each(|gauge| gauge.set(0));
        }
    }

    /// As of now; of the spool it says nothing.
    pub(crate) fn lag(&self) -> Lag {
        let state = self.state();
        let Some(transfer) = &state.transfer else {
            return Lag { shipped: state.shipped, drain_time: Some(Duration::ZERO), ..Lag::default() };
        };
        Lag {
            backlog: transfer.backlog(),
            transfer: transfer.bytes,
            shipped: state.shipped,
            spooled: vec![],
            disks: transfer.disks.iter().map(|(id, (lag, _))| (id.clone(), *lag)).collect(),
            drain_time: transfer.rate.drains(transfer.backlog(), self.clock.now()),
        }
    }

    fn with_disk(&self, disk: &DiskId, change: impl FnOnce(&mut DiskLag)) {
        if let Some((lag, _)) = self.state().transfer.as_mut().and_then(|t| t.disks.get_mut(disk)) {
            change(lag);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

impl Transfer {
    fn backlog(&self) -> u64 {
        self.bytes.saturating_sub(self.landed)
    }

    fn show(&self, now: Timestamp) {
        for (lag, [source, in_flight, destination]) in self.disks.values() {
            source.set(lag.to_read as f64);
            in_flight.set(lag.in_flight as f64);
            destination.set(lag.landed as f64);
        }
        self.backlog.set(self.backlog() as f64);
        if let Some(drain) = self.rate.drains(self.backlog(), now) {
            self.drain.set(drain.as_secs_f64());
        }
    }
}

/// Bytes per second of the last minutes.
#[derive(Debug)]
struct Rate {
    began: Timestamp,
    /// From when, how many.
    slots: VecDeque<(Timestamp, u64)>,
}

impl Rate {
    fn from(began: Timestamp) -> Self {
        Self { began, slots: VecDeque::new() }
    }

    fn add(&mut self, now: Timestamp, bytes: u64) {
        match self.slots.back_mut() {
            Some((from, sum)) if now.since(*from) < SLOT => *sum += bytes,
            _ => self.slots.push_back((now, bytes)),
        }
        while self.slots.front().is_some_and(|(from, _)| now.since(*from) > SPAN) {
            self.slots.pop_front();
        }
    }

    /// How long `backlog` takes at this rate. `None` before there is one to speak of; for ever where nothing has moved
    /// all the time.
    fn drains(&self, backlog: u64, now: Timestamp) -> Option<Duration> {
        if backlog == 0 {
            return Some(Duration::ZERO);
        }
        let span = now.since(self.began).min(SPAN);
        let recent = self.slots.iter().filter(|(from, _)| now.since(*from) <= SPAN);
        let bytes: u64 = recent.map(|(_, bytes)| bytes).sum();
        if bytes == 0 {
            return (span >= SPAN).then_some(Duration::MAX);
        }
        (!span.is_zero()).then(|| span.mul_f64(backlog as f64 / bytes as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_drains_at_the_rate_of_the_last_minutes() {
        let (start, second) = (Timestamp(1_000_000), Duration::from_secs(1));
        let mut rate = Rate::from(start);
        assert_eq!(rate.drains(0, start), Some(Duration::ZERO));
        assert_eq!(rate.drains(100, start), None, "nothing is measured yet");
        for at in 1..=1000 {
            // Ten a second for long, then one.
            rate.add(start.after(second * at), if at <= 600 { 10 } else { 1 });
        }
        let now = start.after(second * 1000);
        let drains = rate.drains(3000, now).expect("measured");
        assert!((2900..=3100).contains(&drains.as_secs()), "{drains:?}");
        assert!(rate.slots.len() <= 61);
        assert_eq!(rate.drains(3000, now.after(SPAN * 2)), Some(Duration::MAX), "nothing moves any more");
    }
}

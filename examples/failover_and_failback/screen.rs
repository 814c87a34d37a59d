//! What a person sees: a line per thing that happened, and a bar while something is under way.

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use site_recovery::state::Phase;
use site_recovery::{
    Clock, Delivery, Events, ItemHandle, NoticeKind, ProcessServer as _, Result, SystemClock, Timestamp,
};
use site_recovery_process_server::ProcessServer;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(100);

/// Shows what a vault does.
#[derive(Debug)]
pub(crate) struct Screen {
    began: Timestamp,
    events: Events,
    process_server: Arc<ProcessServer>,
    written: Arc<AtomicU64>,
    sealed: Sealed,
}

/// What has crossed since it was last asked.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sealed {
    pub(crate) points: usize,
    pub(crate) changed: u64,
    pub(crate) shipped: u64,
}

impl Screen {
    pub(crate) fn new(events: Events, process_server: Arc<ProcessServer>, written: Arc<AtomicU64>) -> Self {
        Self { began: SystemClock.now(), events, process_server, written, sealed: Sealed::default() }
    }

    /// Another vault's events from here on.
    pub(crate) fn follow(&mut self, events: Events) {
        self.events = events;
    }

    /// Shows progress until `work` is over.
    pub(crate) async fn during<T>(&mut self, item: Option<&ItemHandle>, work: impl Future<Output = T>) -> T {
        let style = "    {spinner} {bytes:>10}/{total_bytes} {bar:30} {msg}";
        let style = ProgressStyle::with_template(style).expect("the template is well-formed");
        let bar = ProgressBar::new(0).with_style(style);
        let (mut work, mut ticks) = (pin!(work), tokio::time::interval(TICK));
        loop {
            tokio::select! {
                done = &mut work => {
                    while let Some(delivery) = self.events.try_next() {
                        self.show(delivery, &bar);
                    }
                    bar.finish_and_clear();
                    return done;
                }
                delivery = self.events.next() => self.show(delivery, &bar),
                _ = ticks.tick() => {
                    let lag = match item {
                        Some(item) => self.process_server.lag(item.id()).await.unwrap_or_default(),
                        None => Default::default(),
                    };
                    bar.set_length(lag.transfer);
                    bar.set_position(lag.transfer.saturating_sub(lag.backlog));
                    bar.set_prefix(self.written.load(Ordering::Relaxed).to_string());
                }
            }
        }
    }

    fn show(&mut self, delivery: Delivery, bar: &ProgressBar) {
        let Delivery::Notice(notice) = delivery else { return };
        match &notice.kind {
            NoticeKind::Sealed { point, changed, shipped } => {
                self.sealed.points += 1;
                self.sealed.changed += changed;
                self.sealed.shipped += shipped;
                let (changed, shipped) = (HumanBytes(*changed), HumanBytes(*shipped));
                let line = format!("point {} sealed: {changed} changed, {shipped} shipped", point.id.0);
                bar.suspend(|| self.line(&line));
            }
            NoticeKind::CycleFailed { reason } => bar.suspend(|| self.line(&format!("no point: {reason}"))),
            NoticeKind::Alert(finding) => bar.suspend(|| self.line(&format!("alert: {}", finding.cause))),
            NoticeKind::Job { what, .. } => bar.set_message(what.clone()),
            NoticeKind::Changed(_) | NoticeKind::Pruned { .. } | NoticeKind::Unpinned { .. } => {}
        }
    }

    /// A line of the timeline.
    pub(crate) fn line(&self, text: &str) {
        let since = SystemClock.now().since(self.began);
        println!("  {:>6.2} s  {text}", since.as_secs_f64());
    }

    /// Where the item stands.
    pub(crate) fn stand(&self, item: &ItemHandle) -> Result<()> {
        let summary = item.summary()?;
        let replicates = summary.state.phase == Phase::Protected;
        let rpo = summary.health.rpo.filter(|_| replicates);
        let rpo = rpo.map_or("nothing replicates".into(), |rpo| format!("RPO {:.2} s", rpo.as_secs_f64()));
        let entries = self.written.load(Ordering::Relaxed);
        self.line(&format!("-> {}, {rpo}, {entries} entries written so far", summary.state));
        Ok(())
    }

    /// What has crossed since this was asked the last time.
    pub(crate) fn take_sealed(&mut self) -> Sealed {
        std::mem::take(&mut self.sealed)
    }
}

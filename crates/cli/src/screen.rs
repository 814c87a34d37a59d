//! What a person sees while something is done, on standard error: a bar on a terminal, plain lines elsewhere.

use crate::answer::Told;
use crate::exit;
use crate::show::{bytes, span};
use indicatif::{ProgressBar, ProgressStyle};
use site_recovery::{Clock, SystemClock, Timestamp};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Between two lines about the same transfer, where there is no terminal.
const BETWEEN: Duration = Duration::from_secs(10);

/// Standard error, as it is.
#[derive(Debug)]
pub(crate) struct Screen {
    /// On a terminal, while something is under way.
    bar: Option<ProgressBar>,
    terminal: bool,
    dark: bool,
    step: String,
    transfer: Option<Transfer>,
    last: Option<Timestamp>,
}

/// A transfer since it was first seen.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    since: Timestamp,
    from: u64,
    all: u64,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { bar: None, terminal, dark: false, step: String::new(), transfer: None, last: None }
    }

    /// One that shows nothing.
    pub(crate) fn dark() -> Self {
        Self { dark: true, ..Self::new() }
    }

    pub(crate) fn show(&mut self, told: Told) {
        if self.dark {
            return;
        }
        match told {
            Told::Note(text) => self.line(&text),
            Told::Step { unit, what } => {
                if let Some(step) = what.strip_suffix(" begins").filter(|step| *step != self.step) {
                    self.step = step.to_owned();
                    match self.terminal {
                        true => self.bar().set_message(step.to_owned()),
                        false => self.line(&format!("{unit}: {step}")),
                    }
                }
            }
            Told::Bytes { unit, done, all } => self.bytes(&unit, done, all),
        }
    }

    /// Nothing is under way any more.
    pub(crate) fn rest(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Leaves at once: what is under way is gone on with by the next start.
    pub(crate) fn leave(&mut self) -> ! {
        self.line("left at once; the next start goes on with what was begun");
        self.rest();
        std::process::exit(exit::INTERRUPTED.into());
    }

    fn bytes(&mut self, unit: &str, done: u64, all: u64) {
        let now = SystemClock.now();
        let known = self.transfer.filter(|t| t.all == all && t.from <= done);
        let transfer = known.unwrap_or(Transfer { since: now, from: done, all });
        self.transfer = Some(transfer);
        let seconds = now.since(transfer.since).as_secs_f64();
        let rate = if seconds > 0.5 { (done - transfer.from) as f64 / seconds } else { 0.0 };
        let mut said = format!("{} of {}", bytes(done), bytes(all));
        if rate >= 1.0 {
            let left = Duration::from_secs_f64((all.saturating_sub(done)) as f64 / rate);
            said += &format!(", {}/s, {} left", bytes(rate as u64), span(left));
        }
        if self.terminal {
            let bar = self.bar();
            bar.set_length(all);
            bar.set_position(done);
            bar.set_prefix(said);
        } else if self.last.is_none_or(|last| now.since(last) >= BETWEEN) {
            self.last = Some(now);
            self.line(&format!("{unit}: {said}"));
        }
    }

    fn bar(&mut self) -> &ProgressBar {
        self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} [{bar:24}] {prefix} {msg}");
            let bar = ProgressBar::new(0);
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        })
    }

    /// A terminal that is gone takes no line, and that is no error of what is under way.
    fn line(&self, text: &str) {
        let write = || {
            let _ = writeln!(std::io::stderr(), "{text}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

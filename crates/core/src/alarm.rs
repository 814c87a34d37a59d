//! Whether a machine was rewritten: far more changes than usual, or far less compressible ones, as when its files are
//! being encrypted.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

/// Why the point before an alarm is pinned.
pub(crate) const ALARM: &str = "alarm";

/// So many quiet cycles are needed before anything is judged, and to end an alarm.
const LEAST_HISTORY: usize = 6;
const CALM: u32 = 3;
/// From so many unusual cycles of one alarm on, they are what is usual now.
const SETTLED: u32 = 12;

/// When a cycle raises an alarm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRule {
    /// What is usual is taken from so many cycles before; 1 to 10,000.
    pub cycles: u32,
    /// Changes at so many times the highest rate among them raise it; at least 2.
    pub factor: u32,
    /// A share of bytes that do not compress so many percentage points above theirs raises it; 1 to 100.
    pub percentage_points: u32,
    /// A cycle with fewer changed bytes raises none.
    pub least_bytes: u64,
}

impl Default for AlarmRule {
    /// A day of 5-minute cycles, four times the highest rate, 40 percentage points, 64 MiB.
    fn default() -> Self {
        Self { cycles: 288, factor: 4, percentage_points: 40, least_bytes: 64 << 20 }
    }
}

impl AlarmRule {
    /// So many points of a machine are pinned for alarms; for another one the oldest of these pins is taken away.
    pub const MOST_PINS: usize = 8;

    pub(crate) fn validate(&self) -> Result<()> {
        let within = |field, value: u32, from: u32, to: u32| {
            let rule = format!("{from} to {to}");
            let bad = || Error::invalid(field, value, &rule, "choose a value within it, or no alarm");
            if (from..=to).contains(&value) { Ok(()) } else { Err(bad()) }
        };
        within("policy.alarm.cycles", self.cycles, 1, 10_000)?;
        within("policy.alarm.factor", self.factor, 2, 1_000_000)?;
        within("policy.alarm.percentage_points", self.percentage_points, 1, 100)
    }
}

/// One sealed cycle by delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cycle {
    pub(crate) changed: u64,
    pub(crate) incompressible: u64,
    /// Since the point before.
    pub(crate) span: Duration,
}

/// What is usual for one machine, and whether an alarm lasts. Cycles of an alarm do not become usual at once; a load that
/// stays does, so that a machine which is busy by day is not in alarm all day, and does not raise one each morning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alarm {
    usual: VecDeque<Cycle>,
    lasts: Option<Lasting>,
}

#[derive(Debug, Clone)]
struct Lasting {
    why: String,
    /// Cycles without a reason, since the last one with one.
    calm: u32,
    /// Cycles with a reason.
    loud: u32,
}

impl Alarm {
    /// Takes a cycle in. Tells why it raises an alarm: once, then no more until some quiet cycles have ended it.
    pub(crate) fn raise(&mut self, rule: &AlarmRule, cycle: Cycle) -> Option<String> {
        let unusual = self.unusual(rule, cycle);
        match (&mut self.lasts, unusual) {
            (Some(lasting), Some(_)) => {
                lasting.calm = 0;
                lasting.loud += 1;
                if lasting.loud >= SETTLED {
                    self.is_usual(rule, cycle);
                }
            }
            (Some(lasting), None) => {
                lasting.calm += 1;
                if lasting.calm == CALM {
                    self.lasts = None;
                }
            }
            (None, Some(why)) => {
                self.lasts = Some(Lasting { why: why.clone(), calm: 0, loud: 1 });
                return Some(why);
            }
            (None, None) => self.is_usual(rule, cycle),
        }
        None
    }

    fn is_usual(&mut self, rule: &AlarmRule, cycle: Cycle) {
        self.usual.push_back(cycle);
        while self.usual.len() > rule.cycles as usize {
            self.usual.pop_front();
        }
    }

    /// Why it was raised, while it lasts.
    pub(crate) fn lasts(&self) -> Option<&str> {
        self.lasts.as_ref().map(|lasting| lasting.why.as_str())
    }

    fn unusual(&self, rule: &AlarmRule, cycle: Cycle) -> Option<String> {
        if self.usual.len() < LEAST_HISTORY.min(rule.cycles as usize) || cycle.changed < rule.least_bytes {
            return None;
        }
        let highest = self.usual.iter().map(Cycle::rate).fold(0.0, f64::max);
        if cycle.rate() > highest * f64::from(rule.factor) {
            let (rate, highest) = (cycle.rate() as u64, highest as u64);
            return Some(format!("{rate} bytes a second have changed, where at most {highest} are usual"));
        }
        let sum = |part: fn(&Cycle) -> u64| self.usual.iter().map(part).sum::<u64>();
        let usual = percent(sum(|c| c.incompressible), sum(|c| c.changed));
        let share = percent(cycle.incompressible, cycle.changed);
        (share >= usual + f64::from(rule.percentage_points))
            .then(|| format!("{share:.0} % of the changes do not compress, where {usual:.0} % are usual"))
    }
}

impl Cycle {
    fn rate(&self) -> f64 {
        self.changed as f64 / self.span.as_secs_f64().max(0.001)
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn cycle(changed: u64, incompressible: u64) -> Cycle {
        Cycle { changed, incompressible, span: 5 * MINUTE }
    }

    fn after(quiet: &[Cycle]) -> (Alarm, AlarmRule) {
        let (mut alarm, rule) = (Alarm::default(), AlarmRule { least_bytes: 1000, ..AlarmRule::default() });
        assert!(quiet.iter().all(|cycle| alarm.raise(&rule, *cycle).is_none()));
        (alarm, rule)
    }

    #[test]
    fn a_storm_is_told_once_while_it_lasts_and_again_when_it_comes_back() {
        let (mut alarm, rule) = after(&[cycle(2000, 100); 10]);
        let storm = cycle(9000, 400);
        let mut raised = |c| alarm.raise(&rule, c).is_some();
        assert_eq!([storm, storm, storm].map(&mut raised), [true, false, false]);
        assert_eq!([cycle(2000, 0), storm, cycle(2000, 0)].map(&mut raised), [false; 3], "it lasts");
        assert_eq!(
            [cycle(2000, 0), cycle(2000, 0), storm].map(&mut raised),
            [false, false, true],
            "it is over"
        );
        assert!(alarm.lasts().is_some_and(|why| why.contains("usual")));
    }

    #[test]
    fn a_load_that_stays_is_usual_after_a_while_and_comes_back_every_day() {
        let (mut alarm, rule) = after(&[cycle(2000, 100); 20]);
        let (night, day) = (cycle(2000, 100), cycle(90_000, 4000));
        let mut raised = 0;
        for _ in 0..3 {
            for cycle in [day; 144].into_iter().chain([night; 144]) {
                raised += u32::from(alarm.raise(&rule, cycle).is_some());
            }
        }
        assert_eq!((raised, alarm.lasts()), (1, None));
        assert!(alarm.raise(&rule, cycle(900_000, 4000)).is_some(), "ten times what is usual by day");
    }

    #[test]
    fn encrypting_at_the_usual_rate_is_told_by_what_does_not_compress() {
        let (mut alarm, rule) = after(&[cycle(2000, 200); 10]);
        assert_eq!(alarm.raise(&rule, cycle(2000, 900)), None, "45 %");
        let why = alarm.raise(&rule, cycle(2000, 1900)).expect("95 %");
        assert!(why.contains("95 %"), "{why}");
    }

    #[test]
    fn what_says_nothing_raises_nothing() {
        let (mut early, rule) = after(&[cycle(2000, 0); 5]);
        assert_eq!(early.raise(&rule, cycle(1_000_000, 0)), None, "too little is known");
        let (mut alarm, rule) = after(&[cycle(10, 0); 10]);
        assert_eq!(alarm.raise(&rule, cycle(900, 900)), None, "too few bytes");
        let slept = Cycle { span: 500 * MINUTE, ..cycle(900_000, 0) };
        let (mut alarm, rule) = after(&[cycle(10_000, 0); 10]);
        assert_eq!(alarm.raise(&rule, slept), None, "much in a long time is usual");
    }

    #[test]
    fn bad_rules_are_refused_by_name() {
        for (bad, field) in [
            (AlarmRule { cycles: 0, ..AlarmRule::default() }, "policy.alarm.cycles"),
            (AlarmRule { factor: 1, ..AlarmRule::default() }, "policy.alarm.factor"),
            (AlarmRule { percentage_points: 101, ..AlarmRule::default() }, "policy.alarm.percentage_points"),
        ] {
            assert_eq!(bad.validate().expect_err(field).fact("field"), Some(field));
        }
    }
}

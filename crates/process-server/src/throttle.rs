//! How fast bytes may cross, and when.

use serde::{Deserialize, Serialize};
use site_recovery::{Error, Result, Timestamp};
use std::time::Duration;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A rate that a batch still gets through in a time that replicas and engines wait for.
const LEAST_RATE: u64 = 1024;
/// The most that a clock is from UTC anywhere.
const MOST_OFFSET: i16 = 14 * 60;

/// The rate at which records cross from this process server, over all machines. Reading, comparing and spooling are not
/// slowed down by it but for the memory that waits.
///
/// It holds for every transfer, the last changes before a failover too. Lift it with [`set_throttle`](crate::ProcessServer::set_throttle) where that matters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// Bytes per second outside of all windows, at least 1024; none: as fast as it goes.
    pub rate: Option<u64>,
    /// When other rates hold. Of several, the first counts.
    pub windows: Vec<Window>,
    /// Minutes east of UTC by which hours and days are told, -840 to 840. It knows no summer time.
    pub utc_offset_minutes: i16,
}

/// Hours of the day with a rate of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// On which days it begins; none named: on every day.
    #[serde(default)]
    pub days: Vec<Weekday>,
    /// From this hour of the day on, 0 to 23.
    pub from: u8,
    /// Until this hour, 1 to 24; where it is not after `from`, until that hour of the next day.
    pub until: u8,
    /// Bytes per second, at least 1024; none: as fast as it goes.
    pub rate: Option<u64>,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they are what they say")]
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// From the day of 1970-01-01 on.
const WEEK: [Weekday; 7] = [
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
];

impl Throttle {
    /// One rate at all times.
    pub fn to(bytes_per_second: u64) -> Self {
        Self { rate: Some(bytes_per_second), ..Self::default() }
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`Invalid`](site_recovery::ErrorKind::Invalid), naming the field.
    pub fn validate(&self) -> Result<()> {
        let offset = self.utc_offset_minutes;
        if !(-MOST_OFFSET..=MOST_OFFSET).contains(&offset) {
            let rule = "-840 to 840 minutes";
            return Err(Error::invalid("throttle.utc_offset_minutes", offset, rule, "choose one within it"));
        }
        let rate = |field, rate: Option<u64>| match rate {
            Some(rate) if rate < LEAST_RATE => {
                let rule = "at least 1024 bytes per second";
                Err(Error::invalid(field, rate, rule, "raise it, or leave it out for no bound"))
            }
            _ => Ok(()),
        };
        rate("throttle.rate", self.rate)?;
        for (number, window) in self.windows.iter().enumerate() {
            window.validate(rate).map_err(|e| e.with("window", number))?;
        }
        Ok(())
    }

    /// The rate of this moment; none: as fast as it goes.
    pub fn rate_at(&self, now: Timestamp) -> Option<u64> {
        let local = self.local(now);
        self.windows.iter().find(|window| window.holds(local)).map_or(self.rate, |window| window.rate)
    }

    /// How long the rate of this moment holds at least: windows begin and end with hours.
    pub(crate) fn holds_for(&self, now: Timestamp) -> Duration {
        match self.windows.is_empty() {
            true => Duration::MAX,
            false => Duration::from_millis(HOUR - self.local(now) % HOUR),
        }
    }

    /// Milliseconds by the clock on the wall, at least a day after zero.
    fn local(&self, now: Timestamp) -> u64 {
        (now.0 + 7 * DAY).saturating_add_signed(i64::from(self.utc_offset_minutes) * MINUTE as i64)
    }
}

impl Window {
    fn validate(&self, rate: impl Fn(&'static str, Option<u64>) -> Result<()>) -> Result<()> {
        rate("throttle.windows.rate", self.rate)?;
        if self.from > 23 {
            let rule = "an hour from 0 to 23";
            return Err(Error::invalid("throttle.windows.from", self.from, rule, "correct it"));
        }
        if !(1..=24).contains(&self.until) {
            let rule = "an hour from 1 to 24";
            return Err(Error::invalid("throttle.windows.until", self.until, rule, "say 24 for midnight"));
        }
        Ok(())
    }

    fn holds(&self, local: u64) -> bool {
        let (day, hour) = (local / DAY, (local % DAY / HOUR) as u8);
        let begins = |day: u64| self.days.is_empty() || self.days.contains(&WEEK[(day % 7) as usize]);
        if self.from < self.until {
            return (self.from..self.until).contains(&hour) && begins(day);
        }
        hour >= self.from && begins(day) || hour < self.until && begins(day - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Weekday], from: u8, until: u8, rate: u64) -> Window {
        Window { days: days.to_vec(), from, until, rate: Some(rate) }
    }

    #[test]
    fn windows_hold_by_the_clock_on_the_wall() {
        // 2026-01-01T00:00:00Z is a Thursday.
        let at = |hours: u64| Timestamp(1_767_225_600_000 + hours * HOUR);
        let night = window(&[Weekday::Thursday], 22, 6, 5000);
        let office = window(&[], 8, 18, 2000);
        let mut throttle = Throttle { rate: None, windows: vec![night, office], utc_offset_minutes: 0 };
        let rates = |throttle: &Throttle| [0, 8, 17, 18, 22, 29, 30, 46, 47].map(|h| throttle.rate_at(at(h)));
        let free = None;
        let expected = [free, Some(2000), Some(2000), free, Some(5000), Some(5000), free, free, free];
        assert_eq!(rates(&throttle), expected);
        throttle.utc_offset_minutes = -60;
        let expected = [free, free, Some(2000), Some(2000), free, Some(5000), Some(5000), free, free];
        assert_eq!(rates(&throttle), expected);
        assert_eq!(throttle.holds_for(Timestamp(at(3).0 + 1000)), Duration::from_secs(3599));
        assert_eq!(Throttle::to(4096).holds_for(at(3)), Duration::MAX);
    }

    #[test]
    fn bad_ones_are_refused_by_name() {
        let with = |window| Throttle { windows: vec![window], ..Throttle::default() };
        for (bad, field) in [
            (Throttle::to(0), "throttle.rate"),
            (Throttle { utc_offset_minutes: 900, ..Throttle::default() }, "throttle.utc_offset_minutes"),
            (with(window(&[], 24, 3, 9999)), "throttle.windows.from"),
            (with(window(&[], 3, 25, 9999)), "throttle.windows.until"),
            (with(window(&[], 3, 0, 9999)), "throttle.windows.until"),
            (with(window(&[], 3, 4, 7)), "throttle.windows.rate"),
        ] {
            assert_eq!(bad.validate().expect_err(field).fact("field"), Some(field));
        }
        Throttle::default().validate().expect("no bound is fine");
    }

    #[test]
    fn it_is_plain_data() {
        let text = r#"{"rate":1000000,"windows":[{"days":["saturday"],"from":0,"until":24,"rate":null}]}"#;
        let throttle: Throttle = serde_json::from_str(text).expect("reads");
        assert_eq!(throttle.windows[0].days, [Weekday::Saturday]);
        let again = serde_json::to_string(&throttle).expect("writes");
        assert_eq!(serde_json::from_str::<Throttle>(&again).expect("reads"), throttle);
    }
}

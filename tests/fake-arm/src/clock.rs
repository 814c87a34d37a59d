//! Time as the fake tells it: it stands still but for a tick at every look, and goes on when a test says so.

use std::time::Duration;

/// 2026-01-01T00:00:00Z, in milliseconds.
const BEGIN: u64 = 1_767_225_600_000;

#[derive(Debug)]
pub(crate) struct Clock {
    now: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { now: BEGIN }
    }
}

impl Clock {
    /// Milliseconds since 1970; no two looks see the same.
    pub(crate) fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn advance(&mut self, span: Duration) {
        self.now += u64::try_from(span.as_millis()).unwrap_or(u64::MAX / 4);
    }
}

/// As Resource Manager writes a time: `2026-01-01T00:00:00.0010000+00:00`.
pub(crate) fn written(millis: u64) -> String {
    let (days, within) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (within / 3_600_000, within / 60_000 % 60, within / 1000 % 60);
    let fraction = within % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:03}0000+00:00")
}

/// This moment as HTTP writes it, for servers that check it.
#[expect(clippy::disallowed_methods, reason = "another server compares it with its own clock")]
pub(crate) fn http_now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    http(since.as_secs())
}

fn http(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, within) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let month = MONTHS[usize::try_from(month - 1).unwrap_or(0)];
    let (hour, minute, second) = (within / 3600, within / 60 % 60, within % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Days since 1970 as a date; years are counted from March, so that the leap day is the last of one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.0000000+00:00"),
            (951_782_400, "2000-02-29T00:00:00.0000000+00:00"),
            (1_767_225_599, "2025-12-31T23:59:59.0000000+00:00"),
            (1_772_323_201, "2026-03-01T00:00:01.0000000+00:00"),
        ] {
            assert_eq!(written(seconds * 1000), text);
        }
    }

    #[test]
    fn http_tells_the_weekday() {
        assert_eq!(http(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn no_two_looks_see_one_time() {
        let mut clock = Clock::default();
        let first = clock.tick();
        assert!(clock.tick() > first);
        clock.advance(Duration::from_secs(60));
        assert!(clock.now() >= first + 60_000);
    }
}

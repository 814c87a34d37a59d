//! Moments, as `xsd:dateTime` writes them.

use site_recovery::Timestamp;

/// `2026-11-29T08:00:00.123456Z`, also with an offset, or without one for UTC. Nothing for what is before 1970.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let (date, time) = text.trim().split_once('T')?;
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (digits(date.next()?)?, digits(date.next()?)?, digits(date.next()?)?);
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let mut time = time.splitn(3, ':');
    let (hour, minute, seconds) = (digits(time.next()?)?, digits(time.next()?)?, time.next()?);
    let (second, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let second = digits(second)?;
    digits(fraction)?;
    let millis = digits(&format!("{fraction:0<3}")[..3])?;
    let right = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !right || hour > 24 || minute > 59 || second > 60 {
        return None;
    }
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - offset(zone)?;
    u64::try_from((minutes * 60 + second) * 1000 + millis).ok().map(Timestamp)
}

/// Minutes ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let Some(sign) = zone.chars().next().filter(|c| *c != 'Z') else { return Some(0) };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let ahead = digits(hours)? * 60 + digits(minutes)?;
    (ahead < 24 * 60).then_some(if sign == '-' { -ahead } else { ahead })
}

fn digits(text: &str) -> Option<i64> {
    let right = (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    right.then(|| text.parse().ok()).flatten()
}

/// Since 1970, after Howard Hinnant's `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_they_are_written() {
        for at in [0, 1_709_210_096_789, 951_782_400_000, 4_102_444_799_999] {
            assert_eq!(moment(&Timestamp(at).to_string()), Some(Timestamp(at)));
        }
        let one = Some(Timestamp(1_709_210_096_123));
        for way in
            ["2024-02-29T12:34:56.123456Z", "2024-02-29T21:34:56.123+09:00", "2024-02-29T12:34:56.1234"]
        {
            assert_eq!(moment(way), one, "{way}");
        }
        assert_eq!(moment("2024-02-29T07:04:56-05:30"), Some(Timestamp(1_709_210_096_000)));
    }

    #[test]
    fn what_is_no_moment_is_nothing() {
        for bad in [
            "",
            "T",
            "2024-02-29",
            "1969-12-31T23:59:59Z",
            "2024-13-01T00:00:00Z",
            "2024-02-29T12:34Z",
            "2024-02-29T12:34:5x",
            "2024-02-29T12:34:56+9",
            "2024-02-29T12:34:56.é",
        ] {
            assert_eq!(moment(bad), None, "{bad}");
        }
    }
}

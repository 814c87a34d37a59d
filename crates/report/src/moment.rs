//! Times as RFC 3339 and spans as milliseconds, for serde.

use site_recovery::Timestamp;

/// Reads what [`Timestamp`] shows: `2026-11-24T08:00:00.000Z`, and nothing else.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (h, m, s, ms) = (part(11..13)?, part(14..16)?, part(17..19)?, part(20..23)?);
    // Days from civil, after Howard Hinnant; the way back of what `Timestamp` shows.
    let y = year.checked_sub(u64::from(month <= 2))?;
    let (era, yoe) = (y / 400, y % 400);
    let doy =
        (153 * (if month > 2 { month - 3 } else { month.checked_add(9)? }) + 2) / 5 + day.checked_sub(1)?;
    let days = (era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy).checked_sub(719_468)?;
    let found = Timestamp(((days * 24 + h) * 60 + m) * 60_000 + s * 1_000 + ms);
    // Whatever else was odd about it: it does not read back as it was.
    (found.to_string() == text).then_some(found)
}

pub(crate) mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use site_recovery::Timestamp;

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(at)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        super::parse(&text).ok_or_else(|| D::Error::custom("a time is as 2026-11-24T08:00:00.000Z"))
    }
}

pub(crate) mod rfc3339_or_none {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use site_recovery::Timestamp;

    pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => to.collect_str(at),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let found = super::parse(&text);
        found.map(Some).ok_or_else(|| D::Error::custom("a time is as 2026-11-24T08:00:00.000Z"))
    }
}

pub(crate) mod millis_or_none {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        span.map(|span| span.as_millis() as u64).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_timestamp_shows_is_read_back() {
        for ms in [
            0,
            1,
            951_782_399_999,
            951_782_400_000,
            1_709_210_096_789,
            4_102_444_800_000,
            253_402_300_799_999,
        ] {
            assert_eq!(parse(&Timestamp(ms).to_string()), Some(Timestamp(ms)), "{ms}");
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in [
            "",
            "2026",
            "2026-02-30T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000+01:00",
            "2026-01-01T24:00:00.000Z",
            "1969-12-31T23:59:59.999Z",
            "2026-01-01T00:00:00.000Z ",
            "２０２６-01-01T00:00:00.000Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

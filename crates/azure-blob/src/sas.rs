//! Addresses that are signed, for one blob, to read.

use crate::Error;
use crate::rate::Rate;
use crate::sign::{Key, now};
use crate::wire::{Repeat, Wire};
use crate::xml::walk;
use azure_core::http::Url;
use azure_core::time::{OffsetDateTime, to_rfc3339};
use azure_storage_blob::models::KeyInfo;
use azure_storage_blob::{BlobServiceClient, BlobServiceClientOptions};
use site_recovery_https::Secret;
use std::time::Duration;
use url::form_urlencoded::Serializer;

/// The version that the signed text is written by.
const VERSION: &str = "2022-11-02";
/// No lent key lives longer.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// The service's clock may be behind ours.
const BEFORE: Duration = Duration::from_secs(15 * 60);

/// From when to when.
pub(crate) struct Times {
    start: OffsetDateTime,
    end: OffsetDateTime,
}

impl Times {
    pub(crate) fn of(span: Duration) -> Result<Self, Error> {
        if span < Duration::from_secs(1) || span > LONGEST {
            let rule = "it is between a second and a week";
            return Err(Error::invalid("span", format!("{span:?}"), rule, "sign again later"));
        }
        let now = now();
        Ok(Self { start: now - BEFORE, end: now + Duration::from_secs(span.as_secs()) })
    }
}

fn text(at: OffsetDateTime) -> String {
    // To the second, as what is signed has it.
    to_rfc3339(&at)
}

/// A key that the service has lent.
pub(crate) struct Lent {
    key: Secret,
    oid: String,
    tid: String,
    start: String,
    end: String,
    service: String,
    version: String,
}

/// Has a key lent by the service at this address.
pub(crate) async fn lent(
    wire: &Wire,
    name: &str,
    rate: &Rate,
    service: Url,
    times: &Times,
) -> Result<Lent, Error> {
    let options = BlobServiceClientOptions { client_options: wire.options(), ..Default::default() };
    let client = BlobServiceClient::new(service, None, Some(options)).expect("an address by https is a base");
    let call = || async {
        let wanted = KeyInfo { start: Some(times.start), expiry: Some(times.end), ..Default::default() };
        client.get_user_delegation_key(wanted.try_into()?, None).await
    };
    let answer = wire.send(name, rate, 0, Repeat::Safely, call).await?;
    read(&answer.into_body()).map_err(|what| Error::garbage(name, what))
}

pub(crate) fn read(body: &[u8]) -> Result<Lent, String> {
    let mut found: [Option<String>; 7] = Default::default();
    let names =
        ["Value", "SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion"];
    walk(body, |element| {
        if let ["UserDelegationKey", name] = element.path
            && let Some(at) = names.iter().position(|known| known == name)
        {
            found[at] = Some(element.text.to_owned());
        }
        Ok(())
    })?;
    let [Some(key), Some(oid), Some(tid), Some(start), Some(end), Some(service), Some(version)] = found
    else {
        return Err("a lent key is not whole".into());
    };
    Ok(Lent { key: Secret::new(key), oid, tid, start, end, service, version })
}

/// Signs with a lent key.
pub(crate) fn by_lent(lent: &Lent, what: &str, times: &Times) -> Result<String, String> {
    let key = Key::new(&lent.key).map_err(|_| "a lent key is no key")?;
    let Lent { oid, tid, start, end, service, version, .. } = lent;
    let (from, to) = (text(times.start), text(times.end));
    let signed = [
        "r", &from, &to, what, oid, tid, start, end, service, version, // the key
        "", "", "", // on behalf of nobody else
        "", "https", VERSION, "b", "", "", // one blob, over TLS
        "", "", "", "", "", // headers as they are
    ];
    let signature = key.sign(&signed.join("\n"));
    let mut query = Serializer::new(String::new());
    query.extend_pairs([
        ("sp", "r"),
        ("st", &from),
        ("se", &to),
        ("skoid", oid),
        ("sktid", tid),
        ("skt", start),
    ]);
    query.extend_pairs([("ske", end), ("sks", service), ("skv", version)]);
    query.extend_pairs([("spr", "https"), ("sv", VERSION), ("sr", "b"), ("sig", &signature)]);
    Ok(query.finish())
}

/// Signs with the account's own key.
pub(crate) fn by_key(key: &Secret, what: &str, times: &Times) -> Result<String, Error> {
    let (from, to) = (text(times.start), text(times.end));
    let signed = [
        "r", &from, &to, what, "", // no policy
        "", "https", VERSION, "b", "", "", // one blob, over TLS
        "", "", "", "", "", // headers as they are
    ];
    let signature = Key::new(key)?.sign(&signed.join("\n"));
    let mut query = Serializer::new(String::new());
    query.extend_pairs([("sp", "r"), ("st", &from), ("se", &to)]);
    query.extend_pairs([("spr", "https"), ("sv", VERSION), ("sr", "b"), ("sig", &signature)]);
    Ok(query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Times {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
        Times { start: at(1_700_000_000), end: at(1_700_003_600) }
    }

    /// The query, taken apart.
    fn pairs(query: &str) -> Vec<(String, String)> {
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }

    #[test]
    fn what_is_signed_gives_reading_of_one_blob_over_tls_for_a_while() {
        let key = Secret::new("c2VjcmV0".into());
        let found = pairs(&by_key(&key, "/blob/acct/points/d/os.vhd", &times()).expect("signed"));
        let text = "r\n2023-11-14T22:13:20Z\n2023-11-14T23:13:20Z\n/blob/acct/points/d/os.vhd\n\n\nhttps\n2022-11-02\nb\n\n\n\n\n\n\n";
        let signature = Key::new(&key).expect("a key").sign(text);
        let wanted = [
            ("sp", "r"),
            ("st", "2023-11-14T22:13:20Z"),
            ("se", "2023-11-14T23:13:20Z"),
            ("spr", "https"),
            ("sv", "2022-11-02"),
            ("sr", "b"),
            ("sig", &signature),
        ];
        assert_eq!(found, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn a_span_is_of_whole_seconds_and_a_week_at_the_most() {
        let odd = Times::of(Duration::from_millis(90_500)).expect("a span");
        assert!(!text(odd.end).contains('.'), "{}", text(odd.end));
        assert_eq!((odd.end - odd.start).whole_seconds(), 900 + 90);
        for bad in [Duration::ZERO, Duration::from_millis(999), LONGEST + Duration::from_secs(1)] {
            assert!(matches!(Times::of(bad), Err(Error::Invalid(_))), "{bad:?}");
        }
    }
}

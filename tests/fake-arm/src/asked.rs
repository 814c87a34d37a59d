//! A request, taken apart.

use crate::answer::{Refusal, Ruled};
use crate::place::Target;
use fake_blob::Image;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// As `https://127.0.0.1:1000`.
    pub(crate) base: String,
    pub(crate) path: String,
    /// Names in lower case, values decoded.
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) target: Target,
    /// Without nulls.
    pub(crate) body: Value,
    /// The disk within the blob that a body imports, or why there is none.
    pub(crate) imported: Option<Ruled<Image>>,
    /// How the operation that this begins shall end.
    pub(crate) fails: Option<Refusal>,
}

impl Asked {
    pub(crate) fn version(&self) -> &str {
        self.query.get("api-version").map_or("", String::as_str)
    }
}

/// The members of a query.
pub(crate) fn query(raw: &str) -> BTreeMap<String, String> {
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name).to_lowercase(), decoded(value))).collect()
}

/// Without percent signs.
pub(crate) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[at], hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query = query("api-version=1&$filter=location%20eq+%27west%27&Flag");
        assert_eq!(query["api-version"], "1");
        assert_eq!(query["$filter"], "location eq 'west'");
        assert_eq!(query["flag"], "");
    }
}

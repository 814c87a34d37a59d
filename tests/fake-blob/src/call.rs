//! A request as it came in.

use crate::answer::Refused;
use bytes::Bytes;
use hyper::Method;
use hyper::http::request::Parts;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::ops::Range;
use url::{Url, form_urlencoded};

pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) place: Place,
    pub(crate) body: Bytes,
    /// As it stood on the wire, still encoded.
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
}

/// What a URL names.
#[derive(Clone, Default)]
pub(crate) struct Place {
    pub(crate) account: String,
    pub(crate) container: Option<String>,
    pub(crate) blob: Option<String>,
    pub(crate) query: BTreeMap<String, String>,
}

impl Place {
    pub(crate) fn new(path: &str, query: &str) -> Self {
        let mut parts = path.trim_start_matches('/').splitn(3, '/');
        let mut part = || {
            let part = parts.next().filter(|part| !part.is_empty())?;
            Some(percent_decode_str(part).decode_utf8_lossy().into_owned())
        };
        let (account, container, blob) = (part().unwrap_or_default(), part(), part());
        Self {
            account,
            container,
            blob,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        }
    }

    pub(crate) fn of(url: &Url) -> Self {
        Self::new(url.path(), url.query().unwrap_or_default())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

impl Call {
    pub(crate) fn new(head: Parts, body: Bytes) -> Self {
        let path = head.uri.path().to_owned();
        let headers = head.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
        });
        let place = Place::new(&path, head.uri.query().unwrap_or_default());
        Self { method: head.method, place, body, path, headers: headers.collect() }
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.place.query(name)
    }

    pub(crate) fn comp(&self) -> Option<&str> {
        self.query("comp")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn required(&self, name: &'static str) -> Result<&str, Refused> {
        self.header(name).ok_or_else(|| Refused::missing_header(name))
    }

    /// A header that is a number.
    pub(crate) fn number(&self, name: &'static str) -> Result<Option<u64>, Refused> {
        let parse = |value: &str| value.parse().map_err(|_| Refused::bad_header(name));
        self.header(name).map(parse).transpose()
    }

    /// A query parameter that is a number of at least 1.
    pub(crate) fn count(&self, name: &'static str) -> Result<Option<usize>, Refused> {
        let Some(value) = self.query(name) else { return Ok(None) };
        let count = value.parse::<usize>().map_err(|_| Refused::bad_query(name))?;
        if count == 0 {
            return Err(Refused::new(
                400,
                "OutOfRangeQueryParameterValue",
                "A query parameter is outside the permissible range.",
            ));
        }
        Ok(Some(count))
    }

    /// The `x-ms-meta-` headers; `None` where there is none.
    pub(crate) fn metadata(&self) -> Option<BTreeMap<String, String>> {
        let own = self.headers().filter_map(|(name, value)| Some((name.strip_prefix("x-ms-meta-")?, value)));
        let all: BTreeMap<_, _> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (!all.is_empty()).then_some(all)
    }

    /// `x-ms-range` or `Range`, the end not included; it may be open.
    pub(crate) fn range(&self) -> Result<Option<(u64, Option<u64>)>, Refused> {
        let Some(value) = self.header("x-ms-range").or_else(|| self.header("range")) else { return Ok(None) };
        byte_range(value).map(Some).ok_or_else(|| Refused::bad_header("Range"))
    }

    /// The range of a page operation: both ends told, whole sectors.
    pub(crate) fn page_range(&self) -> Result<Range<u64>, Refused> {
        let (start, end) = self.range()?.ok_or_else(|| Refused::missing_header("Range"))?;
        let end = end.ok_or_else(|| Refused::bad_header("Range"))?;
        if !start.is_multiple_of(512) || !end.is_multiple_of(512) {
            return Err(Refused::bad_header("Range"));
        }
        Ok(start..end)
    }
}

pub(crate) fn byte_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (start, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    if last.is_empty() {
        return Some((start, None));
    }
    let end = last.parse::<u64>().ok()?.checked_add(1)?;
    (start < end).then_some((start, Some(end)))
}

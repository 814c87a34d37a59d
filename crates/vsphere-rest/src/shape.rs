//! The two shapes of one API: `/api`, and `/rest` of older servers. Paths, filters and actions differ, and so do answers and
//! errors; nothing else in this crate knows which is spoken.

use crate::{Error, Refusal};
use reqwest::{Method, Url};
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Which form of the API a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dialect {
    /// Below `/api`, from vCenter 7.0 U2 on.
    Api,
    /// Below `/rest`, from vCenter 6.5 on.
    Rest,
}

/// The longest address that is sent; servers refuse longer ones without a word about why.
const LONGEST: usize = 30_000;

/// What is asked for, in neither shape yet.
pub(crate) struct Request<'a> {
    pub(crate) call: &'static str,
    pub(crate) method: Method,
    /// `vcenter/vm`.
    pub(crate) path: &'static str,
    pub(crate) id: Option<&'a str>,
    /// What of it: `power`, `guest/power`.
    pub(crate) part: Option<&'static str>,
    /// What is done to it, or a list that is asked for by POST.
    pub(crate) action: Option<&'static str>,
    pub(crate) filters: Vec<(&'static str, Vec<&'a str>)>,
    pub(crate) body: Option<Value>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(call: &'static str, method: Method, path: &'static str) -> Self {
        let (id, part, action, filters, body) = (None, None, None, vec![], None);
        Self { call, method, path, id, part, action, filters, body }
    }

    pub(crate) fn get(call: &'static str, path: &'static str) -> Self {
        Self::new(call, Method::GET, path)
    }

    pub(crate) fn post(call: &'static str, path: &'static str) -> Self {
        Self::new(call, Method::POST, path)
    }

    pub(crate) fn of(self, id: &'a str) -> Self {
        Self { id: Some(id), ..self }
    }

    pub(crate) fn part(self, part: &'static str) -> Self {
        Self { part: Some(part), ..self }
    }

    pub(crate) fn action(self, action: &'static str) -> Self {
        Self { action: Some(action), ..self }
    }

    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// Nothing where there are no values: such a filter lets everything through.
    pub(crate) fn filter(mut self, name: &'static str, values: impl IntoIterator<Item = &'a str>) -> Self {
        let values: Vec<_> = values.into_iter().collect();
        if !values.is_empty() {
            self.filters.push((name, values));
        }
        self
    }

    fn is_cis(&self) -> bool {
        self.path.starts_with("cis/")
    }

    /// Its address, and its body.
    pub(crate) fn shaped(self, dialect: Dialect, base: &Url) -> Result<(Method, Url, Option<Value>), Error> {
        let mut url = base.clone();
        {
            let mut segments = url.path_segments_mut().expect("https has a path");
            segments.clear();
            match dialect {
                Dialect::Api => segments.push("api"),
                Dialect::Rest if self.is_cis() => segments.extend(["rest", "com", "vmware"]),
                Dialect::Rest => segments.push("rest"),
            };
            segments.extend(self.path.split('/'));
            if let Some(id) = self.id {
                check(id)?;
                match dialect {
                    Dialect::Rest if self.is_cis() => segments.push(&format!("id:{id}")),
                    _ => segments.push(id),
                };
            }
            segments.extend(self.part.into_iter().flat_map(|part| part.split('/')));
            if let (Dialect::Rest, Some("power"), Some(action)) = (dialect, self.part, self.action) {
                segments.push(action);
            }
        }
        let name = match dialect {
            Dialect::Rest if self.is_cis() => Some("~action"),
            Dialect::Rest if self.part == Some("power") => None,
            _ => Some("action"),
        };
        if let (Some(name), Some(action)) = (name, self.action) {
            url.set_query(Some(&format!("{name}={action}")));
        }
        let mut query: Vec<(String, &str)> = vec![];
        for (name, values) in &self.filters {
            for (at, value) in values.iter().enumerate() {
                let name = match dialect {
                    Dialect::Api => (*name).to_owned(),
                    Dialect::Rest => format!("filter.{name}.{}", at + 1),
                };
                query.push((name, value));
            }
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        if url.as_str().len() > LONGEST {
            let rule = "a request's address has at most 30,000 bytes";
            return Err(Error::invalid(
                "filter",
                format!("{} bytes", url.as_str().len()),
                rule,
                "name fewer at once",
            ));
        }
        // Older servers have what is made within a field of its own.
        let body = match dialect {
            Dialect::Rest if self.id.is_none() && self.action.is_none() => {
                self.body.map(|spec| json!({ "create_spec": spec }))
            }
            _ => self.body,
        };
        Ok((self.method, url, body))
    }
}

/// What goes into an address as one part of it, and would lead elsewhere otherwise.
fn check(id: &str) -> Result<(), Error> {
    let whole = !matches!(id, "" | "." | "..") && id.len() <= 500 && !id.contains(char::is_control);
    if whole {
        return Ok(());
    }
    let rule = "it is as the server gave it";
    Err(Error::invalid(
        "id",
        format!("{:?}", id.chars().take(60).collect::<String>()),
        rule,
        "take it from a list",
    ))
}

/// The value of a right answer.
pub(crate) fn value<T: DeserializeOwned>(
    dialect: Dialect,
    call: &'static str,
    body: &[u8],
) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Held<T> {
        value: T,
    }
    let read = match dialect {
        Dialect::Api => serde_json::from_slice(body),
        Dialect::Rest => serde_json::from_slice::<Held<T>>(body).map(|held| held.value),
    };
    // Without the parser's words, which may repeat what it read.
    read.map_err(|e| {
        let what = match e.classify() {
            serde_json::error::Category::Data => "its JSON has another shape",
            serde_json::error::Category::Eof => "its JSON ends too early",
            _ => "it is no JSON",
        };
        Error::garbage(call, format!("{what} (line {}, column {})", e.line(), e.column()))
    })
}

/// A refusal and its words, in either shape.
pub(crate) fn refusal(body: &[u8]) -> Option<(Refusal, Vec<String>)> {
    #[derive(Deserialize)]
    struct Said {
        error_type: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(default, deserialize_with = "or_default")]
        messages: Vec<Message>,
        #[serde(default, deserialize_with = "or_default")]
        value: Inner,
    }
    #[derive(Default, Deserialize)]
    struct Inner {
        #[serde(default, deserialize_with = "or_default")]
        messages: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        default_message: Option<String>,
    }
    let said: Said = serde_json::from_slice(body).ok()?;
    let word = match (said.error_type, said.kind) {
        (Some(word), _) => word,
        (None, Some(kind)) => kind.rsplit_once(".errors.")?.1.to_uppercase(),
        (None, None) => return None,
    };
    let messages = said.messages.into_iter().chain(said.value.messages);
    let words =
        messages.filter_map(|m| m.default_message).map(|text| plain(&text)).filter(|text| !text.is_empty());
    Some((Refusal::from(plain(&word)), words.take(8).collect()))
}

/// A text for people: one line, bounded.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect::<String>().trim().to_owned()
}

/// What is not said, or `null`, which some servers say for an empty list.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// A map: an object below `/api`, a list of keys and values below `/rest`. Read as it comes, not through a tree of what it may
/// be: that would cost many times the bytes.
pub(crate) fn keyed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    #[derive(Deserialize)]
    struct Pair<T> {
        key: String,
        value: T,
    }
    struct Either<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object, or a list of keys and values")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some((key, value)) = map.next_entry()? {
                all.insert(key, value);
            }
            Ok(all)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some(Pair { key, value }) = list.next_element()? {
                all.insert(key, value);
            }
            Ok(all)
        }
    }

    from.deserialize_any(Either(PhantomData))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

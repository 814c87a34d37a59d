//! Files on datastores, by name.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

/// A file or folder on a datastore: `[fast] web/web.vmdk`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatastorePath {
    datastore: String,
    path: String,
}

impl DatastorePath {
    /// The file at a path, or with an empty one the datastore itself.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid): a datastore without a name or with a bracket in it; a path that leads out of itself (`..`),
    /// or has a part without a name; control characters.
    pub fn new(datastore: impl Into<String>, path: impl Into<String>) -> Result<Self, Error> {
        let (datastore, path) = (datastore.into(), path.into());
        let wrong = |value: &str, rule| {
            Error::invalid("datastore path", format!("{value:?}"), rule, "as [datastore] folder/file.vmdk")
        };
        if datastore.is_empty() || datastore.contains([']', '[']) || datastore.contains(char::is_control) {
            return Err(wrong(&datastore, "a datastore has a name, without brackets"));
        }
        let bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
        if !path.is_empty() && path.split('/').any(bad) {
            return Err(wrong(&path, "each part of a path is a name, and none leads upwards"));
        }
        Ok(Self { datastore, path })
    }

    /// The datastore's name.
    pub fn datastore(&self) -> &str {
        &self.datastore
    }

    /// Below the datastore; empty for the datastore itself.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The last name.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// What it is in; for the datastore itself, itself.
    #[must_use]
    pub fn folder(&self) -> Self {
        let path = self.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        Self { datastore: self.datastore.clone(), path }
    }

    /// A name in this folder.
    ///
    /// # Errors
    /// As [`DatastorePath::new`].
    pub fn join(&self, name: &str) -> Result<Self, Error> {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        Self::new(&self.datastore, path)
    }

    /// Where a disk's bytes are, of a descriptor `web.vmdk`: `web-flat.vmdk`. Right for a disk that is flat and has no snapshot.
    pub fn flat(&self) -> Option<Self> {
        let path = format!("{}-flat.vmdk", self.path.strip_suffix(".vmdk")?);
        Some(Self { datastore: self.datastore.clone(), path })
    }

    /// Path and query by which a host hands it out. The datacenter is named by its path in the inventory, as
    /// `Berlin/DC0`; on a host it is `ha-datacenter`.
    pub(crate) fn address(&self, datacenter: &str) -> String {
        let mut made = String::from("/folder/");
        encode(&mut made, &self.path, true);
        made.push_str("?dcPath=");
        encode(&mut made, datacenter, false);
        made.push_str("&dsName=");
        encode(&mut made, &self.datastore, false);
        made
    }
}

/// Everything but what is the same in each part of an address.
fn encode(to: &mut String, text: &str, path: bool) {
    for byte in text.bytes() {
        match byte {
            b'/' if path => to.push('/'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push(char::from(byte)),
            _ => {
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}

impl fmt::Display for DatastorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "[{}]", self.datastore),
            path => write!(f, "[{}] {path}", self.datastore),
        }
    }
}

impl FromStr for DatastorePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let rest = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let Some((datastore, path)) = rest else {
            let rule = "it begins with its datastore in brackets";
            return Err(Error::invalid(
                "datastore path",
                format!("{text:?}"),
                rule,
                "as [datastore] folder/file.vmdk",
            ));
        };
        Self::new(datastore, path.strip_prefix(' ').unwrap_or(path))
    }
}

impl TryFrom<String> for DatastorePath {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<DatastorePath> for String {
    fn from(path: DatastorePath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for text in
            ["[fast] web/web.vmdk", "[a b] 웹/서버 1.vmdk", "[x] 50%.vmdk", "[x]", "[x] it's \"a\".vmx"]
        {
            let path: DatastorePath = text.parse().expect(text);
            assert_eq!(path.to_string(), text);
        }
        let path: DatastorePath = "[fast] web/web.vmdk".parse().expect("right");
        assert_eq!((path.datastore(), path.path(), path.file_name()), ("fast", "web/web.vmdk", "web.vmdk"));
        assert_eq!(path.flat().expect("a disk").to_string(), "[fast] web/web-flat.vmdk");
        assert_eq!(path.folder().join("b.vmdk").expect("right").to_string(), "[fast] web/b.vmdk");
        assert_eq!(path.folder().folder().to_string(), "[fast]");
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for bad in [
            "web.vmdk",
            "[] a",
            "[a",
            "[a] ../b",
            "[a] b/../../c",
            "[a] b//c",
            "[a] /b",
            "[a] b\n",
            "[a] ./b",
        ] {
            let error = bad.parse::<DatastorePath>().expect_err(bad).to_string();
            assert!(error.starts_with("datastore path is"), "{error}");
        }
    }

    #[test]
    fn addresses_hold_whatever_names_hold() {
        let path = DatastorePath::new("a b/c&d", "웹/50% \"x\"'?#.vmdk").expect("right");
        let address = path.address("동/DC0+");
        let wanted =
            "/folder/%EC%9B%B9/50%25%20%22x%22%27%3F%23.vmdk?dcPath=%EB%8F%99%2FDC0%2B&dsName=a%20b%2Fc%26d";
        assert_eq!(address, wanted);
        let url = reqwest::Url::parse("https://a").expect("right").join(&address).expect("right");
        let pairs: Vec<_> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
        assert_eq!(pairs, ["동/DC0+", "a b/c&d"]);
        assert_eq!(url.as_str(), format!("https://a{wanted}"), "nothing is taken away by the client");
    }
}

//! Secrets by reference: a configuration says where one stands, never what it is.

use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// No password is longer.
const MOST: u64 = 4096;

/// Where a secret stands. One line; the end of the line does not belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretRef {
    /// In a file, read again whenever it is needed: it may change.
    File(PathBuf),
    /// Behind a file descriptor that this program was started with, read once.
    Fd(u32),
    /// In a variable of the environment.
    Env(String),
}

/// A secret. Wiped when it is dropped; shown to nobody.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl SecretRef {
    /// # Errors
    /// `Denied` where nothing can be read there; it names the place, never what stands there.
    pub(crate) fn read(&self) -> Result<Secret> {
        let (place, text) = match self {
            Self::File(path) => (format!("file {}", path.display()), read(path)),
            // By its name: this program forbids itself what would take the number as it is.
            Self::Fd(fd) => {
                (format!("file descriptor {fd}"), read(&PathBuf::from(format!("/proc/self/fd/{fd}"))))
            }
            Self::Env(name) => {
                let found = std::env::var(name).map(Zeroizing::new);
                (format!("variable {name}"), found.map_err(|_| std::io::ErrorKind::NotFound.into()))
            }
        };
        let unusable = |why: String| {
            let message = format!("the secret in {place} cannot be used: {why}");
            Error::new(ErrorKind::Denied, message).with("field", "secret")
        };
        let text = text.map_err(|e| unusable(e.kind().to_string()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.contains(['\n', '\0']) {
            return Err(unusable("it is not one line".into()));
        }
        Ok(Secret::new(line.to_owned()))
    }
}

fn read(path: &PathBuf) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize));
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_a_secret_is_read_by_reference_and_shown_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "correct horse\r\n").unwrap();
        let secret = SecretRef::File(path.clone()).read().unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}")), ("correct horse", "***".into()));
        for bad in ["", "\n", "two\nlines\n"] {
            std::fs::write(&path, bad).unwrap();
            let error = SecretRef::File(path.clone()).read().unwrap_err();
            assert!(!error.to_string().contains("two"), "{error}");
        }
        assert_eq!(
            SecretRef::Env("NO_SUCH_VARIABLE_HERE".into()).read().unwrap_err().kind(),
            ErrorKind::Denied
        );
        let said: SecretRef = serde_json::from_str(r#"{"file": "/etc/p"}"#).unwrap();
        assert_eq!(said, SecretRef::File("/etc/p".into()));
    }
}

//! The password by reference: settings say where it stands, never what it is.

use crate::Unusable;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No password is longer.
const MOST: u64 = 4096;

/// Where a password stands. One line; the end of the line does not belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum SecretRef {
    /// In a file, read again for each login: it may change.
    File(PathBuf),
    /// Behind a file descriptor that this program was started with, read once.
    Fd(u32),
    /// In a variable of the environment.
    Env(String),
}

/// A password, or what stands for one in a session. Wiped when it is dropped; shown to nobody.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// Takes the text, which is wiped with it.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// As the value of a header, shown to nobody either; none where it is empty, or no header can hold it.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The text itself, for what is sent.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What is read when it is needed, or was read because it cannot be read again.
#[derive(Debug)]
pub struct Password(Kept);

#[derive(Debug)]
enum Kept {
    Known(Secret),
    At(SecretRef),
}

impl Password {
    /// The one that stands there. Behind a file descriptor it is read now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(at: &SecretRef) -> Result<Self, Unusable> {
        Ok(Self(match at {
            SecretRef::Fd(_) => Kept::Known(at.read()?),
            kept => Kept::At(kept.clone()),
        }))
    }

    /// As it stands there now.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> Result<Secret, Unusable> {
        match &self.0 {
            Kept::Known(secret) => Ok(secret.clone()),
            Kept::At(at) => at.read(),
        }
    }
}

impl SecretRef {
    /// Names the place in its errors, never what stands there.
    fn read(&self) -> Result<Secret, Unusable> {
        let (place, text) = match self {
            Self::File(path) => (format!("in file {}", path.display()), read(path)),
            // By its name: this program forbids itself what would take the number as it is.
            Self::Fd(fd) => {
                (format!("behind file descriptor {fd}"), read(Path::new(&format!("/proc/self/fd/{fd}"))))
            }
            Self::Env(name) => {
                let found = std::env::var(name).map(Zeroizing::new);
                (format!("in variable {name}"), found.map_err(|_| std::io::ErrorKind::NotFound.into()))
            }
        };
        let unusable = |why: String| Unusable {
            field: "password",
            value: format!("{why}, {place}"),
            rule: "it is one line that this program can read",
            remedy: "put the password there",
        };
        let text = text.map_err(|e| unusable(e.kind().to_string()))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        if line.is_empty() || line.contains(char::is_control) {
            return Err(unusable("not one line".into()));
        }
        Ok(Secret::new(line.to_owned()))
    }
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(MOST as usize));
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c1_a_password_is_read_by_reference_and_shown_to_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "correct horse\r\n").unwrap();
        let password = Password::of(&SecretRef::File(path.clone())).unwrap();
        let secret = password.read().unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}")), ("correct horse", "***".into()));
        for bad in ["", "\n", "two\nlines\n", "bell\x07"] {
            std::fs::write(&path, bad).unwrap();
            let error = format!("{:?}", password.read().unwrap_err());
            assert!(!error.contains("two") && !error.contains("bell"), "{error}");
        }
        let header = Secret::new("52d8-a".into()).header().unwrap();
        assert_eq!((header.to_str().unwrap(), header.is_sensitive()), ("52d8-a", true));
        assert!(!format!("{header:?}").contains("52d8"));
        assert!(
            Secret::new(String::new()).header().is_none() && Secret::new("a\nb".into()).header().is_none()
        );
        assert!(SecretRef::Env("NO_SUCH_VARIABLE_HERE".into()).read().is_err());
        let said: SecretRef = serde_json::from_str(r#"{"file": "/etc/p"}"#).unwrap();
        assert_eq!(said, SecretRef::File("/etc/p".into()));
    }
}

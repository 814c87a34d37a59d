//! Settings of a service: one file, read whole or refused.

use crate::peers::Peers;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use site_recovery::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The most bytes of a file of settings.
const LONGEST: u64 = 1 << 20;

/// The table `[service]` of every service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where credentials and all that the service keeps stand; for its user alone.
    pub state: PathBuf,
    /// Where it listens, as in `0.0.0.0:7443`.
    pub listen: SocketAddr,
    /// Where others reach it, as in `ps-1.example.net:7443`; told to the authority.
    pub address: String,
    /// The site where it stands. Two services of one site have the same.
    pub site: Option<String>,
    /// Who may ask, as in `engine:dr` or `process-server:*`; what each program says unless it is given.
    pub allow: Option<Peers>,
}

impl Settings {
    /// Where the credentials are.
    pub fn credentials(&self) -> PathBuf {
        self.state.join("credentials")
    }

    /// Refuses what cannot be.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        if !self.state.is_absolute() {
            let value = self.state.display();
            return Err(Error::invalid("service.state", value, "it is an absolute path", "begin it with /"));
        }
        let (host, port) = self.address.rsplit_once(':').unwrap_or((&self.address, ""));
        if host.is_empty() || port.parse::<u16>().map_or(true, |port| port == 0) {
            let rule = "it is a host and a port, as others reach it";
            return Err(Error::invalid(
                "service.address",
                &self.address,
                rule,
                "as in ps-1.example.net:7443",
            ));
        }
        if self.allow.as_ref().is_some_and(Peers::is_empty) {
            let rule = "at least one may ask";
            return Err(Error::invalid("service.allow", "empty", rule, "name one, as in engine:dr"));
        }
        Ok(())
    }
}

/// Reads a file of settings.
///
/// # Errors
/// `NotFound`, `Denied`; `Invalid`, naming file, line and what is wrong there: unknown keys, wrong types, what is missing.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let unread = |e: std::io::Error| {
        let kind = match e.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Denied,
        };
        Error::new(kind, format!("the settings {} cannot be read", file.display())).caused_by(e)
    };
    let size = std::fs::metadata(file).map_err(unread)?.len();
    if size > LONGEST {
        let rule = format!("they have at most {LONGEST} bytes");
        return Err(Error::invalid("settings", file.display(), &rule, "name the right file"));
    }
    let text = std::fs::read_to_string(file).map_err(unread)?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let place = match line {
            Some(line) => format!("{}, line {line}", file.display()),
            None => file.display().to_string(),
        };
        let rule = format!("it is as described in docs/services.md: {}", error.message());
        Error::invalid("settings", place, &rule, "mend the file; `check` reads it without doing anything")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        service: Settings,
    }

    fn of(text: &str) -> Result<File> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    const FINE: &str = "[service]\nstate = \"/var/lib/x\"\nlisten = \"127.0.0.1:0\"\naddress = \"h:1\"\n";

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let fine = of(FINE).unwrap();
        fine.service.check().unwrap();
        for (text, line, said) in [
            (format!("{FINE}colour = \"blue\"\n"), 5, "colour"),
            (format!("{FINE}listen2 = 1\n"), 5, "listen2"),
            (FINE.replace("127.0.0.1:0", "here"), 3, "socket address"),
            (format!("{FINE}allow = [\"engine\"]\n"), 5, "kind:name"),
            (format!("{FINE}[other]\nx = 1\n"), 5, "other"),
            ("nonsense".to_owned(), 1, ""),
        ] {
            let error = of(&text).unwrap_err();
            assert_eq!(error.fact("field"), Some("settings"), "{error}");
            assert!(error.message().contains(&format!("line {line}")), "{text}: {error}");
            assert!(error.to_string().contains(said), "{text}: {error}");
        }
        assert_eq!(read::<File>(Path::new("/nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_field() {
        let fine = of(FINE).unwrap().service;
        let cases = [
            ("service.state", Settings { state: "x".into(), ..fine.clone() }),
            ("service.address", Settings { address: "nowhere".into(), ..fine.clone() }),
            ("service.address", Settings { address: "h:0".into(), ..fine.clone() }),
            ("service.allow", Settings { allow: Some(Peers::default()), ..fine }),
        ];
        for (field, settings) in cases {
            assert_eq!(settings.check().unwrap_err().fact("field"), Some(field));
        }
    }
}

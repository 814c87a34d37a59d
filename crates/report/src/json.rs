//! The report as JSON.

use crate::{Report, VERSION};
use site_recovery::audit::sha256_hex;
use site_recovery::{Error, ErrorKind, Result};

impl Report {
    /// As JSON, for people and programs: indented, a newline at its end.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data serialises") + "\n"
    }

    /// From JSON, however it is laid out. Whether it is true is for [`verify`](crate::verify).
    ///
    /// # Errors
    /// `Unsupported` for a newer version, naming both; `Corrupt` for what is no report, or says more or less than one: what
    /// would be passed over here stands under no digest.
    pub fn from_json(text: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let corrupt = |e: serde_json::Error| Error::new(ErrorKind::Corrupt, "this is no report").caused_by(e);
        let Versioned { version } = serde_json::from_str(text).map_err(corrupt)?;
        if version > VERSION {
            let message =
                format!("the report has version {version}, this reader knows {VERSION}; use a newer one");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let report: Report = serde_json::from_str(text).map_err(corrupt)?;
        let told: serde_json::Value = serde_json::from_str(text).map_err(corrupt)?;
        if told != serde_json::to_value(&report).map_err(corrupt)? {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the text has fields that a report has not, or lacks some",
            ));
        }
        Ok(report)
    }

    /// What [`digest`](Report::digest) has to be.
    pub(crate) fn computed_digest(&self) -> String {
        let bare = Report { digest: String::new(), ..self.clone() };
        sha256_hex(&serde_json::to_vec(&bare).expect("plain data serialises"))
    }
}

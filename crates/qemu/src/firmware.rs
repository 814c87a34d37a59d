//! UEFI firmware, found as QEMU's firmware descriptors tell (`/usr/share/qemu/firmware/*.json`), and its variables.
//!
//! Source: QEMU, `docs/interop/firmware.json`.

use crate::Site;
use crate::description::{DescribedFirmware, Description};
use crate::home::Home;
use serde::Deserialize;
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, durable};
use std::fs;
use std::path::PathBuf;

/// The file of a machine's UEFI variables.
pub(crate) const VARIABLES: &str = "uefi-vars.fd";

/// Code and the template of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) code: PathBuf,
    pub(crate) variables: PathBuf,
    /// Whether Secure Boot is enforced, with keys enrolled.
    pub(crate) secure: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Fits>,
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    executable: Option<Flash>,
    nvram_template: Option<Flash>,
}

#[derive(Deserialize)]
struct Flash {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Fits {
    architecture: String,
    machines: Vec<String>,
}

impl Descriptor {
    fn serves(&self, machine: &str, secure: bool) -> bool {
        let has = |feature: &str| self.features.iter().any(|f| f == feature);
        let full = match machine {
            "q35" => "pc-q35-",
            "pc" => "pc-i440fx-",
            other => other,
        };
        let fits = |f: &Fits| {
            f.architecture == std::env::consts::ARCH
                && f.machines.iter().any(|m| full.starts_with(m.trim_end_matches('*')))
        };
        self.interface_types.iter().any(|t| t == "uefi")
            && self.mapping.device == "flash"
            && self.targets.iter().any(fits)
            && if secure { has("secure-boot") && has("enrolled-keys") } else { !has("secure-boot") }
    }

    fn code(self, secure: bool) -> Option<Code> {
        let (code, variables) = (self.mapping.executable?, self.mapping.nvram_template?);
        let usable = code.format == "raw" && variables.format == "raw" && code.filename.exists();
        usable.then_some(Code { code: code.filename, variables: variables.filename, secure })
    }
}

impl Site {
    /// The firmware of a machine; `None` for BIOS, which QEMU brings along.
    ///
    /// # Errors
    /// `Unsupported` where the host has none that fits.
    pub(crate) fn firmware(&self, machine: &str, firmware: DescribedFirmware) -> Result<Option<Code>> {
        let secure = match firmware {
            DescribedFirmware::Bios => return Ok(None),
            DescribedFirmware::Uefi => false,
            DescribedFirmware::UefiSecure => true,
        };
        for dir in &self.options.firmware {
            for path in durable::list(dir)? {
                let text = fs::read(&path).told("read", &path)?;
                // What is of another form is of another time: the next one may serve.
                let Ok(descriptor) = serde_json::from_slice::<Descriptor>(&text) else { continue };
                if descriptor.serves(machine, secure)
                    && let Some(code) = descriptor.code(secure)
                {
                    return Ok(Some(code));
                }
            }
        }
        let kind = if secure { "UEFI firmware with Secure Boot and enrolled keys" } else { "UEFI firmware" };
        let message = format!("this host has no {kind} for {machine}: install OVMF");
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// Makes the file of variables where the machine needs one and has none.
    pub(crate) fn provide_variables(&self, home: &Home, code: &Code) -> Result<PathBuf> {
        let path = home.dir.join(VARIABLES);
        if !path.exists() {
            let template = fs::read(&code.variables).told("read", &code.variables)?;
            durable::write_bytes(&path, &template)?;
        }
        Ok(path)
    }

    /// Refuses variables that the firmware here could not use.
    pub(crate) fn variables_fit(&self, description: &Description, bytes: u64) -> Result<()> {
        let Some(code) = self.firmware(&description.machine, description.firmware)? else { return Ok(()) };
        let needed = fs::metadata(&code.variables).told("look at", &code.variables)?.len();
        if bytes == needed {
            return Ok(());
        }
        let rule = format!("{} keeps {needed} bytes of variables", code.code.display());
        let remedy = "install the firmware build that the machine was made with";
        Err(Error::invalid("sidecars.uefi-vars", format!("{bytes} bytes"), &rule, remedy))
    }
}

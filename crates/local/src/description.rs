//! `machine.json`: what a machine of the directory is made of, written by a person or by a recovery.

use crate::fields::Fields;
use serde::Serialize;
use serde_json::Value;
use site_recovery::{DiskRole, Error, Firmware, OsFamily, Result};
use site_recovery_register::Told;
use std::collections::BTreeSet;
use std::path::{Component, Path};
use std::time::Duration;

/// Name of the file.
pub(crate) const FILE: &str = "machine.json";
const GIB: u64 = 1 << 30;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Description {
    pub(crate) disks: Vec<DescribedDisk>,
    pub(crate) nics: Vec<DescribedNic>,
    pub(crate) cpus: u32,
    pub(crate) memory: u64,
    #[serde(serialize_with = "firmware_name")]
    pub(crate) firmware: Firmware,
    #[serde(serialize_with = "os_name")]
    pub(crate) os: OsFamily,
    pub(crate) sidecars: Vec<DescribedSidecar>,
    pub(crate) commands: Commands,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DescribedDisk {
    pub(crate) id: String,
    pub(crate) file: String,
    #[serde(serialize_with = "role_name")]
    pub(crate) role: DiskRole,
    pub(crate) included: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DescribedNic {
    pub(crate) id: String,
    pub(crate) mac: Option<String>,
    pub(crate) network: Option<String>,
    pub(crate) addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DescribedSidecar {
    pub(crate) name: String,
    pub(crate) file: String,
}

/// What is run at the machine's turns; each is optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Commands {
    pub(crate) start: Option<Command>,
    /// Asks the machine to shut down, and returns when it has.
    pub(crate) stop: Option<Command>,
    /// Cuts the power.
    pub(crate) kill: Option<Command>,
    /// Exits with 0 while the machine runs, with 1 while it does not; anything else is no answer.
    pub(crate) is_running: Option<Command>,
    pub(crate) freeze: Option<Command>,
    pub(crate) thaw: Option<Command>,
    /// Whether `freeze` makes applications agree, not only file systems.
    pub(crate) freezes_applications: bool,
}

/// A program with its arguments; no shell between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Command {
    pub(crate) run: Vec<String>,
    pub(crate) seconds: u64,
}

impl Command {
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl Description {
    /// Reads the description of the machine in `dir`; `None` where there is none.
    ///
    /// # Errors
    /// `Invalid`, naming field, value, rule and remedy.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.told("read", &path)?,
        };
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&text, &name).map(Some).map_err(|e| e.with("file", path.display()))
    }

    fn parse(text: &[u8], name: &str) -> Result<Self> {
        let value: Value = serde_json::from_slice(text).map_err(|e| {
            let remedy = "mend the text at the place named";
            Error::invalid(FILE, "not JSON", "a description is one JSON object", remedy).caused_by(e)
        })?;
        let mut top = Fields::of(value, FILE, "")?;
        if let Some(given) = top.text("name", "name")?
            && given != name
        {
            let rule = "a machine is called like its directory";
            return Err(Error::invalid("name", given, rule, &format!("write {name:?}, or leave it out")));
        }
        let described = Self {
            disks: disks(&mut top)?,
            nics: nics(&mut top)?,
            cpus: top.number("cpus", "cpus", 1, 4096)?.unwrap_or(1) as u32,
            memory: top.number("memory", "memory", 1, u64::MAX)?.unwrap_or(GIB),
            firmware: top.one_of("firmware", "firmware", &FIRMWARES)?.unwrap_or_default(),
            os: top.one_of("os", "os", &SYSTEMS)?.unwrap_or_default(),
            sidecars: sidecars(&mut top)?,
            commands: match top.object("commands", "commands")? {
                Some(fields) => commands(fields)?,
                None => Commands::default(),
            },
        };
        top.done(FILE)?;
        Ok(described)
    }
}

fn disks(top: &mut Fields) -> Result<Vec<DescribedDisk>> {
    let mut disks: Vec<DescribedDisk> = vec![];
    for mut fields in top.objects("disks", "disks")? {
        let first = if disks.is_empty() { DiskRole::System } else { DiskRole::Data };
        let disk = DescribedDisk {
            id: fields.must("id", "disks.id")?,
            file: file_inside(&mut fields, "disks.file")?,
            role: fields.one_of("role", "disks.role", &ROLES)?.unwrap_or(first),
            included: fields.flag("included", "disks.included")?.unwrap_or(true),
        };
        if disks.iter().any(|d| d.id == disk.id) {
            return Err(twice("disks.id", &disk.id));
        }
        if disks.iter().any(|d| d.file == disk.file) {
            return Err(twice("disks.file", &disk.file));
        }
        if disk.role == DiskRole::System && !disk.included {
            let rule = "the system disk is always replicated";
            return Err(Error::invalid("disks.included", false, rule, "include it").with("at", fields.at()));
        }
        fields.done("disks")?;
        disks.push(disk);
    }
    if disks.is_empty() {
        return Err(Error::invalid("disks", "empty", "a machine has a disk", "add one with id and file"));
    }
    Ok(disks)
}

fn nics(top: &mut Fields) -> Result<Vec<DescribedNic>> {
    let mut nics: Vec<DescribedNic> = vec![];
    for mut fields in top.objects("nics", "nics")? {
        let nic = DescribedNic {
            id: fields.must("id", "nics.id")?,
            mac: fields.text("mac", "nics.mac")?,
            network: fields.text("network", "nics.network")?,
            addresses: fields.texts("addresses", "nics.addresses")?,
        };
        if nics.iter().any(|n| n.id == nic.id) {
            return Err(twice("nics.id", &nic.id));
        }
        if let Some(mac) = &nic.mac
            && !is_mac(mac)
        {
            let rule = "six bytes in hexadecimal, as aa:bb:cc:dd:ee:ff";
            return Err(Error::invalid("nics.mac", mac, rule, "write it so, or leave it out"));
        }
        fields.done("nics")?;
        nics.push(nic);
    }
    Ok(nics)
}

fn sidecars(top: &mut Fields) -> Result<Vec<DescribedSidecar>> {
    let mut names = BTreeSet::new();
    let mut sidecars = vec![];
    for mut fields in top.objects("sidecars", "sidecars")? {
        let name = fields.must("name", "sidecars.name")?;
        if !names.insert(name.clone()) {
            return Err(twice("sidecars.name", &name));
        }
        let file = file_inside(&mut fields, "sidecars.file")?;
        fields.done("sidecars")?;
        sidecars.push(DescribedSidecar { name, file });
    }
    Ok(sidecars)
}

fn commands(mut all: Fields) -> Result<Commands> {
    let commands = Commands {
        start: command(&mut all, "start", "commands.start")?,
        stop: command(&mut all, "stop", "commands.stop")?,
        kill: command(&mut all, "kill", "commands.kill")?,
        is_running: command(&mut all, "is_running", "commands.is_running")?,
        freeze: command(&mut all, "freeze", "commands.freeze")?,
        thaw: command(&mut all, "thaw", "commands.thaw")?,
        freezes_applications: all
            .flag("freezes_applications", "commands.freezes_applications")?
            .unwrap_or_default(),
    };
    all.done("commands")?;
    for (one, other, field) in [
        (&commands.freeze, &commands.thaw, "commands.thaw"),
        (&commands.thaw, &commands.freeze, "commands.freeze"),
    ] {
        if one.is_some() && other.is_none() {
            let rule = "freeze and thaw come together: nothing is left frozen";
            return Err(Error::invalid(field, "missing", rule, "add it, or leave both out"));
        }
    }
    Ok(commands)
}

fn command(all: &mut Fields, key: &str, field: &'static str) -> Result<Option<Command>> {
    let Some(mut fields) = all.object(key, field)? else { return Ok(None) };
    let run = fields.texts("run", field)?;
    if run.first().is_none_or(String::is_empty) {
        let rule = "a command is a list: the program, then its arguments";
        return Err(Error::invalid(
            field,
            format!("{run:?}"),
            rule,
            "write \"run\": [\"/path/to/program\", …]",
        ));
    }
    let seconds = fields.number("seconds", field, 1, 3600)?.unwrap_or(60);
    fields.done(field)?;
    Ok(Some(Command { run, seconds }))
}

fn file_inside(fields: &mut Fields, field: &'static str) -> Result<String> {
    let file = fields.must("file", field)?;
    let mut parts = Path::new(&file).components();
    let plain = parts.all(|c| matches!(c, Component::Normal(part) if part != crate::OWN));
    if !plain {
        let rule = "a file inside the machine's own directory";
        let remedy = "name it relative to the directory, without ..";
        return Err(Error::invalid(field, file, rule, remedy).with("at", fields.at()));
    }
    Ok(file)
}

fn twice(field: &'static str, value: &str) -> Error {
    Error::invalid(field, format!("{value:?} twice"), "each is there once", "rename one of them")
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

const ROLES: [(&str, DiskRole); 2] = [("system", DiskRole::System), ("data", DiskRole::Data)];
const FIRMWARES: [(&str, Firmware); 3] = [
    ("bios", Firmware::Bios),
    ("uefi", Firmware::Uefi { secure_boot: false }),
    ("uefi-secure", Firmware::Uefi { secure_boot: true }),
];
const SYSTEMS: [(&str, OsFamily); 3] =
    [("linux", OsFamily::Linux), ("windows", OsFamily::Windows), ("other", OsFamily::Other)];

fn name_of<T: PartialEq>(choices: &[(&'static str, T)], value: &T) -> &'static str {
    choices.iter().find(|(_, v)| v == value).map_or("", |(name, _)| name)
}

fn role_name<S: serde::Serializer>(role: &DiskRole, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(name_of(&ROLES, role))
}

fn firmware_name<S: serde::Serializer>(firmware: &Firmware, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(name_of(&FIRMWARES, firmware))
}

fn os_name<S: serde::Serializer>(os: &OsFamily, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(name_of(&SYSTEMS, os))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let text = br#"{
            "name": "web", "cpus": 2, "memory": 4096, "firmware": "uefi-secure", "os": "linux",
            "disks": [{"id": "root", "file": "root.raw"}, {"id": "d", "file": "data/d.raw", "included": false}],
            "nics": [{"id": "n", "mac": "52:54:00:12:34:56", "network": "lan", "addresses": ["10.0.0.7"]}],
            "sidecars": [{"name": "uefi-vars", "file": "vars.bin"}],
            "commands": {"freeze": {"run": ["fsfreeze", "-f", "/"], "seconds": 5}, "thaw": {"run": ["fsfreeze", "-u", "/"]}}
        }"#;
        let read = Description::parse(text, "web").expect("valid");
        assert_eq!(read.disks[0].role, DiskRole::System);
        assert_eq!(read.disks[1].role, DiskRole::Data);
        let again = serde_json::to_vec(&read).expect("plain data");
        assert_eq!(Description::parse(&again, "any").expect("valid"), read);
    }
}

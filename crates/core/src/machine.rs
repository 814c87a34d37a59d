//! Machines as plain data.

use crate::{DiskId, Error, Generation, MachineId, NicId, Result, RoleName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A machine as it stands at one site: born by discovery or by a promotion.
///
/// Replicas are keyed by [`MachineId`]; sources and recovery sites speak of an instance and look it up by `name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The timeline that it belongs to.
    pub machine: MachineId,
    /// The site where it stands; the name of the `Source` that can fence it.
    pub site: RoleName,
    /// Its name there, unique at the site.
    pub name: String,
    /// The promotion that brought it up; 0 for the original.
    pub generation: Generation,
}

impl Instance {
    /// Whether both are the same machine at the same site; its generation may have moved on.
    pub fn is(&self, other: &Instance) -> bool {
        (&self.site, &self.name) == (&other.site, &other.name)
    }
}

/// What a disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskRole {
    /// Holds the operating system; can never be left out.
    System,
    /// Holds data.
    Data,
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Stable all round the circle.
    pub id: DiskId,
    /// Bytes.
    pub size: u64,
    /// What it is for.
    pub role: DiskRole,
    /// Whether it is replicated.
    pub included: bool,
}

/// A network adapter of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Stable all round the circle.
    pub id: NicId,
    /// `aa:bb:cc:dd:ee:ff`, where known.
    pub mac: Option<String>,
    /// The network that it is attached to.
    pub network: Option<String>,
    /// Addresses that the guest reports.
    pub addresses: Vec<String>,
}

/// How a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Firmware {
    /// BIOS; Azure's generation 1.
    #[default]
    Bios,
    /// UEFI; Azure's generation 2.
    Uefi {
        /// Whether Secure Boot is on.
        secure_boot: bool,
    },
}

/// The family of the guest operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OsFamily {
    /// Any Linux.
    Linux,
    /// Any Windows.
    Windows,
    /// Not known, or neither.
    #[default]
    Other,
}

/// What kind of machine it is where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Platform {
    /// A virtual machine.
    #[default]
    Virtual,
    /// A physical server.
    Physical,
}

/// What the guest is ready for, as far as the source can see. `None`: could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestFacts {
    /// Name and version of the operating system.
    pub os_name: Option<String>,
    /// Boot drivers that start at boot (`storvsc`, `vmbus`, …).
    pub boot_drivers: Option<Vec<String>>,
    /// Whether the DHCP service starts.
    pub dhcp: Option<bool>,
    /// Version of the agent in the guest, where there is one.
    pub agent: Option<String>,
    /// How many snapshots the machine has on its platform.
    pub snapshots: Option<u32>,
}

/// Characters of a title.
const LONGEST_TITLE: usize = 256;

/// A machine: an instance and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Which, and where.
    pub instance: Instance,
    /// What people call it there, where that is not its instance's name; need not be unique. 1–256 characters, none of them a
    /// control character.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its disks, the system disk first.
    pub disks: Vec<DiskSpec>,
    /// Its network adapters, the primary one first.
    pub nics: Vec<Nic>,
    /// Virtual processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// How it boots.
    pub firmware: Firmware,
    /// Guest operating system family.
    pub os: OsFamily,
    /// Virtual or physical.
    pub platform: Platform,
    /// What the guest is ready for.
    pub guest: GuestFacts,
}

impl Machine {
    /// The timeline's name.
    pub fn id(&self) -> &MachineId {
        &self.instance.machine
    }

    /// What people call it: its title, or else its instance's name. For people; several machines may be called so.
    pub fn called(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.instance.name)
    }

    /// The nearest to what it is called that every site takes as a [name](crate::Settings::name), with room for a suffix of
    /// nine characters: letters, digits and hyphens. Where nothing of its title is left, the nearest to its instance's name.
    pub fn proper_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let proper = |name: &str| -> String {
            let all: String = name.chars().map(plain).skip_while(|c| *c == '-').take(54).collect();
            all.trim_end_matches('-').to_owned()
        };
        let mut names = [self.called(), &self.instance.name].into_iter().map(proper);
        names.find(|name| !name.is_empty()).unwrap_or_else(|| "machine".to_owned())
    }

    /// The replicated disks.
    pub fn included(&self) -> impl Iterator<Item = &DiskSpec> {
        self.disks.iter().filter(|d| d.included)
    }

    /// One disk.
    pub fn disk(&self, id: &DiskId) -> Option<&DiskSpec> {
        self.disks.iter().find(|d| &d.id == id)
    }

    /// The same machine as another instance, still called the same.
    #[must_use]
    pub fn standing_as(&self, instance: Instance) -> Machine {
        Machine { instance, ..self.clone() }
    }

    /// Checks that this description fits the machine that was found: as many disks, each of its size, in their order. For
    /// a source that is asked to enrol it.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub fn must_fit(&self, found: &Machine) -> Result<()> {
        let (told, have) = (self.disks.len(), found.disks.len());
        if told != have {
            let rule = format!("{found} has {have} disks");
            return Err(Error::invalid("machine.disks", told, &rule, "discover it again"));
        }
        let mut pairs = self.disks.iter().zip(&found.disks);
        if let Some((told, have)) = pairs.find(|(told, have)| told.size != have.size) {
            let rule = format!("disk {} has {} bytes", have.id, have.size);
            return Err(Error::invalid("disk.size", told.size, &rule, "discover it again"));
        }
        Ok(())
    }

    /// Checks what must be true of every machine, whatever the site.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field: no disk, a disk twice, a disk of no size, the
    /// system disk left out, no name, a title that is none.
    pub fn validate(&self) -> Result<()> {
        if self.instance.name.is_empty() {
            return Err(Error::invalid("machine.name", "empty", "a machine has a name", "name it"));
        }
        if let Some(title) = &self.title {
            let (length, rule) =
                (title.chars().count(), "1-256 characters, none of them a control character");
            let value = match length {
                0 => "empty".to_owned(),
                1..=LONGEST_TITLE => format!("{title:?}"),
                _ => format!("{length} characters long"),
            };
            if !(1..=LONGEST_TITLE).contains(&length) || title.contains(char::is_control) {
                return Err(Error::invalid(
                    "machine.title",
                    value,
                    rule,
                    "leave it out, or rename the machine",
                ));
            }
        }
        if self.disks.is_empty() {
            return Err(Error::invalid("machine.disks", "empty", "a machine has a disk", "add one"));
        }
        for (at, disk) in self.disks.iter().enumerate() {
            if disk.size == 0 {
                return Err(Error::invalid("disk.size", 0, "a disk has bytes", "check the disk")
                    .with("disk", &disk.id));
            }
            if self.disks[..at].iter().any(|d| d.id == disk.id) {
                return Err(Error::invalid("disk.id", &disk.id, "ids are unique", "rename one disk"));
            }
            if disk.role == DiskRole::System && !disk.included {
                let rule = "the system disk is always replicated";
                return Err(
                    Error::invalid("disk.included", "false", rule, "include it").with("disk", &disk.id)
                );
            }
        }
        Ok(())
    }
}

/// What it is called, with its instance's name where that is another.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.title {
            Some(title) => write!(f, "{title} ({})", self.instance.name),
            None => f.write_str(&self.instance.name),
        }
    }
}

/// A small file that belongs to a machine beside its disks: firmware variables, TPM state. At most 1 MiB. It travels in
/// manifests, which are not sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// What it is, for the site that made it: `uefi-vars`, `tpm`, …
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

// By hand: the state of a TPM belongs in no log.
impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sidecar({:?}, {} bytes)", self.name, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "5012ab3c-0000-4000-8000-00000000000a";

    fn titled(title: Option<&str>) -> Machine {
        let disk = DiskSpec { id: "root".into(), size: 512, role: DiskRole::System, included: true };
        Machine {
            instance: Instance {
                machine: "web".into(),
                site: "here".into(),
                name: UUID.into(),
                generation: Generation(0),
            },
            title: title.map(str::to_owned),
            disks: vec![disk],
            nics: vec![],
            cpus: 1,
            memory: 1,
            firmware: Firmware::Bios,
            os: OsFamily::Linux,
            platform: Platform::Virtual,
            guest: GuestFacts::default(),
        }
    }

    #[test]
    fn a_machine_is_called_by_its_title_and_stays_so_as_another_instance() {
        assert_eq!(titled(None).called(), UUID);
        assert_eq!(titled(None).to_string(), UUID);
        let web = titled(Some("운영/웹 서버"));
        assert_eq!(web.called(), "운영/웹 서버");
        assert_eq!(web.to_string(), format!("운영/웹 서버 ({UUID})"));
        let there = Instance { name: "web-dr".into(), ..web.instance.clone() };
        assert_eq!(web.standing_as(there).called(), "운영/웹 서버");
    }

    #[test]
    fn a_proper_name_is_taken_by_every_site_whatever_the_title() {
        let long = "x".repeat(256);
        for (title, name) in [
            (Some("Web server/2 (운영)"), "Web-server-2"),
            (Some("../../etc"), "etc"),
            (Some("운영 웹 서버"), UUID),
            (Some("///"), UUID),
            (Some(&*long), &long[..54]),
            (None, UUID),
        ] {
            let proper = titled(title).proper_name();
            assert_eq!(proper, name, "{title:?}");
            let name = Some(format!("{proper}-test-999"));
            crate::Settings { name, ..Default::default() }.validate().expect("a name with a suffix");
        }
        let mut nameless = titled(Some("웹"));
        nameless.instance.name = "서버".into();
        assert_eq!(nameless.proper_name(), "machine");
    }

    #[test]
    fn a_machine_that_is_made_is_called_as_set_or_properly_and_its_drill_apart() {
        let of = |name: Option<&str>| crate::Settings { name: name.map(str::to_owned), ..Default::default() };
        for (title, set, name) in [
            (Some("../운영/Web (2)"), None, "Web--2"),
            (Some("운영 웹 서버"), None, UUID),
            (None, None, UUID),
            (Some("Web"), Some("chosen"), "chosen"),
        ] {
            let made = |purpose| of(set).name_for(&titled(title), purpose);
            assert_eq!(made(crate::Purpose::Failover), name, "{title:?}");
            assert_eq!(made(crate::Purpose::Drill), format!("{name}-test"), "{title:?}");
            of(Some(&made(crate::Purpose::Drill))).validate().expect("a name that every site takes");
        }
    }

    #[test]
    fn a_title_that_is_none_is_refused_by_field_value_and_rule() {
        let long = "웹".repeat(256);
        for good in [None, Some("운영/웹 서버"), Some(" "), Some(&*long)] {
            titled(good).validate().expect("a title");
        }
        let longer = "웹".repeat(257);
        for (bad, value) in [
            ("", "empty"),
            (&*longer, "257 characters long"),
            ("a\nb", r#""a\nb""#),
            ("\u{7f}", r#""\u{7f}""#),
        ] {
            let error = titled(Some(bad)).validate().expect_err(value);
            assert_eq!(
                (error.kind(), error.fact("field")),
                (crate::ErrorKind::Invalid, Some("machine.title"))
            );
            let told = error.message().to_owned();
            for part in [value, "1-256 characters", "rename the machine"] {
                assert!(told.contains(part), "{told:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn c1_the_state_of_a_tpm_is_in_no_log() {
        let sidecar = Sidecar { name: "tpm/tpm2-00.permall".into(), bytes: vec![113; 40] };
        assert_eq!(format!("{:?}", vec![sidecar]), r#"[Sidecar("tpm/tpm2-00.permall", 40 bytes)]"#);
    }
}

//! Names: of documents in the container, and of resources in the group.

use crate::points::plain;
use site_recovery::{DiskId, MachineId, OpKey, RoleName};

/// Tags of everything that we make. What lacks them is never changed or deleted.
pub(crate) const SITE: &str = "sr-site";
pub(crate) const MACHINE: &str = "sr-machine";
pub(crate) const MADE_BY: &str = "sr-op";
pub(crate) const GENERATION: &str = "sr-generation";
/// Of a snapshot: what it is kept for.
pub(crate) const KEPT_AS: &str = "sr-kept";

/// Where a site's documents stand.
#[derive(Debug, Clone)]
pub(crate) struct Names(String);

impl Names {
    pub(crate) fn of(site: &RoleName) -> Self {
        Self(format!("s/{}/", plain(site.as_str())))
    }

    pub(crate) fn register(&self, machine: &MachineId) -> String {
        format!("{}register/{}", self.0, plain(machine.as_str()))
    }

    pub(crate) fn marks(&self) -> String {
        format!("{}mark/", self.0)
    }

    /// Azure does not tell names by the case of their letters.
    pub(crate) fn mark(&self, name: &str) -> String {
        format!("{}{}", self.marks(), plain(&name.to_ascii_lowercase()))
    }

    pub(crate) fn withdrawn(&self, key: &OpKey) -> String {
        format!("{}withdrawn/{}", self.0, digest(key))
    }

    /// Of a disk in the making.
    pub(crate) fn work(&self, key: &OpKey, disk: &DiskId) -> String {
        format!("{}work/{}/{}.vhd", self.0, digest(key), plain(disk.as_str()))
    }

    pub(crate) fn works(&self, key: &OpKey) -> String {
        format!("{}work/{}/", self.0, digest(key))
    }
}

/// A resource's name: what it is of, for people, and what tells it from all others.
pub(crate) fn resource(machine: &str, part: &str, key: &OpKey) -> String {
    let proper = |text: &str, most: usize| -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let all: String = text.chars().map(plain).take(most).collect();
        all.trim_matches('-').to_owned()
    };
    let said = format!("{}-{}", proper(machine, 40), proper(part, 20));
    format!("{}-{}", said.trim_matches('-'), digest(&OpKey(format!("{}\n{part}", key.as_str()))))
}

/// A name like this one, of this key.
pub(crate) fn another(name: &str, key: &OpKey) -> String {
    let end = format!("-{}", &digest(key)[..8]);
    // Azure takes 80 letters.
    name.chars().take(80 - end.len()).chain(end.chars()).collect()
}

/// 12 hexadecimal digits.
pub(crate) fn digest(key: &OpKey) -> String {
    let hash = site_recovery_record::hash(key.as_str().as_bytes());
    format!("{hash:032x}")[..12].to_owned()
}

/// The last part of a resource's id.
pub(crate) fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_no_longer_than_azure_takes() {
        assert_eq!(another("web-os", &"a".into()), format!("web-os-{}", &digest(&"a".into())[..8]));
        assert_ne!(another("web-os", &"a".into()), another("web-os", &"b".into()));
        assert_eq!(another(&"x".repeat(80), &"a".into()).len(), 80);
    }

    #[test]
    fn resources_of_other_keys_or_parts_have_other_names_that_azure_takes() {
        let long = "x".repeat(90);
        let names = [
            resource("web", "disk-0", &"a".into()),
            resource("web", "disk-0", &"b".into()),
            resource("web", "disk_0", &"a".into()),
            resource("Web Server_1 (old)", "ü", &"a".into()),
            resource(&long, &long, &"a".into()),
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(
                name.len() <= 80 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'),
                "{name}"
            );
            assert!(name.starts_with(char::is_alphanumeric) && !names[..at].contains(name), "{name}");
        }
    }
}

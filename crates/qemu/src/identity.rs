//! What a machine is told apart by on its networks and by its software, where its description does not say.

use crate::description::Description;
use crate::place::short;
use site_recovery::RoleName;

/// Of the site's name and the machine's, so that no two machines are alike: a UUID, and a MAC address for each NIC. They
/// travel, and stay the same all round the circle.
pub(crate) fn complete(d: &mut Description, site: &RoleName, name: &str) {
    let of = |what: &str| short(&format!("{site}/{name}/{what}"));
    d.uuid.get_or_insert_with(|| uuid(&[of("uuid"), of("uuid ")].concat()));
    for nic in &mut d.nics {
        nic.mac.get_or_insert_with(|| mac(&of(&nic.id)));
    }
}

/// Version 8: of the vendor's own making (RFC 9562).
fn uuid(digits: &str) -> String {
    let [a, b, c, d, e] = [0..8, 8..12, 13..16, 17..20, 20..32].map(|part| &digits[part]);
    format!("{a}-{b}-8{c}-8{d}-{e}")
}

/// In the range that KVM's machines use.
fn mac(digits: &str) -> String {
    let [a, b, c] = [0..2, 2..4, 4..6].map(|part| &digits[part]);
    format!("52:54:00:{a}:{b}:{c}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(site: &str, name: &str, json: &str) -> Description {
        let mut d: Description = serde_json::from_str(json).unwrap();
        complete(&mut d, &site.into(), name);
        d
    }

    #[test]
    fn no_two_machines_are_alike_and_one_stays_the_same() {
        let json = r#"{"disks":[],"nics":[{"id":"a"},{"id":"b"}]}"#;
        let all: Vec<_> = [("here", "web"), ("here", "db"), ("there", "web")]
            .into_iter()
            .map(|(site, name)| completed(site, name, json))
            .collect();
        let mut macs: Vec<_> = all.iter().flat_map(|d| &d.nics).map(|n| n.mac.clone().unwrap()).collect();
        let mut uuids: Vec<_> = all.iter().map(|d| d.uuid.clone().unwrap()).collect();
        macs.sort();
        macs.dedup();
        uuids.sort();
        uuids.dedup();
        assert_eq!((macs.len(), uuids.len()), (6, 3));
        assert!(macs.iter().all(|m| m.len() == 17 && m.starts_with("52:54:00:")), "{macs:?}");
        assert_eq!(completed("here", "web", json), all[0]);
    }

    #[test]
    fn what_is_described_stays() {
        let uuid = "01234567-89ab-8def-8123-456789abcdef";
        let json =
            format!(r#"{{"disks":[],"nics":[{{"id":"a","mac":"02:00:00:00:00:01"}}],"uuid":"{uuid}"}}"#);
        let d = completed("here", "web", &json);
        assert_eq!((d.uuid.as_deref(), d.nics[0].mac.as_deref()), (Some(uuid), Some("02:00:00:00:00:01")));
    }
}

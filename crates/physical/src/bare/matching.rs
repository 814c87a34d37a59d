//! Which disk lands on which slot.

use super::Slot;
use super::landed::Placed;
use super::slot::Read;
use site_recovery::{DiskSpec, Error, Result, Settings};
use site_recovery_register::{not_found, refused};
use std::path::Path;

/// Places the included disks: as they were placed before, then as the settings name them, then by id or size. What is left
/// lands on files of the room, where there is one.
///
/// # Errors
/// `Invalid` for a slot that is not there, is taken, or is too small; `Refused` for a disk that has none.
pub(crate) fn place(
    disks: &[DiskSpec],
    slots: &[(Slot, Read)],
    settings: &Settings,
    before: &[Placed],
    room: Option<&Path>,
) -> Result<Vec<Placed>> {
    let by_size = by_size(settings)?;
    let mut placed: Vec<Placed> = vec![];
    let put =
        |spec: &DiskSpec, slot: &Slot| Placed { disk: spec.id.clone(), slot: slot.clone(), file: false };
    for spec in disks {
        let named = settings.disks.get(&spec.id).and_then(|d| d.name.as_deref());
        if let Some(old) = before.iter().find(|p| p.disk == spec.id) {
            if let Some(other) = named.filter(|n| *n != old.slot.id && !old.file) {
                let rule = format!("disk {} landed on slot {}", spec.id, old.slot.id);
                return Err(Error::invalid(
                    "settings.disks.name",
                    other,
                    &rule,
                    "name that, or leave it out",
                ));
            }
            placed.push(old.clone());
        } else if let Some(named) = named {
            let Some((slot, _)) = slots.iter().find(|(s, _)| s.id == named) else {
                let rule = format!("a slot of the server: {}", ids(slots));
                return Err(Error::invalid("settings.disks.name", named, &rule, "name one of these"));
            };
            placed.push(put(spec, slot));
        }
    }
    let mut rest: Vec<&DiskSpec> = disks.iter().filter(|d| !placed.iter().any(|p| p.disk == d.id)).collect();
    if by_size {
        // The largest chooses first: so whoever comes later finds what is large enough.
        rest.sort_by_key(|d| std::cmp::Reverse(d.size));
    }
    for spec in rest {
        let free = slots.iter().filter(|(s, _)| !placed.iter().any(|p| p.slot.id == s.id));
        let found = match by_size {
            true => free.filter(|(_, r)| r.size >= spec.size).min_by_key(|(_, r)| r.size),
            false => free.clone().find(|(s, _)| s.id == spec.id.0),
        };
        match (found, room) {
            (Some((slot, _)), _) => placed.push(put(spec, slot)),
            (None, Some(room)) => {
                let name = site_recovery::OpKey(spec.id.0.clone()).to_name();
                let slot = Slot::new(&spec.id.0, room.join(format!("{name}.raw")));
                placed.push(Placed { disk: spec.id.clone(), slot, file: true });
            }
            (None, None) => {
                let message = format!(
                    "no slot for disk {} of {} bytes: there are {}; name one in settings.disks.{}.name, or match by size",
                    spec.id,
                    spec.size,
                    ids(slots),
                    spec.id
                );
                return Err(refused(message).with("disk", &spec.id));
            }
        }
    }
    for (at, one) in placed.iter().enumerate() {
        if let Some(other) = placed[..at].iter().find(|p| p.slot.id == one.slot.id) {
            let rule = format!("disk {} lands there", other.disk);
            return Err(Error::invalid("settings.disks.name", &one.slot.id, &rule, "name another slot"));
        }
    }
    // In the machine's order: the system disk first.
    placed.sort_by_key(|p| disks.iter().position(|d| d.id == p.disk));
    must_hold(disks, slots, &placed)?;
    Ok(placed)
}

/// A device is at least as large as its disk; a plain file grows.
fn must_hold(disks: &[DiskSpec], slots: &[(Slot, Read)], placed: &[Placed]) -> Result<()> {
    for placed in placed.iter().filter(|p| !p.file) {
        let spec = disks.iter().find(|d| d.id == placed.disk);
        let read = slots.iter().find(|(s, _)| s.id == placed.slot.id);
        let (Some(spec), Some((slot, read))) = (spec, read) else {
            let message = format!("slot {} of disk {} is gone", placed.slot.id, placed.disk);
            return Err(not_found(message).with("disk", &placed.disk));
        };
        if read.device && read.size < spec.size {
            let rule = format!("disk {} has {} bytes, and a disk does not grow", spec.id, spec.size);
            let value = format!("{} with {} bytes", slot.id, read.size);
            return Err(
                Error::invalid("slot.size", value, &rule, "name a larger slot").with("disk", &spec.id)
            );
        }
    }
    Ok(())
}

fn by_size(settings: &Settings) -> Result<bool> {
    match settings.site.get("match").map(String::as_str) {
        None | Some("id") => Ok(false),
        Some("size") => Ok(true),
        Some(other) => Err(Error::invalid("settings.site.match", other, "id or size", "choose one")),
    }
}

fn ids(slots: &[(Slot, Read)]) -> String {
    let told: Vec<String> = slots.iter().map(|(s, r)| format!("{} ({} bytes)", s.id, r.size)).collect();
    if told.is_empty() { "none".into() } else { told.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use site_recovery::{DiskRole, DiskSettings, ErrorKind};

    fn disk(id: &str, size: u64) -> DiskSpec {
        DiskSpec { id: id.into(), size, role: DiskRole::Data, included: true }
    }
    fn slot(id: &str, size: u64) -> (Slot, Read) {
        (Slot::new(id, format!("/dev/{id}")), Read { size, sector: 512, device: true })
    }
    fn where_is(placed: &[Placed]) -> Vec<(&str, &str)> {
        placed.iter().map(|p| (p.disk.as_str(), p.slot.id.as_str())).collect()
    }

    #[test]
    fn disks_find_their_slots_by_id_by_size_or_by_name() {
        let disks = [disk("a", 10), disk("b", 30), disk("c", 20)];
        let same = [slot("c", 20), slot("b", 40), slot("a", 10)];
        let placed = place(&disks, &same, &Settings::default(), &[], None).unwrap();
        assert_eq!(where_is(&placed), [("a", "a"), ("b", "b"), ("c", "c")]);

        let others = [slot("x", 35), slot("y", 10), slot("z", 25), slot("w", 90)];
        let refused = place(&disks, &others, &Settings::default(), &[], None).unwrap_err();
        assert_eq!((refused.kind(), refused.fact("disk")), (ErrorKind::Refused, Some("a")), "{refused}");
        let mut settings = Settings::default();
        settings.site.insert("match".into(), "size".into());
        let placed = place(&disks, &others, &settings, &[], None).unwrap();
        assert_eq!(where_is(&placed), [("a", "y"), ("b", "x"), ("c", "z")]);

        let named = |slot: &str| DiskSettings { name: Some(slot.into()), kind: None };
        settings.disks.insert("a".into(), named("w"));
        let placed = place(&disks, &others, &settings, &[], None).unwrap();
        assert_eq!(where_is(&placed)[0], ("a", "w"));
        // Where they landed once, they land again.
        let again = place(&disks, &others, &Settings::default(), &placed, None).unwrap();
        assert_eq!(again, placed);
        settings.disks.insert("b".into(), named("w"));
        assert_eq!(place(&disks, &others, &settings, &[], None).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_slot_that_is_too_small_is_named() {
        let error = place(&[disk("a", 11)], &[slot("a", 10)], &Settings::default(), &[], None).unwrap_err();
        assert_eq!(error.fact("field"), Some("slot.size"));
    }
}

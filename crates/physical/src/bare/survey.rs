//! What stands in the way before anything lands.

use super::landed::Landed;
use super::slot::Read;
use super::{Site, Slot, installed, matching};
use crate::signature;
use site_recovery::{
    DiskSpec, Finding, Firmware, Machine, Offer, Offers, Result, Settings, Severity, Survey,
};
use site_recovery_register::Told;
use std::path::Path;

/// What `settings.site` may say.
const KEYS: [&str; 4] = ["match", "server", "erase", "sector"];
/// The name of the room among the places where disks are made.
const ROOM: &str = "room";

impl Site {
    pub(crate) fn survey(&self, machine: &Machine, settings: &Settings) -> Result<Survey> {
        let mut findings = self.check_settings(machine, settings);
        let server = settings.site.get("server").unwrap_or(&machine.instance.name);
        match self.servers.get(server) {
            Some(server) => findings.extend(self.look_at(&server.name, machine, settings)?),
            None if self.room.is_some() => {}
            None => findings.push(Finding::new(
                "landing.server",
                Severity::Critical,
                format!("no server named {server} was started here, and none can be made"),
                "start one from the rescue system, or name another in settings.site.server",
            )),
        }
        let mut datastores = vec![];
        if let Some(room) = &self.room {
            // It is made when something lands in it.
            let stands = room.dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
            let space = rustix::fs::statvfs(stands).told("ask for the space of", stands)?;
            let (free, size) = (space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize);
            datastores.push(Offer { name: ROOM.into(), size, free, ineligible: None });
        }
        Ok(Survey { findings, offers: Offers { datastores, retention_volumes: vec![] } })
    }

    pub(crate) fn check_settings(&self, machine: &Machine, settings: &Settings) -> Vec<Finding> {
        let mut found = vec![];
        for error in [machine.validate().err(), settings.validate().err()].into_iter().flatten() {
            let field = error.fact("field").unwrap_or("settings").to_owned();
            let code = format!("setting.{field}");
            found.push(Finding::new(code, Severity::Critical, error.message(), "mend the field named"));
        }
        for (key, value) in settings.site.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
            let rule = "bare disks know match, server, erase and sector";
            found.push(Finding::setting(&format!("site.{key}"), value, rule, "remove it"));
        }
        if let Some(sector) = settings.site.get("sector").filter(|s| !matches!(s.as_str(), "512" | "4096")) {
            found.push(Finding::setting("site.sector", sector, "512 or 4096", "choose one"));
        }
        if let Some(store) = settings.datastore.as_deref().filter(|d| *d != ROOM || self.room.is_none()) {
            let rule = "disks are slots of a server, or files in the room";
            found.push(Finding::setting("datastore", store, rule, "leave it out"));
        }
        for id in settings.disks.keys().filter(|id| machine.disk(id).is_none()) {
            found.push(Finding::setting("disks.id", id, "a disk of the machine", "name one that it has"));
        }
        found
    }

    /// A server, as this machine would find it.
    fn look_at(&self, server: &str, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let mut found = vec![];
        let configured = &self.servers[server];
        if let Some(firmware) = configured.firmware
            && std::mem::discriminant(&firmware) != std::mem::discriminant(&machine.firmware)
        {
            let word = |f: Firmware| if f == Firmware::Bios { "BIOS" } else { "UEFI" };
            let (here, there) = (word(firmware), word(machine.firmware));
            found.push(Finding::new(
                "landing.firmware",
                Severity::Critical,
                format!("{machine} starts by {there}, and {server} was started by {here}"),
                format!("start {server} by {there}"),
            ));
        }
        match self.tells.get(server).map(|tells| &tells.shown) {
            None => found.push(installed::untold(server)),
            Some(shown) => found.extend(shown.iter().flat_map(|shown| shown.findings())),
        }
        let home = self.home(server)?;
        if let Err(other) = home.must_be_of(machine.id()) {
            found.push(Finding::new(
                "landing.mark",
                Severity::Critical,
                other.message(),
                "name another server",
            ));
        }
        let slots = match self.slots(server) {
            Ok(slots) => slots,
            Err(e) => {
                found.push(Finding::new(
                    "landing.disk",
                    Severity::Critical,
                    e.to_string(),
                    "check its disks",
                ));
                return Ok(found);
            }
        };
        let landed = Landed::read(&home)?;
        let before = landed.as_ref().map_or(&[][..], |l| &l.disks);
        let disks: Vec<DiskSpec> = machine.included().cloned().collect();
        let placed = match matching::place(&disks, &slots, settings, before, self.files_of(server).as_deref())
        {
            Ok(placed) => placed,
            Err(e) => {
                found.push(Finding::new("landing.disk", Severity::Critical, e.message(), "match the disks"));
                return Ok(found);
            }
        };
        let made_for: u32 = settings.site.get("sector").and_then(|s| s.parse().ok()).unwrap_or(512);
        for placed in &placed {
            let Some((slot, read)) = slots.iter().find(|(s, _)| s.id == placed.slot.id) else { continue };
            let Read { size, sector, .. } = *read;
            let lands = format!("disk {} lands on {} ({size} bytes)", placed.disk, slot.id);
            found.push(Finding::new("landing.slot", Severity::Info, lands, "nothing"));
            if sector != made_for {
                let cause =
                    format!("{} has sectors of {sector} bytes, the system was made for {made_for}", slot.id);
                let remedy = "use another disk; if the system fits, say so in settings.site.sector";
                found.push(Finding::new("landing.sector", Severity::Critical, cause, remedy));
            }
            if landed.is_none() && home.mark()?.is_none() {
                for what in signature::on(&slot.path, size)? {
                    let cause = format!("{} holds {what}, which will be overwritten", slot.id);
                    let remedy =
                        "make sure that it is the right disk; `wipefs` removes what a RAID controller left";
                    found.push(Finding::new("landing.foreign", Severity::Warning, cause, remedy));
                }
            }
            if !landed.as_ref().is_some_and(|l| l.attached)
                && let Err(busy) = slot.take()
            {
                let remedy = "unmount it, and stop what lies on it";
                found.push(Finding::new("landing.busy", Severity::Critical, busy.to_string(), remedy));
            }
        }
        for (slot, read) in slots.iter().filter(|(s, _)| !placed.iter().any(|p| p.slot.id == s.id)) {
            let cause = format!("slot {} ({} bytes) is free", slot.id, read.size);
            found.push(Finding::new("landing.candidate", Severity::Info, cause, "nothing"));
        }
        Ok(found)
    }

    /// The slots of a server, read now.
    pub(crate) fn slots(&self, server: &str) -> Result<Vec<(Slot, Read)>> {
        let Some(server) = self.servers.get(server) else { return Ok(vec![]) };
        let read = |slot: &Slot| slot.read().map(|r| (slot.clone(), r)).map_err(|e| e.with("slot", &slot.id));
        server.slots.iter().map(read).collect()
    }

    /// Where the files of a server are made.
    pub(crate) fn files_of(&self, server: &str) -> Option<std::path::PathBuf> {
        self.room.as_ref().map(|room| room.dir.join(server))
    }
}

//! What stands in the way of landing here, and where there is room.

use crate::desk::{Desk, blocking, folder_name};
use crate::timeline::Timeline;
use site_recovery::{
    Capability, Error, Finding, Firmware, Form, Generation, GuestFacts, Instance, Machine, MachineId, Offer,
    Offers, OsFamily, Platform, Result, Settings, Severity,
};
use std::path::Path;

impl Desk {
    pub(crate) fn capability(&self) -> Capability {
        Capability {
            takes: Form::Plain,
            opens_while_booted: false,
            locks: false,
            drills: false,
            branches: self.landing.capability().branches,
            ..Capability::default()
        }
    }

    /// Refuses settings that are wrong for this master target, before anything changes.
    pub(crate) fn accepts(&self, settings: &Settings) -> Result<()> {
        settings.validate()?;
        let mine = self.volume();
        match settings.retention_volume.as_ref().filter(|named| **named != mine) {
            None => Ok(()),
            Some(other) => {
                let rule = format!("this master target keeps its log on {mine}");
                Err(Error::invalid("settings.retention_volume", other, &rule, "name that one, or none"))
            }
        }
    }

    pub(crate) async fn check(&self, machine: &Machine, settings: &Settings) -> Result<Vec<Finding>> {
        let survey = self.landing.survey(machine, settings).await?;
        let mut findings = survey.findings;
        if let Err(error) = machine.validate().and_then(|()| self.accepts(settings)) {
            let field = error.fact("field").unwrap_or("settings").trim_start_matches("settings.").to_owned();
            findings.push(Finding::setting(&field, "refused", error.message(), "mend it"));
        }
        let volume = self.retention_volume(&survey.offers.datastores).await?;
        if let Some(why) = volume.ineligible {
            let cause = format!("retention volume {}: {why}", volume.name);
            findings.push(Finding::new(
                "retention.volume",
                Severity::Critical,
                cause,
                "give it another volume",
            ));
        }
        if !self.landing.capability().branches {
            let cause = "this site puts no branch under disks";
            let remedy = "a failback cannot be undone and its point not changed; land at a site that can, where that matters";
            findings.push(Finding::new("landing.branch", Severity::Warning, cause, remedy));
        }
        Ok(findings)
    }

    pub(crate) async fn offers(&self) -> Result<Offers> {
        let known = self.timelines().await?.into_iter().next().map(|t| (t.machine, t.settings));
        let (machine, settings) = known.unwrap_or_else(|| (nobody(&self.name), Settings::default()));
        let mut offers = self.landing.survey(&machine, &settings).await?.offers;
        let volume = self.retention_volume(&offers.datastores).await?;
        offers.retention_volumes = vec![volume];
        Ok(offers)
    }

    pub(crate) async fn machines(&self) -> Result<Vec<MachineId>> {
        Ok(self.timelines().await?.into_iter().map(|t| t.machine.id().clone()).collect())
    }

    /// The volume of the log. It is no use where it shares the landing's own storage.
    async fn retention_volume(&self, datastores: &[Offer]) -> Result<Offer> {
        let (root, name) = (self.root.clone(), self.volume());
        let stores: Vec<String> = datastores.iter().map(|d| d.name.clone()).collect();
        blocking(move || {
            let room = root.room().ok();
            let (size, free) = room.map_or((0, 0), |r| (r.size, r.free));
            let on = stores.iter().find(|s| Path::new(s).is_absolute() && root.path().starts_with(s));
            let ineligible = match (room, on) {
                (None, _) => Some("it does not answer".to_owned()),
                (Some(room), _) if room.read_only => Some("it is read-only".to_owned()),
                (Some(_), _) if size == 0 => Some("it has no capacity".to_owned()),
                (Some(_), Some(store)) => Some(format!("it is on datastore {store}, on which machines land")),
                (Some(_), None) => None,
            };
            Ok(Offer { name, size, free, ineligible })
        })
        .await
    }

    async fn timelines(&self) -> Result<Vec<Timeline>> {
        let root = self.root.clone();
        blocking(move || {
            let mut all = vec![];
            for name in root.names()?.iter().filter(|n| n.starts_with("machine-")) {
                let read =
                    root.below(name).read::<Timeline>("timeline").map_err(|e| e.with("folder", name))?;
                let Some((_, timeline)) = read else { continue };
                debug_assert_eq!(folder_name(timeline.machine.id()), *name);
                all.push(timeline);
            }
            Ok(all)
        })
        .await
    }

    fn volume(&self) -> String {
        self.root.path().display().to_string()
    }
}

/// A machine of which nothing is known, to ask for room alone.
fn nobody(site: &site_recovery::RoleName) -> Machine {
    let name = "any".to_owned();
    Machine {
        instance: Instance { machine: "any".into(), site: site.clone(), name, generation: Generation(0) },
        disks: vec![],
        nics: vec![],
        cpus: 1,
        memory: 0,
        firmware: Firmware::default(),
        os: OsFamily::default(),
        platform: Platform::default(),
        guest: GuestFacts::default(),
    }
}

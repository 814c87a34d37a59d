//! What stands in the way of landing here, and where there is room.

use crate::desk::{Desk, blocking, folder_name};
use crate::timeline::Timeline;
use crate::volume::{Uses, is_in_memory, judge};
use site_recovery::{
    Capability, Error, Finding, Firmware, Form, Generation, GuestFacts, Instance, Machine, MachineId, Offer,
    Offers, OsFamily, Platform, Result, Settings, Severity,
};
use std::path::PathBuf;

/// Disks that are attached to a master target at once: what a virtual machine's controllers take; Azure's limit.
const MOST_DISKS: usize = 60;

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
        if let Err(error) = self.has_room_for(machine).await {
            let (cause, remedy) = (error.message(), "finish other failbacks first, or land by another one");
            findings.push(Finding::new("landing.disks", Severity::Critical, cause, remedy));
        }
        let volume = self.retention_volume(&survey.offers.datastores).await?;
        if let Some(why) = &volume.ineligible {
            let cause = format!("retention volume {}: {why}", volume.name);
            findings.push(Finding::new(
                "retention.volume",
                Severity::Critical,
                cause,
                "give it another volume",
            ));
        }
        if is_in_memory(self.root.path()) {
            let cause =
                format!("retention volume {} is in memory, and gone with the next start", volume.name);
            let remedy = "give it another volume, unless this is a test";
            findings.push(Finding::new("retention.memory", Severity::Warning, cause, remedy));
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
        let root = self.root.path().to_owned();
        let landing = datastores.iter().map(|d| PathBuf::from(&d.name)).filter(|path| path.is_absolute());
        let uses = Uses { landing: landing.collect(), caches: vec![] };
        blocking(move || Ok(judge(&root, &uses))).await
    }

    /// Refuses more disks than can be attached here at once.
    pub(crate) async fn has_room_for(&self, machine: &Machine) -> Result<()> {
        let landed = self.timelines().await?.into_iter().filter(|t| t.handed_over().is_none());
        let others = landed.filter(|t| t.machine.id() != machine.id());
        let taken: usize = others.map(|t| t.machine.included().count()).sum();
        let wanted = machine.included().count();
        if taken + wanted <= MOST_DISKS {
            return Ok(());
        }
        let value = format!("{wanted} disks of {machine} beside {taken}");
        let rule = format!("a master target has at most {MOST_DISKS} disks attached");
        Err(Error::invalid(
            "machine.disks",
            value,
            &rule,
            "finish other failbacks first, or land by another one",
        ))
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
        title: None,
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

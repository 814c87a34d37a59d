//! Whether a machine runs, and starting it.

use super::Site;
use super::leaving::leaving;
use super::mark::{Mark, Marked, Starting};
use super::names::{self, GENERATION, MACHINE, SITE, last};
use super::register::Turn;
use site_recovery::{Error, ErrorKind, Instance, OpKey, Power, Result, Stamp, StartGuard};
use site_recovery_azure_arm::{Disk, Power as Runs, Tags};
use std::collections::BTreeSet;

impl Site {
    pub(super) async fn power(&self, instance: &Instance) -> Result<Power> {
        match self.mark_if_there(instance).await? {
            Some(marked) => self.power_of(&marked.mark).await,
            None => self.power_unmarked(instance).await,
        }
    }

    /// Read from Azure now.
    ///
    /// # Errors
    /// `NotFound` where neither the machine nor one of its disks is there.
    pub(super) async fn power_of(&self, mark: &Mark) -> Result<Power> {
        let view = self.arm.machines(&self.group).view(&mark.name).await?;
        let runs = view.as_ref().map(|view| of(&view.power));
        if let Some(power @ (Power::On | Power::Unknown)) = runs {
            return Ok(power);
        }
        let disks = self.disks_of(mark).await?;
        if view.is_none()
            && let Some(power) = leaving(mark, &disks)
        {
            return Ok(power);
        }
        if view.is_none() && disks.is_empty() {
            let message = format!("neither {} nor a disk of it is in group {}", mark.name, self.group);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        if let Some((_, power)) = self.other_user(mark, &disks).await? {
            return Ok(power);
        }
        if view.is_some_and(|view| view.power != Runs::Deallocated) {
            // It keeps its host, and starts at once.
            return Ok(Power::Off { start: StartGuard::Free });
        }
        let machine = self.arm.machines(&self.group).get(&mark.name).await?;
        let id = machine.map(|machine| machine.vm_id);
        // Where Azure does not say when a disk was last taken, nothing would tell of a start.
        let tells =
            id != Some(None) && disks.iter().all(|disk| id.is_none() || disk.last_ownership_update.is_some());
        let tells = tells.then(|| StartGuard::Tells(stamp(id.flatten().as_deref(), &disks)));
        Ok(Power::Off { start: tells.unwrap_or(StartGuard::Free) })
    }

    /// Of an instance whose mark is gone: a mark is a note, and no proof. Told is what Azure lists under its name or its tags.
    async fn power_unmarked(&self, instance: &Instance) -> Result<Power> {
        let is_its = |tags: &Tags| {
            tags.get(SITE) == Some(&self.name.to_string())
                && tags.get(MACHINE).is_some_and(|of| *of == instance.machine.as_str())
                && tags.get(GENERATION) == Some(&instance.generation.to_string())
        };
        let machines = self.arm.machines(&self.group);
        let machine = machines.list().await?.into_iter().find(|machine| {
            let is_named = machine.name.eq_ignore_ascii_case(&instance.name);
            is_named && (!machine.tags.contains_key(MACHINE) || is_its(&machine.tags))
        });
        if let Some(machine) = machine
            && let Some(view) = machines.view(&machine.name).await?
        {
            return Ok(of(&view.power));
        }
        // Those that another instance of the machine holds, as a drill, are not its own.
        let marks = self.marks_of(&instance.machine).await?;
        let held: BTreeSet<String> = marks
            .iter()
            .flat_map(|mark| mark.disks.values())
            .map(|held| held.resource.to_ascii_lowercase())
            .collect();
        let disks = self.arm.disks(&self.group).list().await?;
        let loose = |disk: &&Disk| is_its(&disk.tags) && !held.contains(&disk.name.to_ascii_lowercase());
        match disks.iter().find(loose) {
            Some(Disk { managed_by: Some(id), .. }) => Ok(self.power_at(id).await?.unwrap_or(Power::Unknown)),
            Some(_) => Ok(Power::Off { start: StartGuard::Free }),
            None => {
                let message =
                    format!("neither {} nor a disk of it is in group {}", instance.name, self.group);
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }

    /// Another machine that has a disk of this one and may write to it now, and whether it runs.
    pub(super) async fn other_user(&self, mark: &Mark, disks: &[Disk]) -> Result<Option<(String, Power)>> {
        let mut unsure = None;
        for id in disks.iter().filter_map(|disk| disk.managed_by.as_deref()) {
            let is_own = last(id).eq_ignore_ascii_case(&mark.name)
                && group_of(id).is_none_or(|group| group.eq_ignore_ascii_case(&self.group));
            if is_own {
                continue;
            }
            match self.power_at(id).await?.unwrap_or(Power::Unknown) {
                Power::Off { .. } => {}
                Power::On => return Ok(Some((last(id).to_owned(), Power::On))),
                power => unsure = Some((last(id).to_owned(), power)),
            }
        }
        Ok(unsure)
    }

    /// Whether the machine of this id runs, whatever its group; nothing where it is not there.
    async fn power_at(&self, id: &str) -> Result<Option<Power>> {
        let view = self.arm.machines(group_of(id).unwrap_or(&self.group)).view(last(id)).await?;
        Ok(view.map(|view| of(&view.power)))
    }

    pub(super) async fn disks_of(&self, mark: &Mark) -> Result<Vec<Disk>> {
        let disks = self.arm.disks(&self.group);
        let asked = mark.disks.values().map(async |held| disks.get(&held.resource).await);
        let mut found = vec![];
        for disk in futures_util::future::join_all(asked).await {
            found.extend(disk?);
        }
        Ok(found)
    }

    /// What would be another one after a start.
    pub(super) async fn stamp_of(&self, mark: &Mark) -> Result<Stamp> {
        let machine = self.arm.machines(&self.group).get(&mark.name).await?;
        let id = machine.and_then(|machine| machine.vm_id);
        Ok(stamp(id.as_deref(), &self.disks_of(mark).await?))
    }

    /// Whether a start under this key was begun and came to something, although nobody noted it.
    pub(super) async fn came_to_start(&self, key: &OpKey, mark: &Mark) -> Result<bool> {
        match mark.starting.as_ref().filter(|starting| starting.by == *key) {
            Some(starting) => Ok(starting.off != self.stamp_of(mark).await?),
            None => Ok(false),
        }
    }

    /// Noted before the start, with the stamp of what is off, so that a repeat knows by it whether it came to anything.
    pub(super) async fn note_starting(&self, key: &OpKey, marked: &mut Marked, off: Stamp) -> Result<()> {
        let next = Mark { starting: Some(Starting { by: key.clone(), off }), ..marked.mark.clone() };
        self.set_mark(marked, next).await
    }

    /// Starts a machine that is there, once per key. Says whether it runs.
    pub(super) async fn ignite(&self, turn: &Turn, key: &OpKey, marked: &mut Marked) -> Result<bool> {
        let machines = self.arm.machines(&self.group);
        let name = marked.mark.name.clone();
        let Some(view) = self.settled_view(&name).await? else {
            let message = format!("{name} is no machine yet: boot it from its point");
            return Err(Error::new(ErrorKind::Refused, message));
        };
        let runs = view.power == Runs::Running;
        if marked.mark.has_started(key) {
            return Ok(runs);
        }
        let was_stopped = matches!(view.power, Runs::Stopped | Runs::Deallocated)
            && self.came_to_start(key, &marked.mark).await?;
        if !runs && !was_stopped {
            let off = self.stamp_of(&marked.mark).await?;
            self.note_starting(key, marked, off).await?;
            self.ask(turn, machines.start(&name)).await?.done().await?;
        }
        let mut next = marked.mark.clone();
        next.note_start(key);
        next.fence = None;
        self.set_mark(marked, next).await?;
        if runs {
            return Ok(true);
        }
        let view = machines.view(&name).await?;
        Ok(view.is_some_and(|view| view.power == Runs::Running))
    }
}

/// What Azure's word says, without what would tell of a start.
fn of(power: &Runs) -> Power {
    match power {
        Runs::Deallocated | Runs::Stopped => Power::Off { start: StartGuard::Free },
        Runs::Running | Runs::Starting | Runs::Stopping | Runs::Deallocating => Power::On,
        _ => Power::Unknown,
    }
}

/// The group in a resource's id.
fn group_of(id: &str) -> Option<&str> {
    let mut parts = id.split('/');
    parts.find(|part| part.eq_ignore_ascii_case("resourceGroups"))?;
    parts.next()
}

/// Changes for ever when the machine is started, deallocated or made anew, or a disk goes elsewhere: the disks' time of last
/// ownership does (Azure compute API, model of a disk).
fn stamp(machine: Option<&str>, disks: &[Disk]) -> Stamp {
    let mut said = machine.unwrap_or_default().to_owned();
    for disk in disks {
        for part in [&disk.unique_id, &disk.last_ownership_update] {
            said.push('\n');
            said.push_str(part.as_deref().unwrap_or_default());
        }
        said.push_str(disk.managed_by.as_deref().map(names::last).unwrap_or_default());
    }
    Stamp(said.to_ascii_lowercase().into_bytes())
}

//! What a person or a guest does to a machine of the directory, past the roles: for demos, examples and tests.

use crate::description::Description;
use crate::home::{Home, Known};
use crate::power::{PowerState, Switch};
use crate::{LocalSite, Site};
use bytes::Bytes;
use site_recovery::{DiskId, Error, Result};
use site_recovery_register::locked;
use site_recovery_register::{Told, not_found, refused};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

impl LocalSite {
    /// Turns a machine on as a person would: nobody of ours asked for it, so its start stamp changes.
    ///
    /// # Errors
    /// `Refused` while a fence blocks the start, naming who put it there; `NotFound`.
    pub async fn switch_on(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.act("switch on", move |site| {
            let home = site.home(&name)?;
            if let Some(fence) = home.fence_mark()? {
                let message = format!("{name} is blocked by {} ({}): {}", fence.by, fence.why, fence.lift);
                return Err(refused(message));
            }
            site.turn_on(&home)
        })
        .await
    }

    /// Turns a machine on although it may be blocked, as a person who does not look at the fence mark: in `power.json`,
    /// `state` is set to `on` and `starts` is raised.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn start_outside(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.act("start outside", move |site| site.turn_on(&site.home(&name)?)).await
    }

    /// Turns a machine off as a person would.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn switch_off(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.act("switch off", move |site| {
            let home = site.home(&name)?;
            let state = home.power_state()?;
            home.set_power_state(&PowerState { state: Switch::Off, ..state })
        })
        .await
    }

    /// Writes to a disk as the guest would, as one write that a capture has whole or not at all. What is written here is
    /// in every capture that is taken once the machine is off.
    ///
    /// # Errors
    /// `NotFound` without such a machine or disk; `Invalid` past the end of the disk; `Refused` while the machine does
    /// not run: a guest that is off writes nothing.
    pub async fn write_disk(&self, name: &str, disk: &DiskId, offset: u64, data: Bytes) -> Result<()> {
        let (name, disk) = (name.to_owned(), disk.clone());
        self.act("write disk", move |site| {
            let known = Known::read(site.home(&name)?)?;
            let held = known.disks.iter().find(|d| d.spec.id == disk || d.local == disk.0);
            let held = held.ok_or_else(|| not_found(format!("{name} has no disk {disk}")))?;
            let end = offset.saturating_add(data.len() as u64);
            if end > held.spec.size {
                let rule = format!("the disk has {} bytes", held.spec.size);
                return Err(Error::invalid("offset", offset, &rule, "stay inside the disk"));
            }
            let _lock = hold_writers(&known.home)?;
            if site.running(&known.home)? != Some(true) {
                return Err(refused(format!("{name} does not run: its guest writes nothing")));
            }
            let file = OpenOptions::new().write(true).open(&held.path).told("open", &held.path)?;
            file.write_all_at(&data, offset).told("write", &held.path)
        })
        .await
    }
}

impl Site {
    fn turn_on(&self, home: &Home) -> Result<()> {
        if let Some(start) = Description::read(&home.dir)?.and_then(|d| d.commands.start) {
            self.must_run(home, "start", &start, start.limit(), &[])?;
        }
        let state = home.power_state()?;
        let starts = state.starts + 1;
        home.set_power_state(&PowerState { state: Switch::On, starts, ..state })
    }
}

/// Waits for the write under way, and keeps the next one waiting until the guard is dropped.
pub(crate) fn hold_writers(home: &Home) -> Result<File> {
    locked(&home.own("write.lock"))
}

//! Machines in the making: built beside the site's machines under their key, and put in place by one rename.
//!
//! `made/<key>.json` remembers for ever what became of a key, so that a repeat finds it and a key that was withdrawn
//! makes nothing any more.

use crate::Site;
use crate::description::{Description, FILE};
use crate::home::{FENCED, Home, plain};
use crate::mark::{How, Mark};
use crate::place::short;
use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Instance, MachineId, Op, OpKey, Result};
use site_recovery_register::durable;
use site_recovery_register::{conflict, refused};
use std::path::PathBuf;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeBy {
    key: OpKey,
    became: Became,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Became {
    /// Being built, by the latest call of this key: an earlier one that still goes on writes elsewhere, and is told.
    Begun { attempt: u64 },
    /// Stands, or stood.
    Made { instance: Instance },
    /// Makes nothing any more.
    Withdrawn,
}

/// What `begin` found.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The key has made this.
    Already(Home, Instance),
    /// An empty directory to build in, of this call alone.
    New(Home),
}

impl Site {
    /// Opens the making of a machine, or finds what this key has made.
    ///
    /// # Errors
    /// `Conflict` when the name is taken; `Refused` when the key was withdrawn, or what it made is gone.
    pub(crate) fn begin_making(&self, op: &Op, machine: &MachineId, name: &str) -> Result<Begun> {
        let record: Option<MadeBy> = durable::read(&self.made_path(&op.key))?;
        let standing = self.made(&op.key)?;
        match (record.map(|r| r.became), standing) {
            (Some(Became::Withdrawn), _) => {
                Err(refused(format!("{} was withdrawn: ask under another key", op.key)))
            }
            (Some(Became::Made { instance }), Some((home, _))) => Ok(Begun::Already(home, instance)),
            (Some(Became::Made { instance }), None) => {
                let message =
                    format!("{} has made {}, which is gone: ask under another key", op.key, instance.name);
                Err(refused(message))
            }
            (_, Some((home, mark))) => {
                let instance = self.instance(&home, &mark);
                self.remember(&op.key, Became::Made { instance: instance.clone() })?;
                Ok(Begun::Already(home, instance))
            }
            (record, None) => {
                let name = self.free_name(name, machine)?;
                let attempt = if let Some(Became::Begun { attempt }) = record { attempt + 1 } else { 1 };
                self.remember(&op.key, Became::Begun { attempt })?;
                durable::remove_tree(&self.making_dir(&op.key))?;
                let home = Home { name, dir: self.attempt_dir(&op.key, attempt) };
                // Made where no start finds them.
                durable::make_dir(&home.dir.join(FENCED))?;
                Ok(Begun::New(home))
            }
        }
    }

    /// Whether this key may still make something in this draft.
    ///
    /// # Errors
    /// `Busy` when another call of the same key builds now; `Refused` when it was withdrawn.
    pub(crate) fn still_making(&self, key: &OpKey, draft: &Home) -> Result<()> {
        match durable::read::<MadeBy>(&self.made_path(key))?.map(|r| r.became) {
            Some(Became::Begun { attempt }) if draft.dir == self.attempt_dir(key, attempt) => Ok(()),
            Some(Became::Begun { .. } | Became::Made { .. }) => {
                Err(Error::new(ErrorKind::Busy, format!("another call of {key} has taken this one over")))
            }
            _ => Err(refused(format!("{key} was withdrawn while it was under way"))),
        }
    }

    /// Puts a machine that was built in place: its description, its mark, its block, and last its name.
    pub(crate) fn finish_making(
        &self,
        op: &Op,
        draft: &Home,
        description: &Description,
        mark: &Mark,
        why: &str,
    ) -> Result<Home> {
        durable::write(&draft.dir.join(FILE), description)?;
        self.leave_mark(op, draft, false, why)?;
        durable::write(&draft.own("place.json"), &short(op.key.as_str()))?;
        draft.set_mark(mark)?;
        let home = Home { name: draft.name.clone(), dir: self.root.join(&draft.name) };
        if home.dir.exists() {
            return Err(self.name_taken(&home.name));
        }
        durable::rename(&draft.dir, &home.dir)?;
        self.remember(&op.key, Became::Made { instance: self.instance(&home, mark) })?;
        durable::remove_tree(&self.making_dir(&op.key))?;
        Ok(home)
    }

    /// That nothing stands any more of what a key has made.
    ///
    /// # Errors
    /// Those of its mark, where it stands and cannot be read.
    pub(crate) fn must_be_gone(&self, key: &OpKey) -> Result<()> {
        let record: Option<MadeBy> = durable::read(&self.made_path(key))?;
        let Some(Became::Made { instance }) = record.map(|r| r.became) else { return Ok(()) };
        match self.home_if_there(&instance)? {
            Some(home) => home.mark().map(drop),
            None => Ok(()),
        }
    }

    /// Makes this key unable to make anything, and says what it has made.
    pub(crate) fn withdraw_key(&self, key: &OpKey) -> Result<()> {
        self.remember(key, Became::Withdrawn)?;
        durable::remove_tree(&self.making_dir(key))
    }

    /// The directory that this key made, wherever it stands now.
    pub(crate) fn made(&self, key: &OpKey) -> Result<Option<(Home, Mark)>> {
        for home in self.homes()? {
            // A mark that cannot be read is told by whoever asks for that machine.
            if let Ok(Some(mark)) = home.mark()
                && mark.made.as_ref().is_some_and(|m| &m.by == key)
            {
                return Ok(Some((home, mark)));
            }
        }
        Ok(None)
    }

    /// Removes a machine that our keys made in one of these ways, and reads back that it is gone.
    pub(crate) fn remove_made(&self, op: &Op, instance: &Instance, ways: &[How]) -> Result<()> {
        let doomed = self.own("removing").join(plain(op.key.as_str()));
        durable::remove_tree(&doomed)?;
        let Some(home) = self.home_if_there(instance)? else { return Ok(()) };
        let made = home.mark()?.and_then(|m| m.made);
        if !made.is_some_and(|m| ways.contains(&m.how)) {
            let message = format!("{} was not made by our keys in this way: remove it by hand", home.name);
            return Err(refused(message));
        }
        if self.process(&home)?.is_some() {
            self.halt(op, &home, std::time::Duration::ZERO, "to be removed")?;
        }
        self.end_store(&home)?;
        let place = self.place(&home)?;
        self.stop_serving(&place);
        durable::make_dir(&self.own("removing"))?;
        durable::rename(&home.dir, &doomed)?;
        durable::remove_tree(&doomed)?;
        durable::remove_tree(&place.dir)?;
        if home.dir.exists() {
            let message = format!("{} is there again after it was removed", home.name);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(())
    }

    /// The name, or the next one where an earlier instance of the same machine, made by us, still has it.
    fn free_name(&self, name: &str, machine: &MachineId) -> Result<String> {
        let mut names = std::iter::once(name.to_owned()).chain((2_u64..).map(|n| format!("{name}-{n}")));
        let in_the_way = |name: &String| self.root.join(name).exists() && self.is_made_of(name, machine);
        let free = names.find(|n| !in_the_way(n)).expect("there is always another number");
        if self.root.join(&free).exists() { Err(self.name_taken(&free)) } else { Ok(free) }
    }

    /// Whether a directory of this name is one that our keys made for this machine.
    pub(crate) fn is_made_of(&self, name: &str, machine: &MachineId) -> bool {
        let mark = self.home(name).and_then(|h| h.mark());
        mark.is_ok_and(|m| m.is_some_and(|m| &m.machine == machine && m.made.is_some()))
    }

    fn name_taken(&self, name: &str) -> Error {
        conflict(format!("the name {name} is taken: choose another in settings.name, or remove that machine"))
            .with("field", "settings.name")
    }

    fn remember(&self, key: &OpKey, became: Became) -> Result<()> {
        durable::write(&self.made_path(key), &MadeBy { key: key.clone(), became })
    }

    fn made_path(&self, key: &OpKey) -> PathBuf {
        self.own("made").join(format!("{}.json", plain(key.as_str())))
    }

    fn making_dir(&self, key: &OpKey) -> PathBuf {
        self.own("making").join(plain(key.as_str()))
    }

    fn attempt_dir(&self, key: &OpKey, attempt: u64) -> PathBuf {
        self.making_dir(key).join(attempt.to_string())
    }
}

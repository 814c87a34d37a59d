//! One machine's directory: its description, its images, and what we keep in its `.site-recovery/`.

use crate::description::{Description, FILE};
use crate::mark::{FenceMark, Mark};
use crate::{OWN, Site};
use site_recovery::{Armed, Error, Instance, OpKey, Result};
use site_recovery_register::{Told, conflict, durable, locked, not_found, refused};
use std::fs::{self, File};
use std::path::PathBuf;

/// Where the images stand while the machine may be started.
pub(crate) const DISKS: &str = "disks";
/// Where they stand while it may not.
pub(crate) const FENCED: &str = "fenced";

/// A directory that holds a machine, or what is left of one.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

impl Home {
    pub(crate) fn own(&self, file: &str) -> PathBuf {
        self.dir.join(OWN).join(file)
    }

    /// Where the images stand now.
    pub(crate) fn images(&self) -> PathBuf {
        let fenced = self.dir.join(FENCED);
        if fenced.is_dir() { fenced } else { self.dir.join(DISKS) }
    }

    /// Whether the images stand where no start finds them.
    pub(crate) fn is_fenced(&self) -> bool {
        self.dir.join(FENCED).is_dir()
    }

    /// Takes the images out of the way of every start: one rename, so that images that stand on each other move together.
    pub(crate) fn hide_images(&self) -> Result<()> {
        let _alone = self.starts()?;
        if self.is_fenced() { Ok(()) } else { durable::rename(&self.dir.join(DISKS), &self.dir.join(FENCED)) }
    }

    pub(crate) fn show_images(&self) -> Result<()> {
        if self.is_fenced() { durable::rename(&self.dir.join(FENCED), &self.dir.join(DISKS)) } else { Ok(()) }
    }

    /// Between a start that has looked for the fence and a fence that hides the images: one of them is first.
    pub(crate) fn starts(&self) -> Result<File> {
        locked(&self.own("starts"))
    }

    /// That no fence hides the images.
    ///
    /// # Errors
    /// `Refused`, naming who put it there.
    pub(crate) fn must_be_shown(&self) -> Result<()> {
        if self.is_fenced() { Err(self.blocked()?) } else { Ok(()) }
    }

    /// That there is no fence, and none is on its way: what a person may start.
    ///
    /// # Errors
    /// `Refused`, naming who put it there.
    pub(crate) fn must_be_unfenced(&self) -> Result<()> {
        if self.fence_mark()?.is_some() { Err(self.blocked()?) } else { self.must_be_shown() }
    }

    fn blocked(&self) -> Result<Error> {
        let by = self.fence_mark()?.map_or_else(
            || format!("its images are in {FENCED}/: rename that to {DISKS}/ when nothing else runs for it"),
            |fence| format!("{} ({}): {}", fence.by, fence.why, fence.lift),
        );
        Ok(refused(format!("{} is blocked by {by}", self.name)))
    }

    /// That the images stand in one place.
    ///
    /// # Errors
    /// `Conflict`: somebody brought `disks/` back while the machine was fenced. Which is the machine nobody here can tell.
    pub(crate) fn must_be_clear(&self) -> Result<()> {
        if !(self.is_fenced() && self.dir.join(DISKS).exists()) {
            return Ok(());
        }
        let message = format!(
            "{} has {DISKS}/ and {FENCED}/: somebody brought one of them back; see which one is newer, and move the \
             other out of the machine's directory",
            self.name
        );
        Err(conflict(message))
    }

    /// The mark, where there is one.
    ///
    /// # Errors
    /// `Conflict` when it was written for another directory.
    pub(crate) fn mark(&self) -> Result<Option<Mark>> {
        let mark: Option<Mark> = durable::read(&self.own("mark.json"))?;
        if let Some(mark) = &mark
            && mark.name != self.name
            && mark.moving_to.as_ref() != Some(&self.name)
        {
            let message = format!(
                "directory {} carries the mark of {}: it was copied or renamed by hand; remove its {OWN}/, or \
                 rename it back",
                self.name, mark.name
            );
            return Err(conflict(message).with("machine", &mark.machine));
        }
        Ok(mark)
    }

    pub(crate) fn set_mark(&self, mark: &Mark) -> Result<()> {
        durable::write(&self.own("mark.json"), mark)
    }

    /// The mark of a machine that must have one.
    pub(crate) fn marked(&self) -> Result<Mark> {
        self.mark()?.ok_or_else(|| not_found(format!("{} carries no mark: enrol or attach it", self.name)))
    }

    pub(crate) fn fence_mark(&self) -> Result<Option<FenceMark>> {
        durable::read(&self.own("fence.json"))
    }

    pub(crate) fn description(&self) -> Result<Description> {
        Description::read(&self.dir)?.ok_or_else(|| {
            let rule = "a machine is described";
            Error::invalid(FILE, "missing", rule, "write it, or take the directory away")
                .with("file", self.dir.join(FILE).display())
        })
    }
}

impl Site {
    /// The directory of this name.
    ///
    /// # Errors
    /// `NotFound` when nothing of it is there; `Invalid` for what can be no name.
    pub(crate) fn home(&self, name: &str) -> Result<Home> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0', ',']);
        if !plain {
            let rule = "the name of a directory: no slash, no comma, no dot in front";
            return Err(Error::invalid("instance.name", format!("{name:?}"), rule, "check the name"));
        }
        let dir = self.root.join(name);
        match fs::metadata(&dir) {
            Ok(found) if found.is_dir() => Ok(Home { name: name.to_owned(), dir }),
            Ok(_) => Err(not_found(format!("{} is no directory", dir.display()))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(not_found(format!(
                "neither machine nor disks named {name} are in {}",
                self.root.display()
            ))),
            Err(e) => Err(e).told("look at", &dir),
        }
    }

    /// The directory of an instance of this site that carries no other machine's mark.
    pub(crate) fn home_of(&self, instance: &Instance) -> Result<Home> {
        if instance.site != self.name {
            return Err(not_found(format!("{} stands at {}, not here", instance.name, instance.site)));
        }
        let home = self.home(&instance.name)?;
        match home.mark()? {
            Some(mark) if mark.machine != instance.machine => {
                let message = format!("{} carries the mark of {}", home.name, mark.machine);
                Err(conflict(message).with("asked", &instance.machine))
            }
            _ => Ok(home),
        }
    }

    /// As `home_of`, but a directory that is gone is no error.
    pub(crate) fn home_if_there(&self, instance: &Instance) -> Result<Option<Home>> {
        match self.home_of(instance) {
            Ok(home) => Ok(Some(home)),
            Err(e) if e.kind() == site_recovery::ErrorKind::NotFound && instance.site == self.name => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Every directory that describes a machine or carries a mark.
    pub(crate) fn homes(&self) -> Result<Vec<Home>> {
        let mut homes = vec![];
        for dir in durable::list(&self.root)? {
            let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let home = Home { name, dir };
            let ours = home.dir.join(FILE).exists() || home.own("mark.json").exists();
            if home.name.starts_with('.') || !home.dir.is_dir() || !ours {
                continue;
            }
            homes.push(home);
        }
        Ok(homes)
    }

    pub(crate) fn instance(&self, home: &Home, mark: &Mark) -> Instance {
        Instance {
            machine: mark.machine.clone(),
            site: self.name.clone(),
            name: home.name.clone(),
            generation: mark.generation,
        }
    }

    pub(crate) fn armed(&self, home: &Home, mark: &Mark) -> Option<Armed> {
        let armed = mark.armed.as_ref()?;
        let instance = Instance { generation: armed.generation, ..self.instance(home, mark) };
        Some(Armed { instance, cursor: armed.cursor.clone(), point: armed.point })
    }
}

/// Any text as the name of a file: different for different texts.
pub(crate) fn plain(text: &str) -> String {
    OpKey::from(text).to_name()
}

//! Branches under landing disks: an image above each, which takes all writes; the one below stays as it was.

use crate::Site;
use crate::description::Format;
use crate::home::{FENCED, Home};
use crate::known::Held;
use crate::landed::{self, Branch, Landing, Parting};
use crate::making::Begun;
use crate::mark::{How, Made, Mark};
use crate::place::short;
use site_recovery::{Error, ErrorKind, Instance, Op, Result};
use site_recovery_register::{Told, durable, refused};
use std::fs;
use std::path::{Path, PathBuf};

/// The image above a disk's own.
pub(crate) fn above(base: &Path) -> PathBuf {
    let mut name = base.as_os_str().to_owned();
    name.push(".branch");
    name.into()
}

/// The disk's own image, below the one above it.
pub(crate) fn below(above: &Path) -> PathBuf {
    above.with_extension("")
}

impl Site {
    pub(crate) fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        must_be_whole(&home, &landing)?;
        if landing.branch.is_some() || landing.done.contains(&op.key) {
            return Ok(());
        }
        // First, since a daemon that is just being started for one reads as a stranger that has the images.
        let _handles = self.end_handles(&home)?;
        self.must_be_off(&home)?;
        self.end_store(&home)?;
        let (known, mark) = (self.known(home.clone())?, home.marked()?);
        for held in &known.disks {
            let name = held.path.file_name().expect("an image has a name").to_string_lossy().into_owned();
            self.make_overlay(&above(&held.path), &name, held.format, held.spec.size)?;
        }
        durable::sync_dir(&home.images())?;
        landing.branch = Some(Branch { generation: mark.generation, armed: mark.armed });
        landing.done.push(op.key.clone());
        landed::write(&home, &landing)
    }

    /// Makes a machine of the images above, which stand alone then, and goes back to those below. Each move is one rename,
    /// and which have been made can be seen, so that a part that was broken off goes on where it was.
    pub(crate) fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        if let Some((kept, mark)) = self.made(&op.key)? {
            if landing.parting.as_ref().is_some_and(|p| p.key == op.key) {
                let _handles = self.end_handles(&home)?;
                self.must_be_off(&home)?;
                self.end_store(&home)?;
                self.finish_parting(&home, landing)?;
            }
            return Ok(self.instance(&kept, &mark));
        }
        let name = match &landing.parting {
            Some(parting) if parting.key == op.key => parting.kept.clone(),
            Some(parting) => {
                return Err(refused(format!(
                    "{} is being parted by {}: repeat that",
                    home.name, parting.key
                )));
            }
            None if landing.branch.is_none() => {
                return Err(refused(format!("{} has no branch to part", home.name)));
            }
            None if landing.merging => {
                let message =
                    format!("{} is being merged, which cannot be taken back: repeat that", home.name);
                return Err(refused(message));
            }
            None => format!("{}-branch-{}", home.name, &short(op.key.as_str())[..8]),
        };
        // First, since a daemon that is just being started for one reads as a stranger that has the images.
        let _handles = self.end_handles(&home)?;
        self.must_be_off(&home)?;
        self.block(op, &home, "landing")?;
        if landing.parting.is_none() {
            self.stand_alone(&home)?;
        }
        self.end_store(&home)?;
        if landing.parting.is_none() {
            landing.parting = Some(Parting { key: op.key.clone(), kept: name.clone() });
            landed::write(&home, &landing)?;
        }
        self.keep_above(op, &home, &name)?;
        let (kept, kept_mark) = self.made(&op.key)?.expect("it was made just now");
        self.finish_parting(&home, landing)?;
        Ok(self.instance(&kept, &kept_mark))
    }

    /// Copies into the images above what they read from those below.
    ///
    /// # Errors
    /// `Busy` with progress until that is done.
    fn stand_alone(&self, home: &Home) -> Result<()> {
        let known = self.known(home.clone())?;
        let reads = |held: &&Held| held.image.as_ref().is_some_and(|i| i.backing.is_some());
        let reading: Vec<&Held> = known.disks.iter().filter(reads).collect();
        if reading.is_empty() {
            return Ok(());
        }
        let mut layer = self.store(home, &self.stacks(&known)?)?;
        let (done, of) = self.make_whole(&mut layer, &reading)?;
        let message = format!("{} still reads from the images below: {done} of {of} bytes", home.name);
        Err(Error::new(ErrorKind::Busy, message).with("done", done).with("of", of))
    }

    /// Makes a machine of the files that stood above.
    fn keep_above(&self, op: &Op, home: &Home, name: &str) -> Result<()> {
        let mark = home.marked()?;
        let Begun::New(draft) = self.begin_making(op, &mark.machine, name)? else { return Ok(()) };
        let mut description = home.description()?;
        for disk in &mut description.disks {
            // Hard links: should the draft be thrown away and made again, the bytes are still above.
            let from = above(&home.images().join(&disk.file));
            let to = draft.dir.join(FENCED).join(&disk.file);
            fs::hard_link(&from, &to).told("link", &from)?;
            disk.format = Format::Qcow2;
        }
        landed::write(&draft, &Landing { attached: true, ..Landing::default() })?;
        let made = Some(Made { by: op.key.clone(), how: How::Parted });
        let mark = Mark { name: name.to_owned(), made, armed: None, settled: false, ..mark };
        self.finish_making(op, &draft, &description, &mark, "what stood above a branch").map(drop)
    }

    fn finish_parting(&self, home: &Home, mut landing: Landing) -> Result<()> {
        if let Some(branch) = landing.branch.take() {
            home.set_mark(&Mark { generation: branch.generation, armed: branch.armed, ..home.marked()? })?;
        }
        landing.parting = None;
        landing.attached = true;
        landed::write(home, &landing)?;
        for disk in &home.description()?.disks {
            durable::remove_file(&above(&home.images().join(&disk.file)))?;
        }
        Ok(())
    }
}

/// A machine whose part was broken off has files in two places: nothing else is done to it.
pub(crate) fn must_be_whole(home: &Home, landing: &Landing) -> Result<()> {
    match &landing.parting {
        None => Ok(()),
        Some(p) => Err(refused(format!("{} is being parted by {}: repeat that first", home.name, p.key))),
    }
}

//! Branches under landing disks: the bytes from before stand in `below/`, the disk files go on above.

use crate::home::plain;
use crate::home::{Home, How, Known, Made, Mark};
use crate::landed::{self, Branch, Landing, Parting};
use crate::making::Begun;
use crate::{Site, copies, handles, tracking};
use site_recovery::{Instance, Op, Result};
use site_recovery_register::durable;
use site_recovery_register::{Told, refused};
use std::fs::{self, File};
use std::path::Path;

impl Site {
    pub(crate) fn branch(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        must_be_whole(&home, &landing)?;
        if landing.branch.is_some() || landing.done.contains(&op.key) {
            return Ok(());
        }
        self.must_be_off(&home)?;
        let _ended = handles::end_all(&home)?;
        let (known, mark) = (Known::read(home.clone())?, home.marked()?);
        let below = home.own("below");
        durable::remove_tree(&below)?;
        durable::make_dir(&below)?;
        for held in &known.disks {
            let copy = below.join(file_of(&held.local));
            let copied = copies::clone(&held.path, &copy, &mut || Ok(()))
                .and_then(|()| File::open(&copy).and_then(|f| f.sync_all()).told("sync", &copy));
            if let Err(e) = copied {
                durable::remove_tree(&below)?;
                return Err(e);
            }
        }
        durable::sync_dir(&below)?;
        landing.branch = Some(Branch { generation: mark.generation, armed: mark.armed });
        landing.done.push(op.key.clone());
        landed::write(&home, &landing)
    }

    pub(crate) fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        must_be_whole(&home, &landing)?;
        if !landing.done.contains(&op.key) {
            let _ended = handles::end_all(&home)?;
            landing.branch = None;
            landing.done.push(op.key.clone());
            landed::write(&home, &landing)?;
        }
        if landing.branch.is_none() { durable::remove_tree(&home.own("below")) } else { Ok(()) }
    }

    /// Moves the files above into a machine of their own, and those below back. Each move is one rename, and which have
    /// been made can be seen, so that a part that was broken off goes on where it was.
    pub(crate) fn part(&self, op: &Op, instance: &Instance) -> Result<Instance> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        if let Some((kept, mark)) = self.made(&op.key)? {
            self.finish_parting(op, &home, landing)?;
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
            None => {
                let digest = tracking::hex(tracking::hash(op.key.as_str().as_bytes()));
                format!("{}-branch-{}", home.name, &digest[..8])
            }
        };
        self.must_be_off(&home)?;
        let _ended = handles::end_all(&home)?;
        self.block(op, &home, false, "landing")?;
        landing.parting = Some(Parting { key: op.key.clone(), kept: name.clone() });
        landed::write(&home, &landing)?;
        let (description, mark) = (home.description()?, home.marked()?);
        let above = home.own("above");
        for disk in &description.disks {
            let (now, apart) = (home.dir.join(&disk.file), above.join(file_of(&disk.id)));
            let below = home.own("below").join(file_of(&disk.id));
            if !apart.exists() {
                durable::make_dir(&above)?;
                durable::rename(&now, &apart)?;
            }
            if !now.exists() {
                durable::rename(&below, &now)?;
            }
        }
        self.keep_above(op, &home, &name, &above, &mark)?;
        let (kept, kept_mark) = self.made(&op.key)?.expect("it was made just now");
        self.finish_parting(op, &home, landing)?;
        Ok(self.instance(&kept, &kept_mark))
    }

    /// Makes a machine of the files that stood above.
    fn keep_above(&self, op: &Op, home: &Home, name: &str, above: &Path, mark: &Mark) -> Result<()> {
        let Begun::New(draft) = self.begin_making(op, &mark.machine, name)? else { return Ok(()) };
        let mut description = home.description()?;
        // What starts or freezes the machine itself must not reach what was kept of it.
        description.commands = Default::default();
        description.sidecars.clear();
        for disk in &mut description.disks {
            disk.file = file_of(&disk.id);
            // Hard links: should the draft be thrown away and made again, the bytes are still in `above/`.
            let (from, to) = (above.join(&disk.file), draft.dir.join(&disk.file));
            fs::hard_link(&from, &to).told("link", &from)?;
        }
        landed::write(&draft, &Landing { attached: true, ..Landing::default() })?;
        let made = Some(Made { by: op.key.clone(), how: How::Parted });
        let mark = Mark { name: name.to_owned(), made, armed: None, settled: false, ..mark.clone() };
        self.finish_making(op, &draft, &description, &mark, "what stood above a branch").map(drop)
    }

    fn finish_parting(&self, op: &Op, home: &Home, mut landing: Landing) -> Result<()> {
        if landing.parting.as_ref().is_none_or(|p| p.key != op.key) {
            return Ok(());
        }
        if let Some(branch) = landing.branch.take() {
            let mark = Known::read_as_is(home.clone())?.with_sizes(home.marked()?);
            home.set_mark(&Mark { generation: branch.generation, armed: branch.armed, ..mark })?;
        }
        landing.parting = None;
        landing.attached = true;
        durable::remove_tree(&home.own("above"))?;
        durable::remove_tree(&home.own("below"))?;
        landed::write(home, &landing)
    }
}

/// A machine whose part was broken off has files in two places: nothing else is done to it.
pub(crate) fn must_be_whole(home: &Home, landing: &Landing) -> Result<()> {
    match &landing.parting {
        None => Ok(()),
        Some(p) => Err(refused(format!("{} is being parted by {}: repeat that first", home.name, p.key))),
    }
}

fn file_of(disk: &str) -> String {
    format!("{}.raw", plain(disk))
}

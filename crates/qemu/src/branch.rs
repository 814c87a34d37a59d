//! Branches under landing disks: an image above each, which takes all writes; the one below stays as it was.

use crate::Site;
use crate::command_line::{below_node, top_node};
use crate::deadline::within;
use crate::description::Format;
use crate::home::{FENCED, Home};
use crate::landed::{self, Branch, Landing, Parting};
use crate::layer::{Job, Layer};
use crate::making::Begun;
use crate::mark::{How, Made, Mark};
use crate::place::short;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Instance, Op, Result};
use site_recovery_register::{Told, durable, refused};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a merge may take.
const MERGE: Duration = Duration::from_secs(24 * 3600);
const LOOK: Duration = Duration::from_millis(20);

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

    pub(crate) fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        must_be_whole(&home, &landing)?;
        if landing.branch.is_some() && !landing.done.contains(&op.key) {
            let known = self.known(home.clone())?;
            let mut layer = match self.live(&home)? {
                Some(layer) => layer,
                None => {
                    self.end_store(&home)?;
                    self.store(&home, &self.stacks(&known)?)?
                }
            };
            for held in &known.disks {
                layer.commit(held.n, known.description.disks[held.n].format)?;
            }
            self.pivot(&mut layer, known.disks.len(), &home, &mut landing, op)?;
        }
        self.end_merge(&home, &mut landing)
    }

    /// The images below take over. A guest stands still from before the first of them does until the note is durable that
    /// says which images count: up to there, those above hold everything.
    ///
    /// Nobody watches over this pause. A guest that went on in the middle would write to images of which its next start may
    /// find the others: killed in it, it stands still until the merge is repeated.
    fn pivot(
        &self,
        layer: &mut Layer,
        disks: usize,
        home: &Home,
        landing: &mut Landing,
        op: &Op,
    ) -> Result<()> {
        let pauses = layer.live && (landing.ending == Some(true) || crate::freeze::executes(layer)?);
        landing.ending = Some(pauses);
        landed::write(home, landing)?;
        if pauses {
            layer.call("stop", Value::Null)?;
        }
        if let Err(error) = (0..disks).try_for_each(|n| layer.complete(n)) {
            if layer.live {
                (0..disks).try_for_each(|n| layer.go_back(n))?;
                layer.go_on_after("paused")?;
            }
            landing.ending = None;
            landed::write(home, landing)?;
            return Err(error);
        }
        landing.branch = None;
        landing.done.push(op.key.clone());
        landed::write(home, landing)
    }

    /// What is left to do when the images below count: the guest goes on, and those above go.
    fn end_merge(&self, home: &Home, landing: &mut Landing) -> Result<()> {
        if landing.branch.is_some() {
            return Ok(());
        }
        let disks = home.description()?.disks;
        if let Some(held) = landing.ending {
            if let Some(mut layer) = self.live(home)? {
                if held {
                    layer.go_on_after("paused")?;
                }
                (0..disks.len()).try_for_each(|n| layer.let_go_above(n))?;
            } else {
                self.end_store(home)?;
            }
            landing.ending = None;
            landed::write(home, landing)?;
        }
        disks.iter().try_for_each(|disk| durable::remove_file(&above(&home.images().join(&disk.file))))
    }

    /// Makes a machine of the images above, which stand alone then, and goes back to those below. Each move is one rename,
    /// and which have been made can be seen, so that a part that was broken off goes on where it was.
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
            None => format!("{}-branch-{}", home.name, &short(op.key.as_str())[..8]),
        };
        self.must_be_off(&home)?;
        self.end_store(&home)?;
        self.block(op, &home, "landing")?;
        if landing.parting.is_none() {
            self.stand_alone(&home)?;
            landing.parting = Some(Parting { key: op.key.clone(), kept: name.clone() });
            landed::write(&home, &landing)?;
        }
        self.keep_above(op, &home, &name)?;
        let (kept, kept_mark) = self.made(&op.key)?.expect("it was made just now");
        self.finish_parting(op, &home, landing)?;
        Ok(self.instance(&kept, &kept_mark))
    }

    /// Copies into the images above what they read from those below.
    fn stand_alone(&self, home: &Home) -> Result<()> {
        let known = self.known(home.clone())?;
        let mut layer = self.store(home, &self.stacks(&known)?)?;
        for held in &known.disks {
            layer.call("block-stream", json!({ "job-id": job(held.n), "device": top_node(held.n) }))?;
            within(MERGE, LOOK, || Ok::<_, Error>(layer.jobs()?.iter().all(|j| j.id != job(held.n))))?;
            if self.image(&held.path, held.format.name())?.backing.is_some() {
                let message = format!("{} still reads from the image below", held.path.display());
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        drop(layer);
        self.end_store(home)
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

    fn finish_parting(&self, op: &Op, home: &Home, mut landing: Landing) -> Result<()> {
        if landing.parting.as_ref().is_none_or(|p| p.key != op.key) {
            return Ok(());
        }
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

impl Layer {
    /// Begins to write what stands above into the image below, and returns when both are the same. Bitmaps go along: those
    /// below record everything that is written into them.
    fn commit(&mut self, n: usize, below: Format) -> Result<()> {
        if !self.has_node(&below_node(n))? {
            return Ok(());
        }
        for link in self.links(&top_node(n))? {
            self.begin_bitmap(&below_node(n), &link, below == Format::Qcow2)?;
        }
        let before = self.jobs()?.into_iter().find(|j| j.id == job(n));
        match &before {
            // A merge before this one was killed at its end.
            Some(job) if job.is_done() => return Ok(()),
            Some(Job { error: Some(_), .. }) => self.dismiss(n)?,
            _ => {}
        }
        if before.is_none_or(|job| job.error.is_some()) {
            let arguments = json!({ "job-id": job(n), "device": top_node(n), "auto-dismiss": false });
            self.call("block-commit", arguments)?;
        }
        self.wait_for(n, "ready")
    }

    /// Ends the job, which is kept: it tells that the image below has taken over.
    fn complete(&mut self, n: usize) -> Result<()> {
        if !self.jobs()?.iter().any(|j| j.id == job(n) && j.is_done()) {
            self.call("job-complete", json!({ "id": job(n) }))?;
        }
        self.wait_for(n, "concluded")
    }

    /// Gives a disk back to the image above, while nothing has been written below it.
    fn go_back(&mut self, n: usize) -> Result<()> {
        if self.jobs()?.iter().any(|j| j.id == job(n) && j.is_done()) {
            self.set_drive(n, &top_node(n))?;
            self.dismiss(n)?;
        }
        Ok(())
    }

    fn let_go_above(&mut self, n: usize) -> Result<()> {
        if self.jobs()?.iter().any(|j| j.id == job(n)) {
            self.dismiss(n)?;
        }
        self.remove_node(&top_node(n))
    }

    fn dismiss(&mut self, n: usize) -> Result<()> {
        self.call("job-dismiss", json!({ "id": job(n) })).map(drop)
    }

    fn wait_for(&mut self, n: usize, status: &str) -> Result<()> {
        let failed = |how: &str| Error::new(ErrorKind::Unavailable, format!("copying disk {n} {how}"));
        let came = within(MERGE, LOOK, || {
            let found = self.jobs()?.into_iter().find(|j| j.id == job(n));
            match found {
                Some(Job { error: Some(error), .. }) => Err(failed(&format!("failed: {error}"))),
                Some(job) if job.status == status => Ok(true),
                Some(job) if job.status != "concluded" => Ok(false),
                _ => Err(failed("ended too early")),
            }
        })?;
        if came { Ok(()) } else { Err(failed("takes too long")) }
    }
}

impl Job {
    /// Whether it did all that it was for.
    fn is_done(&self) -> bool {
        self.status == "concluded" && self.error.is_none()
    }
}

fn job(n: usize) -> String {
    format!("dr-copy-{n}")
}

/// A machine whose part was broken off has files in two places: nothing else is done to it.
pub(crate) fn must_be_whole(home: &Home, landing: &Landing) -> Result<()> {
    match &landing.parting {
        None => Ok(()),
        Some(p) => Err(refused(format!("{} is being parted by {}: repeat that first", home.name, p.key))),
    }
}

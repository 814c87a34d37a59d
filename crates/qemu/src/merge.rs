//! The end of a branch: what stands above is copied into the images below while the machine goes on, and then those take
//! over.

use crate::Site;
use crate::branch::{above, must_be_whole};
use crate::command_line::{below_node, top_node};
use crate::deadline::{Deadline, within};
use crate::description::Format;
use crate::home::Home;
use crate::known::{Held, Known};
use crate::landed::{self, Landing};
use crate::layer::{Job, Layer};
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Instance, Op, Result};
use site_recovery_register::durable;
use std::time::Duration;

/// How long a guest may stand still while the images below take over.
const PIVOT: Duration = Duration::from_secs(30);
/// How long a copy that is called off may take to end.
const BACK: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

impl Site {
    pub(crate) fn merge(&self, op: &Op, instance: &Instance) -> Result<()> {
        let _turn = self.register.turn(op, &instance.machine)?;
        let home = self.home_of(instance)?;
        let mut landing = landed::of(&home)?;
        must_be_whole(&home, &landing)?;
        if landing.branch.is_some() && !landing.done.contains(&op.key) {
            let _handles = self.end_handles(&home)?;
            let known = self.known(home.clone())?;
            let mut layer = self.both(&known)?;
            if landing.ending.is_some() && !layer.can_take_over(known.disks.len())? {
                drop(layer);
                self.go_back(&home, &mut landing, known.disks.len())?;
                layer = self.both(&known)?;
            }
            if !landing.merging {
                landing.merging = true;
                landed::write(&home, &landing)?;
            }
            layer.copy_down(&known)?;
            self.pivot(layer, known.disks.len(), &home, &mut landing, op)?;
        }
        self.end_merge(&home, &mut landing)
    }

    /// The process that has both images of each disk.
    fn both(&self, known: &Known) -> Result<Layer> {
        if let Some(layer) = self.live(&known.home)? {
            return Ok(layer);
        }
        let mut layer = self.store(&known.home, &self.stacks(known)?)?;
        for export in layer.exports()? {
            layer.end_export(&export.id)?;
        }
        Ok(layer)
    }

    /// The images below take over. A guest stands still from before the first of them does until the note is durable that
    /// says which images count: up to there, those above hold everything. Where that takes too long, all goes back.
    ///
    /// Nobody watches over this pause. A guest that went on in the middle would write to images of which its next start may
    /// find the others: killed in it, it stands still until the merge is repeated.
    fn pivot(
        &self,
        mut layer: Layer,
        disks: usize,
        home: &Home,
        landing: &mut Landing,
        op: &Op,
    ) -> Result<()> {
        let pauses = layer.live && (landing.ending == Some(true) || crate::freeze::executes(&mut layer)?);
        landing.ending = Some(pauses);
        landed::write(home, landing)?;
        let limit = Deadline::after(PIVOT);
        let stands = if pauses { layer.call("stop", Value::Null).map(drop) } else { Ok(()) };
        if let Err(error) = stands.and_then(|()| (0..disks).try_for_each(|n| layer.complete(n, limit))) {
            // A monitor that fell silent in the middle is asked anew.
            drop(layer);
            return match self.go_back(home, landing, disks) {
                Ok(()) => Err(error),
                Err(left) if pauses => {
                    let message = format!(
                        "the merge of {} broke off, and its guest stands still until the merge is repeated: {}; \
                         {left}",
                        home.name,
                        error.message()
                    );
                    Err(Error::new(left.kind(), message).caused_by(left))
                }
                Err(left) => Err(left.caused_by(error)),
            };
        }
        // What the note says counts, also where it is not known whether it was written: so nothing goes back from here on.
        (landing.branch, landing.merging) = (None, false);
        landing.done.push(op.key.clone());
        landed::write(home, landing)
    }

    /// The images above count, as they did before anything took over, and the guest goes on. One that could not be given
    /// back holds it.
    fn go_back(&self, home: &Home, landing: &mut Landing, disks: usize) -> Result<()> {
        if let Some(mut layer) = self.live(home)? {
            // Each for itself: one that does not answer leaves no other behind.
            let back: Vec<Result<()>> = (0..disks).map(|n| layer.go_back(n)).collect();
            back.into_iter().collect::<Result<()>>()?;
            if landing.ending == Some(true) {
                layer.go_on_after("paused")?;
            }
        } else {
            self.end_store(home)?;
        }
        landing.ending = None;
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
}

impl Layer {
    /// Begins to write what stands above into the images below, where that is not under way.
    ///
    /// # Errors
    /// `Busy` with progress until both are the same on every disk, and while a capture's filter stands above one;
    /// `OutOfSpace`, `Unavailable` where copying failed: the next call begins it again.
    fn copy_down(&mut self, known: &Known) -> Result<()> {
        let captured = self.is_filtered()?;
        let (mut done, mut of, mut same) = (0, 0, true);
        for held in &known.disks {
            let under_way = self.commit(held, known.description.disks[held.n].format, captured)?;
            same &= under_way.is_none();
            let (copied, all) = under_way.unwrap_or((held.spec.size, held.spec.size));
            (done, of) = (done + copied, of + all);
        }
        if same {
            return Ok(());
        }
        let why = if captured { "a capture of it is open" } else { "what stands above is being copied" };
        let message = format!("{} is not merged: {why}, {done} of {of} bytes", known.home.name);
        Err(Error::new(ErrorKind::Busy, message).with("done", done).with("of", of))
    }

    /// Copies down what stands above the image below, and no deeper: what that one stands on is not ours, and stays. Nothing
    /// where both are the same, else how far it is. Bitmaps go along: those below record everything that is written there.
    fn commit(&mut self, held: &Held, below: Format, captured: bool) -> Result<Option<(u64, u64)>> {
        let n = held.n;
        for link in self.links(&top_node(n))? {
            self.begin_bitmap(&below_node(n), &link, below == Format::Qcow2)?;
        }
        match self.copy(n)? {
            Some(job) if job.has_failed() => {
                self.dismiss(n)?;
                Err(failed(n, &job).with("image", held.path.display()))
            }
            // Done is one whose merge was killed at its end.
            Some(job) if job.is_done() || job.status == "ready" => Ok(None),
            Some(job) => Ok(Some((job.current, job.total))),
            None if captured => Ok(Some((0, held.spec.size))),
            None => {
                let arguments = json!({
                    "job-id": job(n), "device": top_node(n), "base-node": below_node(n), "auto-dismiss": false,
                });
                self.call("block-commit", arguments)?;
                Ok(Some((0, held.spec.size)))
            }
        }
    }

    /// Whether every disk's image below holds what stands above.
    fn can_take_over(&mut self, disks: usize) -> Result<bool> {
        let jobs = self.jobs()?;
        let can = |n| jobs.iter().any(|j| j.id == job(n) && (j.is_done() || j.status == "ready"));
        Ok((0..disks).all(can))
    }

    /// Ends the job, which is kept: it tells that the image below has taken over.
    fn complete(&mut self, n: usize, limit: Deadline) -> Result<()> {
        if !self.copy(n)?.is_some_and(|j| j.is_done()) {
            self.call("job-complete", json!({ "id": job(n) }))?;
        }
        loop {
            match self.copy(n)? {
                Some(job) if job.is_done() => return Ok(()),
                Some(job) if job.has_failed() => return Err(failed(n, &job)),
                None => {
                    return Err(Error::new(ErrorKind::Unavailable, format!("the copy of disk {n} is gone")));
                }
                Some(_) if limit.is_over() => {
                    let message = format!("disk {n} was not taken over within {} s", PIVOT.as_secs());
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
                Some(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Gives a disk back to the image above, while nothing has been written below it. A copy that may still take over is
    /// called off.
    fn go_back(&mut self, n: usize) -> Result<()> {
        let is_over = |job: &Job| job.is_done() || job.has_failed();
        if self.copy(n)?.is_some_and(|j| !is_over(&j)) {
            // It may be over by now.
            let _over = self.call("job-cancel", json!({ "id": job(n) }));
            if !within(BACK, LOOK, || Ok::<_, Error>(self.copy(n)?.is_none_or(|j| is_over(&j))))? {
                let message = format!("the copy of disk {n} does not end");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        let Some(found) = self.copy(n)? else { return Ok(()) };
        if found.is_done() {
            self.set_drive(n, &top_node(n))?;
        }
        self.dismiss(n)
    }

    fn let_go_above(&mut self, n: usize) -> Result<()> {
        if self.copy(n)?.is_some() {
            self.dismiss(n)?;
        }
        self.remove_node(&top_node(n))
    }

    /// A capture's filter would stand on what a merge is about to take away.
    ///
    /// # Errors
    /// `Busy` while a branch is being merged.
    pub(crate) fn must_not_merge(&mut self) -> Result<()> {
        match self.jobs()?.iter().any(|j| j.id.starts_with(COPIES) && !j.has_failed()) {
            true => {
                Err(Error::new(ErrorKind::Busy, "its branch is being merged: captured when that is over"))
            }
            false => Ok(()),
        }
    }

    fn copy(&mut self, n: usize) -> Result<Option<Job>> {
        Ok(self.jobs()?.into_iter().find(|j| j.id == job(n)))
    }

    fn dismiss(&mut self, n: usize) -> Result<()> {
        self.call("job-dismiss", json!({ "id": job(n) })).map(drop)
    }
}

impl Job {
    /// Whether it did all that it was for.
    fn is_done(&self) -> bool {
        self.status == "concluded" && self.error.is_none()
    }

    fn has_failed(&self) -> bool {
        self.status == "concluded" && self.error.is_some()
    }
}

fn failed(n: usize, job: &Job) -> Error {
    let why = job.error.as_deref().unwrap_or("for no reason that QEMU tells");
    let kind = if why.contains("No space left") { ErrorKind::OutOfSpace } else { ErrorKind::Unavailable };
    Error::new(kind, format!("copying disk {n} into the image below failed: {why}"))
}

/// How the names of all copies begin.
const COPIES: &str = "dr-copy-";

fn job(n: usize) -> String {
    format!("{COPIES}{n}")
}

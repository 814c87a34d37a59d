//! Hydration: what an image still reads from its point is copied into it, while the machine runs or while it is off.

use crate::Site;
use crate::command_line::{point_node, top_node};
use crate::deadline::within;
use crate::home::Home;
use crate::layer::Layer;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use std::time::Duration;

/// How long a stream may take to end.
const LET_GO: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// How long a guest goes on before it is looked whether it stands still again.
const AGAIN: Duration = Duration::from_millis(200);

/// How far hydration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hydrated {
    /// Every image stands alone.
    Whole,
    /// Bytes copied, of so many that had to be looked at.
    Partly { done: u64, of: u64 },
}

impl Site {
    /// Begins to copy, where that is not under way, and says how far it is.
    pub(crate) fn hydrate(&self, home: &Home) -> Result<Hydrated> {
        let known = self.known(home.clone())?;
        let standing: Vec<usize> = known.disks.iter().filter(|d| d.stands_on_point()).map(|d| d.n).collect();
        let mut layer = match self.live(home)? {
            Some(layer) => layer,
            None if standing.is_empty() => return Ok(Hydrated::Whole),
            None => self.store(home, &self.stacks(&known)?)?,
        };
        // A stream and a capture's filter would each change what the other one stands on.
        let captured = layer.nodes()?.iter().any(|n| n.node_name.starts_with("dr-cbw-"));
        let (mut done, mut of) = (0, 0);
        for n in &standing {
            match layer.jobs()?.into_iter().find(|j| j.id == job(*n)) {
                Some(job) => (done, of) = (done + job.current, of + job.total),
                // Not begun, or it failed: QEMU forgets a job that is over.
                None if captured => of += known.disks[*n].spec.size,
                None => {
                    of += known.disks[*n].spec.size;
                    layer.stream(*n, self.options.hydration_speed)?;
                }
            }
        }
        if standing.is_empty() {
            for held in &known.disks {
                layer.remove_node(&point_node(held.n))?;
            }
            return Ok(Hydrated::Whole);
        }
        Ok(Hydrated::Partly { done, of })
    }

    /// Hydrates a machine that is off, to the end.
    pub(crate) fn hydrate_at_rest(&self, home: &Home, limit: Duration) -> Result<()> {
        if !within(limit, LOOK, || Ok::<_, Error>(self.hydrate(home)? == Hydrated::Whole))? {
            let message = format!("{} was not hydrated within {} s", home.name, limit.as_secs());
            return Err(Error::new(ErrorKind::Busy, message));
        }
        self.end_store(home)
    }
}

impl Layer {
    fn stream(&mut self, n: usize, speed: Option<u64>) -> Result<()> {
        // Dismissed by itself: QEMU 10.0 crashes when it is asked for its nodes while a stream that is over is kept.
        let mut arguments = json!({ "job-id": job(n), "device": top_node(n) });
        if let Some(speed) = speed {
            arguments["speed"] = speed.into();
        }
        self.call("block-stream", arguments).map(drop)
    }

    /// Ends the streams that are under way; what they have copied stays. The next look at hydration begins them again.
    pub(crate) fn end_streams(&mut self) -> Result<()> {
        for job in self.jobs()?.iter().filter(|j| j.id.starts_with("dr-hyd-")) {
            // It may be over by now.
            let _over = self.call("job-cancel", json!({ "id": job.id }));
        }
        let over = within(LET_GO, LOOK, || {
            Ok::<_, Error>(self.jobs()?.iter().all(|j| !j.id.starts_with("dr-hyd-")))
        })?;
        if over { Ok(()) } else { Err(Error::new(ErrorKind::Busy, "hydration does not end")) }
    }

    /// Lets a guest go on that an error of its disks has paused. It tries what failed again, and stands still again while QEMU
    /// has not found the server of the point. Whatever else holds it still stays; but a person's pause on top of an error's
    /// leaves no trace in QEMU.
    ///
    /// # Errors
    /// `Unavailable`, `OutOfSpace` when it still stands still at the end.
    pub(crate) fn go_on_after_error(&mut self, limit: Duration) -> Result<()> {
        if within(limit, AGAIN, || Ok::<_, Error>(!self.go_on_after("io-error")?))? {
            return Ok(());
        }
        let disks = self.call("query-block", Value::Null)?;
        let full = disks.as_array().into_iter().flatten().any(|d| d["io-status"] == "nospace");
        let (kind, why) = match full {
            true => (ErrorKind::OutOfSpace, "there is no room for what it writes: make some"),
            false => (ErrorKind::Unavailable, "its disks cannot be read or written"),
        };
        Err(Error::new(kind, format!("the guest is paused since {why}")))
    }

    /// Lets a guest go on that stands still for this reason, as QEMU names it. Says whether it did.
    pub(crate) fn go_on_after(&mut self, why: &str) -> Result<bool> {
        let stands = self.call("query-status", Value::Null)?["status"] == why;
        if stands {
            self.call("cont", Value::Null)?;
        }
        Ok(stands)
    }
}

fn job(n: usize) -> String {
    format!("dr-hyd-{n}")
}

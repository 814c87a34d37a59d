//! Hydration: what an image still reads from its point is copied into it, while the machine runs or while it is off.

use crate::Site;
use crate::command_line::{point_node, top_node};
use crate::deadline::within;
use crate::home::Home;
use crate::known::Held;
use crate::layer::Layer;
use serde::Deserialize;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a stream may take to end.
const LET_GO: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);
/// How long a guest goes on before it is looked whether it stands still again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often a stream is begun before it is told that it fails: a server of the point that was away is found again late.
const ATTEMPTS: u32 = 5;

/// How far hydration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hydrated {
    /// Every image stands alone.
    Whole,
    /// Bytes copied, of so many that had to be looked at.
    Partly { done: u64, of: u64 },
}

/// A stream of ours, as QEMU tells of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Stream {
    #[serde(rename = "device")]
    job: String,
    offset: u64,
    len: u64,
    io_status: String,
}

impl Hydrated {
    /// # Errors
    /// `Busy` with progress while an image is not whole.
    pub(crate) fn must_be_whole(self, home: &Home) -> Result<()> {
        let Self::Partly { done, of } = self else { return Ok(()) };
        let message = format!("{} still reads from its point: {done} of {of} bytes are copied", home.name);
        Err(Error::new(ErrorKind::Busy, message).with("done", done).with("of", of))
    }
}

impl Site {
    /// Begins to copy, where that is not under way, and says how far it is.
    ///
    /// # Errors
    /// `OutOfSpace`, `Unavailable` where copying failed. What is copied stays, and the next look begins it again.
    pub(crate) fn hydrate(&self, home: &Home) -> Result<Hydrated> {
        let known = self.known(home.clone())?;
        let standing: Vec<&Held> = known.disks.iter().filter(|d| d.stands_on_point()).collect();
        let mut layer = match self.live(home)? {
            Some(layer) => layer,
            None if standing.is_empty() => return Ok(Hydrated::Whole),
            None => self.store(home, &self.stacks(&known)?)?,
        };
        if standing.is_empty() {
            for held in &known.disks {
                layer.remove_node(&point_node(held.n))?;
            }
            return Ok(Hydrated::Whole);
        }
        let (done, of) = self.make_whole(&mut layer, &standing)?;
        Ok(Hydrated::Partly { done, of })
    }

    /// Begins to copy into these images what they stand on, where that is not under way: bytes copied, of so many.
    pub(crate) fn make_whole(&self, layer: &mut Layer, standing: &[&Held]) -> Result<(u64, u64)> {
        let mut failures = vec![];
        for held in standing {
            if let Some((stream, attempt)) = layer.stream_of(held.n)?
                && stream.io_status != "ok"
            {
                layer.stop_stream(&stream.job)?;
                failures.push((held.n, attempt, failed(&stream, attempt, held)));
            }
        }
        let (mut again, mut why) = (BTreeMap::new(), None);
        for (n, attempt, failure) in failures {
            again.insert(n, attempt + 1);
            why = why.or(failure);
        }
        if layer.live && !again.is_empty() {
            // What the guest reads goes through a stream, and fails with it.
            layer.go_on_after("io-error")?;
        }
        if let Some(error) = why {
            layer.end_streams()?;
            layer.leave_failed()?;
            return Err(error);
        }
        layer.remove_node(FAILED)?;
        // A stream and a capture's filter would each change what the other one stands on.
        let captured = layer.is_filtered()?;
        let (mut done, mut of) = (0, 0);
        for held in standing {
            if let Some((stream, _)) = layer.stream_of(held.n)? {
                (done, of) = (done + stream.offset, of + stream.len);
                continue;
            }
            of += held.spec.size;
            if !captured {
                let attempt = again.get(&held.n).copied().unwrap_or(1);
                layer.stream(held.n, attempt, self.options.hydration_speed)?;
            }
        }
        Ok((done, of))
    }

    /// Has a storage daemon that lost its point find the one that is served now: one that is begun anew does so at once.
    pub(crate) fn connect_anew(&self, home: &Home) -> Result<()> {
        let Some(mut layer) = self.stored(home)? else { return Ok(()) };
        layer.end_streams()?;
        drop(layer);
        self.end_idle_store(home)
    }
}

/// Why a stream that failed is not begun again by itself.
fn failed(stream: &Stream, attempt: u32, held: &Held) -> Option<Error> {
    let image = held.path.display();
    let error = match stream.io_status.as_str() {
        "nospace" => {
            let message = format!("there is no room to make {image} whole: make some, then ask again");
            Error::new(ErrorKind::OutOfSpace, message)
        }
        _ if attempt < ATTEMPTS => return None,
        _ => {
            let message = format!(
                "{image} cannot be made whole: its point cannot be read, or it cannot be written; {ATTEMPTS} \
                 attempts failed"
            );
            Error::new(ErrorKind::Unavailable, message)
        }
    };
    Some(error.with("image", image).with("done", stream.offset).with("of", stream.len))
}

impl Layer {
    /// Whether a capture's filter stands above an image.
    pub(crate) fn is_filtered(&mut self) -> Result<bool> {
        Ok(self.nodes()?.iter().any(|n| n.node_name.starts_with("dr-cbw-")))
    }

    /// Whether copying failed, and nobody has asked for it again since. Each attempt costs the guest a moment.
    pub(crate) fn has_failed(&mut self) -> Result<bool> {
        self.has_node(FAILED)
    }

    /// A node of nothing: it lives and dies with the process, and with what it says.
    fn leave_failed(&mut self) -> Result<()> {
        match self.has_failed()? {
            true => Ok(()),
            false => self.call("blockdev-add", json!({ "driver": "null-co", "node-name": FAILED })).map(drop),
        }
    }

    /// Begins to copy. One that fails is kept standing still, since QEMU forgets a job that is over, and what it failed of.
    fn stream(&mut self, n: usize, attempt: u32, speed: Option<u64>) -> Result<()> {
        // Dismissed by itself: QEMU 10.0 crashes when it is asked for its nodes while a stream that is over is kept.
        let mut arguments = json!({ "job-id": job(n, attempt), "device": top_node(n), "on-error": "stop" });
        if let Some(speed) = speed {
            arguments["speed"] = speed.into();
        }
        self.call("block-stream", arguments).map(drop)
    }

    /// The stream of a disk, and which attempt it is.
    fn stream_of(&mut self, n: usize) -> Result<Option<(Stream, u32)>> {
        // Jobs of another kind carry no name of ours, or other fields.
        let all: Vec<Value> = self.ask("query-block-jobs", Value::Null)?;
        let prefix = job(n, "");
        let streams = all.into_iter().filter_map(|j| serde_json::from_value::<Stream>(j).ok());
        let ours = |stream: Stream| {
            let attempt = stream.job.strip_prefix(&prefix)?.parse().ok()?;
            Some((stream, attempt))
        };
        Ok(streams.filter_map(ours).next())
    }

    /// Ends one stream, or finds that it is over.
    fn stop_stream(&mut self, id: &str) -> Result<()> {
        // It may be over by now.
        let _over = self.call("job-cancel", json!({ "id": id }));
        let over = within(LET_GO, LOOK, || Ok::<_, Error>(self.jobs()?.iter().all(|j| j.id != id)))?;
        if over { Ok(()) } else { Err(Error::new(ErrorKind::Busy, "hydration does not end")) }
    }

    /// Ends the streams that are under way; what they have copied stays. The next look at hydration begins them again.
    pub(crate) fn end_streams(&mut self) -> Result<()> {
        let streams: Vec<_> = self.jobs()?.into_iter().filter(|j| j.id.starts_with(STREAMS)).collect();
        streams.iter().try_for_each(|job| self.stop_stream(&job.id))
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

/// Name of the node that says that copying failed.
const FAILED: &str = "dr-hyd-failed";
/// How the names of all streams begin.
const STREAMS: &str = "dr-hyd-";

fn job(n: usize, attempt: impl std::fmt::Display) -> String {
    format!("{STREAMS}{n}-{attempt}")
}

//! The block layer of a machine: that of its own process while it runs, that of a storage daemon while it is off. Both
//! speak QMP, and name nodes, bitmaps and exports alike.

use crate::Site;
use crate::command_line::{Stack, below_node, text, top_node};
use crate::deadline::within;
use crate::home::Home;
use crate::process::{Process, detach};
use serde::Deserialize;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_qmp::{Limits, Monitor};
use site_recovery_register::{durable, locked};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

/// How long an export may take to let its clients go.
const LET_GO: Duration = Duration::from_secs(10);
/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A connection to the block layer of one machine. Nobody else has one while it lives.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) monitor: Monitor,
    /// Whether it is the machine's own process.
    pub(crate) live: bool,
    exports: PathBuf,
    _alone: File,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Node {
    pub(crate) node_name: String,
    #[serde(default)]
    pub(crate) dirty_bitmaps: Vec<Bitmap>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Bitmap {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) recording: bool,
    #[serde(default)]
    pub(crate) inconsistent: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Export {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) shutting_down: bool,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) status: String,
    #[serde(default, rename = "current-progress")]
    pub(crate) current: u64,
    #[serde(default, rename = "total-progress")]
    pub(crate) total: u64,
    #[serde(default)]
    pub(crate) error: Option<String>,
}

impl Layer {
    /// Asks, and returns the answer.
    pub(crate) fn call(&mut self, command: &'static str, arguments: Value) -> Result<Value> {
        self.monitor.call(command, arguments).map_err(told)
    }

    pub(crate) fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        command: &'static str,
        arguments: Value,
    ) -> Result<T> {
        let answer = self.call(command, arguments)?;
        serde_json::from_value(answer).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("QEMU's answer to {command} is not understood"))
                .caused_by(e)
        })
    }

    pub(crate) fn nodes(&mut self) -> Result<Vec<Node>> {
        self.ask("query-named-block-nodes", json!({ "flat": true }))
    }

    /// The node of the image that a disk's writes go to: above a branch, until that is merged.
    pub(crate) fn top(&mut self, n: usize) -> Result<String> {
        let above = top_node(n);
        Ok(if self.has_node(&above)? { above } else { below_node(n) })
    }

    /// Whether every disk has the images of these stacks and no other.
    fn holds(&mut self, stacks: &[Stack]) -> Result<bool> {
        let found: BTreeSet<String> = self.nodes()?.into_iter().map(|n| n.node_name).collect();
        Ok(stacks.iter().all(|stack| {
            let wanted = |name: &str| stack.nodes.iter().any(|node| node["node-name"] == name);
            [top_node(stack.n), below_node(stack.n)].iter().all(|name| found.contains(name) == wanted(name))
        }))
    }

    pub(crate) fn has_node(&mut self, name: &str) -> Result<bool> {
        Ok(self.nodes()?.iter().any(|n| n.node_name == name))
    }

    /// The bitmaps of a node; none where the node is not there.
    pub(crate) fn bitmaps(&mut self, node: &str) -> Result<Vec<Bitmap>> {
        let found = self.nodes()?.into_iter().find(|n| n.node_name == node);
        Ok(found.map(|n| n.dirty_bitmaps).unwrap_or_default())
    }

    pub(crate) fn exports(&mut self) -> Result<Vec<Export>> {
        self.ask("query-block-exports", Value::Null)
    }

    /// Serves a node over NBD, and starts the server where that has not been done.
    ///
    /// # Errors
    /// `Conflict` where this QEMU serves NBD for somebody else: one process has one server.
    pub(crate) fn serve(
        &mut self,
        id: &str,
        node: &str,
        bitmaps: &[(String, String)],
        writable: bool,
    ) -> Result<()> {
        if !self.exports.exists() {
            self.start_server()?;
        }
        let bitmaps: Vec<Value> = bitmaps.iter().map(|(n, b)| json!({ "node": n, "name": b })).collect();
        let export = json!({
            "id": id, "type": "nbd", "node-name": node, "name": id, "writable": writable, "bitmaps": bitmaps,
        });
        match self.call("block-export-add", export.clone()) {
            // The socket is of a process before this one, which was started past us.
            Err(e) if e.message().contains("NBD server not running") => {
                durable::remove_file(&self.exports)?;
                self.start_server()?;
                self.call("block-export-add", export).map(drop)
            }
            done => done.map(drop),
        }
    }

    fn start_server(&mut self) -> Result<()> {
        let address = json!({ "type": "unix", "data": { "path": text(&self.exports)? } });
        self.call("nbd-server-start", json!({ "addr": address, "max-connections": 0 })).map_err(|e| {
                if e.message().contains("already running") {
                    let message = "this QEMU serves NBD for somebody else, or its socket was removed: its one server has \
                                   to be ours; end that one (nbd-server-stop), then ask again";
                    return Error::new(ErrorKind::Conflict, message).caused_by(e);
                }
                e
            })?;
        Ok(())
    }

    /// Ends an export, its clients' connections with it. One that is not there is no error.
    ///
    /// # Errors
    /// `Busy` while a client neither reads what it asked for nor closes its connection: QEMU ends that one when it does
    /// either. Nothing more is read through the export meanwhile.
    pub(crate) fn end_export(&mut self, id: &str) -> Result<()> {
        if !self.exports()?.iter().any(|e| e.id == id) {
            return Ok(());
        }
        match self.call("block-export-del", json!({ "id": id, "mode": "hard" })) {
            Err(e) if !e.message().contains("shutting down") => return Err(e),
            _ => {}
        }
        let gone = within(LET_GO, LOOK, || Ok::<_, Error>(self.exports()?.iter().all(|e| e.id != id)))?;
        if gone { Ok(()) } else { self.must_change_freely() }
    }

    /// That nodes can be added and removed. QEMU waits in that for every answer that a client of an export still has to
    /// take, and the guest waits with it: where one takes none, nothing is changed.
    ///
    /// # Errors
    /// `Busy`.
    pub(crate) fn must_change_freely(&mut self) -> Result<()> {
        let Some(stuck) = self.exports()?.into_iter().find(|e| e.shutting_down) else { return Ok(()) };
        let message = format!(
            "export {} does not end: a process that reads from it hangs; end that process, then ask again",
            stuck.id
        );
        Err(Error::new(ErrorKind::Busy, message))
    }

    pub(crate) fn remove_node(&mut self, name: &str) -> Result<()> {
        if self.has_node(name)? {
            self.call("blockdev-del", json!({ "node-name": name })).map(drop)
        } else {
            Ok(())
        }
    }

    pub(crate) fn jobs(&mut self) -> Result<Vec<Job>> {
        self.ask("query-jobs", Value::Null)
    }

    /// Where our connection's NBD exports are reached.
    pub(crate) fn address(&self) -> &PathBuf {
        &self.exports
    }
}

impl Site {
    /// Connects to the machine's own process; `None` where it is off.
    ///
    /// # Errors
    /// `Unavailable` when the process lives and does not answer.
    pub(crate) fn live(&self, home: &Home) -> Result<Option<Layer>> {
        let place = self.place(home)?;
        if Process::of(&place.pid())?.is_none() {
            return Ok(None);
        }
        let alone = locked(&place.lock())?;
        let monitor = Monitor::connect(&place.monitor(), self.limits()).map_err(told)?;
        Ok(Some(Layer { monitor, live: true, exports: place.exports(), _alone: alone }))
    }

    /// Connects to the storage daemon of a machine that is off; `None` where there is none.
    pub(crate) fn stored(&self, home: &Home) -> Result<Option<Layer>> {
        let place = self.place(home)?;
        if Process::of(&place.storage_pid())?.is_none() {
            return Ok(None);
        }
        let alone = locked(&place.lock())?;
        let monitor = Monitor::connect(&place.storage_monitor(), self.limits()).map_err(told)?;
        Ok(Some(Layer { monitor, live: false, exports: place.storage_exports(), _alone: alone }))
    }

    /// As [`stored`](Site::stored), and starts the daemon where there is none. It holds the images of these stacks, and
    /// with them QEMU's lock on each. One that holds others, as those before a branch, is ended.
    pub(crate) fn store(&self, home: &Home, stacks: &[Stack]) -> Result<Layer> {
        if let Some(mut layer) = self.stored(home)? {
            if layer.holds(stacks)? {
                return Ok(layer);
            }
            drop(layer);
            self.end_store(home)?;
        }
        let place = self.place(home)?;
        durable::make_dir(&place.dir)?;
        for stale in [place.storage_monitor(), place.storage_exports()] {
            durable::remove_file(&stale)?;
        }
        let mut line = vec!["--daemonize".to_owned(), "--pidfile".into(), text(&place.storage_pid())?.into()];
        for node in stacks.iter().flat_map(|s| &s.nodes) {
            line.extend(["--blockdev".into(), node.to_string()]);
        }
        let path = text(&place.storage_monitor())?.replace(',', ",,");
        line.extend(["--chardev".into(), format!("socket,id=monitor,path={path},server=on,wait=off")]);
        line.extend(["--monitor".into(), "chardev=monitor".into()]);
        detach(&self.options.launcher, &self.options.programs.storage_daemon, &line)?;
        self.stored(home)?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the storage daemon of {} ended at once", home.name))
        })
    }

    /// Ends the storage daemon: exports end, bitmaps are stored, locks are let go.
    pub(crate) fn end_store(&self, home: &Home) -> Result<()> {
        let place = self.place(home)?;
        if let Some(mut layer) = self.stored(home)? {
            for export in layer.exports()? {
                layer.end_export(&export.id)?;
            }
            layer.call("quit", Value::Null)?;
        }
        let Some(process) = Process::of(&place.storage_pid())? else { return Ok(()) };
        if process.ended_within(self.options.patience) { Ok(()) } else { process.kill(self.options.patience) }
    }

    /// Ends the storage daemon where it serves nobody.
    pub(crate) fn end_idle_store(&self, home: &Home) -> Result<()> {
        let idle = match self.stored(home)? {
            Some(mut layer) => layer.exports()?.is_empty() && layer.jobs()?.is_empty(),
            None => false,
        };
        if idle { self.end_store(home) } else { Ok(()) }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { greeting: self.options.patience, answer: self.options.patience, ..Limits::default() }
    }
}

/// What a monitor says, as the library's errors.
pub(crate) fn told(e: site_recovery_qmp::Error) -> Error {
    use site_recovery_qmp::Error as Qmp;
    let kind = match &e {
        Qmp::Denied { .. } => ErrorKind::Denied,
        Qmp::Refused { refusal, .. } if refusal.description.contains("No space left") => {
            ErrorKind::OutOfSpace
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, e.to_string()).caused_by(e)
}

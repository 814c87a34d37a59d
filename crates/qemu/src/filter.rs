//! The copy-before-write filter of one disk: put in, read through, and taken out again.
//!
//! Source: QEMU QMP reference, `BlockdevOptionsCbw`, and trials on QEMU 7.2 and 10.0. `break-snapshot`: when the scratch
//! cannot be written, or is too slow, the capture breaks, and the guest goes on.

use crate::Site;
use crate::capture::{Taken, Taking, filter, taken_path};
use crate::command_line::{device, text, top_node};
use crate::home::Home;
use crate::layer::Layer;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, durable};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

impl Site {
    /// Makes scratch and filter of one disk. Nothing of the guest's goes through it yet.
    pub(crate) fn insert_filter(&self, one: &mut Taking, n: usize, size: u64) -> Result<()> {
        let path = self.scratch(&one.known.home, &one.tag, n);
        durable::make_dir(path.parent().expect("a file in a directory"))?;
        // It holds what the guest wrote before.
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|f| f.set_len(size)).told("make", &path)?;
        let scratch = scratch_node(&one.tag, n);
        let file = json!({ "driver": "file", "filename": text(&path)?, "discard": "unmap" });
        one.layer.call(
            "blockdev-add",
            json!({ "driver": "raw", "node-name": scratch, "discard": "unmap", "file": file }),
        )?;
        let below = one.layer.drive(n)?;
        one.layer.call(
            "blockdev-add",
            json!({
                "driver": "copy-before-write", "node-name": filter(&one.tag, n), "file": below, "target": scratch,
                "on-cbw-error": "break-snapshot", "cbw-timeout": self.options.scratch_patience.as_secs().max(1),
            }),
        )?;
        one.below.insert(n, below);
        Ok(())
    }

    /// The node through which the instant is read.
    pub(crate) fn insert_access(&self, one: &mut Taking, n: usize) -> Result<String> {
        let node = access_node(&one.tag, n);
        let arguments =
            json!({ "driver": "snapshot-access", "node-name": node, "file": filter(&one.tag, n) });
        one.layer.call("blockdev-add", arguments)?;
        Ok(node)
    }

    /// Takes a capture out of a machine, whole or half made, and says whether there was anything. A filter that another
    /// capture's stands on stays in its place until that one goes.
    pub(crate) fn undo_capture(&self, home: &Home, tag: &str) -> Result<bool> {
        let taken = self.taken(home, tag)?;
        let mut found = taken.is_some();
        if let Some(taken) = taken
            && !taken.released
        {
            durable::write(&taken_path(home, tag), &Taken { released: true, ..taken })?;
        }
        if let Some(mut layer) = self.live(home)? {
            self.scratch_must_answer(home)?;
            found |= self.close(&mut layer, tag)?;
            self.pop_filters(home, &mut layer)?;
            let mut gone = vec![];
            for tag in self.let_go(home)?.into_iter().chain([tag.to_owned()]) {
                if layer.dispose(&tag)? {
                    gone.push(tag);
                }
            }
            drop(layer);
            for tag in gone {
                self.forget(home, &tag)?;
            }
            return Ok(found);
        }
        if let Some(mut layer) = self.stored(home)? {
            found |= self.close(&mut layer, tag)?;
        }
        self.forget(home, tag)?;
        self.end_idle_store(home)?;
        Ok(found)
    }

    /// Ends the exports of these captures of a machine that runs, before anything else of them is touched: where one does
    /// not end, QEMU would wait for it in every change.
    pub(crate) fn end_exports(&self, home: &Home, tags: &[String]) -> Result<()> {
        let Some(mut layer) = self.live(home)? else { return Ok(()) };
        self.scratch_must_answer(home)?;
        tags.iter().try_for_each(|tag| layer.end_exports_of(tag).map(drop))
    }

    /// Ends the exports of a capture, and what they read through.
    fn close(&self, layer: &mut Layer, tag: &str) -> Result<bool> {
        let exported = layer.end_exports_of(tag)?;
        layer.must_change_freely()?;
        let prefix = format!("dr-acc-{tag}-");
        let nodes: Vec<_> = layer.nodes()?.into_iter().filter(|n| n.node_name.starts_with(&prefix)).collect();
        for node in &nodes {
            layer.remove_node(&node.node_name)?;
        }
        Ok(exported || !nodes.is_empty())
    }

    /// Moves every drive from the filters of captures that were let go down to what those stand on.
    fn pop_filters(&self, home: &Home, layer: &mut Layer) -> Result<()> {
        let places: BTreeSet<usize> = layer.nodes()?.iter().filter_map(|n| place_of(&n.node_name)).collect();
        for n in places {
            // As deep as filters are stacked.
            while let Some(tag) = tag_of(&layer.drive(n)?, n) {
                let taken = self.taken(home, &tag)?;
                // One whose release was broken off may still be read through: its own repeat or a sweep closes it.
                if taken.as_ref().is_some_and(|t| !t.released) || layer.has_node(&access_node(&tag, n))? {
                    break;
                }
                let below = taken.and_then(|t| t.below.get(&n).cloned()).map_or_else(|| layer.top(n), Ok)?;
                layer.set_drive(n, &below)?;
                layer.remove_node(&filter(&tag, n))?;
            }
        }
        Ok(())
    }

    /// The captures that were let go and still have something here.
    fn let_go(&self, home: &Home) -> Result<Vec<String>> {
        let mut all = vec![];
        for path in durable::list(&home.own("captures"))? {
            if durable::read::<Taken>(&path)?.is_some_and(|t| t.released) {
                all.extend(path.file_stem().map(|s| s.to_string_lossy().into_owned()));
            }
        }
        Ok(all)
    }

    /// Removes the files of a capture that nothing in QEMU needs.
    fn forget(&self, home: &Home, tag: &str) -> Result<()> {
        self.remove_scratch(home, tag)?;
        durable::remove_file(&taken_path(home, tag))
    }

    /// Every capture that the machine has, by files or by names in QEMU.
    pub(crate) fn tags(&self, home: &Home) -> Result<BTreeSet<String>> {
        let mut tags = BTreeSet::new();
        for path in durable::list(&home.own("captures"))? {
            tags.extend(path.file_stem().map(|s| s.to_string_lossy().into_owned()));
        }
        let mut named = |layer: Option<Layer>| -> Result<()> {
            let Some(mut layer) = layer else { return Ok(()) };
            tags.extend(layer.nodes()?.iter().filter_map(|n| tag_in(&n.node_name)));
            tags.extend(layer.exports()?.iter().filter_map(|e| tag_in(&e.id)));
            Ok(())
        };
        // One after the other: each holds the lock of the machine's monitors while it lives.
        named(self.live(home)?)?;
        named(self.stored(home)?)?;
        Ok(tags)
    }
}

impl Layer {
    /// Removes filter and scratch of a capture, and says whether nothing is left: what another filter stands on is in use.
    fn dispose(&mut self, tag: &str) -> Result<bool> {
        let named: Vec<String> = self.nodes()?.into_iter().map(|n| n.node_name).collect();
        let mut nothing_left = true;
        for part in ["cbw", "tmp"] {
            let prefix = format!("dr-{part}-{tag}-");
            for node in named.iter().filter(|n| n.starts_with(&prefix)) {
                nothing_left &= self.remove_node(node).is_ok();
            }
        }
        Ok(nothing_left)
    }

    /// Ends the exports of a capture, and says whether there were any.
    fn end_exports_of(&mut self, tag: &str) -> Result<bool> {
        let prefix = format!("dr-exp-{tag}-");
        let exports: Vec<_> = self.exports()?.into_iter().filter(|e| e.id.starts_with(&prefix)).collect();
        exports.iter().try_for_each(|e| self.end_export(&e.id))?;
        Ok(!exports.is_empty())
    }

    /// The node that the device of a disk stands on.
    pub(crate) fn drive(&mut self, n: usize) -> Result<String> {
        let all: Vec<Value> = self.ask("query-block", Value::Null)?;
        let path = device(n);
        let of =
            |b: &&Value| b["qdev"].as_str().is_some_and(|q| q == path || q.starts_with(&format!("{path}/")));
        let found = all.iter().find(of).and_then(|b| b["inserted"]["node-name"].as_str());
        found.map(str::to_owned).ok_or_else(|| {
            let message = format!(
                "QEMU has no device v{n}, or nothing is in it: it was started with another command line than ours; \
                 stop the machine, and start it as QemuSite::command_line says"
            );
            Error::new(ErrorKind::Conflict, message)
        })
    }

    /// That a disk stands as our command line puts it there.
    ///
    /// # Errors
    /// `Conflict`.
    pub(crate) fn must_hold(&mut self, n: usize) -> Result<()> {
        let top = self.top(n)?;
        let wrong = |found: String| {
            let message = format!(
                "{found}: QEMU was started with another command line than ours; stop the machine, and start it as \
                 QemuSite::command_line says"
            );
            Err(Error::new(ErrorKind::Conflict, message))
        };
        if !self.has_node(&top)? {
            return wrong(format!("disk {n} has no block node {}", top_node(n)));
        }
        if !self.live {
            return Ok(());
        }
        let drive = self.drive(n)?;
        match drive == top || tag_of(&drive, n).is_some() {
            true => Ok(()),
            false => wrong(format!("device v{n} writes to the block node {drive} and not to {top}")),
        }
    }

    pub(crate) fn set_drive(&mut self, n: usize, node: &str) -> Result<()> {
        let arguments = json!({ "path": device(n), "property": "drive", "value": node });
        self.call("qom-set", arguments).map(drop)
    }
}

fn scratch_node(tag: &str, n: usize) -> String {
    format!("dr-tmp-{tag}-{n}")
}

fn access_node(tag: &str, n: usize) -> String {
    format!("dr-acc-{tag}-{n}")
}

/// Whose filter of disk `n` a node is.
fn tag_of(node: &str, n: usize) -> Option<String> {
    node.strip_prefix("dr-cbw-")?.strip_suffix(&format!("-{n}")).map(str::to_owned)
}

/// The disk of a filter.
fn place_of(node: &str) -> Option<usize> {
    node.strip_prefix("dr-cbw-")?.rsplit('-').next()?.parse().ok()
}

/// The capture that a node or export belongs to.
fn tag_in(name: &str) -> Option<String> {
    let parts = ["dr-exp-", "dr-acc-", "dr-cbw-", "dr-tmp-"];
    let rest = parts.iter().find_map(|p| name.strip_prefix(p))?;
    rest.rsplit_once('-').map(|(tag, _)| tag.to_owned())
}

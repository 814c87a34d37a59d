//! The copy-before-write filter of one disk: put in, read through, and taken out again.
//!
//! Source: QEMU QMP reference, `BlockdevOptionsCbw`, and trials on QEMU 7.2 and 10.0. `break-snapshot`: when the scratch
//! cannot be written, or is too slow, the capture breaks, and the guest goes on.

use crate::Site;
use crate::capture::{Taken, Taking, export, filter, taken_path};
use crate::command_line::{device, text, top_node};
use crate::home::Home;
use crate::layer::Layer;
use serde_json::{Value, json};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, durable};
use std::fs::File;
use std::path::PathBuf;

impl Site {
    /// Makes scratch and filter of one disk. Nothing of the guest's goes through it yet.
    pub(crate) fn insert_filter(&self, one: &mut Taking, n: usize, size: u64) -> Result<()> {
        let path = self.scratch(&one.known.home, &one.tag, n);
        durable::make_dir(path.parent().expect("a file in a directory"))?;
        File::create(&path).and_then(|f| f.set_len(size)).told("make", &path)?;
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
        let arguments = json!({ "driver": "snapshot-access", "node-name": node, "file": filter(&one.tag, n) });
        one.layer.call("blockdev-add", arguments)?;
        Ok(node)
    }

    /// Takes a capture out of a machine, whole or half made. What another capture's filter stands on stays until that one
    /// goes.
    pub(crate) fn undo_capture(&self, home: &Home, tag: &str) -> Result<bool> {
        let taken = self.taken(home, tag)?;
        let mut found = taken.is_some();
        if let Some(mut layer) = self.live(home)? {
            let (left, was) = self.take_out(home, &mut layer, tag, taken.as_ref())?;
            found |= was;
            if left {
                if let Some(taken) = taken {
                    durable::write(&taken_path(home, tag), &Taken { released: true, ..taken })?;
                }
                return Ok(found);
            }
        }
        if let Some(mut layer) = self.stored(home)? {
            for id in layer.exports()?.into_iter().map(|e| e.id).filter(|id| id.starts_with(&format!("dr-exp-{tag}-"))) {
                found = true;
                layer.end_export(&id)?;
            }
        }
        self.remove_scratch(home, tag)?;
        durable::remove_file(&taken_path(home, tag))?;
        self.end_idle_store(home)?;
        Ok(found)
    }

    /// Says whether a filter had to stay, and whether there was anything.
    fn take_out(&self, home: &Home, layer: &mut Layer, tag: &str, taken: Option<&Taken>) -> Result<(bool, bool)> {
        let named: Vec<String> = layer.nodes()?.into_iter().map(|n| n.node_name).collect();
        let of_tag = |name: &&String| name.strip_prefix("dr-").and_then(|r| r.get(4..)).is_some_and(|r| r.starts_with(tag));
        let mut places: Vec<usize> =
            named.iter().filter(of_tag).filter_map(|n| n.rsplit('-').next()?.parse().ok()).collect();
        places.sort_unstable();
        places.dedup();
        let mut left = false;
        for n in &places {
            layer.end_export(&export(tag, *n))?;
            layer.remove_node(&access_node(tag, *n))?;
            let filter = filter(tag, *n);
            if layer.drive(*n)? == filter {
                let below = taken.and_then(|t| t.below.get(n).cloned()).unwrap_or_else(|| top_node(*n));
                let below = self.first_alive(home, layer, below, *n)?;
                layer.set_drive(*n, &below)?;
            } else if layer.nodes()?.iter().any(|node| node.node_name == filter) && self.is_stood_on(home, tag, *n, layer)? {
                left = true;
                continue;
            }
            layer.remove_node(&filter)?;
            layer.remove_node(&scratch_node(tag, *n))?;
        }
        Ok((left, !places.is_empty()))
    }

    /// Passes filters that were let go while one above them was not, and takes them out.
    fn first_alive(&self, home: &Home, layer: &mut Layer, mut below: String, n: usize) -> Result<String> {
        let mut dead = vec![];
        while let Some(tag) = tag_of(&below, n) {
            match self.taken(home, &tag)? {
                Some(taken) if taken.released => {
                    below = taken.below.get(&n).cloned().unwrap_or_else(|| top_node(n));
                    dead.push(tag);
                }
                _ => break,
            }
        }
        if !dead.is_empty() {
            layer.set_drive(n, &below)?;
            // The filter above still stands on them: it goes first, by whoever called.
            for tag in dead {
                self.after_filter(home, &tag)?;
            }
        }
        Ok(below)
    }

    /// Notes that nothing stands on this filter any more: the next look removes it.
    fn after_filter(&self, home: &Home, tag: &str) -> Result<()> {
        let Some(taken) = self.taken(home, tag)? else { return Ok(()) };
        durable::write(&taken_path(home, tag), &Taken { below: taken.below.clone(), ..taken })
    }

    /// Whether another capture's filter has this one as what it stands on.
    fn is_stood_on(&self, home: &Home, tag: &str, n: usize, layer: &mut Layer) -> Result<bool> {
        let this = filter(tag, n);
        for path in durable::list(&home.own("captures"))? {
            let Some(taken) = durable::read::<Taken>(&path)? else { continue };
            let upper = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            if taken.below.get(&n) == Some(&this) && layer.has_node(&filter(&upper, n))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes filters that were let go and that nothing stands on any more.
    pub(crate) fn collect_filters(&self, home: &Home) -> Result<()> {
        for path in durable::list(&home.own("captures"))? {
            let Some(taken) = durable::read::<Taken>(&path)? else { continue };
            if taken.released {
                let tag = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
                self.undo_capture(home, &tag)?;
            }
        }
        Ok(())
    }

    fn scratch(&self, home: &Home, tag: &str, n: usize) -> PathBuf {
        let dir = self.options.scratch.clone().unwrap_or_else(|| home.own("scratch"));
        dir.join(format!("{tag}-{n}.raw"))
    }

    fn remove_scratch(&self, home: &Home, tag: &str) -> Result<()> {
        let any = self.scratch(home, tag, 0);
        let dir = any.parent().expect("a file in a directory");
        for path in durable::list(dir)? {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with(&format!("{tag}-")) {
                durable::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl Layer {
    /// The node that the device of a disk stands on.
    pub(crate) fn drive(&mut self, n: usize) -> Result<String> {
        let all: Vec<Value> = self.ask("query-block", Value::Null)?;
        let path = device(n);
        let of = |b: &&Value| b["qdev"].as_str().is_some_and(|q| q == path || q.starts_with(&format!("{path}/")));
        let found = all.iter().find(of).and_then(|b| b["inserted"]["node-name"].as_str());
        found.map(str::to_owned).ok_or_else(|| {
            let message = format!("QEMU has no device v{n}, or nothing is in it: it was started with another command line");
            Error::new(ErrorKind::Conflict, message)
        })
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

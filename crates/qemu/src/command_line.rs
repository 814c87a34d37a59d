//! The command line of a machine's QEMU process.

use crate::accelerator::Accelerator;
use crate::description::{Description, Format};
use crate::firmware::Code;
use crate::known::{Held, Known};
use crate::place::Place;
use serde_json::{Value, json};
use site_recovery::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the node of the image that the guest writes, by the disk's place.
pub(crate) fn top_node(n: usize) -> String {
    format!("d{n}")
}

/// Name of the node of the image below a branch.
pub(crate) fn below_node(n: usize) -> String {
    format!("d{n}-below")
}

/// Name of the node of a point that an image stands on.
pub(crate) fn point_node(n: usize) -> String {
    format!("d{n}-point")
}

/// Path of the disk's device in QEMU's object tree.
pub(crate) fn device(n: usize) -> String {
    format!("/machine/peripheral/v{n}")
}

/// The block nodes of one disk, bottom first.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) n: usize,
    pub(crate) nodes: Vec<Value>,
}

/// Everything that a command line is made of.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) known: &'a Known,
    pub(crate) place: &'a Place,
    pub(crate) stacks: &'a [Stack],
    pub(crate) accelerator: Accelerator,
    pub(crate) firmware: Option<(Code, std::path::PathBuf)>,
    /// The backend of each attached NIC, by its id.
    pub(crate) networks: &'a BTreeMap<String, String>,
}

impl Launch<'_> {
    /// The arguments, without the program.
    pub(crate) fn arguments(&self) -> Result<Vec<String>> {
        let d = &self.known.description;
        let mut line = Line::default();
        line.flag("-nodefaults").flag("-no-user-config");
        line.with("-name", format!("guest={},debug-threads=on", escaped(&self.known.home.name)));
        if let Some(uuid) = &d.uuid {
            line.with("-uuid", uuid);
        }
        line.with("-pidfile", text(&self.place.pid())?);
        line.with("-accel", self.accelerator.name());
        line.with("-machine", self.machine(d));
        line.with("-cpu", &d.cpu);
        line.with("-smp", d.cpus).with("-m", format!("size={}B", d.memory));
        line.with("-display", "none");
        self.firmware(&mut line)?;
        self.monitor_and_console(d, &mut line)?;
        for stack in self.stacks {
            for node in &stack.nodes {
                line.with("-blockdev", node);
            }
            // An error of our own export pauses the guest, and is tried again: it is never the guest's.
            let n = stack.n;
            line.with(
                "-device",
                format!(
                    "virtio-blk-pci,id=v{n},drive={},bootindex={},rerror=stop,werror=stop",
                    top_node(n),
                    n + 1
                ),
            );
        }
        self.nics(d, &mut line);
        if d.tpm {
            line.with("-chardev", format!("socket,id=tpm,path={}", text(&self.place.tpm())?));
            line.with("-tpmdev", "emulator,id=tpm0,chardev=tpm");
            line.with("-device", "tpm-tis,tpmdev=tpm0");
        }
        if !d.smbios.is_empty() {
            let fields: Vec<String> = d.smbios.iter().map(|(k, v)| format!("{k}={}", escaped(v))).collect();
            line.with("-smbios", format!("type=1,{}", fields.join(",")));
        }
        line.0.extend(d.arguments.iter().cloned());
        Ok(line.0)
    }

    fn machine(&self, d: &Description) -> String {
        match &self.firmware {
            Some((code, _)) if code.secure => format!("{},smm=on", d.machine),
            _ => d.machine.clone(),
        }
    }

    fn firmware(&self, line: &mut Line) -> Result<()> {
        let Some((code, variables)) = &self.firmware else { return Ok(()) };
        if code.secure {
            line.with("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
        let code_path = escaped(text(&code.code)?);
        line.with("-drive", format!("if=pflash,unit=0,format=raw,readonly=on,file={code_path}"));
        line.with("-drive", format!("if=pflash,unit=1,format=raw,file={}", escaped(text(variables)?)));
        Ok(())
    }

    fn monitor_and_console(&self, d: &Description, line: &mut Line) -> Result<()> {
        let socket = |id: &str, path: &Path| {
            text(path).map(|p| format!("socket,id={id},path={},server=on,wait=off", escaped(p)))
        };
        line.with("-chardev", socket("monitor", &self.place.monitor())?);
        line.with("-mon", "chardev=monitor,mode=control");
        if d.agent.is_some() {
            line.with("-chardev", socket("agent", &self.place.agent())?);
            line.with("-device", "virtio-serial-pci");
            line.with("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
        }
        if d.console {
            let path = self.known.home.dir.join("console.log");
            line.with("-chardev", format!("file,id=console,append=on,path={}", escaped(text(&path)?)));
            line.with("-serial", "chardev:console");
        }
        Ok(())
    }

    fn nics(&self, d: &Description, line: &mut Line) {
        for (at, nic) in d.nics.iter().enumerate() {
            let mac = nic.mac.as_ref().map(|m| format!(",mac={m}")).unwrap_or_default();
            let netdev = match self.networks.get(&nic.id) {
                Some(backend) => {
                    line.with("-netdev", format!("{backend},id=n{at}"));
                    format!(",netdev=n{at}")
                }
                None => String::new(),
            };
            line.with("-device", format!("virtio-net-pci,id=nic{at}{netdev}{mac},romfile="));
        }
    }
}

/// The nodes of an image, bottom first: the file's own below, then what it stands on, then the image.
pub(crate) fn stack(held: &Held, below: Option<Below>) -> Result<Stack> {
    let n = held.n;
    let mut nodes = vec![];
    let backing = match below {
        Some(Below::Image { path, format }) => {
            let inner = json!({ "driver": "file", "filename": text(&path)?, "discard": "unmap" });
            nodes.push(json!({ "node-name": below_node(n), "driver": format.name(), "file": inner, "discard": "unmap" }));
            Some(below_node(n))
        }
        Some(Below::Point { socket, export, patience }) => {
            nodes.push(json!({
                "node-name": point_node(n), "driver": "nbd", "read-only": true, "export": export,
                "server": { "type": "unix", "path": text(&socket)? }, "reconnect-delay": patience,
            }));
            Some(point_node(n))
        }
        None => None,
    };
    let file = json!({ "driver": "file", "filename": text(&held.path)?, "discard": "unmap" });
    let mut node = json!({
        "node-name": top_node(n), "driver": held.format.name(), "file": file, "discard": "unmap",
    });
    if let Some(backing) = backing {
        node["backing"] = backing.into();
    }
    nodes.push(node);
    Ok(Stack { n, nodes })
}

/// What an image stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Below {
    /// The image below a branch.
    Image { path: std::path::PathBuf, format: Format },
    /// A recovery point, served over NBD. Requests wait `patience` seconds for a server that went away.
    Point { socket: std::path::PathBuf, export: String, patience: u64 },
}

#[derive(Debug, Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn with(&mut self, name: &str, value: impl ToString) -> &mut Self {
        self.0.push(name.to_owned());
        self.0.push(value.to_string());
        self
    }
}

/// A value inside a list of QEMU's options, where a comma ends one.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

/// # Errors
/// `Invalid` for a path that is no UTF-8, which no option of QEMU can carry.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let rule = "paths are UTF-8";
        Error::invalid("path", path.display(), rule, "rename the directory")
    })
}

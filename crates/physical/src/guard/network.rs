//! A network to ask through, while the server's own stack has no address: a `macvlan` over its adapter, in a name space of its
//! own.
//!
//! ```text
//! eno1   up, no address, not even a link-local one      <- the server's own stack
//!   |
//! macvlan, with the address to ask from                 <- name space sr-guard: the question alone
//! ```
//! The address to ask from is one that the server never serves on. Nothing that listens on the server can be reached by it.

use serde::{Deserialize, Serialize};
use site_recovery::{Error, ErrorKind, Result};
use site_recovery_register::{Told, refused};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The adapter inside the name space.
const INSIDE: &str = "sr-ask";

/// How to ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskingNetwork {
    /// The server's adapter, as in `eno1`.
    pub adapter: String,
    /// The address to ask from, with its prefix: `10.0.0.250/24`.
    pub address: String,
    /// Where other networks are reached.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Name of the name space.
    #[serde(default = "namespace")]
    pub namespace: String,
}

fn namespace() -> String {
    "sr-guard".into()
}

/// The network as it stands; gone when this is dropped.
#[derive(Debug)]
pub struct Asking {
    namespace: String,
    adapter: String,
    /// How its own stack made addresses before.
    generates: Option<String>,
    /// Whether it took those that routers offer, before.
    accepts: Option<String>,
}

impl AskingNetwork {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        for (field, word) in [("adapter", &self.adapter), ("namespace", &self.namespace)] {
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if word.is_empty() || word.starts_with(['-', '.']) || !word.chars().all(fine) {
                let rule = "letters, digits, hyphens, dots and underscores";
                return Err(Error::invalid(field, format!("{word:?}"), rule, "check its name"));
            }
        }
        let (host, prefix) = self.address.split_once('/').unwrap_or((&self.address, ""));
        if host.parse::<IpAddr>().is_err() || prefix.parse::<u8>().is_err() {
            let rule = "an address and its prefix";
            return Err(Error::invalid(
                "address",
                format!("{:?}", self.address),
                rule,
                "as in 10.0.0.250/24",
            ));
        }
        match self.gateway.as_ref().filter(|gateway| gateway.parse::<IpAddr>().is_err()) {
            Some(gateway) => {
                Err(Error::invalid("gateway", format!("{gateway:?}"), "an address", "as in 10.0.0.1"))
            }
            None => Ok(()),
        }
    }

    /// Whether the server's network stands already, over this adapter: it has an address, something above it has one (a
    /// bond, a bridge, a VLAN), or it is part of something. Whoever asks then asks through that, and leaves the adapter alone.
    ///
    /// # Errors
    /// `Unavailable` where the adapter is not there, or `ip` cannot be run.
    pub fn stands(&self) -> Result<bool> {
        let told = document(&ip(&["-j", "address", "show"])?)?;
        let links: Vec<&serde_json::Value> = told.as_array().into_iter().flatten().collect();
        let named = |link: &serde_json::Value, key: &str, name: &str| link[key].as_str() == Some(name);
        let Some(adapter) = links.iter().find(|link| named(link, "ifname", &self.adapter)) else {
            let said = format!("the adapter {} is not there, or not yet", self.adapter);
            return Err(Error::new(ErrorKind::Unavailable, said));
        };
        let above = links.iter().any(|link| named(link, "link", &self.adapter) && has_address(link));
        Ok(adapter["master"].is_string() || has_address(adapter) || above)
    }

    /// Makes it. What an earlier guard left of it, killed while it asked, goes first.
    ///
    /// # Errors
    /// `Invalid`, naming the field; `Refused` where the server's network [stands](Self::stands) already: the guard came too
    /// late; `Unavailable` where the network cannot be made.
    pub fn set_up(&self) -> Result<Asking> {
        self.check()?;
        if self.stands()? {
            let said =
                format!("{} is in use already: the guard has to come before the network", self.adapter);
            return Err(refused(said));
        }
        let (namespace, adapter) = (self.namespace.clone(), self.adapter.clone());
        let generates = self.generates()?;
        // Left by a guard that was killed: it had what all adapters have.
        let killed = generates.as_deref() == Some("none");
        let accepts = offers(if killed { "default" } else { &adapter })?;
        let generates = if killed { Some("eui64".into()) } else { generates };
        let asking = Asking { namespace, generates, accepts, adapter };
        asking.remove();
        let (adapter, ns) = (self.adapter.as_str(), self.namespace.as_str());
        // Its own stack stays silent while the adapter is up.
        ip(&["link", "set", "dev", adapter, "addrgenmode", "none"])?;
        // Routers answer the one that asks, and all others hear it.
        if asking.accepts.is_some() {
            accept(adapter, "0")?;
        }
        ip(&["link", "set", "dev", adapter, "up"])?;
        ip(&["netns", "add", ns])?;
        let over = [
            "link", "add", "link", adapter, "name", INSIDE, "netns", ns, "type", "macvlan", "mode", "private",
        ];
        ip(&over)?;
        ip(&["-n", ns, "address", "add", &self.address, "dev", INSIDE])?;
        ip(&["-n", ns, "link", "set", "dev", "lo", "up"])?;
        ip(&["-n", ns, "link", "set", "dev", INSIDE, "up"])?;
        if let Some(gateway) = &self.gateway {
            ip(&["-n", ns, "route", "add", "default", "via", gateway])?;
        }
        Ok(asking)
    }

    /// How the server's own stack makes addresses of its own.
    fn generates(&self) -> Result<Option<String>> {
        let told = document(&ip(&["-d", "-j", "link", "show", "dev", &self.adapter])?)?;
        Ok(told[0]["inet6_addr_gen_mode"].as_str().map(str::to_owned))
    }
}

impl Asking {
    /// Runs something in the name space, on a thread of its own with a runtime of its own: whatever it connects, connects
    /// from there.
    ///
    /// # Errors
    /// `Unavailable` where the name space cannot be entered; those of what is run.
    pub fn inside<T: Send + 'static, F: Future<Output = Result<T>>>(
        &self,
        ask: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T> {
        let path = self.path();
        let entered = std::thread::spawn(move || {
            enter(&path)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime =
                runtime.map_err(|e| Error::new(ErrorKind::Unavailable, "no runtime").caused_by(e))?;
            runtime.block_on(ask())
        });
        match entered.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.namespace)
    }

    fn remove(&self) {
        if self.path().exists()
            && let Err(e) = ip(&["netns", "delete", &self.namespace])
        {
            tracing::warn!(namespace = self.namespace, error = %e, "a name space is left");
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.remove();
        // As it was, and down: whatever sets up the network brings it up.
        let mut undone = ip(&["link", "set", "dev", &self.adapter, "down"]);
        if let Some(mode) = &self.generates {
            undone = undone.and(ip(&["link", "set", "dev", &self.adapter, "addrgenmode", mode]));
        }
        if let Some(accepts) = &self.accepts {
            undone = undone.and(accept(&self.adapter, accepts).map(|()| vec![]));
        }
        if let Err(e) = undone {
            tracing::warn!(adapter = self.adapter, error = %e, "the adapter is not as it was");
        }
    }
}

/// Moves this thread, and those that it starts, into a name space.
fn enter(path: &Path) -> Result<()> {
    let space = File::open(path).told("open", path)?;
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(space.as_fd(), Some(kind)).told("enter", path)
}

fn knob(adapter: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv6/conf").join(adapter).join("accept_ra")
}

/// Whether an adapter takes addresses that routers offer; `None`: this kernel has no IPv6.
fn offers(adapter: &str) -> Result<Option<String>> {
    match std::fs::read_to_string(knob(adapter)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(|text| Some(text.trim().to_owned())).told("read", &knob(adapter)),
    }
}

fn accept(adapter: &str, how: &str) -> Result<()> {
    std::fs::write(knob(adapter), how).told("write", &knob(adapter))
}

/// One that the kernel did not make of itself.
fn has_address(link: &serde_json::Value) -> bool {
    let own = |info: &serde_json::Value| info["scope"].as_str().is_some_and(|scope| scope != "link");
    link["addr_info"].as_array().is_some_and(|all| all.iter().any(own))
}

fn document(told: &[u8]) -> Result<serde_json::Value> {
    let read = serde_json::from_slice(told);
    read.map_err(|e| Error::new(ErrorKind::Corrupt, "what `ip` says makes no sense").caused_by(e))
}

fn ip(arguments: &[&str]) -> Result<Vec<u8>> {
    let asked = || format!("ip {}", arguments.join(" "));
    let ran = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let ran = ran.map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("`{}` cannot be run", asked())).caused_by(e)
    })?;
    if ran.status.success() {
        return Ok(ran.stdout);
    }
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    Err(Error::new(ErrorKind::Unavailable, format!("`{}` failed", asked())).with("said", said))
}

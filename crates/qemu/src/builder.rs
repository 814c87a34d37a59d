//! How a site is opened, and what it is told.

use crate::description::DescribedAgent;
use crate::network::{Network, all};
use crate::place::must_be_short;
use crate::{Accelerator, Choice, OWN, Programs, QemuSite, Site};
use site_recovery::{Capability, Clock, Result, RoleName, SystemClock};
use site_recovery_register::{Register, Told, durable, open_state};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// When the bytes of a point come to the machine that is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restore {
    /// While it runs: it starts at once, and reads from the point what it has not got yet.
    #[default]
    Running,
    /// Before it starts: `materialise` takes as long as the copy does.
    First,
}

/// What a site was told.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) programs: Programs,
    pub(crate) launcher: Vec<String>,
    pub(crate) firmware: Vec<PathBuf>,
    pub(crate) networks: BTreeMap<String, Network>,
    pub(crate) scratch: Option<PathBuf>,
    pub(crate) freeze: Duration,
    pub(crate) pause: Duration,
    pub(crate) patience: Duration,
    pub(crate) scratch_patience: Duration,
    pub(crate) restore: Restore,
    pub(crate) hydrate_after: Duration,
    pub(crate) hydration_speed: Option<u64>,
}

/// Opens a [`QemuSite`].
#[derive(Debug, Clone)]
pub struct QemuSiteBuilder {
    name: RoleName,
    root: PathBuf,
    clock: Arc<dyn Clock>,
    choice: Choice,
    networks: BTreeMap<String, Network>,
    options: Options,
}

impl QemuSiteBuilder {
    pub(crate) fn new(name: RoleName, root: PathBuf) -> Self {
        let options = Options {
            programs: Programs::default(),
            launcher: vec![],
            firmware: vec!["/etc/qemu/firmware".into(), "/usr/share/qemu/firmware".into()],
            networks: BTreeMap::new(),
            scratch: None,
            freeze: Duration::from_secs(10),
            pause: Duration::from_secs(2),
            patience: Duration::from_secs(10),
            scratch_patience: Duration::from_secs(5),
            restore: Restore::Running,
            hydrate_after: Duration::from_secs(60),
            hydration_speed: None,
        };
        let choice = Choice::Fixed(Accelerator::Kvm);
        Self { name, root, clock: Arc::new(SystemClock), choice, networks: BTreeMap::new(), options }
    }

    /// The clock; the system's where none is given.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who executes the guests; KVM where nothing is said.
    #[must_use]
    pub fn accelerator(mut self, choice: Choice) -> Self {
        self.choice = choice;
        self
    }

    /// The programs to run; those of `PATH` where none are given.
    #[must_use]
    pub fn programs(mut self, programs: Programs) -> Self {
        self.options.programs = programs;
        self
    }

    /// Words that go before each program that outlives this process: QEMU, its storage daemon, the TPM's emulator, and the
    /// shell that watches over a held guest. A service needs them whose manager ends all that the service has started, as
    /// systemd does by default: `["systemd-run", "--scope", "--quiet", "--collect", "--"]`.
    #[must_use]
    pub fn launcher(mut self, words: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.options.launcher = words.into_iter().map(Into::into).collect();
        self
    }

    /// Directories of firmware descriptors, the first that serves counts; `/etc/qemu/firmware` and
    /// `/usr/share/qemu/firmware` where none are given.
    #[must_use]
    pub fn firmware(mut self, directories: Vec<PathBuf>) -> Self {
        self.options.firmware = directories;
        self
    }

    /// A network of the site. [`ISOLATED`](crate::ISOLATED) is there by itself.
    #[must_use]
    pub fn network(mut self, name: impl Into<String>, network: Network) -> Self {
        self.networks.insert(name.into(), network);
        self
    }

    /// Where captures keep what the guests overwrite; in each machine's directory where nothing is said. Local and fast: a
    /// guest's write waits for it.
    #[must_use]
    pub fn scratch(mut self, dir: impl Into<PathBuf>) -> Self {
        self.options.scratch = Some(dir.into());
        self
    }

    /// The longest that file systems stay frozen; 10 s where nothing is said.
    #[must_use]
    pub fn freeze_limit(mut self, limit: Duration) -> Self {
        self.options.freeze = limit;
        self
    }

    /// The longest that a guest stays paused should this process die in the middle; 2 s where nothing is said.
    #[must_use]
    pub fn pause_limit(mut self, limit: Duration) -> Self {
        self.options.pause = limit;
        self
    }

    /// The longest that a guest's write waits for the scratch before the capture breaks; 5 s where nothing is said, whole
    /// seconds.
    #[must_use]
    pub fn scratch_limit(mut self, limit: Duration) -> Self {
        self.options.scratch_patience = limit;
        self
    }

    /// How long QEMU may take for an answer or to end; and how long a guest's read waits for a point whose server went
    /// away before the guest is paused; 10 s where nothing is said.
    #[must_use]
    pub fn patience(mut self, limit: Duration) -> Self {
        self.options.patience = limit;
        self
    }

    /// When the bytes of a point come.
    #[must_use]
    pub fn restore(mut self, restore: Restore) -> Self {
        self.options.restore = restore;
        self
    }

    /// How long after its start a machine begins to hydrate, at the next `tend`; 60 s where nothing is said. `settle` does
    /// not wait for that.
    #[must_use]
    pub fn hydrate_after(mut self, span: Duration) -> Self {
        self.options.hydrate_after = span;
        self
    }

    /// Most bytes per second and disk that hydration copies; without bound where nothing is said.
    #[must_use]
    pub fn hydration_speed(mut self, bytes_per_second: u64) -> Self {
        self.options.hydration_speed = Some(bytes_per_second);
        self
    }

    /// Opens the site. Whether it freezes is decided now, by the descriptions that stand there.
    ///
    /// # Errors
    /// `Conflict` when the directory is the site of another name; `Unsupported` when a newer version wrote it, or the
    /// programs are not there or older than QEMU 7.1; `Invalid` for a path that is too long for sockets; `Denied`, `Unavailable`.
    pub async fn open(self) -> Result<QemuSite> {
        let name = self.name.clone();
        let opened = site_recovery_register::act(move || self.opened()).await;
        opened.map(|site| QemuSite(Arc::new(site))).map_err(|e| e.at(&name, "open"))
    }

    fn opened(self) -> Result<Site> {
        let seen = self.root.canonicalize().or_else(|_| std::path::absolute(&self.root));
        must_be_short(&seen.told("look at", &self.root)?)?;
        self.options.programs.must_be_new_enough()?;
        let accelerator = self.choice.made(&self.options.programs)?;
        durable::make_dir(&self.root.join(OWN))?;
        let root = self.root.canonicalize().told("look at", &self.root)?;
        must_be_short(&root)?;
        let mut options = self.options;
        options.networks = all(self.networks);
        let mut site = Site {
            register: Register::at(root.join(OWN).join("epochs")),
            name: self.name,
            root,
            clock: self.clock,
            options,
            accelerator,
            capability: Capability::default(),
            points: Mutex::default(),
        };
        open_state(&site.root.join(OWN), &site.name)?;
        for leftover in durable::list(&site.own("removing"))? {
            durable::remove_tree(&leftover)?;
        }
        let agents = site.homes()?.into_iter().filter_map(|h| h.description().ok()?.agent);
        for agent in agents.collect::<Vec<_>>() {
            site.capability.freezes = true;
            site.capability.quiesces_applications |= agent == DescribedAgent::Hooks;
        }
        Ok(site)
    }
}

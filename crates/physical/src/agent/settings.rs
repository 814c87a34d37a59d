//! What an operator says of an agent.

use crate::freeze::Freezer;
use crate::freeze::{Hooks, Installed, Programs};
use crate::guard;
use crate::snapshot::{self, Reflink, Stack};
use site_recovery::{Capability, RoleName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Where nothing else is said.
const STATE: &str = "/var/lib/site-recovery";
const BOARD: &str = "/sys/class/dmi/id/product_uuid";

/// Settings of an agent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The physical site's name.
    pub site: RoleName,
    /// The server's name there, unique at the site.
    pub name: String,
    /// The agent's own directory. It may lie on a disk that is captured.
    pub state: PathBuf,
    /// The file that tells which board this is.
    pub board: PathBuf,
    /// How long file systems may be frozen.
    pub freeze: Duration,
    /// Words before the processes that freeze; see [`Freezer::launched_by`](crate::freeze::Freezer::launched_by).
    pub launcher: Vec<String>,
    /// Asked before and after a capture that is to be consistent for applications.
    pub hooks: Hooks,
    /// How snapshots are taken, the first that serves a disk.
    pub snapshots: Vec<Arc<dyn snapshot::Means>>,
    /// Disks that lie below device-mapper. One that names an era is tracked by it.
    pub stacks: Vec<Stack>,
    /// What runs `dmsetup` and its like.
    pub programs: Arc<dyn Programs>,
    /// Whether the block layer may be traced.
    pub trace: bool,
    /// Every so many scans read every block, whatever tracing says.
    pub whole_every: u64,
    /// How many bytes of disks are read for tracking in a second, at most.
    pub bytes_per_second: Option<u64>,
    /// How much of one processor each disk's scan takes at most, in percent, 1 to 100.
    pub cpu_percent: Option<u8>,
    /// The nice level of that, 0 to 19; where it is above 0 and `ionice` is there, it also reads when nobody else does.
    pub nice: i32,
}

impl Settings {
    /// Of the server `name` at a site, everything else as it is usual.
    pub fn new(site: RoleName, name: impl Into<String>) -> Self {
        Self {
            site,
            name: name.into(),
            state: STATE.into(),
            board: BOARD.into(),
            freeze: Duration::from_secs(10),
            launcher: vec![],
            hooks: Hooks::default(),
            snapshots: vec![Arc::new(Reflink)],
            stacks: vec![],
            programs: Arc::new(Installed),
            trace: true,
            whole_every: 500,
            bytes_per_second: None,
            cpu_percent: None,
            nice: 10,
        }
    }

    /// What the boot guard of the server asks with: written when the server is enrolled, and anew when it comes back.
    pub fn guard_mark(&self) -> PathBuf {
        self.state.join(guard::Mark::FILE)
    }

    /// The board's own id; `None` where it has none, or does not tell.
    pub(crate) fn board_id(&self) -> Option<String> {
        let board = std::fs::read_to_string(&self.board).ok()?;
        Some(board.trim().to_lowercase()).filter(|b| tells_boards_apart(b))
    }

    /// What an agent by these can do.
    pub fn capability(&self) -> Capability {
        Capability {
            freezes: Freezer::is_there(),
            quiesces_applications: Freezer::is_there() && !self.hooks.before.is_empty(),
            groups: false,
            fences: false,
            captures_off: false,
            drills: false,
            branches: false,
            ..Capability::default()
        }
    }
}

/// Boards whose maker has set no id say all zeros, or all ones, or nothing.
fn tells_boards_apart(id: &str) -> bool {
    let digits = || id.chars().filter(|c| *c != '-');
    digits().any(|c| c != '0') && digits().any(|c| c != 'f')
}

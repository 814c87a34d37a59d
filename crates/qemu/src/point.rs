//! Points that machines of the site stand on, served to them over NBD by this process.
//!
//! A socket is taken under the machine's turn: an engine that has lost its authority does not take it from the one that has
//! it.

use crate::Site;
use crate::place::Place;
use crate::stacks::point_export;
use site_recovery::{Disks, PointId, Result};
use site_recovery_nbd::{Address, Export, Limits, Server};
use site_recovery_register::{Told, durable};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long a machine's process may take to let go of a point that it does not need any more.
const LET_GO: Duration = Duration::from_secs(2);

/// A point that is served.
#[derive(Debug)]
pub(crate) struct Served {
    server: Server,
    /// Its socket: another process may have put one of its own in its place.
    socket: (u64, u64),
}

impl Site {
    /// Whether whoever connects at the place of a machine is served by this process.
    pub(crate) fn serves(&self, place: &Place) -> bool {
        let found = which(&place.point());
        self.served().get(&place.dir).is_some_and(|s| found.is_ok_and(|f| f == s.socket))
    }

    /// Serves the point at the machine's place, unless that is done already. The caller has the machine's turn, and a thread
    /// of its own.
    pub(crate) fn serve(&self, place: &Place, point: PointId, disks: Disks) -> Result<()> {
        if self.serves(place) {
            return Ok(());
        }
        // Our own that was put aside: it serves nobody new.
        self.stop_serving(place);
        durable::make_dir(&place.dir)?;
        // Of a process before this one: it serves nobody any more, and the name has to be the same.
        durable::remove_file(&place.point())?;
        // The machine's own image, the storage daemon, and whoever looks at an image beside them.
        let mut server =
            Server::builder().limits(Limits { connections: 16 * disks.len().max(1), ..Limits::default() });
        for (id, disk) in disks {
            server = server.export(Export::read_only(point_export(&id, point), disk));
        }
        let listening = server.listen(Address::Unix(place.point()));
        let server = tokio::runtime::Handle::current().block_on(listening)?;
        let socket = which(&place.point()).told("look at", &place.point())?;
        self.served().insert(place.dir.clone(), Served { server, socket });
        Ok(())
    }

    /// Ends the server of a machine's point.
    pub(crate) fn stop_serving(&self, place: &Place) {
        let Some(Served { server, .. }) = self.served().remove(&place.dir) else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.block_on(server.stop(LET_GO))),
            Err(_) => drop(server),
        }
    }
}

/// Device and inode: no other file has the same while our server has its socket open.
fn which(socket: &Path) -> std::io::Result<(u64, u64)> {
    fs::symlink_metadata(socket).map(|m| (m.dev(), m.ino()))
}

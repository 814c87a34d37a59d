//! Points that machines of the site stand on, served to them over NBD by this process.

use crate::Site;
use crate::place::Place;
use crate::stacks::point_export;
use site_recovery::{Disks, MachineId, PointId, Replica, Result};
use site_recovery_nbd::{Address, Export, Limits, Server};
use site_recovery_register::durable;
use std::sync::Arc;
use std::time::Duration;

/// How long a machine's process may take to let go of a point that it does not need any more.
const LET_GO: Duration = Duration::from_secs(2);

impl Site {
    /// Whether this process serves the point of a machine.
    pub(crate) fn serves(&self, place: &Place) -> bool {
        self.served().contains_key(&place.dir)
    }

    /// Opens the point and serves it at the machine's place, unless that is done already. An open point is not dropped.
    pub(crate) async fn serve_point(
        &self,
        place: &Place,
        machine: &MachineId,
        point: PointId,
        from: &Arc<dyn Replica>,
    ) -> Result<()> {
        if self.serves(place) {
            return Ok(());
        }
        let disks = from.open(machine, point).await?;
        self.serve_disks(place, point, disks).await
    }

    pub(crate) async fn serve_disks(&self, place: &Place, point: PointId, disks: Disks) -> Result<()> {
        if self.serves(place) {
            return Ok(());
        }
        durable::make_dir(&place.dir)?;
        // Of a process before this one: it serves nobody any more, and the name has to be the same.
        durable::remove_file(&place.point())?;
        // The machine's own image, the storage daemon, and whoever looks at an image beside them.
        let mut server =
            Server::builder().limits(Limits { connections: 16 * disks.len().max(1), ..Limits::default() });
        for (id, disk) in disks {
            server = server.export(Export::read_only(point_export(&id, point), disk));
        }
        let server = server.listen(Address::Unix(place.point())).await?;
        self.served().entry(place.dir.clone()).or_insert(server);
        Ok(())
    }

    /// Ends the server of a machine's point.
    pub(crate) fn stop_serving(&self, place: &Place) {
        let Some(server) = self.served().remove(&place.dir) else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.block_on(server.stop(LET_GO))),
            Err(_) => drop(server),
        }
    }
}

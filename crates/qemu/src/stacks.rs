//! What the images of a machine stand on: nothing, the image below a branch, or a point that we serve.

use crate::Site;
use crate::branch::below;
use crate::command_line::{Below, Stack, stack};
use crate::description::Format;
use crate::known::{Held, Known};
use site_recovery::{DiskId, PointId, Result};

/// Name of the export of one disk of a point.
pub(crate) fn point_export(disk: &DiskId, point: PointId) -> String {
    format!("{}@{}", crate::home::plain(disk.as_str()), point.0)
}

impl Site {
    /// The nodes of all disks, of a machine that is off.
    pub(crate) fn stacks(&self, known: &Known) -> Result<Vec<Stack>> {
        known.disks.iter().map(|held| stack(held, self.below(known, held)?)).collect()
    }

    fn below(&self, known: &Known, held: &Held) -> Result<Option<Below>> {
        if known.home.is_branched()? {
            let described = &known.description.disks[held.n];
            return Ok(Some(Below::Image { path: below(&held.path), format: described.format }));
        }
        let armed = known.mark.as_ref().and_then(|m| m.armed.as_ref());
        match armed {
            Some(armed) if held.stands_on_point() => Ok(Some(Below::Point {
                socket: self.place(&known.home)?.point(),
                export: point_export(&held.spec.id, armed.point),
                patience: self.options.patience.as_secs(),
            })),
            _ => Ok(None),
        }
    }

    /// Whether an image of this machine needs a point that we serve.
    pub(crate) fn needs_point(known: &Known) -> bool {
        known.disks.iter().any(Held::stands_on_point)
    }
}

impl Held {
    /// Whether its header names our export. The header says so until the image stands alone, whoever made it so.
    pub(crate) fn stands_on_point(&self) -> bool {
        let backing = self.image.as_ref().and_then(|i| i.backing.as_deref());
        self.format == Format::Qcow2 && backing.is_some_and(|b| b.starts_with("nbd"))
    }
}

//! Changed areas of a disk (CBT): the pages put together, and nothing believed that does not add up. An error here never means
//! that nothing has changed: read the whole disk.

use crate::client::{Call, Vim, returned};
use crate::collect::needed;
use crate::xml::{Xml, list};
use crate::{Error, Moref};
use roxmltree::Node;
use site_recovery::Run;

/// No disk needs more areas: beyond that it is read whole.
const MOST_AREAS: usize = 1 << 22;
/// No disk needs more pages; a page holds some 2,000 areas.
const MOST_PAGES: usize = 1 << 14;

/// All areas: asks which are in use at all.
pub const EVERYTHING: &str = "*";

/// A page of areas: how far it goes, and which have changed there.
struct Page {
    whole: Run,
    areas: Vec<Run>,
}

impl Page {
    /// As long as it follows on the last one, lies on the disk, and is in order.
    fn of(node: Node<'_, '_>, start: u64, capacity: u64) -> Result<Self, Error> {
        let run = |node, from| -> Result<Run, Error> {
            let (start, len) = (needed::<u64>(node, from)?, needed::<u64>(node, "length")?);
            match start.checked_add(len) {
                Some(end) if end <= capacity && len > 0 => Ok(Run::new(start, len)),
                Some(_) if len == 0 => Err(Error::garbage("changed areas of no length")),
                _ => Err(Error::garbage("changed areas beyond the end of the disk")),
            }
        };
        let whole = run(node, "startOffset")?;
        if whole.start != start {
            return Err(Error::garbage("changed areas of another part of the disk than was asked for"));
        }
        let (mut areas, mut at) = (vec![], whole.start);
        for area in list(node, "changedArea") {
            let area = run(area, "start")?;
            if area.start < at || area.end() > whole.end() {
                return Err(Error::garbage("changed areas that overlap, or are in no order"));
            }
            at = area.end();
            areas.push(area);
        }
        Ok(Self { whole, areas })
    }
}

impl Vim {
    /// What has changed on a disk of a snapshot since `change_id`, in order and without overlaps; with [`EVERYTHING`] what is in
    /// use. `device` is the disk's key in the snapshot, `capacity` its size there in bytes. Without a snapshot the machine has
    /// to be off. One call, and one more for each further page. Privilege: `VirtualMachine.Provisioning.DiskRandomRead`.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::Fault::InvalidArgument) (`changeId`, `deviceKey`) and [`FileFault`](crate::Fault::FileFault)
    /// where changes were not tracked from there on; [`Garbage`](Error::Garbage) where the answer does not add up.
    pub async fn changed_areas(
        &self,
        machine: &Moref,
        snapshot: Option<&Moref>,
        device: i32,
        capacity: u64,
        change_id: &str,
    ) -> Result<Vec<Run>, Error> {
        let (mut start, mut all) = (0, vec![]);
        for _ in 0..MOST_PAGES {
            let mut arguments = Xml::new();
            arguments.maybe_moref("snapshot", snapshot).text("deviceKey", device);
            arguments.text("startOffset", start).text("changeId", change_id);
            let read = |node: Node<'_, '_>| Page::of(returned(node)?, start, capacity);
            let page = self.call(Call::read("QueryChangedDiskAreas", machine, arguments), read).await?;
            all.extend(page.areas);
            start = page.whole.end();
            if start == capacity {
                return Ok(all);
            }
            if all.len() > MOST_AREAS {
                break;
            }
        }
        Err(Error::garbage("changed areas have no end"))
    }
}

/// For whoever tries documents of any kind.
#[cfg(test)]
pub(crate) fn of(node: Node<'_, '_>, start: u64, capacity: u64) -> Result<Vec<Run>, Error> {
    Page::of(node, start, capacity).map(|page| page.areas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::parse;

    fn page(inside: &str, start: u64) -> Result<Vec<Run>, String> {
        let text = format!("<returnval>{inside}</returnval>");
        let document = parse(&text).expect("XML");
        of(document.root_element(), start, 1000).map_err(|e| e.to_string())
    }

    fn whole(start: u64, len: u64, areas: &[(u64, u64)]) -> String {
        let area = |(start, len): &(u64, u64)| {
            format!("<changedArea><start>{start}</start><length>{len}</length></changedArea>")
        };
        let areas: String = areas.iter().map(area).collect();
        format!("<startOffset>{start}</startOffset><length>{len}</length>{areas}")
    }

    #[test]
    fn areas_that_add_up_are_taken() {
        assert_eq!(page(&whole(0, 1000, &[]), 0), Ok(vec![]));
        let found = page(&whole(200, 800, &[(200, 1), (201, 9), (999, 1)]), 200);
        assert_eq!(found, Ok(vec![Run::new(200, 1), Run::new(201, 9), Run::new(999, 1)]));
    }

    #[test]
    fn d4_areas_that_do_not_add_up_are_an_error() {
        let bad = [
            whole(0, 0, &[]),
            whole(0, 1001, &[]),
            whole(100, 900, &[]),
            whole(0, 1000, &[(0, 0)]),
            whole(0, 1000, &[(500, 501)]),
            whole(0, 500, &[(400, 200)]),
            whole(0, 1000, &[(0, 10), (5, 10)]),
            whole(0, 1000, &[(50, 10), (0, 10)]),
            whole(0, 1000, &[(u64::MAX, 2)]),
            "<startOffset>0</startOffset>".into(),
            "<startOffset>-1</startOffset><length>10</length>".into(),
        ];
        for inside in bad {
            assert!(page(&inside, 0).is_err(), "{inside}");
        }
    }
}

//! MasterTarget, once, over any [`LandingSite`](site_recovery::LandingSite): retention log, epoch, roll to a point.
//!
//! It works in place. The landing disks hold the newest state. The *retention log*, on a volume of its own, holds what
//! they held before: the first bytes of each run since a point was sealed are durable there before the run is written.
//! Laid over the disks, oldest last, it gives every older point; written back to them, it rolls a machine to one.
//!
//! ```text
//! landing disks   [ newest bytes                      ]      a run is read from the first file that has it
//! pending         [   ##      #    ]  since point 3          ^ oldest link above the point first
//! link to 3       [ #   ##         ]  from point 2           |
//! link to 2       [   #      ###   ]  from point 1           |   point 1 = link 2, link 3, pending, disks
//! ```
//!
//! # On the volume
//! One folder per machine: `timeline` (points, links, who has the disks: replaced whole, with a checksum), `register`
//! (epoch), `phase`, `withdrawn`, `point-N` (manifest), `N.log` (bytes), `N.set` (runs alone). Locks on `lock` and on
//! `point-N` keep two processes, or two objects in one, from meeting.
//!
//! Which volumes can hold a log says [`volume`]. The program `site-recovery-master-target` (feature `service`) is a master target
//! as a service, over a directory, disks of its host, or a server that runs its rescue system.
//!
//! # Choices
//! - Existing disks become [`POINT_ZERO`](site_recovery::POINT_ZERO): a listed, pinned point of what they held before the first byte was written.
//!   Disks that were made have none: nothing was there.
//! - Rolling to a point is logged as well, so that all points open until the machine boots. From then on the disks that
//!   they rest on are the machine's, and nothing shows what is below its branch. So pinned points are written out whole
//!   at the latest before it boots, and outlive `settle`; all others end there. The point that is booted is not written
//!   out: its bytes are the machine's.
//! - A landing whose stamp changed was started from outside. That is seen at `head`, `begin`, `seal` and `materialise`:
//!   points become unverified, the head has no cursor, and a delta or hand-over that did not know is refused once.
//! - At a site that puts no branch under disks a hand-over can be withdrawn, but not set aside once it booted.
#![forbid(unsafe_code)]

#[cfg(test)]
mod crash;
mod desk;
mod folder;
mod hand_over;
mod ingest;
mod layer;
mod line;
mod log;
mod master_target;
mod overwrite;
mod prepare;
mod register;
mod retention;
mod roll;
mod site;
mod standing;
mod timeline;
mod view;
pub mod volume;
mod whole;

pub use master_target::MasterTarget;

//! MasterTarget, once, over any LandingSite: retention log, epoch, roll to a point.
#![forbid(unsafe_code)]

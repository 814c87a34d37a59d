//! G1 and G2: image A over TCP.

use crate::Outcome;
use crate::bench::Bench;

const NOT_BUILT: &str = "not built yet: there is no replica behind a network connection to measure";

pub(crate) fn plain(_: &Bench) -> Outcome<()> {
    Err(NOT_BUILT.into())
}

pub(crate) fn sealed(_: &Bench) -> Outcome<()> {
    Err(NOT_BUILT.into())
}

//! The servers of one site as a [`Source`](site_recovery::Source).

pub(crate) mod home;

//! The fake, asked by raw requests.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod blocks;
mod client;
mod copies;
mod documents;
mod exports;
mod failures;
mod images;
mod leases;
mod lists;
mod pages;
mod rights;
mod snapshots;

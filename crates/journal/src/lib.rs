//! The engine's journal on SQLite.
#![forbid(unsafe_code)]

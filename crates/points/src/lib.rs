//! RecoveryPointStore on an object store: a directory first.
#![forbid(unsafe_code)]

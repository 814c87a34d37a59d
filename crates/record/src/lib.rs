//! One run of blocks, framed: codec, checksum, seal. Pure, no I/O.
#![forbid(unsafe_code)]

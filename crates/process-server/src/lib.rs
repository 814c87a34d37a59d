//! ProcessServer in this process: read, skip zeros, compare, checksum, compress, ship, seal, spool.
#![forbid(unsafe_code)]

//! Reports of real runs over two sites in memory: their page, their JSON, and what is found when they were tampered with.

mod figures;
mod golden;
mod hostile;
mod life;
mod page;
mod plans;
mod runs;
mod tampering;

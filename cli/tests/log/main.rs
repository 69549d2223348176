//! Whatever becomes of the log, the daemon serves, answers and ends: disks that are full, readers that stall or are
//! gone, a journal that is stuck. Needs root, or `make test`.

#[path = "../support/stand.rs"]
mod stand;

mod journal;
mod lines;
mod load;
mod losses;
mod own;

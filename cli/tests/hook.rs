//! The hook in network namespaces on real traffic: what the kernel forwards and what it tells apart, beside whatever
//! else the host is and has, and through the daemon's death. Needs root: a program is loaded into the kernel, which
//! no user namespace may.

#[allow(dead_code, reason = "shared with the other tests")]
mod netns;
#[path = "beside/site.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod site;
#[path = "support/stand.rs"]
mod stand;

#[path = "hook/director.rs"]
mod director;

#[path = "hook/bad.rs"]
mod bad;
#[path = "hook/beside.rs"]
mod beside;
#[path = "hook/life.rs"]
mod life;
#[path = "hook/modes.rs"]
mod modes;
#[path = "hook/storm.rs"]
mod storm;

//! Scheduler plugins as their authors and users meet them: the two examples and two fresh projects are built
//! by cargo and cc, checked, dropped into a running daemon's plugin directory, and balance real traffic in
//! the lab; what misbehaves is contained. Needs `cc`, and root, or `make test`.

#[path = "plugins/project.rs"]
mod project;

#[path = "plugins/alone.rs"]
mod alone;
#[path = "plugins/check.rs"]
mod check;
#[path = "plugins/manual.rs"]
mod manual;
#[path = "plugins/slow.rs"]
mod slow;
#[path = "plugins/stuck.rs"]
mod stuck;
#[path = "plugins/traffic.rs"]
mod traffic;

//! The live views of a daemon that carries real traffic: `uvs top` in a real terminal, `uvs latency`, and
//! everything that `uvs show` shows. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

#[path = "views/latency.rs"]
mod latency;
#[path = "views/show.rs"]
mod show;
#[path = "views/terminal.rs"]
mod terminal;
#[path = "views/top.rs"]
mod top;

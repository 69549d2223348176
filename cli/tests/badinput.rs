//! Bad input of every kind, against a running daemon: a clear message and a non-zero exit, or a drop with a
//! name and a counter; nothing half-applied, and the daemon serves on. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

#[path = "badinput/counters.rs"]
mod counters;

#[path = "badinput/clients.rs"]
mod clients;
#[path = "badinput/commands.rs"]
mod commands;
#[path = "badinput/forged.rs"]
mod forged;
#[path = "badinput/frames.rs"]
mod frames;
#[path = "badinput/limits.rs"]
mod limits;
#[path = "badinput/starts.rs"]
mod starts;
#[path = "badinput/wire.rs"]
mod wire;

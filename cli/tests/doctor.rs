//! `uvs doctor` in the lab: each pitfall is set, found by its id, and gone after the very command that
//! doctor prints was run; a topology as it should be has no finding that counts. Needs root, or `make test`.

#[path = "support/stand.rs"]
mod stand;

#[path = "doctor/confined.rs"]
mod confined;
#[path = "doctor/director.rs"]
mod director;
#[path = "doctor/doctor_lab.rs"]
mod doctor_lab;
#[path = "doctor/healthy.rs"]
mod healthy;
#[path = "doctor/ipv6.rs"]
mod ipv6;
#[path = "doctor/needs.rs"]
mod needs;
#[path = "doctor/replies.rs"]
mod replies;
#[path = "doctor/server.rs"]
mod server;

//! Replies that do not come back, which the director sees by its counters alone.

use uvs_lab::{Mode, Options};

use crate::doctor_lab::DoctorLab;
use crate::stand::{eventually, must_serve, serving};

#[test]
fn a_nat_server_whose_default_route_is_elsewhere() {
    silent(Mode::Nat, "nat_no_reply", "ip route replace default dev lo");
}

#[test]
fn a_fullnat_server_without_a_route_to_the_local_address() {
    silent(
        Mode::FullNat,
        "fullnat_no_reply",
        "ip route add blackhole 192.168.0.200/32",
    );
}

fn silent(mode: Mode, id: &str, spoil: &str) {
    let doctor_lab = DoctorLab::new(mode, Options::default());
    let lab = &doctor_lab.lab;
    doctor_lab.run(&lab.servers[0].host, spoil);
    let daemon = serving(lab);
    let words = format!("--only {id}");
    let curl = format!("curl -s -m 4 -o /dev/null {} || true", lab.plan.url("/"));
    let mut remedy = None;
    // rs1 gets three of four connections; each is a SYN and its repeats.
    eventually(id, || {
        doctor_lab.run(&lab.client, &curl);
        remedy = doctor_lab.ask(&lab.director, &words).of(id);
        remedy.is_some()
    });
    let remedy = remedy.expect("it was waited for");
    let server = lab.plan.servers[0].ip().to_string();
    assert_eq!(remedy.on.as_deref(), Some(server.as_str()));
    doctor_lab.run(&lab.servers[0].host, &remedy.command);
    eventually(&format!("{id} after {}", remedy.command), || {
        doctor_lab.run(&lab.client, &curl);
        doctor_lab.ask(&lab.director, &words).of(id).is_none()
    });
    must_serve(lab, &daemon);
    daemon.stop().expect("it ends well");
}

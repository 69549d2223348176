//! Topologies as they should be: every check is made, and none finds an error, on director and servers.

use uvs_lab::{Mode, Options, VipOwner};

use crate::doctor_lab::{Diagnosis, DoctorLab};
use crate::stand::{must_serve, serving};

#[test]
fn dr() {
    healthy(Mode::Dr, VipOwner::Host, "");
}

#[test]
fn dr_with_the_vip_on_no_interface() {
    healthy(Mode::Dr, VipOwner::Uvs, "");
}

#[test]
fn nat() {
    healthy(
        Mode::Nat,
        VipOwner::Host,
        "--mode nat --gateway 192.168.0.1 --vip",
    );
}

#[test]
fn fullnat() {
    let words = "--mode fullnat --gateway 192.168.0.1 --laddr 192.168.0.200 --vip";
    healthy(Mode::FullNat, VipOwner::Host, words);
}

#[test]
fn ipip() {
    healthy(Mode::Ipip, VipOwner::Host, "");
}

/// `words` are what a server cannot find out by itself; the VIP follows them.
fn healthy(mode: Mode, vip: VipOwner, words: &str) {
    let doctor_lab = DoctorLab::new(
        mode,
        Options {
            vip,
            ..Options::default()
        },
    );
    let lab = &doctor_lab.lab;
    let daemon = serving(lab);
    must_serve(lab, &daemon);
    all_is_well(&doctor_lab.ask(&lab.director, ""), "director");
    let vip = lab.plan.vip.ip().to_string();
    let words = match words {
        "" => "--role rs".to_owned(),
        words => format!("{words} {vip}"),
    };
    for server in &lab.servers {
        let told = doctor_lab.ask(&server.host, &words);
        all_is_well(&told, server.name());
        assert_eq!(told.json["role"], "real server");
        assert_eq!(told.json["about"], format!("VIPs {vip}"));
    }
    must_serve(lab, &daemon);
    daemon.stop().expect("it ends well");
}

fn all_is_well(told: &Diagnosis, whose: &str) {
    assert_eq!(told.errors(), 0, "{whose}: {:#}", told.json);
    assert_eq!(told.not_made(), Vec::<&str>::new(), "{whose}");
    assert_eq!(told.code, Some(0), "{whose}");
}

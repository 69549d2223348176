//! Topologies as they should be: every check is made, and none finds an error, on director and servers.

use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Families, Mode, Options, SERVERS, VipOwner, twin};

use crate::doctor_lab::{Diagnosis, DoctorLab};
use crate::stand::{must_serve, serving, uvs};

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
    let vip = lab.plan.vip.ip();
    // A server finds by itself all that was put up on it: both families.
    let (words, vip) = match words {
        "" => ("--role rs".to_owned(), format!("{vip}, {}", twin(*vip))),
        words => (format!("{words} {vip}"), vip.to_string()),
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

pub(crate) fn all_is_well(told: &Diagnosis, whose: &str) {
    assert_eq!(told.errors(), 0, "{whose}: {:#}", told.json);
    assert_eq!(told.not_made(), Vec::<&str>::new(), "{whose}");
    assert_eq!(told.code, Some(0), "{whose}");
}

/// The same services in IPv6, and tunnels between the families.
#[test]
fn ipv6() {
    for (mode, families, words) in [
        (Mode::Dr, Families::V6, ""),
        (
            Mode::Nat,
            Families::V6,
            "--mode nat --gateway 2001:db8:192::1 --vip",
        ),
        (
            Mode::FullNat,
            Families::V6,
            "--mode fullnat --gateway 2001:db8:192::1 --laddr 2001:db8:192::200 --vip",
        ),
        (Mode::Ipip, Families::V6, ""),
        (Mode::Ipip, Families::V6To4, ""),
        (Mode::Ipip, Families::V4To6, ""),
    ] {
        let doctor_lab = DoctorLab::new(mode, Options::default());
        let lab = &doctor_lab.lab;
        let service = lab.plan.service(families);
        let daemon = lab.start_daemon(uvs()).expect("uvs runs");
        daemon.ipvsadm(&service.add_service("rr")).expect("added");
        for server in 0..SERVERS {
            daemon
                .ipvsadm(&service.add_server(server, 1))
                .expect("added");
        }
        let all = Answers::from([1, 2, 3].map(|n| (format!("rs{n}"), 2)));
        let answers = requests(&lab.client, &service.url("/"), 6);
        let answers =
            answers.unwrap_or_else(|e| panic!("{mode} {families}: {e}\n{}", daemon.log()));
        assert_eq!(answers, all, "{mode} {families}");
        let who = format!("{mode} {families}");
        all_is_well(&doctor_lab.ask(&lab.director, ""), &who);
        let words = match words {
            "" => "--role rs".to_owned(),
            words => format!("{words} {}", service.vip.ip()),
        };
        for server in &lab.servers {
            all_is_well(&doctor_lab.ask(&server.host, &words), &who);
        }
        daemon.stop().expect("it ends well");
    }
}

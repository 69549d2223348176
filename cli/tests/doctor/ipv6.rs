//! Pitfalls of a director with IPv6 services.

use uvs_lab::{Daemon, Families, Lab, Mode, Options};

use crate::doctor_lab::DoctorLab;
use crate::stand::uvs;

/// A daemon with an IPv6 service of two servers.
fn serving(lab: &Lab, families: Families) -> Daemon<'_> {
    let service = lab.plan.service(families);
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    daemon.ipvsadm(&service.add_service("rr")).expect("added");
    for server in 0..2 {
        daemon
            .ipvsadm(&service.add_server(server, 1))
            .expect("added");
    }
    daemon
}

#[test]
fn settings_of_the_host() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let lab = &doctor_lab.lab;
    let daemon = serving(lab, Families::V6);
    for (id, spoil) in [
        (
            "accept_ra",
            "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra",
        ),
        (
            "no_route",
            "ipvsadm -a -t [2001:db8:192::38]:80 -r [2001:db8:77::1]:80 -g",
        ),
        ("vip_absent", "ip address del 2001:db8:192::38/128 dev eth0"),
        (
            "ipv6_off",
            "echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6",
        ),
    ] {
        doctor_lab.found_and_fixed(&lab.director, "", id, (&lab.director, spoil));
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn somebody_else_answers_solicitations_for_the_vip() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let lab = &doctor_lab.lab;
    let daemon = serving(lab, Families::V6);
    let on_a_wire = "ip address add 2001:db8:192::38/64 dev eth0 nodad";
    let by_proxy = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n\
                    echo 1 > /proc/sys/net/ipv6/conf/eth0/proxy_ndp\n\
                    ip -6 neigh add proxy 2001:db8:192::38 dev eth0";
    // rs1 serves, rs3 does not.
    for (id, server, spoil) in [
        ("server_answers_arp", 0, on_a_wire),
        ("server_answers_arp", 0, by_proxy),
        ("vip_duplicate", 2, on_a_wire),
    ] {
        let spoilt = (&lab.servers[server].host, spoil);
        doctor_lab.found_and_fixed(&lab.director, "", id, spoilt);
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn a_dr_server_behind_a_router_and_a_tunnel_without_room() {
    let doctor_lab = DoctorLab::new(Mode::Ipip, Options::default());
    let lab = &doctor_lab.lab;
    let daemon = serving(lab, Families::V6);
    doctor_lab.run(&lab.director, "ip link set dev eth0 mtu 1540");
    let add = "ipvsadm -a -t [2001:db8:192:80::120]:8080 -r 2001:db8:192:81::137 -g";
    let last_added = "ip address del 2001:db8:192:80::120/128 dev eth0\n\
                      ip address add 2001:db8:192:80::120/128 dev eth0 nodad";
    for (id, spoil) in [
        ("vip_as_source", last_added),
        ("off_segment", add),
        ("tunnel_mtu", "ip link set dev eth0 mtu 1500"),
        ("tunnel_too_narrow", "ip link set dev eth0 mtu 1300"),
    ] {
        doctor_lab.found_and_fixed(&lab.director, "", id, (&lab.director, spoil));
    }
    daemon.stop().expect("it ends well");
}

/// The wire behind the router drops what is too large for it without a word.
#[test]
fn a_black_hole_for_large_packets() {
    let doctor_lab = DoctorLab::new(Mode::Ipip, Options::default());
    let lab = &doctor_lab.lab;
    let daemon = serving(lab, Families::V6);
    let hole = "ip link set dev br0 mtu 1500\nip link set dev rs1 mtu 1400";
    doctor_lab.found_and_fixed(&lab.director, "", "path_mtu", (&lab.fabric, hole));
    let way = doctor_lab.run(&lab.director, "ip -6 route get 2001:db8:192:81::135");
    assert!(way.contains("mtu 1400"), "{way}");
    daemon.stop().expect("it ends well");
}

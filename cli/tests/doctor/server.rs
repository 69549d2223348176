//! Pitfalls of a real server, found on the server itself.

use std::net::UdpSocket;

use uvs_lab::{Mode, Options};

use crate::doctor_lab::DoctorLab;

/// rs1 of a mode's lab is spoilt; each case is a check's id, and how.
fn cases(mode: Mode, words: &str, cases: &[(&str, &str)]) {
    let doctor_lab = DoctorLab::new(mode, Options::default());
    let server = &doctor_lab.lab.servers[0].host;
    for (id, spoil) in cases {
        doctor_lab.found_and_fixed(server, words, id, (server, spoil));
    }
}

#[test]
fn dr() {
    cases(
        Mode::Dr,
        "--role rs",
        &[
            (
                "rs_arp_ignore",
                "echo 0 > /proc/sys/net/ipv4/conf/all/arp_ignore",
            ),
            (
                "rs_arp_ignore",
                "echo 3 > /proc/sys/net/ipv4/conf/lo/arp_ignore",
            ),
            (
                "rs_arp_announce",
                "echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_announce",
            ),
            ("rs_vip_absent", "ip address del 192.168.0.38/32 dev lo"),
            ("rs_vip_answers", "ip address add 192.168.0.38/24 dev eth0"),
            ("rs_vip_network", "ip address add 192.168.0.38/24 dev lo"),
        ],
    );
}

#[test]
fn ipip() {
    // Which device it is depends on the kernel.
    let device = "dev=$(ip -br link | grep -o -w -e uvs-tunl0 -e tunl0 | head -1)\n";
    let on_device = |spoil: &str| format!("{device}{spoil}");
    let [strict, down, gone] = [
        "echo 1 > /proc/sys/net/ipv4/conf/$dev/rp_filter",
        "ip link set dev $dev down",
        "ip link del $dev",
    ]
    .map(on_device);
    let mut all = vec![
        ("rs_rp_filter", strict.as_str()),
        (
            "rs_rp_filter",
            "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter",
        ),
        ("rs_link_down", down.as_str()),
    ];
    // The kernel's own cannot be deleted.
    let kernels = std::path::Path::new("/sys/module/ipip").exists();
    if kernels {
        println!(
            "rs_tunnel is left to tests/rs: this kernel's own tunnel device cannot be deleted"
        );
    } else {
        all.push(("rs_tunnel", gone.as_str()));
    }
    cases(Mode::Ipip, "--role rs", &all);
}

#[test]
fn a_udp_program_on_all_addresses() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let server = &doctor_lab.lab.servers[0].host;
    let listen = |address: &str| {
        let bound = server.enter(|| UdpSocket::bind((address, 53)));
        bound.expect("the namespace is there").expect("port 53")
    };
    let asked = || doctor_lab.ask(server, "--role rs --only rs_udp_answers");
    let id = "rs_udp_answers";
    assert!(asked().of(id).is_none());
    let everywhere = listen("0.0.0.0");
    let told = asked();
    let remedy = told.of(id).expect("it is on all addresses");
    assert_eq!(remedy.command, "tcpdump -ni any udp src port 53");
    assert_eq!(told.code, Some(0), "a note is no error");
    drop(everywhere);
    let _on_vip = listen("192.168.0.38");
    assert!(asked().of(id).is_none());
}

#[test]
fn segments_that_do_not_fit_the_tunnel() {
    let doctor_lab = DoctorLab::new(Mode::Ipip, Options::default());
    let server = &doctor_lab.lab.servers[0].host;
    let route = "ip route replace default via 192.168.80.129 dev eth0";
    let route6 = "ip -6 route replace default via 2001:db8:192:81::129 dev eth0";
    doctor_lab.run(
        server,
        &format!("{route} advmss 1440\n{route6} advmss 1400"),
    );
    doctor_lab.found_and_fixed(server, "--role rs", "rs_tunnel_mss", (server, route));
    let shown = doctor_lab.run(server, "ip route show default");
    assert_eq!(
        shown.trim(),
        "default via 192.168.80.129 dev eth0 advmss 1440"
    );
    doctor_lab.found_and_fixed(server, "--role rs", "rs_tunnel_mss", (server, route6));
    let shown = doctor_lab.run(server, "ip -6 route show default");
    assert!(shown.contains(" advmss 1400 "), "{shown}");
}

#[test]
fn dr_in_ipv6() {
    cases(
        Mode::Dr,
        "--mode dr --vip 2001:db8:192::38",
        &[
            (
                "rs_vip_absent",
                "ip address del 2001:db8:192::38/128 dev lo",
            ),
            (
                "rs_vip_answers",
                "ip address add 2001:db8:192::38/64 dev eth0 nodad",
            ),
            (
                "rs_vip_proxied",
                "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n\
                 echo 1 > /proc/sys/net/ipv6/conf/all/proxy_ndp\n\
                 ip -6 neigh add proxy 2001:db8:192::38 dev eth0",
            ),
            (
                "rs_ipv6_off",
                "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6",
            ),
        ],
    );
}

#[test]
fn a_way_back_of_the_vips_family() {
    let doctor_lab = DoctorLab::new(Mode::Ipip, Options::default());
    let server = &doctor_lab.lab.servers[0].host;
    let words = "--mode ipip --vip 2001:db8:192:80::120 --only rs_no_way_back";
    let told = doctor_lab.ask(server, words);
    assert!(told.of("rs_no_way_back").is_none(), "{:#}", told.json);
    doctor_lab.run(server, "ip -6 route del default");
    let told = doctor_lab.ask(server, words);
    let seen = told.seen("rs_no_way_back");
    assert_eq!(seen, "there is no default route of IPv6");
}

#[test]
fn nat_in_ipv6() {
    cases(
        Mode::Nat,
        "--mode nat --vip 2001:db8:172:254::200 --gateway 2001:db8:192::1",
        &[
            ("rs_default_route", "ip -6 route del default"),
            (
                "rs_nat_vip",
                "ip address add 2001:db8:172:254::200/128 dev lo",
            ),
        ],
    );
}

#[test]
fn nat() {
    cases(
        Mode::Nat,
        "--mode nat --vip 172.16.254.200 --gateway 192.168.0.1",
        &[
            ("rs_default_route", "ip route del default"),
            (
                "rs_default_route",
                "ip route replace default via 192.168.0.28",
            ),
            ("rs_nat_vip", "ip address add 172.16.254.200/32 dev lo"),
        ],
    );
}

#[test]
fn fullnat() {
    cases(
        Mode::FullNat,
        "--mode fullnat --vip 172.16.254.200 --gateway 192.168.0.1 --laddr 192.168.0.200",
        &[
            (
                "rs_local_route",
                "ip route add unreachable 192.168.0.200/32",
            ),
            ("rs_nat_vip", "ip address add 172.16.254.200/24 dev eth0"),
        ],
    );
}

/// The client takes the VIP as well; the director's kernel has it already.
#[test]
fn two_hosts_with_the_vip() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let (server, client) = (&doctor_lab.lab.servers[0].host, &doctor_lab.lab.client);
    let words = "--role rs --only vip_duplicate";
    assert!(
        doctor_lab
            .ask(server, words)
            .seen("vip_duplicate")
            .contains("alone answers")
    );
    doctor_lab.run(client, "ip address add 192.168.0.38/24 dev eth0");
    let told = doctor_lab.ask(server, words);
    let remedy = told.of("vip_duplicate").expect("a finding");
    let macs =
        [client, &doctor_lab.lab.director].map(|host| host.mac("eth0").expect("a MAC address"));
    for mac in macs {
        assert!(told.seen("vip_duplicate").contains(&mac), "{:#}", told.json);
    }
    doctor_lab.run(client, &remedy.command);
    assert!(doctor_lab.ask(server, words).of("vip_duplicate").is_none());
}

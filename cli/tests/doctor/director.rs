//! Pitfalls of a director with a running daemon.

use uvs_lab::{Daemon, Lab, Mode, Options, VipOwner};

use crate::doctor_lab::DoctorLab;
use crate::stand::{eventually, must_serve, run, serving, serving_by_guard, uvs};

/// A ward with the daemon; each case is a check's id, the host that is spoilt, and how.
fn cases(mode: Mode, options: Options, prepare: &str, cases: &[(&str, Spoilt, &str)]) {
    let doctor_lab = DoctorLab::new(mode, options);
    let lab = &doctor_lab.lab;
    let daemon = serving(lab);
    doctor_lab.run(&lab.director, prepare);
    for (id, spoilt, spoil) in cases {
        let host = match spoilt {
            Spoilt::Director => &lab.director,
            Spoilt::Server(i) => &lab.servers[*i].host,
        };
        doctor_lab.found_and_fixed(&lab.director, "", id, (host, spoil));
    }
    daemon.stop().expect("it ends well");
}

#[derive(Clone, Copy)]
enum Spoilt {
    Director,
    Server(usize),
}
use Spoilt::{Director, Server};

#[test]
fn settings_of_the_host() {
    cases(
        Mode::Dr,
        Options::default(),
        "ethtool -K eth0 gro on",
        &[
            ("generic_receive", Director, "ethtool -K eth0 gro off"),
            (
                "rp_filter",
                Director,
                "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter",
            ),
            (
                "rp_filter",
                Director,
                "echo 1 > /proc/sys/net/ipv4/conf/eth0/rp_filter",
            ),
            (
                "send_redirects",
                Director,
                "ipvsadm -A -t 192.168.0.38:81 -s rr\n\
                 ipvsadm -a -t 192.168.0.38:81 -r 192.168.0.18:80 -m",
            ),
            (
                "firewall_bypassed",
                Director,
                "nft add table inet f\nnft add chain inet f in '{ type filter hook input priority 0; }'\n\
                 nft add rule inet f in ip daddr '{ 192.168.0.38, 10.0.0.1 }' tcp dport 80 drop",
            ),
            (
                "firewall_unheeded",
                Director,
                "nft add table ip fw\nnft add chain ip fw passing '{ type filter hook forward priority 0; }'\n\
                 nft add rule ip fw passing ip saddr '{ 203.0.113.7, 198.51.100.0/24 }' drop",
            ),
            (
                "firewall_unheeded",
                Director,
                "nft add table netdev raw\n\
                 nft add chain netdev raw in '{ type filter hook ingress device eth0 priority 0; }'\n\
                 nft add rule netdev raw in tcp dport 80 ip saddr 203.0.113.8 drop",
            ),
            ("interface_down", Director, "ip link set dev eth0 down"),
        ],
    );
}

/// What the daemon cannot repair: another program has made the table its own (`flags owner`).
#[test]
fn a_guard_that_another_program_holds() {
    let of_host = (Mode::Dr, VipOwner::Host, "vip_unguarded");
    let of_uvs = (Mode::Nat, VipOwner::Uvs, "forward_unguarded");
    for (mode, vip, unguarded) in [of_host, of_uvs] {
        let options = Options {
            vip,
            ip_forward: true,
            ..Options::default()
        };
        let doctor_lab = DoctorLab::new(mode, options);
        let director = &doctor_lab.lab.director;
        let daemon = serving_by_guard(&doctor_lab.lab);
        let told = doctor_lab.ask(director, "");
        for id in [unguarded, "guard_damaged", "guard_repaired"] {
            assert!(told.of(id).is_none(), "{id}, before: {:#}", told.json);
        }
        let hold = "( echo 'delete table netdev uvs; add table netdev uvs { flags owner; }'\n\
                    exec sleep 600 ) 2>/dev/null | nft -i >/dev/null 2>&1 & echo $!";
        let holder = doctor_lab.run(director, hold);
        let damaged = || {
            let told = doctor_lab.ask(director, "");
            let all = [unguarded, "guard_damaged"];
            all.into_iter().all(|id| told.of(id).is_some())
        };
        eventually("it is found", damaged);
        let told = doctor_lab.ask(director, "");
        let said = told.seen("guard_damaged");
        assert!(said.contains("another program owns nft's table"), "{said}");
        let not_ready = run(&doctor_lab.lab, &doctor_lab.shell, "uvs show info");
        assert!(
            not_ready.stdout.contains("could not be repaired"),
            "{not_ready:?}"
        );
        doctor_lab.run(director, &format!("kill {}", holder.trim()));
        eventually("it is put right", || {
            let told = doctor_lab.ask(director, "");
            told.of("guard_damaged").is_none() && told.of("guard_repaired").is_some()
        });
        assert!(doctor_lab.ask(director, "").of(unguarded).is_none());
        must_serve(&doctor_lab.lab, &daemon);
        daemon.stop().expect("it ends well");
    }
}

#[test]
fn somebody_else_answers_for_the_vip() {
    let vip_on_a_wire = "ip address add 192.168.0.38/24 dev eth0";
    let talkative = "echo 0 > /proc/sys/net/ipv4/conf/all/arp_ignore\n\
                     echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_ignore";
    cases(
        Mode::Dr,
        Options::default(),
        "true",
        &[
            // rs1 serves, rs3 does not.
            ("server_answers_arp", Server(0), talkative),
            ("server_answers_arp", Server(0), vip_on_a_wire),
            ("vip_duplicate", Server(2), vip_on_a_wire),
        ],
    );
}

#[test]
fn a_rule_that_uvs_cannot_follow_is_named_and_the_others_are_not() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let _daemon = serving(&doctor_lab.lab);
    let director = &doctor_lab.lab.director;
    let ask = || doctor_lab.ask(director, "--only policy_rules");
    doctor_lab.run(
        director,
        "ip rule add from 192.168.0.38 iif eth0 lookup 42\n\
         ip rule add lookup main suppress_prefixlength 0",
    );
    assert!(ask().of("policy_rules").is_none(), "{:#}", ask().json);
    doctor_lab.run(director, "ip rule add fwmark 1 lookup 42 priority 7");
    let told = ask();
    let seen = told.seen("policy_rules");
    assert!(seen.starts_with("rule 7: fwmark 0x1: "), "{seen}");
    let remedy = told.of("policy_rules").expect("a finding");
    assert!(!remedy.command.contains("del"), "{}", remedy.command);
}

#[test]
fn a_server_without_the_vip_or_without_its_tunnel() {
    let gone = "ip address del 192.168.0.38/32 dev lo";
    let cases_of = |mode, case| cases(mode, Options::default(), "true", &[case]);
    cases_of(Mode::Dr, ("server_without_vip", Server(0), gone));
    let down = "uvs rs down --mode ipip --vip 192.168.80.120";
    cases_of(Mode::Ipip, ("server_no_tunnel", Server(1), down));
}

#[test]
fn a_vip_that_nobody_has() {
    let taken = "ip address del 192.168.0.38/32 dev eth0";
    cases(
        Mode::Dr,
        Options::default(),
        "true",
        &[("vip_absent", Director, taken)],
    );
}

/// Its partner, a host of its own, has the VIP: as it must be, and no fault of the partner's.
#[test]
fn a_stand_by_beside_its_master() {
    let options = Options {
        vip: VipOwner::Nobody,
        ..Options::default()
    };
    let doctor_lab = DoctorLab::new(Mode::Dr, options);
    let lab = &doctor_lab.lab;
    let daemon = serving(lab);
    let master = "echo 0 > /proc/sys/net/ipv4/conf/all/arp_ignore\n\
                  echo 0 > /proc/sys/net/ipv4/conf/eth0/arp_ignore\n\
                  ip address add 192.168.0.38/32 dev eth0";
    doctor_lab.run(&lab.servers[2].host, master);
    let told = doctor_lab.ask(&lab.director, "");
    assert_eq!(told.errors(), 0, "{:#}", told.json);
    let mac = lab.servers[2].host.mac("eth0").expect("a MAC address");
    let seen = told.seen("vip_standby");
    assert!(
        seen.ends_with(&format!("{mac} on eth0 answers ARP for it")),
        "{seen}"
    );
    for id in ["vip_absent", "vip_duplicate", "server_answers_arp"] {
        assert!(told.of(id).is_none(), "{id}: {:#}", told.json);
    }
    daemon.stop().expect("it ends well");
}

#[test]
fn a_server_without_a_route() {
    let spoil = "ipvsadm -a -t 192.168.0.38:80 -r 10.77.0.1:80 -g -w 1";
    cases(
        Mode::Dr,
        Options::default(),
        "true",
        &[("no_route", Director, spoil)],
    );
}

#[test]
fn a_dr_server_behind_a_router_and_a_tunnel_without_room() {
    cases(
        Mode::Ipip,
        Options::default(),
        "ip link set dev eth0 mtu 1520",
        &[
            (
                "off_segment",
                Director,
                "ipvsadm -a -t 192.168.80.120:8080 -r 192.168.80.137 -g",
            ),
            ("tunnel_mtu", Director, "ip link set dev eth0 mtu 1500"),
        ],
    );
}

/// Bridge ports drop what is too large for them without a word; the router itself knows of nothing.
#[test]
fn a_black_hole_for_large_packets() {
    let doctor_lab = DoctorLab::new(Mode::Ipip, Options::default());
    let lab = &doctor_lab.lab;
    let daemon = serving(lab);
    let hole = "ip link set dev br0 mtu 1500\nip link set dev rs1 mtu 1400";
    doctor_lab.found_and_fixed(&lab.director, "", "path_mtu", (&lab.fabric, hole));
    let way = doctor_lab.run(&lab.director, "ip route get 192.168.80.135");
    assert!(
        way.contains("via 192.168.80.1 ") && way.contains("mtu 1400"),
        "{way}"
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn fullnats_local_addresses_and_ports() {
    cases(
        Mode::FullNat,
        Options::default(),
        "true",
        &[
            (
                "local_address_absent",
                Director,
                "ip address del 192.168.0.200/32 dev eth1",
            ),
            (
                "local_ports_shared",
                Director,
                "echo '1024 65535' > /proc/sys/net/ipv4/ip_local_port_range\n\
                 ipvsadm -A -t 172.16.254.200:81 -s rr --laddr 192.168.0.1\n\
                 ipvsadm -a -t 172.16.254.200:81 -r 192.168.0.18:8080 --fullnat",
            ),
        ],
    );
}

/// The remedy is another way of starting the daemon.
#[test]
fn a_server_behind_an_interface_without_uvs() {
    let options = Options {
        vip: VipOwner::Uvs,
        ..Options::default()
    };
    let doctor_lab = DoctorLab::new(Mode::Dr, options);
    let lab = &doctor_lab.lab;
    let table = "ipvsadm -A -t 192.168.0.38:80 -s rr\n\
                 ipvsadm -a -t 192.168.0.38:80 -r 10.78.0.2:80 -g";
    doctor_lab.run(
        &lab.director,
        "ip link add x0 type veth peer name x1\nip link set dev x1 up\nip link set dev x0 up\n\
         ip address add 10.78.0.1/24 dev x0",
    );
    let remedy = {
        let daemon = lab.start_daemon(uvs()).expect("uvs runs");
        doctor_lab.run(&lab.director, table);
        let remedy = doctor_lab
            .ask(&lab.director, "")
            .of("not_a_port")
            .expect("a finding");
        daemon.stop().expect("it ends well");
        remedy
    };
    assert!(
        remedy.command.contains(" --own-vip 192.168.0.38 "),
        "{}",
        remedy.command
    );
    let daemon = started(lab, &remedy.command);
    doctor_lab.run(&lab.director, table);
    let told = doctor_lab.ask(&lab.director, "--only not_a_port");
    assert!(told.of("not_a_port").is_none(), "{:#}", told.json);
    assert_eq!(told.seen("not_a_port"), "10.78.0.2 on x0");
    daemon.stop().expect("it ends well");
}

/// The daemon, as a finding says it.
pub(crate) fn started<'lab>(lab: &'lab Lab, command: &str) -> Daemon<'lab> {
    let words = command.strip_prefix("uvs ").expect("a command of uvs");
    Daemon::start_with(lab, uvs(), words).expect("uvs runs")
}

/// What a drained server's command leaves alone.
#[test]
fn taking_a_silent_server_out_keeps_its_thresholds() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let lab = &doctor_lab.lab;
    // The kernel believes an answer for half a minute; from here on for a second.
    doctor_lab.run(
        &lab.director,
        "ip ntable change name arp_cache dev eth0 base_reachable 1000",
    );
    let daemon = serving(lab);
    doctor_lab.run(
        &lab.director,
        "ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.28:80 -g -w 1 -x 100 -y 50",
    );
    must_serve(lab, &daemon);
    let down = (&lab.servers[1].host, "ip link set dev eth0 down");
    doctor_lab.found_and_fixed(&lab.director, "", "neighbour_unresolved", down);
    let listed = doctor_lab.run(&lab.director, "ipvsadm -ln --thresholds");
    let row = listed
        .lines()
        .find(|l| l.contains("192.168.0.28"))
        .expect("it is listed");
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>()[2..4],
        ["100", "50"],
        "{listed}"
    );
    daemon.stop().expect("it ends well");
}

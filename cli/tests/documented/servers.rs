//! docs/real-servers.md: what `uvs rs` does, and what the tutorial's scripts do in its place.

use uvs_lab::{Lab, Mode, Options};

use crate::desk::{Desk, Reader};

/// What a DR server's script sets.
const SETTINGS: &str = "ip -brief address show dev lo
cd /proc/sys/net/ipv4/conf; grep . {all,lo,eth0}/arp_{ignore,announce}";

#[test]
pub(crate) fn real_servers() {
    let mut page = Reader::open("docs/real-servers.md");
    let dr = Lab::build(Mode::Dr, Options::default()).expect("the lab is built");
    let mut desk = Desk::at(&dr);
    let [by_command, by_script] = [0, 1].map(|n| &dr.servers[n].host);

    let typed = page.section("DR");
    desk.at = by_command;
    desk.types(&typed[0]);
    desk.must_on(by_command, "uvs rs check --mode dr --vip 192.168.0.38");
    desk.at = by_script;
    desk.types_all(typed.iter().skip(1));
    // The same pair on the device that faces the director, as the page goes on.
    desk.must_on(
        by_script,
        "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_ignore
         echo 2 > /proc/sys/net/ipv4/conf/eth0/arp_announce
         uvs rs check --mode dr --vip 192.168.0.38",
    );
    assert_eq!(
        desk.must_on(by_command, SETTINGS),
        desk.must_on(by_script, SETTINGS)
    );
    desk.must_on(by_command, "uvs rs down --mode dr --vip 192.168.0.38");

    tunnels(&mut page);

    desk.at = by_command;
    desk.must_on(by_command, "ip addr add 2001:db8::18/64 dev eth0 nodad");
    for heading in ["NAT", "IPv6"] {
        for typed in page.section(heading) {
            desk.types(&typed);
            desk.must_on(by_command, &typed.command.replace("rs up", "rs check"));
            let routes = desk.must_on(by_command, "ip route show default");
            let is_nat = typed.command.contains("nat");
            assert_eq!(
                routes.contains("via 192.168.0.8 "),
                is_nat,
                "{}: {routes}",
                typed.at()
            );
            let words = typed.command.split(" --gateway").next().unwrap_or_default();
            desk.must_on(by_command, &words.replace("rs up", "rs down"));
        }
    }

    check(&desk, &page);

    std::fs::create_dir_all(desk.host_file("/etc/uvs/rs")).expect("made");
    desk.types_all(&page.section("Where state lies"));
    let written = std::fs::read_to_string(desk.host_file("/etc/uvs/rs/web.conf"));
    assert_eq!(
        written.expect("there"),
        "UVS_RS=--mode dr --vip 192.168.0.38\n"
    );
    page.close();
}

/// The command on one server, the tutorial's script on another, where a device stands for the tunnel of a kernel that has
/// none.
fn tunnels(page: &mut Reader) {
    let ipip = Lab::build(Mode::Ipip, Options::default()).expect("the lab is built");
    let mut desk = Desk::at(&ipip);
    let [by_command, by_script] = [0, 1].map(|n| &ipip.servers[n].host);
    let typed = page.section("IPIP");
    desk.at = by_command;
    desk.types(&typed[0]);
    desk.must_on(by_command, "uvs rs check --mode ipip --vip 192.168.80.120");
    desk.at = by_script;
    desk.must_on(
        by_script,
        "ip link show tunl0 >/dev/null || ip tuntap add dev tunl0 mode tun",
    );
    desk.types_all(typed.iter().skip(1));
    let addresses = desk.must_on(by_script, "ip -brief address show dev tunl0 up");
    assert!(addresses.contains("192.168.80.120/32"), "{addresses}");

    desk.at = by_command;
    desk.types_all(&page.section("On a kernel without a tunnel's driver"));
    let rules = desk.must_on(by_command, "nft list table netdev ipip");
    assert!(rules.contains("192.168.80.1 drop"), "{rules}");
    desk.must_on(by_command, "uvs rs down --mode ipip --vip 192.168.80.120");
}

/// Each line that the page shows of `check` is printed for a server with that mistake; that of a kernel without a tunnel's
/// driver where there is such a kernel.
fn check(desk: &Desk<'_>, page: &Reader) {
    let (server, dr) = (&desk.lab.servers[2].host, "--mode dr --vip 192.168.0.38");
    let mut said = String::new();
    for (spoilt, words) in [
        ("true", dr),
        ("ip addr add 192.168.0.38/24 dev eth0", dr),
        (
            "ip addr del 192.168.0.38/24 dev eth0; ip addr add 192.168.0.38/24 dev lo",
            dr,
        ),
        ("true", "--mode ipip --vip 192.168.80.120"),
        (
            "ip route add default via 192.168.0.1",
            "--mode nat --vip 172.16.254.200 --gateway 192.168.0.8",
        ),
    ] {
        desk.must_on(server, spoilt);
        let ended = desk.run(server, &format!("uvs rs check {words}"));
        assert_eq!(ended.code, Some(1), "{words}: {}", ended.stdout);
        said += &ended.stdout;
    }
    let has_driver = desk.run(server, "ip link show tunl0").code == Some(0);
    for line in page.page.block("net.ipv4.conf.all.arp_ignore is 0") {
        let is_possible = !(has_driver && line.contains("uvs-tunl0"));
        assert!(
            !is_possible || said.lines().any(|l| l == line),
            "no {line:?} in\n{said}"
        );
    }
}

//! Pages about what is in the table: services and servers in each mode, marks, lists, sync daemons.

use uvs_lab::{Mode, Options};

use crate::desk::{Desk, Reader, lab};
use crate::stand::shares;

#[test]
pub(crate) fn coming_from_ipvsadm() {
    let mut page = Reader::open("docs/coming-from-ipvsadm.md");
    let dr = lab(Mode::Dr, Options::default());
    let desk = Desk::serving(&dr);
    // No other than the link that the page makes.
    desk.without_link();
    desk.types_all(&page.section("Coming from ipvsadm"));
    assert!(desk.must("ipvsadm -v").contains("ipvsadm v1.31"));
    desk.types_all(&page.section("Firewall marks"));
    let marks = desk.must("uvs mark 1");
    assert!(
        marks.contains("192.168.0.38:80") && marks.contains("192.168.0.38:443"),
        "{marks}"
    );
    let listed = desk.must("ipvsadm -ln");
    assert!(listed.contains("FWM  1 rr persistent 300"), "{listed}");
    assert_eq!(listed.matches(" Masq ").count(), 2, "{listed}");
    page.close();
}

#[test]
pub(crate) fn access() {
    let mut page = Reader::open("docs/access.md");
    let dr = lab(Mode::Dr, Options::default());
    let desk = Desk::serving(&dr);
    desk.must(
        "ip addr add 10.0.0.100/32 dev eth0\n\
         ipvsadm -A -t 10.0.0.100:80 -s rr\n\
         ipvsadm -a -t 10.0.0.100:80 -r 192.168.0.18 -g",
    );
    let is_denied = |client: &str| {
        let said = desk.must(&format!("uvs trace {client}:4711 10.0.0.100:80"));
        said.contains("denied")
    };
    let typed = page.section("Deny and allow");
    for typed in &typed {
        desk.types(typed);
        let words: Vec<&str> = typed.command.split_whitespace().collect();
        let prefix = words.get(3).copied().unwrap_or_default();
        let client = prefix.split('/').next().unwrap_or_default();
        match words[1..3] {
            ["deny", "add"] if prefix == "all" => assert!(is_denied("192.0.2.1")),
            ["deny", "add"] => assert!(is_denied(client), "{}", typed.at()),
            ["deny", "del"] | ["allow", "add"] => assert!(!is_denied(client), "{}", typed.at()),
            _ => {
                let listed = desk.must("uvs deny list");
                for prefix in ["192.0.2.7", "198.51.100.0/24", "203.0.113.0/24"] {
                    assert!(listed.contains(prefix), "{listed}");
                }
            }
        }
    }
    page.close();
}

/// A mode's section: its service serves once the page's commands are typed.
fn mode(page: &mut Reader, heading: &str, mode: Mode, more: impl FnOnce(&Desk<'_>, &mut Reader)) {
    let built = lab(mode, Options::default());
    // The page's own `uvs rs up` prepares the server.
    let plan = &built.plan;
    let mut desk = Desk::serving(&built);
    desk.words.push(("eth1", "eth1".to_owned()));
    if let (Mode::Dr | Mode::Ipip, server) = (mode, desk.server) {
        desk.must_on(
            server,
            &format!(
                "uvs rs down --mode {mode} --vip {},{}",
                plan.vip.ip(),
                uvs_lab::twin(*plan.vip.ip())
            ),
        );
    }
    if let Some(local) = plan.local {
        // The page gives it to the director.
        desk.must(&format!("ip addr del {local}/32 dev eth1"));
    }
    desk.types_all(&page.section(heading));
    assert_eq!(desk.answers(4), shares(4, 0), "{heading}");
    more(&desk, page);
    if let (Mode::Dr | Mode::Ipip, server) = (mode, desk.server) {
        desk.must_on(
            server,
            &format!("uvs rs down --mode {mode} --vip {}", plan.vip.ip()),
        );
    }
}

fn nothing_more(_: &Desk<'_>, _: &mut Reader) {}

#[test]
pub(crate) fn modes() {
    let mut page = Reader::open("docs/modes.md");
    mode(&mut page, "DR", Mode::Dr, nothing_more);
    mode(&mut page, "NAT", Mode::Nat, nothing_more);
    mode(&mut page, "FULLNAT", Mode::FullNat, |desk, page| {
        desk.must("ip addr add 2001:db8::80/128 dev eth0 nodad preferred_lft 0");
        desk.types_all(&page.section("FULLNAT between IPv4 and IPv6"));
    });
    mode(&mut page, "IPIP", Mode::Ipip, nothing_more);
    page.close();
}

#[test]
pub(crate) fn ipv6() {
    let mut page = Reader::open("docs/ipv6.md");
    let dr = lab(Mode::Dr, Options::default());
    let desk = Desk::serving(&dr);
    desk.must_on(desk.server, "ip addr add 2001:db8::18/64 dev eth0 nodad");
    desk.must(
        "ip addr add 2001:db8::8/64 dev eth0 nodad\n\
         ip addr add 2001:db8::80/128 dev eth0 nodad preferred_lft 0",
    );
    desk.types_all(&page.section("IPv6"));
    desk.must_on(
        desk.server,
        "uvs rs check --mode dr --vip 2001:db8::80\nuvs rs down --mode dr --vip 2001:db8::80",
    );
    page.close();
}

#[test]
pub(crate) fn sync() {
    let mut page = Reader::open("docs/sync.md");
    let nat = lab(Mode::Nat, Options::default());
    let desk = Desk::serving(&nat);
    let runs = |state: &str| {
        let listed = desk.must("ipvsadm -L --daemon");
        listed.contains(&format!("{state} sync daemon (mcast=eth1, syncid=7"))
    };
    for typed in &page.section("Commands") {
        desk.types(typed);
        let words: Vec<&str> = typed.command.split_whitespace().collect();
        match words[1] {
            "--start-daemon" => assert!(runs(words[2]), "{}", typed.at()),
            "--stop-daemon" => assert!(!runs(words[2]), "{}", typed.at()),
            _ => assert!(runs("master") && runs("backup"), "{}", typed.at()),
        }
    }
    desk.types_all(&page.section("Without multicast, and with a key"));
    let key = desk.host_file("/etc/uvs/sync.key");
    desk.must(&format!("test $(stat -c %a {}) = 600", key.display()));
    // It is one that a sync daemon takes.
    desk.write(
        "/etc/uvs/uvs.toml",
        "interfaces = [\"eth0\", \"eth1\"]\n[sync.master]\ninterface = \"eth1\"\nkey_file = \"/etc/uvs/sync.key\"\n",
    );
    let mut desk = desk;
    desk.starts_with("run --config /etc/uvs/uvs.toml");
    page.close();
}

//! Pages about other programs: keepalived and Debian's ipvsadm, programs that speak JSON, and those that read a log.

use uvs_lab::{Mode, Options};

use crate::desk::{Desk, Reader, lab};
use crate::stand::{eventually, shares};

/// Its files under /run and /etc are its own: the machine may run one.
const KEEPALIVED: &str = "unshare --mount sh -c '
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /etc/keepalived && cp keepalived.conf /etc/keepalived/ && exec \"$@\"' sh ";

/// Starts keepalived, as the page does, with a configuration.
fn begins_keepalived(desk: &mut Desk<'_>, command: &str, configuration: &str) {
    std::fs::write(desk.directory.join("keepalived.conf"), configuration).expect("written");
    desk.begins_by(&format!("{KEEPALIVED}{command}"), "keepalived.log");
}

#[test]
pub(crate) fn keepalived() {
    const CONFIGURATION: &str = "virtual_server 172.16.254.200 80 {
    lb_algo rr
    lb_kind NAT
    protocol TCP
    real_server 192.168.0.18 80 {
        weight 1
    }
}
";
    let mut page = Reader::open("docs/keepalived.md");
    let nat = lab(Mode::Nat, Options::default());
    let mut desk = Desk::serving(&nat);
    desk.without_link();
    desk.words.push(("PROGRAM", "ipvsadm -Ln".to_owned()));
    for typed in page.section("keepalived, ipvsadm and other programs for the kernel's IPVS") {
        if typed.command.contains("keepalived") {
            begins_keepalived(&mut desk, &typed.command, CONFIGURATION);
            eventually("keepalived has filled the table", || {
                desk.must("uvs ipvsadm -Ln").contains("192.168.0.18:80")
            });
            assert_eq!(desk.answers(4), shares(4, 0));
        } else {
            let listed = desk.types(&typed);
            assert!(
                listed.contains("192.168.0.18:80              Masq    1"),
                "{listed}"
            );
        }
    }
    for typed in page.section("Programs that no library reaches") {
        let listed = desk.types(&typed);
        assert!(
            listed.contains("192.168.0.18:80              Masq    1"),
            "{listed}"
        );
    }
    desk.interrupts();
    page.close();
}

/// The first of the page's two directors; `cli/tests/sync/vrrp.rs` has both, and switches one off.
#[test]
pub(crate) fn two_directors() {
    let mut page = Reader::open("docs/two-directors.md");
    let nat = lab(Mode::Nat, Options::default());
    let mut desk = Desk::at(&nat);
    desk.must("ip addr add 10.9.0.3/24 dev eth0; ip addr add 10.8.0.3/24 dev eth1");
    desk.must_on(desk.server, "ip addr add 10.8.0.11/24 dev eth0");
    for typed in page.section("On both directors") {
        if typed.begins("uvs run ") {
            desk.starts(&typed);
        } else if typed.command.contains("keepalived") {
            let configuration = page.page.block("global_defs").join("\n");
            begins_keepalived(&mut desk, &typed.command, &configuration);
        } else {
            desk.types(&typed);
        }
    }
    eventually("keepalived has made this the director that serves", || {
        desk.must("uvs ipvsadm -L --daemon").starts_with("master")
            && desk.must("uvs ipvsadm -Ln").contains("10.8.0.11:80")
            && desk
                .must("ip address show dev eth0")
                .contains("10.9.0.100/32")
    });
    desk.types_all(&page.section("What there is then"));
    // It has ended its sync daemon, whose place the page's commands take.
    desk.interrupts();
    eventually("keepalived has cleared up", || {
        !desk.must("uvs ipvsadm -L --daemon").contains("sync daemon")
    });
    for typed in page.section("Both at work") {
        desk.types(&typed);
        let words: Vec<&str> = typed.command.split_whitespace().collect();
        let listed = desk.must("uvs ipvsadm -L --daemon");
        let state = format!("{} sync daemon (mcast=eth0, syncid=7", words[3]);
        assert!(listed.contains(&state), "{}: {listed}", typed.at());
    }
    page.close();
}

#[test]
pub(crate) fn api() {
    let mut page = Reader::open("docs/api.md");
    let nat = lab(Mode::Nat, Options::default());
    let desk = Desk::serving(&nat);
    // A line to a socket, and the line that comes back.
    desk.stands_for(
        "socat",
        "exec python3 -c '
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
s.sendall(sys.stdin.buffer.read())
sys.stdout.buffer.write(s.makefile(\"rb\").readline())' \"$@\"",
    );
    for typed in page.rest() {
        let answer = desk.types(&typed);
        assert!(
            answer.starts_with("{\"id\":1,\"result\":{\"Ok\":{\"info\":"),
            "{}: {answer}",
            typed.at()
        );
    }
    page.close();
}

/// The page's questions, asked of the line that it shows.
#[test]
pub(crate) fn connection_log() {
    let mut page = Reader::open("docs/connection-log.md");
    let nat = lab(Mode::Nat, Options::default());
    let desk = Desk::at(&nat);
    let line = page.page.block("{\"event\"").join("\n") + "\n";
    let failed = line.replace("\"why\":\"closed\"", "\"why\":\"reset\"");
    std::fs::write(desk.directory.join("connections.log"), line + &failed).expect("written");
    for typed in page.section("Questions") {
        let said = desk.types(&typed);
        assert!(!said.is_empty(), "{}", typed.at());
    }
    page.close();
}

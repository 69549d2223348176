//! Pages about running a director: its start and configuration, reloads, upgrades, and servers that leave.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use uvs_lab::{Lab, Mode, Options, VipOwner};

use crate::desk::{Desk, Reader, lab};
use crate::pages::{Typed, root};
use crate::shape;
use crate::stand::{PATIENCE, ask_over, eventually, shares};

/// Of a site with the addresses of the log's examples.
const SITE: &str = "
[[service]]
tcp = \"10.0.1.100:80\"
mode = \"nat\"

[[service.server]]
address = \"10.0.2.12\"
weight = 3
";

/// The tutorial's service, whose servers tell.
const TUTORIAL: &str = "interfaces = [\"eth0\"]

[[service]]
tcp = \"192.168.0.38:80\"
scheduler = \"wrr\"
mode = \"dr\"
on_removal = \"tell\"

[[service.server]]
address = \"192.168.0.18\"
weight = 3
";

#[test]
pub(crate) fn configuration() {
    let mut page = Reader::open("docs/configuration.md");
    let dr = lab(Mode::Dr, Options::default());
    let mut desk = Desk::at(&dr);
    desk.directory = root();
    desk.types_all(&page.section("Configuration"));
    desk.directory = dr.dir().join("home");
    let bad = "[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"wrr\"\n\n\
               [[service.server]]\naddress = \"192.168.0.18\"\nweight = -1\n";
    fs::write(desk.directory.join("bad.toml"), bad).expect("written");
    let printed = desk.run(desk.at, "uvs check bad.toml");
    assert_eq!(printed.code, Some(2));
    let shown = page.page.block("  x service.server.weight").join("\n");
    assert_eq!(printed.stdout.trim_end().trim_start(), shown.trim_start());
    page.close();
}

#[test]
pub(crate) fn installing() {
    let mut page = Reader::open("docs/installing.md");
    let dr = lab(Mode::Dr, Options::default());
    let desk = Desk::at(&dr);
    desk.write(
        "/etc/uvs/uvs.toml",
        include_str!("../../../packaging/uvs.toml"),
    );
    desk.stands_for(
        "editor",
        "sed -i 's/^# *\\(interfaces = \\).*/\\1[\"eth0\"]/' \"$1\"",
    );
    for typed in page.section("The first start") {
        let said = desk.types(&typed);
        if typed.begins("uvs check") {
            assert!(said.contains("on eth0"), "{said}");
        }
    }
    fs::create_dir_all(desk.host_file("/etc/uvs/rs")).expect("made");
    desk.types_all(&page.section("A real server"));
    let words = fs::read_to_string(desk.host_file("/etc/uvs/rs/web.conf")).expect("there");
    let words = words.strip_prefix("UVS_RS=").expect("the unit's variable");
    desk.must_on(desk.server, &format!("uvs rs check {words}"));
    page.close();
}

#[test]
pub(crate) fn operations() {
    let mut page = Reader::open("docs/operations.md");
    let options = Options {
        vip: VipOwner::Nobody,
        ..Options::default()
    };
    let dr = lab(Mode::Dr, options);
    let mut desk = Desk::at(&dr);
    desk.must(
        "ip link add eth1 type veth peer name beyond; ip link set eth1 up; ip link set beyond up",
    );
    starting(&mut desk, &mut page);

    // In the page's words: a server was drained, and a service added by hand.
    desk.write("/etc/uvs/uvs.toml", SITE);
    desk.starts_with("run --config /etc/uvs/uvs.toml --interface eth0");
    for typed in page.section("What a reload keeps and takes back") {
        desk.must("uvs drain 10.0.2.12 --no-wait; ipvsadm -A -t 10.0.1.100:8080 -s rr");
        desk.ends(&typed, 1);
    }
    for typed in page.section("Upgrading without an interruption") {
        desk.upgrades(&typed);
    }
    desk.starts_with("run --interface eth0 --hook off");
    for typed in page.section("After `kill -9`") {
        desk.kills();
        let answers = typed.begins("uvs guard");
        desk.ends(&typed, if answers { 0 } else { 3 });
    }
    leaving(&mut desk, &mut page);
    desk.write(
        "/etc/sysctl.d/ipvs.conf",
        "net.ipv4.ip_forward = 1\nnet.ipv4.vs.expire_nodest_conn = 1\n",
    );
    desk.types_all(&page.section("sysctls and time-outs"));
    let set = desk.must("uvs sysctl net.ipv4.vs.expire_nodest_conn");
    assert!(set.trim_end().ends_with("= 1"), "{set}");
    desk.stops();
    page.close();
}

fn starting(desk: &mut Desk<'_>, page: &mut Reader) {
    desk.write(
        "/etc/uvs/uvs.toml",
        include_str!("../../../examples/tutorial-dr.toml"),
    );
    for typed in page.section("Starting and stopping") {
        if typed.begins("uvs run ") {
            desk.starts(&typed);
            if typed.command.contains("--own-vip") {
                desk.must(
                    "ipvsadm -A -t 192.168.0.38:80; uvs show info | grep 'owned.* 192.168.0.38'",
                );
            }
        } else if typed.begins("uvs upgrade") {
            desk.upgrades(&typed);
        } else {
            desk.types(&typed);
            if typed.command.contains("--confirm ") {
                desk.must("uvs reload --confirmed");
            }
        }
    }
    // Its VIP is on no interface.
    desk.must("ip addr add 192.168.0.38/32 dev eth0");
    assert_eq!(desk.answers(40), shares(30, 10));
}

/// Servers that leave under connections, and clients that are put out.
fn leaving(desk: &mut Desk<'_>, page: &mut Reader) {
    desk.write("/etc/uvs/uvs.toml", TUTORIAL);
    desk.starts_with("run --config /etc/uvs/uvs.toml");
    for typed in page.section("When a real server leaves") {
        if typed.begins("uvs drain ") {
            drain(desk, &typed);
        } else {
            put_out(desk, &typed);
        }
    }
}

/// A connection of the client's, from this address of its, over which the first server has answered.
fn connection(lab: &Lab, from: Ipv4Addr) -> TcpStream {
    let connect = || -> std::io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SockAddr::from(SocketAddr::from((from, 0))))?;
        socket.connect_timeout(&SockAddr::from(SocketAddr::from(lab.plan.vip)), PATIENCE)?;
        Ok(socket.into())
    };
    let stream = lab.client.enter(connect).expect("the client is there");
    let mut stream = stream.expect("a connection");
    assert_eq!(ask_over(&mut stream), "rs1\n");
    stream
}

/// Two connections are open, and end one after the other.
fn drain(desk: &mut Desk<'_>, typed: &Typed) {
    desk.stands_for("systemctl", "test \"$*\" = 'stop app'");
    let mut open = [(); 2].map(|()| Some(connection(desk.lab, desk.lab.plan.client)));
    // A list of commands is a script's, not a program's.
    desk.begins_by(&format!("bash -c '{}'", typed.command), "drain.log");
    for (stream, said) in open
        .iter_mut()
        .zip(["2 connections open", "1 connections open"])
    {
        desk.says(said);
        let stream = stream.take().expect("it is open");
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket");
    }
    let printed = desk.finishes();
    desk.must_be_shown(typed, &printed);
    let table = desk.must("ipvsadm -Sn");
    assert!(table.contains("-r 192.168.0.18:80 -g -w 0"), "{table}");
    desk.must("uvs undrain 192.168.0.18");
}

/// Clients of the page's network have connections, and both ends are told.
fn put_out(desk: &Desk<'_>, typed: &Typed) {
    let client = Ipv4Addr::new(192, 0, 2, 7);
    desk.must_on(&desk.lab.client, &format!("ip addr add {client}/32 dev lo"));
    for host in [&desk.lab.director, desk.server] {
        desk.must_on(
            host,
            &format!("ip route add {client}/32 via {}", desk.lab.plan.client),
        );
    }
    let open: Vec<TcpStream> = (0..3).map(|_| connection(desk.lab, client)).collect();
    let told = desk.types(typed);
    assert!(told.starts_with("3 connections ended"), "{told}");
    assert!(told.trim_end().ends_with("3 were told"), "{told}");
    for mut stream in open {
        let end = std::io::Read::read(&mut stream, &mut [0; 1]).expect_err("it was told");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn what_the_log_says_of_changes_is_what_the_pages_show() {
    let dr = lab(Mode::Dr, Options::default());
    let desk = Desk::serving(&dr);
    desk.must(
        "ipvsadm -A -t 10.0.1.100:80 -s rr\n\
         ipvsadm -a -t 10.0.1.100:80 -r 10.0.2.12:80 -m -w 1\n\
         ipvsadm -e -t 10.0.1.100:80 -r 10.0.2.12:80 -m -w 5\n\
         ! ipvsadm -A -t 10.0.1.100:80 -s rr\n\
         ipvsadm -e -t 10.0.1.100:80 -r 10.0.2.12:80 -m -w 1\n\
         uvs weight 10.0.2.12 5",
    );
    let log = || desk.daemon.as_ref().expect("it runs").log();
    let [readme, operations] = ["README.md", "docs/operations.md"].map(crate::pages::Page::read);
    let shown = readme.block("weight of 10.0.2.12");
    for line in shown.iter().chain(&operations.block("INFO weight of")[..2]) {
        let line = shape::of(line);
        let line = line.trim_start_matches("INFO ");
        eventually(line, || {
            log().lines().any(|said| shape::of(said).ends_with(line))
        });
    }
}

//! The three scenarios of the Linux kernel's own IPVS selftest (tools/testing/selftests/net/netfilter/ipvs.sh)
//! in a lab of the same shape, with its addresses and its ipvsadm commands: DR, NAT and TUN, one service on
//! TCP port 8080, random bytes sent through it and compared.
//!
//! ```text
//! client br0 10.0.0.2 ─┬─ veth10 10.0.0.1 director veth12 172.16.0.1 ─── veth21 172.16.0.2 server
//!                      └─ veth20 10.0.0.3 server: DR's and TUN's way back
//! ```
//!
//! Four things differ. Each scenario is there in IPv6 too, with an address of 2001:db8::/32 beside each of the
//! original's, and TUN between the families. 2 MB go each way, where the original sends 32 bytes one way. The director is `uvs run`,
//! which sees both of its interfaces. And TUN's server unwraps with `uvs rs up --mode ipip`, which does by
//! itself what the original does by hand, also on a kernel that has no `ipip` module.
//! Needs root, or `make test`.

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use uvs_lab::process::{Process, SOON};
use uvs_lab::{Host, Names, tools};

const UVS: &str = env!("CARGO_BIN_EXE_uvs");
const PORT: u16 = 8080;
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(207, 175, 44, 110));
/// Its like in IPv6.
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x207, 0, 0, 0, 0, 0x110));
/// What each side sends.
const BYTES: usize = 2 << 20;
/// For one read or write; nothing here takes that long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn dr() {
    let lab = Lab::build();
    lab.director.sysctl("net.ipv4.ip_forward", "1").must();
    lab.ipvsadm("-A -t 207.175.44.110:8080 -s rr");
    lab.ipvsadm("-a -t 207.175.44.110:8080 -r 172.16.0.2:8080");
    lab.director.ip("addr add 207.175.44.110/32 dev lo").must();
    for (name, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
        let name = format!("net.ipv4.conf.all.{name}");
        lab.server.sysctl(&name, value).must();
    }
    lab.server.ip("addr add 207.175.44.110/32 dev lo").must();
    lab.test_service(VIP);
}

#[test]
fn nat() {
    let lab = Lab::build();
    lab.director.sysctl("net.ipv4.ip_forward", "1").must();
    lab.ipvsadm("-A -t 207.175.44.110:8080 -s rr");
    lab.ipvsadm("-a -m -t 207.175.44.110:8080 -r 172.16.0.2:8080");
    lab.director.ip("addr add 207.175.44.110/32 dev lo").must();
    lab.server
        .ip("link del veth20\nroute add default via 172.16.0.1 dev veth21")
        .must();
    lab.test_service(VIP);
}

#[test]
fn tun() {
    let lab = Lab::build();
    lab.director.sysctl("net.ipv4.ip_forward", "0").must();
    lab.ipvsadm("-A -t 207.175.44.110:8080 -s rr");
    lab.ipvsadm("-a -i -t 207.175.44.110:8080 -r 172.16.0.2:8080");
    lab.director.ip("addr add 207.175.44.110/32 dev lo").must();
    let up = lab.uvs("rs up --mode ipip --vip 207.175.44.110 --interface veth20,veth21");
    lab.server.output(up, SOON).must();
    lab.test_service(VIP);
}

#[test]
fn dr_in_ipv6() {
    let lab = Lab::build();
    lab.director.forwarding(true).must();
    lab.ipvsadm("-A -t [2001:db8:207::110]:8080 -s rr");
    lab.ipvsadm("-a -t [2001:db8:207::110]:8080 -r [2001:db8:172::2]:8080");
    lab.director
        .ip("addr add 2001:db8:207::110/128 dev lo")
        .must();
    lab.server
        .ip("addr add 2001:db8:207::110/128 dev lo")
        .must();
    lab.test_service(VIP6);
}

#[test]
fn nat_in_ipv6() {
    let lab = Lab::build();
    lab.director.forwarding(true).must();
    lab.ipvsadm("-A -t [2001:db8:207::110]:8080 -s rr");
    lab.ipvsadm("-a -m -t [2001:db8:207::110]:8080 -r [2001:db8:172::2]:8080");
    lab.director
        .ip("addr add 2001:db8:207::110/128 dev lo")
        .must();
    lab.server
        .ip("link del veth20\nroute add default via 2001:db8:172::1 dev veth21")
        .must();
    lab.test_service(VIP6);
}

#[test]
fn tun_in_ipv6() {
    tun_between("2001:db8:172::2", VIP6, "ipv6");
}

#[test]
fn tun_of_ipv6_in_ipv4() {
    tun_between("172.16.0.2", VIP6, "ipv4");
}

#[test]
fn tun_of_ipv4_in_ipv6() {
    tun_between("2001:db8:172::2", VIP, "ipv6");
}

/// TUN to a server by this address, whose family `outer` names.
fn tun_between(server: &str, vip: IpAddr, outer: &str) {
    let lab = Lab::build();
    lab.director.forwarding(false).must();
    let service = SocketAddr::new(vip, PORT);
    lab.ipvsadm(&format!("-A -t {service} -s rr"));
    lab.ipvsadm(&format!("-a -i -t {service} -r {server}"));
    let bits = if vip.is_ipv4() { 32 } else { 128 };
    let add = format!("addr add {vip}/{bits} dev lo");
    lab.director.ip(&add).must();
    let up = format!("rs up --mode ipip --vip {vip} --outer {outer} --interface veth20,veth21");
    lab.server.output(lab.uvs(&up), SOON).must();
    lab.test_service(vip);
}

/// Three hosts and the daemon. Fields are dropped in order: the program first, its files last.
struct Lab {
    daemon: Process,
    client: Host,
    director: Host,
    server: Host,
    dir: TempDir,
}

impl Lab {
    fn build() -> Self {
        tools::require(tools::BASIC).must();
        let names = Names::unique();
        let [client, director, server] =
            ["client", "director", "server"].map(|role| Host::new(&names, role).must());
        wire(&client, &director, &server);
        let dir = tempfile::Builder::new().prefix(names.prefix()).tempdir();
        let dir = dir.must();
        let run = command(dir.path(), "run --interface veth10 --interface veth12");
        let mut daemon = director.spawn(run, &dir.path().join("uvs.log")).must();
        let socket = dir.path().join("control.sock");
        daemon
            .wait_ready(SOON, |_| UnixStream::connect(&socket).is_ok())
            .must();
        Self {
            daemon,
            client,
            director,
            server,
            dir,
        }
    }

    fn uvs(&self, words: &str) -> Command {
        command(self.dir.path(), words)
    }

    fn ipvsadm(&self, words: &str) {
        let command = self.uvs(&format!("ipvsadm {words}"));
        self.director.output(command, SOON).must();
    }

    /// The client's bytes must arrive at the server, and the server's at the client.
    fn test_service(&self, vip: IpAddr) {
        let [request, answer] = [0, 1].map(|_| random());
        let listener = self
            .server
            .enter(|| TcpListener::bind(("::", PORT)))
            .must()
            .must();
        // The kernel takes it into the listener's queue, so that there is nothing to wait for without end.
        let connected = self
            .client
            .enter(|| TcpStream::connect_timeout(&SocketAddr::new(vip, PORT), PATIENCE))
            .must();
        let stream = connected.unwrap_or_else(|e| panic!("{e}\n{}", self.daemon.log()));
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| exchange(listener.accept()?.0, &answer));
            let received = exchange(stream, &request);
            let served = serving.join().expect("no panic");
            let came = |bytes: io::Result<Vec<u8>>, sent: &[u8]| match bytes {
                Ok(bytes) if bytes == sent => {}
                Ok(bytes) => panic!("{} other bytes\n{}", bytes.len(), self.daemon.log()),
                Err(e) => panic!("{e}\n{}", self.daemon.log()),
            };
            came(served, &request);
            came(received, &answer);
        });
    }
}

fn wire(client: &Host, director: &Host, server: &Host) {
    let [ns0, ns1, ns2] = [client, director, server].map(Host::name);
    client
        .ip(&format!(
            "link add veth01 netns {ns0} type veth peer name veth10 netns {ns1}
link add veth02 netns {ns0} type veth peer name veth20 netns {ns2}
link add br0 type bridge stp_state 0
link set veth01 master br0 up
link set veth02 master br0 up
link set br0 up
addr add 10.0.0.2/24 dev br0
addr add 2001:db8:10::2/64 dev br0
route add 207.175.44.110 via 10.0.0.1 dev br0
route add 2001:db8:207::110 via 2001:db8:10::1 dev br0"
        ))
        .must();
    director
        .ip(&format!(
            "link add veth12 netns {ns1} type veth peer name veth21 netns {ns2}
link set veth10 up
addr add 10.0.0.1/24 dev veth10
addr add 2001:db8:10::1/64 dev veth10
link set veth12 up
addr add 172.16.0.1/24 dev veth12
addr add 2001:db8:172::1/64 dev veth12"
        ))
        .must();
    server
        .ip("link set veth21 up
addr add 172.16.0.2/24 dev veth21
addr add 2001:db8:172::2/64 dev veth21
link set veth20 up
addr add 10.0.0.3/24 dev veth20
addr add 2001:db8:10::3/64 dev veth20")
        .must();
}

fn command(dir: &Path, words: &str) -> Command {
    let mut command = tools::program(Path::new(UVS), words.split(' '));
    command
        .env("UVS_SOCKET", dir.join("control.sock"))
        .env("UVS_STATE_DIR", dir.join("state"));
    command
}

/// Sends `bytes` while it reads to the other side's end.
fn exchange(stream: TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            (&stream).write_all(bytes)?;
            stream.shutdown(Shutdown::Write)
        });
        let mut received = Vec::new();
        (&stream).read_to_end(&mut received)?;
        sending.join().expect("no panic").map(|()| received)
    })
}

fn random() -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    let mut source = std::fs::File::open("/dev/urandom").must();
    source.read_exact(&mut bytes).must();
    bytes
}

/// A step that must succeed.
trait Must<T> {
    fn must(self) -> T;
}

impl<T, E: Debug> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self) -> T {
        self.expect("the step succeeds")
    }
}

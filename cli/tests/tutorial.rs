//! The LVS tutorial word for word: its commands with `ipvsadm` being a symlink to `uvs`, the table they
//! leave byte for byte, and who then answers. Needs root, or `make test`.

use std::path::Path;

use uvs_lab::capture::Capture;
use uvs_lab::shell::Shell;
use uvs_lab::traffic::{Answers, requests};
use uvs_lab::{Lab, Mode, Options};

const UVS: &str = env!("CARGO_BIN_EXE_uvs");
/// Ten whole rounds of the weights 3 and 1.
const REQUESTS: u32 = 40;
const HEAD: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
";

/// Runs the commands on the director of a mode's lab, compares what the last one printed, and counts who
/// answers then; `more` looks at the rest.
fn session(mode: Mode, commands: &str, table: &str, more: impl FnOnce(&Lab, &Shell)) -> Answers {
    let lab = Lab::build(mode, Options::default()).expect("the lab is built");
    lab.prepare_servers(Path::new(UVS))
        .expect("the real servers are prepared");
    let daemon = lab.start_daemon(Path::new(UVS)).expect("uvs runs");
    let shell = Shell::new(&lab, Path::new(UVS)).expect("the symlinks are made");
    let printed = shell
        .succeed(&lab.director, commands)
        .expect("every command succeeds");
    assert_eq!(printed, format!("{HEAD}{table}"));
    let answers = requests(&lab.client, &lab.plan.url("/"), REQUESTS);
    let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    more(&lab, &shell);
    daemon.stop().expect("it ends well");
    answers
}

fn nothing_more(_: &Lab, _: &Shell) {}

fn shares(shares: [(&str, u32); 2]) -> Answers {
    shares.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn direct_routing() {
    let answers = session(
        Mode::Dr,
        "
ipvsadm -C
ipvsadm -A -t 192.168.0.38:80 -s wrr
ipvsadm -a -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 3
ipvsadm -a -t 192.168.0.38:80 -r 192.168.0.28:80 -g -w 1
ipvsadm -ln
",
        "TCP  192.168.0.38:80 wrr
  -> 192.168.0.18:80              Route   3      0          0         \n  \
  -> 192.168.0.28:80              Route   1      0          0         \n",
        nothing_more,
    );
    assert_eq!(answers, shares([("rs1", 30), ("rs2", 10)]));
}

#[test]
fn nat() {
    let answers = session(
        Mode::Nat,
        "
ipvsadm -C
ipvsadm -A -t 172.16.254.200:80 -s wrr          # NAT: the real servers' default route is the director
ipvsadm -a -t 172.16.254.200:80 -r 192.168.0.18:80 -m -w 1
ipvsadm -a -t 172.16.254.200:80 -r 192.168.0.28:80 -m -w 1
ipvsadm -ln
",
        "TCP  172.16.254.200:80 wrr
  -> 192.168.0.18:80              Masq    1      0          0         \n  \
  -> 192.168.0.28:80              Masq    1      0          0         \n",
        nothing_more,
    );
    assert_eq!(answers, shares([("rs1", 20), ("rs2", 20)]));
}

#[test]
fn tunnelling() {
    let answers = session(
        Mode::Ipip,
        "
ipvsadm -C
ipvsadm -A -t 192.168.80.120:8080 -s rr         # TUN: no port on the real server, no weight
ipvsadm -a -t 192.168.80.120:8080 -r 192.168.80.135 -i
ipvsadm -a -t 192.168.80.120:8080 -r 192.168.80.136 -i
ipvsadm -ln
",
        "TCP  192.168.80.120:8080 rr
  -> 192.168.80.135:8080          Tunnel  1      0          0         \n  \
  -> 192.168.80.136:8080          Tunnel  1      0          0         \n",
        nothing_more,
    );
    assert_eq!(answers, shares([("rs1", 20), ("rs2", 20)]));
}

/// What ipvsadm lacks, with two local addresses and another port behind the VIP's.
#[test]
fn fullnat() {
    let answers = session(
        Mode::FullNat,
        "
ip addr add 192.168.0.201/32 dev eth1
ipvsadm -C
ipvsadm -A -t 172.16.254.200:80 -s wrr --laddr 192.168.0.200,192.168.0.201
ipvsadm -a -t 172.16.254.200:80 -r 192.168.0.18:8080 --fullnat -w 3
ipvsadm -a -t 172.16.254.200:80 -r 192.168.0.28:8080 --fullnat -w 1
ipvsadm -ln
",
        "TCP  172.16.254.200:80 wrr
  -> 192.168.0.18:8080            FullNat 3      0          0         \n  \
  -> 192.168.0.28:8080            FullNat 1      0          0         \n",
        |lab, _| {
            // At the real server: its port, and nobody but the local addresses.
            let heard = Capture::start(&lab.servers[0].host, "eth0", "tcp", lab.dir())
                .expect("tcpdump listens");
            requests(&lab.client, &lab.plan.url("/"), REQUESTS).expect("answers");
            let heard = heard.finish(&lab.servers[0].host).expect("tcpdump ends");
            let from = |local: &str| {
                let ends = |frame: &&&str| frame.contains("> 192.168.0.18.8080: Flags");
                let frames = heard.with(local);
                frames.iter().filter(ends).count()
            };
            let (first, second) = (from(" 192.168.0.200."), from(" 192.168.0.201."));
            assert!(first > 0 && second > 0, "{first} and {second} frames");
            assert_eq!(first + second, heard.frames.len(), "{:#?}", heard.frames);
        },
    );
    assert_eq!(answers, shares([("rs1", 30), ("rs2", 10)]));
}

/// What the tutorial's reader does next: a server is drained by its weight, one goes, the table is saved
/// and restored.
#[test]
fn the_day_after() {
    session(
        Mode::Dr,
        "
ipvsadm -A -t 192.168.0.38:80 -s wrr
ipvsadm -a -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 3
ipvsadm -a -t 192.168.0.38:80 -r 192.168.0.28:80 -g -w 1
ipvsadm -ln
",
        "TCP  192.168.0.38:80 wrr
  -> 192.168.0.18:80              Route   3      0          0         \n  \
  -> 192.168.0.28:80              Route   1      0          0         \n",
        |lab, shell| {
            let ask = || requests(&lab.client, &lab.plan.url("/"), REQUESTS).expect("answers");
            let run = |script: &str| {
                shell
                    .succeed(&lab.director, script)
                    .expect("every command succeeds")
            };
            run("ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 0");
            assert_eq!(ask(), Answers::from([("rs2".to_owned(), 40)]));
            run("ipvsadm -e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 3");
            let saved = run("ipvsadm -Sn");
            assert_eq!(
                saved,
                "-A -t 192.168.0.38:80 -s wrr\n\
                 -a -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 3\n\
                 -a -t 192.168.0.38:80 -r 192.168.0.28:80 -g -w 1\n"
            );
            assert_eq!(run("ipvsadm -C; ipvsadm -Sn"), "");
            run(&format!("ipvsadm -R <<END\n{saved}END"));
            assert_eq!(run("ipvsadm -Sn"), saved);
            assert_eq!(ask(), shares([("rs1", 30), ("rs2", 10)]));
            run("ipvsadm -d -t 192.168.0.38:80 -r 192.168.0.28:80");
            assert_eq!(ask(), Answers::from([("rs1".to_owned(), 40)]));
        },
    );
}

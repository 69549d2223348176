//! A real server is removed in the middle of a download. As in the kernel's IPVS, what the client sends is
//! dropped from then on while the server's replies are still translated; the host's own stack must not take
//! them for its own, and forwards none under the server's name. Added back, the server goes on where it was.

use uvs_lab::capture::Capture;
use uvs_lab::shell::Shell;
use uvs_lab::traffic::{Download, requests};
use uvs_lab::{Lab, Mode, Options};

use crate::stand::{eventually, lab, run, serving_by_guard};

/// Replies seen by the guard after the removal: the server's retransmissions, at growing distances.
const REPLIES: u64 = 3;

#[test]
fn by_nat_no_reply_is_forwarded_twice() {
    removed_and_back(Mode::Nat, "nat_reply", |lab, server| {
        let name = format!("src host {}", lab.plan.servers[server].ip());
        Capture::start(&lab.client, "eth0", &name, lab.dir()).expect("tcpdump listens")
    });
}

#[test]
fn by_fullnat_no_reply_is_reset() {
    removed_and_back(Mode::FullNat, "fullnat_reply", |lab, server| {
        let resets = "tcp[tcpflags] & tcp-rst != 0 or icmp";
        let host = &lab.servers[server].host;
        Capture::start(host, "eth0", resets, lab.dir()).expect("tcpdump listens")
    });
}

/// `wrong` captures what must not be there: on the client, or on the real server that sends.
fn removed_and_back(mode: Mode, rule: &str, wrong: impl Fn(&Lab, usize) -> Capture) {
    let (lab, shell) = lab(mode, Options::default());
    let content = lab.content("8M", 8 << 20).expect("a file");
    let daemon = serving_by_guard(&lab);
    let url = lab.plan.url("/8M?rate=2m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("download")).expect("curl");
    let carrier = download.server().expect("it runs");
    let of = lab.servers.iter().position(|s| s.name() == carrier);
    let of = of.expect("one of the real servers");
    let wrong = wrong(&lab, of);

    daemon
        .ipvsadm(&lab.plan.delete_server(of))
        .expect("removed");
    let before = dropped(&lab, &shell, rule);
    eventually("the guard drops a removed server's replies", || {
        dropped(&lab, &shell, rule) >= before + REPLIES
    });
    daemon.ipvsadm(&lab.plan.add_server(of, 1)).expect("added");
    let received = download
        .finish()
        .unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    received.must_equal(&content).expect("every byte");
    let host = match mode {
        Mode::Nat => &lab.client,
        Mode::FullNat | Mode::Dr | Mode::Ipip => &lab.servers[of].host,
    };
    let heard = wrong.finish(host).expect("tcpdump ends");
    assert_eq!(heard.frames, Vec::<String>::new());

    // With its last connection the guard forgets it.
    let address = lab.plan.servers[of].ip().to_string();
    let guarded = || {
        run(&lab, &shell, "uvs guard show")
            .stdout
            .contains(&address)
    };
    daemon
        .ipvsadm(&lab.plan.delete_server(of))
        .expect("removed");
    assert!(guarded(), "the download's connection is in TIME_WAIT");
    daemon.ipvsadm(&lab.plan.add_server(of, 1)).expect("added");
    daemon
        .uvs("sysctl net.ipv4.vs.expire_nodest_conn=1")
        .expect("set");
    daemon
        .ipvsadm(&lab.plan.delete_server(of))
        .expect("removed");
    eventually("the guard forgets it", || !guarded());
    daemon.stop().expect("it ends well");
}

/// A persistent FTP service has its VIP's data ports, also where the host has the VIP.
#[test]
fn persistent_ftp_keeps_the_host_from_its_data_connections() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = lab.start_daemon(crate::stand::uvs()).expect("uvs runs");
    let (vip, server) = (lab.plan.vip.ip(), lab.plan.servers[0].ip());
    let url = format!("http://{vip}:8080/");
    assert!(requests(&lab.client, &url, 1).is_err(), "nobody's port");
    let ftp =
        format!("ipvsadm -A -t {vip}:21 -s rr -p 300\nipvsadm -a -t {vip}:21 -r {server}:21 -m");
    shell.succeed(&lab.director, &ftp).expect("added");
    // Any server on a port over 1023 does for one of passive FTP's.
    let answers = requests(&lab.client, &url, 20);
    let answers = answers.unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    assert_eq!(answers.get("rs1"), Some(&20));
    daemon.stop().expect("it ends well");
}

/// Frames that a rule of the guard's dropped.
fn dropped(lab: &Lab, shell: &Shell, rule: &str) -> u64 {
    let shown = run(lab, shell, "uvs guard counters").stdout;
    let mut lines = shown.lines().map(str::split_whitespace);
    let line = lines.find_map(|mut words| (words.next() == Some(rule)).then_some(words));
    let count = line.and_then(|mut words| words.next()?.parse().ok());
    count.unwrap_or_else(|| panic!("{rule} is not in {shown}"))
}

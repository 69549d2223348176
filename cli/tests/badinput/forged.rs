//! Packets that are not what they say, from people who know addresses and ports: sources that cannot be reach
//! no server, forged ends end nothing, and a scan is answered port by port.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};

use uvs_lab::capture::Capture;
use uvs_lab::probe::send_frames;
use uvs_lab::{Host, Lab, Mode, Options, VipOwner};

use crate::counters::Counters;
use crate::stand::{PATIENCE, ask_over, eventually, lab, must_serve, run, serving};
use crate::wire::{RST, SYN, Wire};

/// Half of all sequence numbers away from every other.
const FAR: u32 = 0x8000_0000;

/// Who is next to the director on the clients' side, and its interface there.
fn beside(lab: &Lab) -> (&Host, &'static str) {
    match lab.plan.mode {
        Mode::Ipip => (&lab.fabric, "director"),
        Mode::Dr | Mode::Nat | Mode::FullNat => (&lab.client, "eth0"),
    }
}

#[test]
fn sources_that_cannot_be_reach_no_server_in_any_mode() {
    for mode in Mode::ALL {
        let (lab, shell) = lab(mode, Options::default());
        let daemon = serving(&lab);
        let before = Counters::read(&lab, &shell);
        let plan = &lab.plan;
        let own = [
            Some(plan.director),
            Some(*plan.vip.ip()),
            plan.gateway,
            plan.local,
        ];
        let nobodys = [
            [0; 4],
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [240, 0, 0, 1],
            [255; 4],
        ];
        let sources = nobodys.map(Ipv4Addr::from).into_iter();
        let sources = sources.chain(own.into_iter().flatten());
        let (host, interface) = beside(&lab);
        let wire = Wire::between((host, interface), (&lab.director, "eth0"), &lab);
        let from = |source| Wire {
            from: SocketAddrV4::new(source, 40_000),
            ..wire
        };
        let frames: Vec<Vec<u8>> = sources.map(|source| from(source).segment(SYN)).collect();
        send_frames(host, interface, &frames).expect("they are sent");
        let dropped = || Counters::read(&lab, &shell).drops("martian_source");
        eventually("all of them are dropped", || {
            dropped() == frames.len() as u64
        });
        let after = Counters::read(&lab, &shell);
        assert_eq!(after.total("sent"), before.total("sent"), "{mode}");
        let listed = daemon.ipvsadm("-lnc").expect("they are listed");
        assert!(!listed.contains("TCP"), "{mode}: {listed}");
        must_serve(&lab, &daemon);
        daemon.stop().expect("it ends well");
    }
}

/// The number that a captured SYN has.
fn number(frames: &[String]) -> u32 {
    let text = frames[0].split_once(" seq ").expect("a segment").1;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

#[test]
fn a_forged_reset_reaches_the_other_end_and_ends_nothing() {
    for mode in [Mode::Dr, Mode::Nat] {
        let (lab, shell) = lab(mode, Options::default());
        let daemon = serving(&lab);
        let capture = |interface| {
            let syns = "tcp[tcpflags] & tcp-syn != 0";
            Capture::start(&lab.director, interface, syns, lab.dir()).expect("tcpdump")
        };
        let captures = lab.plan.interfaces.iter().map(|name| capture(name));
        let captures: Vec<Capture> = captures.collect();
        let connect = || TcpStream::connect(lab.plan.vip).expect("a connection");
        let mut stream = lab.client.enter(connect).expect("entered");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let server = ask_over(&mut stream);
        let numbers = captures.into_iter().map(|capture| {
            let captured = capture.finish(&lab.director).expect("it is read");
            number(&captured.frames)
        });
        let numbers: Vec<u32> = numbers.collect();
        let port = stream.local_addr().expect("an address").port();
        let client = SocketAddrV4::new(lab.plan.client, port);
        let before = Counters::read(&lab, &shell);
        let forged = Wire {
            from: client,
            seq: numbers[0].wrapping_add(FAR),
            ..Wire::of(&lab)
        };
        send_frames(&lab.client, "eth0", &[forged.segment(RST)]).expect("sent");
        if mode == Mode::Nat {
            let n = usize::from(server == "rs2\n");
            let host = &lab.servers[n].host;
            let forged = Wire {
                from: lab.plan.servers[n],
                to: client,
                seq: numbers[1].wrapping_add(FAR),
                ..Wire::between((host, "eth0"), (&lab.director, "eth1"), &lab)
            };
            send_frames(host, "eth0", &[forged.segment(RST)]).expect("sent");
        }
        let forged = if mode == Mode::Nat { 2 } else { 1 };
        eventually("they are forwarded", || {
            Counters::read(&lab, &shell).total("sent") - before.total("sent") >= forged
        });
        let listed = || run(&lab, &shell, "uvs ipvsadm -lnc").stdout;
        assert!(listed().contains("ESTABLISHED"), "{mode}: {}", listed());
        assert_eq!(ask_over(&mut stream), server, "{mode}");
        drop(stream);
        eventually("its own end is seen", || !listed().contains("ESTABLISHED"));
        daemon.stop().expect("it ends well");
    }
}

#[test]
fn a_scan_of_closed_ports_is_answered_port_by_port() {
    const PORTS: std::ops::Range<u16> = 10_000..14_000;
    let options = Options {
        vip: VipOwner::Uvs,
        ..Options::default()
    };
    let (lab, shell) = lab(Mode::Nat, options);
    let daemon = serving(&lab);
    let vip = *lab.plan.vip.ip();
    let scan = || -> Vec<u16> {
        let refused = |port: &u16| {
            let to = SocketAddrV4::new(vip, *port);
            let tried = TcpStream::connect_timeout(&to.into(), PATIENCE);
            tried.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
        };
        PORTS.filter(|port| !refused(port)).collect()
    };
    let silent = lab.client.enter(scan).expect("entered");
    assert_eq!(silent, [0; 0], "without a reset");
    // None came late, by its client's asking again.
    let counters = Counters::read(&lab, &shell);
    assert!(counters.total("answered") >= PORTS.len() as u64);
    assert_eq!(counters.drops("icmp_rate_limited"), 0);
    daemon.stop().expect("it ends well");
}

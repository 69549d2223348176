//! During service traffic the client hears nothing of the director's kernel, and of real servers only what
//! was translated; what is not the service's is answered as if UVS were not there.

use std::net::{Ipv4Addr, SocketAddrV4};

use uvs_lab::capture::Capture;
use uvs_lab::probe::{BannerServer, Connect, connect, echoes, hear};
use uvs_lab::{Lab, Mode, Options, VipOwner};

use crate::stand::{PATIENCE, lab, must_serve, serving};

/// Requests of one round of [`must_serve`], each on a connection of its own.
const CONNECTIONS: usize = 40;
/// Where a program of the director's own listens.
const OTHER_PORT: u16 = 8081;

#[test]
fn dr_with_the_vip_on_the_host() {
    both(Mode::Dr, VipOwner::Host);
}

#[test]
fn dr_with_the_vip_on_no_interface() {
    both(Mode::Dr, VipOwner::Uvs);
}

#[test]
fn nat_with_the_vip_on_the_host() {
    both(Mode::Nat, VipOwner::Host);
}

#[test]
fn nat_with_the_vip_on_no_interface() {
    both(Mode::Nat, VipOwner::Uvs);
}

fn both(mode: Mode, vip: VipOwner) {
    for ip_forward in [false, true] {
        let options = Options {
            vip,
            ip_forward,
            ..Options::default()
        };
        let (lab, _) = lab(mode, options);
        let daemon = serving(&lab);
        hears_the_service_only(&lab, || must_serve(&lab, &daemon));
        all_else_is_answered(&lab, vip);
        must_serve(&lab, &daemon);
        daemon.stop().expect("it ends well");
    }
}

/// Every connection's handshake is answered once; no reset, no ICMP, nothing under a real server's name.
fn hears_the_service_only(lab: &Lab, traffic: impl FnOnce()) {
    let servers = lab.plan.servers.map(|s| format!("ip src host {}", s.ip()));
    let filter = format!(
        "icmp or tcp[tcpflags] & (tcp-rst|tcp-syn) != 0 or {}",
        servers.join(" or ")
    );
    let heard = Capture::start(&lab.client, "eth0", &filter, lab.dir()).expect("tcpdump listens");
    traffic();
    let heard = heard.finish(&lab.client).expect("tcpdump ends");
    assert_eq!(heard.lost, 0);
    let from_vip = format!(" {}.{} > ", lab.plan.vip.ip(), lab.plan.vip.port());
    let answers = |frame: &&String| frame.contains("Flags [S.]") && frame.contains(&from_vip);
    let (answers, noise): (Vec<_>, Vec<_>) = heard.frames.iter().partition(answers);
    assert_eq!(noise, Vec::<&String>::new());
    assert_eq!(answers.len(), CONNECTIONS, "{answers:#?}");
}

fn all_else_is_answered(lab: &Lab, vip: VipOwner) {
    let client = &lab.client;
    let at = |addr: Ipv4Addr, port| SocketAddrV4::new(addr, port);
    let (vip_addr, own) = (*lab.plan.vip.ip(), lab.plan.director);
    let refused = |to| connect(client, to, PATIENCE).expect("an answer") == Connect::Refused;
    assert!(refused(at(vip_addr, 81)), "another port of the VIP");
    assert!(
        refused(at(own, 80)),
        "the service's port of another address"
    );
    assert!(echoes(client, vip_addr).expect("a ping"), "the VIP");
    assert!(echoes(client, own).expect("a ping"), "the director");
    let listen_on = match vip {
        VipOwner::Host => vec![at(vip_addr, OTHER_PORT), at(own, OTHER_PORT), at(own, 80)],
        VipOwner::Uvs | VipOwner::Nobody => vec![at(own, OTHER_PORT), at(own, 80)],
    };
    for address in listen_on {
        let _sayer =
            BannerServer::start(&lab.director, address, "the director\n").expect("it listens");
        let said = hear(client, address).expect("it is heard");
        assert_eq!(said, "the director\n", "{address}");
    }
    // The director's own connection to a real server's port, such as a health check's.
    let server = lab.plan.servers[0];
    let checked = connect(&lab.director, server, PATIENCE).expect("an answer");
    assert_eq!(checked, Connect::Taken);
}

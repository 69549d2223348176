//! ARP and neighbour discovery as a neighbour of the director's speaks and hears them.

use std::net::{Ipv4Addr, Ipv6Addr};

use uvs_core::wire::ndp;
use uvs_lab::capture::Capture;
use uvs_lab::probe::{echoes, send_frames};
use uvs_lab::{Host, Lab};

/// Requests for an address, each with one for an address that the director's kernel answers for.
const ROUNDS: usize = 5;

/// What answers probes for an address (RFC 5227 §2.1.1), asked by the second real server: in DR the segment is
/// the client's, where a test may capture something else.
pub(crate) fn answers(lab: &Lab, address: Ipv4Addr) -> Vec<String> {
    let asker = &lab.servers[1].host;
    let heard = Capture::start(asker, "eth0", "arp[6:2] = 2", lab.dir());
    let heard = heard.expect("tcpdump listens");
    let request = |target| arp_request(mac(asker), Ipv4Addr::UNSPECIFIED, target);
    // The director's own address is asked for last: when it has answered so often, so would all have.
    for _ in 0..ROUNDS {
        let both = [request(address), request(lab.plan.director)];
        send_frames(asker, "eth0", &both).expect("they are sent");
        assert!(echoes(asker, lab.plan.director).expect("a ping"));
    }
    let heard = heard.finish(asker).expect("tcpdump ends");
    let own = heard.with(&format!("Reply {} is-at", lab.plan.director));
    assert!(own.len() >= ROUNDS, "{heard:?}");
    let all = heard.with(&format!("Reply {address} is-at"));
    all.into_iter().map(str::to_owned).collect()
}

/// Says so many times that a host has an address, as after a fail-over (RFC 5227 §2.3).
pub(crate) fn announce(host: &Host, address: Ipv4Addr, times: usize) {
    let announcement = arp_request(mac(host), address, address);
    send_frames(host, "eth0", &vec![announcement; times]).expect("it is sent");
}

/// The same in IPv6, once (RFC 4861 §7.2.6).
pub(crate) fn advertise(host: &Host, address: Ipv6Addr) {
    let announcement = ndp::announcement(address.octets(), mac(host), false);
    send_frames(host, "eth0", &[announcement]).expect("it is sent");
}

/// tcpdump's filter for what a protocol brings from the director's eth0.
pub(crate) fn from_director(lab: &Lab, protocol: &str) -> String {
    let mac = lab.director.mac("eth0").expect("a MAC address");
    format!("ether src {mac} and {protocol}")
}

fn mac(host: &Host) -> [u8; 6] {
    let text = host.mac("eth0").expect("a MAC address");
    let mut bytes = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
    std::array::from_fn(|_| bytes.next().expect("six bytes"))
}

fn arp_request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

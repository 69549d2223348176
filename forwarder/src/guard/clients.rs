//! Which of a NAT server's frames are replies of ours: those to a client of a NAT service.
//!
//! A server sends them from the port at which it also answers others (a DNAT of the host's, a resolver, a
//! time server), and with a service for all ports from every port. Only the far end tells them apart, so
//! the guard remembers who has sent to a NAT service: address, protocol and port, in the set `clients`.
//! The client's packet comes first, and is remembered by the same softirq that shows it to UVS, before a
//! server can have answered it. All else a NAT server sends passes untouched: the host's netfilter and
//! routes see it as if there were no UVS.
//!
//! An element must live as long as its connection may, or the kernel would see a reply; and not much
//! longer, or the set would grow with all that ever were. A SYN is remembered for as long as the engine
//! waits for its handshake, so that a flood costs little; what follows, for the time-outs of connections.
//! After the server's FIN or RST (which no client can forge) the client is `closing`, for little more than
//! TIME_WAIT.
//!
//! Where it cannot tell, the guard keeps all that NAT servers send from the kernel, in `unsure`'s
//! protocols: after the table was replaced, until the engine's connections are in it again, and while
//! `clients` is full. The service goes on then, and the servers' own traffic waits.

use std::fmt::Write;

use super::rules::Server;

/// Clients remembered, about 100 bytes each as they come.
const CLIENT_LIMIT: u32 = 2 << 20;
/// The engine's SYN_RECV.
const HANDSHAKE_SECONDS: u32 = 60;
/// The engine's TIME_WAIT, and what the two clocks may differ.
const CLOSING_SECONDS: u32 = 120 + MARGIN_SECONDS;
/// SCTP's longest.
const OTHER_SECONDS: u32 = 900;
const MARGIN_SECONDS: u32 = 30;
/// The kernel keeps all from these servers for this long where nobody says that it is sure again.
const UNSURE_SECONDS: u32 = 30;
/// TCP, UDP, SCTP.
pub(super) const PROTOCOLS: [u8; 3] = [6, 17, 132];

/// A client as the sender, and as the receiver.
const FROM: &str = "ip saddr . ip protocol . th sport";
const TO: &str = "ip daddr . ip protocol . th dport";

/// How long a connection may be idle, in seconds: the longest of its states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Idle {
    /// TCP.
    pub(crate) tcp: u32,
    /// UDP.
    pub(crate) udp: u32,
}

impl Idle {
    /// Seconds for which a client is remembered: in UDP, and in the other protocols.
    const fn lifetimes(self) -> (u32, u32) {
        let tcp = if self.tcp > OTHER_SECONDS {
            self.tcp
        } else {
            OTHER_SECONDS
        };
        (
            self.udp.saturating_add(MARGIN_SECONDS),
            tcp.saturating_add(MARGIN_SECONDS),
        )
    }
}

/// The sets that the rules fill.
pub(super) fn sets(out: &mut String, idle: Idle) {
    let (_, lifetime) = idle.lifetimes();
    for (name, seconds) in [("clients", lifetime), ("closing", CLOSING_SECONDS)] {
        let _ = writeln!(
            out,
            "set {name} {{\ntypeof {FROM}\n\
             flags dynamic,timeout\ntimeout {seconds}s\nsize {CLIENT_LIMIT}\n}}"
        );
    }
    let protocols = PROTOCOLS.map(|p| p.to_string()).join(", ");
    let _ = writeln!(
        out,
        "set unsure {{\ntypeof ip protocol\n\
         flags dynamic,timeout\ntimeout {UNSURE_SECONDS}s\nsize 255\nelements = {{ {protocols} }}\n}}"
    );
}

/// `remember` takes a client's packet to a NAT service, `reply` a NAT server's that is to the host or
/// beyond, `stray` one that is beyond and to no client.
pub(super) fn chains(out: &mut String, idle: Idle, answers_strays: bool) {
    let (udp, _) = idle.lifetimes();
    let _ = writeln!(
        out,
        "chain remember {{\n\
         tcp flags & (syn | ack) == syn {FROM} @closing delete @closing {{ {FROM} }} \
         update @clients {{ {FROM} timeout {HANDSHAKE_SECONDS}s }} goto drop_service\n\
         tcp flags & (syn | ack) == syn add @clients {{ {FROM} timeout {HANDSHAKE_SECONDS}s }} \
         goto drop_service\n\
         {FROM} @closing update @closing {{ {FROM} }} \
         update @clients {{ {FROM} timeout {CLOSING_SECONDS}s }} goto drop_service\n\
         ip protocol 17 update @clients {{ {FROM} timeout {udp}s }} goto drop_service\n\
         update @clients {{ {FROM} }} goto drop_service\n\
         update @unsure {{ ip protocol }}\n\
         goto drop_service\n}}"
    );
    let _ = writeln!(
        out,
        "chain reply {{\n\
         ip protocol 17 {TO} @clients update @clients {{ {TO} timeout {udp}s }} goto drop_nat_reply\n\
         tcp flags & (fin | rst) != 0 {TO} @clients update @closing {{ {TO} }}\n\
         {TO} @clients goto drop_nat_reply\n}}"
    );
    // With nat_icmp_send the engine answers them, but for a RST.
    let answered = if answers_strays {
        "tcp flags & rst == 0 goto drop_nat_reply\nip protocol != 6 goto drop_nat_reply\n"
    } else {
        ""
    };
    let _ = writeln!(
        out,
        "chain stray {{\nip protocol @unsure goto drop_nat_reply\n{answered}}}"
    );
}

/// Sends what this host's own NAT server answers to a client into the loopback interface, where UVS takes
/// it: such a frame leaves by an interface whose ingress it never passes.
pub(super) fn egress(out: &mut String, name: &str, interface: &str, priority: i32) {
    let from = "ip saddr . ip protocol";
    let _ = writeln!(
        out,
        "chain {name} {{\n\
         type filter hook egress device \"{interface}\" priority {priority}; policy accept;\n\
         meta protocol ip {from} . th sport @own_server {TO} @clients fwd to \"lo\"\n\
         meta protocol ip {from} @own_server_any_port {TO} @clients fwd to \"lo\"\n}}"
    );
}

/// The keys of `clients` for ends of connections.
pub(super) fn keys(clients: &[Server]) -> Vec<Vec<u8>> {
    clients.iter().filter_map(super::elements::key).collect()
}

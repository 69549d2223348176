//! What the tests of rewrites share: a mode by its method, packets of each protocol, and a frame's way through a mode.

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::frame::Frame;
use uvs_core::mode::Mode;
use uvs_core::packet::{self, Packet, Parsed};
use uvs_core::rewrite;
use uvs_core::service::Forwarding;
use uvs_core::testing::packets::{self, ACK, PacketBuilder, TestFrame};

/// The protocols that are balanced.
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// The rewrites of a method.
pub(crate) fn mode(forwarding: Forwarding) -> &'static dyn Mode {
    let mut rows = uvs_modes::BUILTIN.iter();
    rows.find(|m| m.forwarding == forwarding).unwrap().rewrite
}

/// A packet in the middle of a connection.
pub(crate) fn packet_of(
    protocol: Protocol,
    src: Endpoint,
    dst: Endpoint,
    payload: &[u8],
) -> PacketBuilder {
    match protocol {
        Protocol::Tcp => packets::tcp(src, dst, ACK).tcp_options(&[1, 1, 1, 1]),
        Protocol::Udp => packets::udp(src, dst),
        Protocol::Sctp => packets::sctp(src, dst, 0),
    }
    .payload(payload)
}

/// What a frame holds, which is an IP packet.
pub(crate) fn parse(t: &mut TestFrame) -> Packet {
    match packet::parse(&mut t.frame()) {
        Parsed::Ip(p) => p,
        other => panic!("{other:?}"),
    }
}

/// Runs `way` on a frame and returns it with its checksum still as it was left.
pub(crate) fn through(t: &TestFrame, way: impl Fn(&mut Frame<'_>, &Packet)) -> TestFrame {
    let mut t = t.clone();
    let p = parse(&mut t);
    let mut frame = t.frame();
    way(&mut frame, &p);
    TestFrame::new(frame.bytes(), frame.offload)
}

/// A frame's bytes as they are on the wire, the checksum finished.
pub(crate) fn finished(t: &TestFrame) -> Vec<u8> {
    let mut t = t.clone();
    let mut frame = t.frame();
    rewrite::finish_checksum(&mut frame);
    frame.bytes().to_vec()
}

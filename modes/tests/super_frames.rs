//! A super-frame leaves as its segments would have left, had the sender cut them itself.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use uvs_core::flow::Protocol;
use uvs_core::narrow;
use uvs_core::service::{Forwarding, Tunnel, TunnelChecksum, TunnelKind};
use uvs_core::testing::bed::{Bed, CLIENT, Sent, VIP};
use uvs_core::testing::packets::{PacketBuilder, TestFrame, check, tcp, udp};
use uvs_core::wire::tcp::flag::{ACK, CWR, FIN, PSH, SYN};

const KINDS: [(TunnelKind, TunnelChecksum); 5] = [
    (TunnelKind::Ipip, TunnelChecksum::None),
    (TunnelKind::Gue, TunnelChecksum::None),
    (TunnelKind::Gue, TunnelChecksum::Full),
    (TunnelKind::Gre, TunnelChecksum::None),
    (TunnelKind::Gre, TunnelChecksum::Full),
];

fn bed(protocol: Protocol, kind: usize) -> Bed {
    let (kind, checksum) = KINDS[kind];
    let tunnel = Tunnel {
        kind,
        port: 6080,
        checksum,
    };
    Bed::with_service(uvs_modes::BUILTIN, protocol, Forwarding::Tunnel, tunnel)
}

fn finished(sent: &[Sent]) -> Vec<Vec<u8>> {
    sent.iter().map(Sent::finished).collect()
}

/// What the segments of `whole` become when each is sent by itself.
fn one_by_one(
    bed: &mut Bed,
    payload: &[u8],
    size: usize,
    segment: impl Fn(usize, bool, &[u8]) -> PacketBuilder,
) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(size);
    let mut out = Vec::new();
    for (i, chunk) in payload.chunks(size).enumerate() {
        let frame = segment(i, i + 1 == count, chunk).frame();
        out.extend(finished(&bed.from_client(TestFrame::finished(&frame))));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tcp_segments_are_those_of_the_sender(
        kind in 0usize..5,
        size in 100u16..1400,
        len in 1usize..40_000,
        options in 0usize..3,
        seq in any::<u32>(),
        fin in any::<bool>(),
    ) {
        let payload: Vec<u8> = (0..len).map(|i| narrow::to_u8(i * 7 % 251)).collect();
        let options = vec![1; options * 4];
        let last_flags = PSH | if fin { FIN } else { 0 };
        let base = |flags| tcp(CLIENT, VIP, flags).tcp_options(&options);
        let mut whole = bed(Protocol::Tcp, kind);
        let mut parts = bed(Protocol::Tcp, kind);
        for b in [&mut whole, &mut parts] {
            b.from_client(TestFrame::finished(&base(SYN).frame()));
        }
        let frame = base(ACK | last_flags).seq(seq, 1).payload(&payload).super_frame(size);
        let got = finished(&whole.from_client(frame));
        let want = one_by_one(&mut parts, &payload, size.into(), |i, last, chunk| {
            base(ACK | if last { last_flags } else { 0 })
                .seq(seq.wrapping_add(narrow::to_u32(i * usize::from(size))), 1)
                .id(0x1234u16.wrapping_add(narrow::to_u16(i)))
                .payload(chunk)
        });
        prop_assert_eq!(got.len(), want.len());
        for (g, w) in got.iter().zip(&want) {
            prop_assert_eq!(check(g), Ok(()));
            prop_assert_eq!(g, w);
        }
    }

    #[test]
    fn udp_segments_are_datagrams_of_their_own(kind in 0usize..5, size in 100u16..1400, len in 1usize..20_000) {
        let payload: Vec<u8> = (0..len).map(|i| narrow::to_u8(i * 5 % 253)).collect();
        let frame = udp(CLIENT, VIP).payload(&payload).super_frame(size);
        let got = finished(&bed(Protocol::Udp, kind).from_client(frame));
        let want = one_by_one(&mut bed(Protocol::Udp, kind), &payload, size.into(), |i, _, chunk| {
            udp(CLIENT, VIP).id(0x1234u16.wrapping_add(narrow::to_u16(i))).payload(chunk)
        });
        prop_assert_eq!(got, want);
    }
}

#[test]
fn cwr_is_said_once() {
    let mut bed = bed(Protocol::Tcp, 0);
    bed.from_client(TestFrame::finished(&tcp(CLIENT, VIP, SYN).frame()));
    let mut frame = tcp(CLIENT, VIP, ACK | CWR)
        .payload(&[1; 3000])
        .super_frame(1000);
    frame.offload.gso = uvs_core::frame::Gso::TcpV4 { ecn: true };
    let flags: Vec<u8> = finished(&bed.from_client(frame))
        .iter()
        .map(|f| f[14 + 20 + 20 + 13])
        .collect();
    assert_eq!(flags, [ACK | CWR, ACK, ACK]);
}

#[test]
fn where_nothing_is_wrapped_a_super_frame_stays_whole() {
    for forwarding in [Forwarding::Dr, Forwarding::Nat, Forwarding::FullNat] {
        let mut bed = Bed::with_service(
            uvs_modes::BUILTIN,
            Protocol::Tcp,
            forwarding,
            Tunnel::default(),
        );
        bed.from_client(TestFrame::finished(&tcp(CLIENT, VIP, SYN).frame()));
        let frame = tcp(CLIENT, VIP, ACK)
            .payload(&[1; 30_000])
            .super_frame(1448);
        let offload = frame.offload;
        let sent = bed.from_client(frame);
        let [sent] = &sent[..] else {
            panic!("{} frames", sent.len())
        };
        assert_eq!(sent.offload, offload);
        assert_eq!(check(&sent.finished()), Ok(()));
    }
}

#[test]
fn segments_that_are_too_long_are_answered_or_cut() {
    let mut bed = bed(Protocol::Udp, 0);
    let large = |p: PacketBuilder| p.payload(&[1; 6000]).super_frame(1472);
    let answer = bed.from_client(large(udp(CLIENT, VIP)));
    // 3/4 with the MTU of 1500 less the outer header.
    assert_eq!(answer[0].bytes[34..36], [3, 4]);
    assert_eq!(answer[0].bytes[40..42], 1480u16.to_be_bytes());
    let cut = bed.from_client(large(udp(CLIENT, VIP).may_fragment()));
    assert_eq!(
        cut.len(),
        9,
        "four segments in two fragments each and a short one"
    );
    assert!(cut.iter().all(|s| s.bytes.len() <= 1514));
    let ids: std::collections::BTreeSet<_> = cut.iter().map(|s| s.bytes[18..20].to_vec()).collect();
    assert_eq!(
        ids.len(),
        5,
        "each outer packet has an identification of its own"
    );
}

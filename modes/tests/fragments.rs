//! Fragments: what is cut and put together again is what it was, in any order, and a service's fragments
//! leave in the size they came in.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;
use uvs_core::flow::{Family, Protocol};
use uvs_core::fragment::{self, Cut, Reassembled, Reassembler};
use uvs_core::outbox::Outbox;
use uvs_core::packet::{self, Parsed};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, VIP};
use uvs_core::testing::net::{client, vip};
use uvs_core::testing::packets::{TestFrame, check, udp};
use uvs_core::time::Instant;
use uvs_core::verdict::{DropReason, Egress, Verdict};
use uvs_core::wire::protocol::HOP_BY_HOP;

fn cut(frame: &[u8], limit: usize) -> Vec<Vec<u8>> {
    let mut out = Outbox::new();
    fragment::cut(frame, &Cut::to(limit), Egress::default(), &mut out);
    out.iter().map(|(bytes, _, _)| bytes.to_vec()).collect()
}

fn join(frames: &[Vec<u8>]) -> Option<Reassembled> {
    let mut reassembler = Reassembler::new(1 << 20);
    let mut whole = None;
    for frame in frames {
        let mut t = TestFrame::finished(frame);
        let Parsed::Ip(packet) = packet::parse(&mut t.frame()) else {
            panic!("a fragment");
        };
        assert!(whole.is_none(), "whole before its last fragment");
        whole = reassembler.add(Instant::ZERO, frame, &packet).unwrap();
    }
    assert_eq!(reassembler.used(), 0);
    whole
}

proptest! {
    #[test]
    fn joining_undoes_cutting(
        len in 600usize..20_000,
        limit in 100usize..600,
        family in (0..2usize).prop_map(|i| Family::ALL[i]),
        options in any::<bool>(),
        order in any::<u64>(),
    ) {
        let payload: Vec<u8> = (0..251).cycle().take(len).collect();
        let packet = udp(client(family), vip(family)).may_fragment().payload(&payload);
        // What every fragment carries (RFC 791: copied; RFC 8200 §4.5: per-fragment headers).
        let frame = match (options, family) {
            (false, _) => packet,
            (true, Family::V4) => packet.ip_options(&[0x94, 4, 0, 0]),
            (true, Family::V6) => packet.extension(HOP_BY_HOP, &[1, 4, 0, 0, 0, 0]),
        }.frame();
        // A datagram may have 128 pieces.
        let limit = limit.max(len / 80 + 80);
        let mut pieces = cut(&frame, limit);
        for piece in &pieces {
            prop_assert!(piece.len() <= 14 + limit);
            prop_assert_eq!(check(piece), Ok(()));
        }
        let largest = pieces.iter().map(|p| p.len() - 14).max().unwrap();
        let mut random = uvs_core::random::Random::new(order);
        for i in (1..pieces.len()).rev() {
            pieces.swap(i, random.index(i + 1));
        }
        let whole = join(&pieces).unwrap();
        prop_assert_eq!(&whole.frame, &frame);
        prop_assert_eq!(usize::from(whole.largest), largest);
    }
}

fn bed(forwarding: Forwarding) -> Bed {
    Bed::with_service(
        uvs_modes::BUILTIN,
        Protocol::Udp,
        forwarding,
        Tunnel::default(),
    )
}

/// What leaves for a datagram, whole or in pieces of `limit`.
fn through(forwarding: Forwarding, frame: &[u8], limit: Option<usize>) -> Vec<Vec<u8>> {
    let mut bed = bed(forwarding);
    let pieces = limit.map_or_else(|| vec![frame.to_vec()], |l| cut(frame, l));
    for piece in &pieces {
        bed.receive(CLIENTS, TestFrame::finished(piece));
    }
    bed.sent.iter().map(|s| s.bytes.clone()).collect()
}

#[test]
fn pieces_leave_in_the_size_they_came_in_and_mean_the_same() {
    let frame = udp(CLIENT, VIP).may_fragment().payload(&[5; 1400]).frame();
    for forwarding in [Forwarding::Dr, Forwarding::Nat, Forwarding::FullNat] {
        let whole = through(forwarding, &frame, None);
        let pieces = through(forwarding, &frame, Some(600));
        assert_eq!(pieces.len(), 3, "{forwarding:?}");
        assert!(pieces.iter().all(|p| p.len() <= 614));
        assert_eq!(join(&pieces).unwrap().frame, whole[0], "{forwarding:?}");
    }
    let pieces = through(Forwarding::Tunnel, &frame, Some(600));
    let whole = through(Forwarding::Tunnel, &frame, None);
    // The outer headers differ in their identification alone.
    assert_eq!(join(&pieces).unwrap().frame[34..], whole[0][34..]);
}

#[test]
fn overlapping_pieces_end_their_datagram() {
    let frame = udp(CLIENT, VIP).may_fragment().payload(&[5; 1400]).frame();
    let mut bed = bed(Forwarding::Nat);
    let (coarse, fine) = (cut(&frame, 620), cut(&frame, 220));
    let give = |bed: &mut Bed, f: &[u8]| bed.receive(CLIENTS, TestFrame::finished(f));
    assert_eq!(give(&mut bed, &coarse[0]), Verdict::Held);
    assert_eq!(
        give(&mut bed, &fine[1]),
        Verdict::Drop(DropReason::FragmentLimit)
    );
    assert!(bed.sent.is_empty());
}

#[test]
fn a_lone_piece_waits_30_seconds() {
    let frame = udp(CLIENT, VIP).may_fragment().payload(&[5; 1400]).frame();
    let pieces = cut(&frame, 1000);
    for (seconds, sent) in [(29, 2), (31, 0)] {
        let mut bed = bed(Forwarding::Nat);
        bed.receive(CLIENTS, TestFrame::finished(&pieces[0]));
        bed.wait(Duration::from_secs(seconds));
        bed.receive(CLIENTS, TestFrame::finished(&pieces[1]));
        assert_eq!(bed.sent.len(), sent, "after {seconds} s");
    }
}

#[test]
fn a_piece_of_an_impossible_length_is_dropped_by_a_name_of_its_own() {
    // The first piece of a datagram, "more fragments" set, of every length around a multiple of 8.
    for len in 1..=24 {
        let payload = vec![5; len];
        let mut frame = udp(CLIENT, VIP).may_fragment().payload(&payload).frame();
        frame[14 + 6] |= 0x20;
        frame[14 + 10..14 + 12].fill(0);
        let sum = uvs_core::wire::checksum::of(&frame[14..34]);
        frame[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
        let want = if len % 8 == 0 {
            Verdict::Held
        } else {
            Verdict::Drop(DropReason::BadFragmentLength)
        };
        let mut bed = bed(Forwarding::Nat);
        let verdict = bed.receive(CLIENTS, TestFrame::finished(&frame));
        assert_eq!(verdict, want, "{len} bytes");
    }
}

//! IPv6 fragments: put together by source, destination and identification, sent on in their old sizes, and bounded in
//! time and memory whoever sends them.

use std::time::Duration;

use uvs_core::flow::{Addr, Endpoint, Family, Protocol};
use uvs_core::service::{Forwarding, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENTS, Sent};
use uvs_core::testing::net::{client, vip};
use uvs_core::testing::packets::{TestFrame, check, fragments, udp};
use uvs_core::verdict::{DropReason, Verdict};
use uvs_core::wire::protocol::{DESTINATION_OPTIONS, HOP_BY_HOP};
use uvs_core::wire::{ethernet, ipv6};

const VIP: Endpoint = vip(Family::V6);
const CLIENT: Endpoint = client(Family::V6);
/// Padding that fills an extension header of 8 bytes.
const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
const ID: u32 = 0x1122_3344;

fn bed(forwarding: Forwarding) -> Bed {
    let modes = uvs_modes::BUILTIN;
    let families = (Family::V6, Family::V6);
    Bed::between(
        modes,
        Protocol::Udp,
        forwarding,
        Tunnel::default(),
        families,
    )
}

fn whole(len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|n| uvs_core::narrow::to_u8(n % 251)).collect();
    udp(CLIENT, VIP).payload(&payload).frame()
}

/// A datagram in pieces of so many bytes, together with its UDP header.
fn pieces(id: u32, sizes: &[usize]) -> Vec<TestFrame> {
    let len = sizes.iter().sum::<usize>() - 8;
    let frames = fragments(&whole(len), id, sizes);
    frames.iter().map(|f| TestFrame::finished(f)).collect()
}

/// Identification and the lengths of the data of fragments.
fn seen(sent: &[Sent]) -> (Vec<u32>, Vec<usize>) {
    const AT: usize = ethernet::LEN + ipv6::LEN;
    let read = |sent: &Sent| {
        let id = ipv6::Fragment::new(&sent.bytes[AT..]).id();
        (id, sent.bytes.len() - AT - ipv6::FRAGMENT_LEN)
    };
    sent.iter().map(read).unzip()
}

/// What becomes of frames that come one by one.
fn verdicts(bed: &mut Bed, frames: impl IntoIterator<Item = TestFrame>) -> Vec<Verdict> {
    let frames = frames.into_iter();
    frames.map(|frame| bed.receive(CLIENTS, frame)).collect()
}

#[test]
fn in_whatever_order_they_come_they_leave_as_they_were_cut() {
    let sizes = [400, 1200, 8, 104];
    for forwarding in [Forwarding::Dr, Forwarding::Nat, Forwarding::FullNat] {
        for turn in 0..sizes.len() {
            let mut bed = bed(forwarding);
            let mut frames = pieces(ID, &sizes);
            frames.rotate_left(turn);
            let last = frames.pop().unwrap();
            assert_eq!(verdicts(&mut bed, frames), [Verdict::Held; 3]);
            assert_eq!(bed.receive(CLIENTS, last), Verdict::SendOutbox);
            assert_eq!(seen(&bed.sent), (vec![ID; 4], sizes.to_vec()));
            // As its receiver puts it together it is sound.
            let mut datagram = bed.sent[0].bytes[..ethernet::LEN + ipv6::LEN].to_vec();
            for sent in &bed.sent {
                datagram.extend(&sent.bytes[ethernet::LEN + ipv6::LEN + ipv6::FRAGMENT_LEN..]);
            }
            let len = uvs_core::narrow::to_u16(sizes.iter().sum());
            let mut header = ipv6::Header::new_mut(&mut datagram[ethernet::LEN..]);
            header.set_payload_len(len);
            header.set_next_header(Protocol::Udp as u8);
            assert_eq!(check(&datagram), Ok(()), "{forwarding:?} {turn}");
        }
    }
}

#[test]
fn datagrams_are_told_apart_by_source_destination_and_identification() {
    let mut bed = bed(Forwarding::Dr);
    let mine = pieces(ID, &[200, 200]);
    let other_id = pieces(ID + 1, &[200, 200]);
    let neighbour = Endpoint::new(Addr::v6([0x20; 16]), CLIENT.port);
    let theirs = fragments(
        &udp(neighbour, VIP).payload(&[1; 392]).frame(),
        ID,
        &[200, 200],
    );
    let seconds = [&other_id[1], &TestFrame::finished(&theirs[1])].map(Clone::clone);
    let held = verdicts(&mut bed, [mine[0].clone()].into_iter().chain(seconds));
    assert_eq!(held, [Verdict::Held; 3]);
    assert_eq!(bed.receive(CLIENTS, mine[1].clone()), Verdict::SendOutbox);
}

#[test]
fn extension_headers_on_either_side_of_the_cut_stay_where_they_were() {
    let mut bed = bed(Forwarding::Nat);
    let packet = udp(CLIENT, VIP)
        .extension(HOP_BY_HOP, &PADDING)
        .extension(DESTINATION_OPTIONS, &PADDING)
        .payload(&[5; 384]);
    let whole = packet.frame();
    // The test's own cut stands before all; what is repeated is in each fragment of the engine's.
    let sizes = [208, 200];
    let came = fragments(&whole, ID, &sizes);
    let came = came.iter().map(|f| TestFrame::finished(f));
    assert_eq!(
        verdicts(&mut bed, came),
        [Verdict::Held, Verdict::SendOutbox]
    );
    for sent in &bed.sent {
        let chain = ipv6::walk(&sent.bytes[ethernet::LEN..]).unwrap();
        assert_eq!(chain.fragment, Some(ipv6::LEN + 16), "behind both");
    }
}

#[test]
fn one_that_overlaps_ends_its_datagram() {
    for (at, len) in [(192, 208), (0, 200), (200, 8)] {
        let mut bed = bed(Forwarding::Dr);
        let mut frames = pieces(ID, &[200, 200, 200]);
        let last = frames.pop().unwrap();
        assert_eq!(verdicts(&mut bed, frames), [Verdict::Held; 2]);
        let mut forged = fragments(&whole(592), ID, &[at, len, 600 - at - len]).remove(1);
        // Not what came before.
        *forged.last_mut().unwrap() ^= 1;
        let verdict = bed.receive(CLIENTS, TestFrame::finished(&forged));
        assert_eq!(
            verdict,
            Verdict::Drop(DropReason::FragmentLimit),
            "{at}+{len}"
        );
        assert_eq!(bed.receive(CLIENTS, last), Verdict::Held, "it begins anew");
        assert!(bed.engine.connections().is_empty());
    }
}

#[test]
fn the_same_one_again_is_no_overlap() {
    let mut bed = bed(Forwarding::Dr);
    let frames = pieces(ID, &[200, 200]);
    let twice = [frames[0].clone(), frames[0].clone()];
    assert_eq!(verdicts(&mut bed, twice), [Verdict::Held; 2]);
    assert_eq!(bed.receive(CLIENTS, frames[1].clone()), Verdict::SendOutbox);
}

#[test]
fn an_atomic_one_has_nothing_to_do_with_others() {
    let mut bed = bed(Forwarding::Dr);
    let frames = pieces(ID, &[200, 200]);
    assert_eq!(bed.receive(CLIENTS, frames[0].clone()), Verdict::Held);
    let atomic = pieces(ID, &[100]).remove(0);
    assert_eq!(bed.receive(CLIENTS, atomic), Verdict::SendOutbox);
    let plain = ipv6::walk(&bed.sent[0].bytes[ethernet::LEN..]).unwrap();
    assert_eq!(plain.fragment, None, "sent whole");
    assert_eq!(bed.receive(CLIENTS, frames[1].clone()), Verdict::SendOutbox);
}

#[test]
fn one_of_an_impossible_length_is_dropped_unless_it_tells_its_connection() {
    let mut bed = bed(Forwarding::Nat);
    let cut = |offset: u16, more: bool, data: &[u8]| {
        let mut frame = fragments(&whole(600), ID, &[8, 600]).remove(0);
        frame.truncate(ethernet::LEN + ipv6::LEN + ipv6::FRAGMENT_LEN);
        frame.extend(data);
        let ip = &mut frame[ethernet::LEN..];
        ipv6::Header::new_mut(ip).set_payload_len(uvs_core::narrow::to_u16(8 + data.len()));
        ipv6::Fragment::new_mut(&mut ip[ipv6::LEN..]).set_part(offset.into(), more);
        TestFrame::finished(&frame)
    };
    let data = whole(400)[ethernet::LEN + ipv6::LEN..].to_vec();
    let dropped = Verdict::Drop(DropReason::BadFragmentLength);
    assert_eq!(bed.receive(CLIENTS, cut(0, true, &[])), dropped, "empty");
    assert_eq!(
        bed.receive(CLIENTS, cut(8, true, &data[..203])),
        dropped,
        "later"
    );
    assert_eq!(
        bed.receive(CLIENTS, cut(0xfff8, false, &data[..16])),
        dropped,
        "too far"
    );
    assert_eq!(
        bed.receive(CLIENTS, cut(0, true, &data[..3])),
        dropped,
        "no ports"
    );
    let first = bed.receive(CLIENTS, cut(0, true, &data[..203]));
    assert!(
        matches!(first, Verdict::Send(_)),
        "as the kernel: {first:?}"
    );
}

#[test]
fn what_never_ends_is_given_up_after_a_minute() {
    let mut bed = bed(Forwarding::Dr);
    let frames = pieces(ID, &[200, 200]);
    assert_eq!(bed.receive(CLIENTS, frames[0].clone()), Verdict::Held);
    bed.jump(Duration::from_secs(59));
    assert_eq!(bed.engine.counters().fragments_expired, 0);
    bed.jump(Duration::from_secs(2));
    assert_eq!(bed.engine.counters().fragments_expired, 1);
    assert_eq!(bed.receive(CLIENTS, frames[1].clone()), Verdict::Held);
}

#[test]
fn a_flood_of_beginnings_takes_no_more_memory_than_it_may() {
    let limits = Limits {
        fragment_bytes: 16 << 10,
        ..Limits::default()
    };
    let mut bed = Bed::new(uvs_modes::BUILTIN, limits);
    let key = ServiceKey::address(Protocol::Udp, VIP);
    bed.snapshot
        .services
        .push(ServiceSpec::new(key, "first").into());
    bed.apply();
    let first = |id| pieces(id, &[1200, 8]).remove(0);
    let all = verdicts(&mut bed, (0..100).map(first));
    let held = all.iter().filter(|v| **v == Verdict::Held).count();
    assert!((10..=13).contains(&held), "{held} held");
    assert_eq!(all[99], Verdict::Drop(DropReason::FragmentLimit));
}

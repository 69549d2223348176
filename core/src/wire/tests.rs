//! What holds for every protocol: a view reads what was written, no view of too few bytes is made, and another
//! library's views read the same.

use std::fmt::Debug;

use pnet_packet::Packet as _;
use proptest::prelude::*;

use super::*;

/// No prefix of `whole` that is shorter than `len` has a view, and all others have.
fn is_refused_below<V>(whole: &[u8], len: usize, view: impl Fn(&[u8]) -> Result<V, Malformed>) {
    for n in 0..=whole.len() {
        let refused = matches!(view(&whole[..n]), Err(Malformed::Truncated));
        assert_eq!(refused, n < len, "{n} of {len} bytes");
    }
}

#[test]
fn a_mac_address_is_written_as_ip_writes_it() {
    let mac = [2, 0, 0, 0, 0, 0xff];
    assert_eq!(ethernet::mac_text(mac), "02:00:00:00:00:ff");
}

#[test]
fn too_few_bytes_have_no_view() {
    let ones = [0xff; 64];
    is_refused_below(&ones, ethernet::LEN, |b| {
        ethernet::Header::new_checked(b).map(drop)
    });
    is_refused_below(&ones, arp::LEN, |b| arp::Packet::new_checked(b).map(drop));
    is_refused_below(&ones, ipv4::MIN_LEN, |b| {
        ipv4::Header::new_checked(b).map(drop)
    });
    is_refused_below(&ones, icmp::LEN, |b| icmp::Header::new_checked(b).map(drop));
    is_refused_below(&ones, ports::LEN, |b| {
        ports::Ports::new_checked(b).map(drop)
    });
    is_refused_below(&ones, tcp::MIN_LEN, |b| {
        tcp::Header::new_checked(b).map(drop)
    });
    is_refused_below(&ones, udp::LEN, |b| udp::Header::new_checked(b).map(drop));
    is_refused_below(&ones, sctp::LEN, |b| sctp::Header::new_checked(b).map(drop));
    is_refused_below(&ones, sctp::CHUNK_LEN, |b| {
        sctp::Chunk::new_checked(b).map(drop)
    });
    is_refused_below(&ones, gre::MIN_LEN, |b| {
        gre::Header::new_checked(b).map(drop)
    });
    is_refused_below(&ones, gre::SUMMED_LEN, |b| {
        gre::Summed::new_checked(b).map(drop)
    });
    is_refused_below(&ones, gue::MIN_LEN, |b| {
        gue::Header::new_checked(b).map(drop)
    });
}

#[test]
fn an_ipv4_packet_has_all_of_its_header() {
    for words in 0..16 {
        let len = usize::from(words) * 4;
        let mut bytes = [0; 64];
        bytes[0] = 0x40 | words;
        for n in 0..=bytes.len() {
            let expected = if n < ipv4::MIN_LEN {
                Err(Malformed::Truncated)
            } else if len < ipv4::MIN_LEN {
                Err(Malformed::Header)
            } else if n < len {
                Err(Malformed::Truncated)
            } else {
                Ok((len - ipv4::MIN_LEN, n - len))
            };
            let packet = ipv4::Packet::new_checked(&bytes[..n]);
            let lengths = packet.map(|p| (p.options.len(), p.payload.len()));
            assert_eq!(lengths, expected, "{words} words, {n} bytes");
        }
    }
    let mut bytes = [0; 64];
    bytes[0] = 0x65;
    let refused = ipv4::Packet::new_checked(&bytes);
    assert_eq!(refused, Err(Malformed::Header), "version 6");
}

#[test]
fn chunks_end_where_a_length_leads_nowhere() {
    let kinds = |packet: &[u8]| -> Vec<u8> { sctp::chunks(packet).map(|c| c.kind()).collect() };
    let mut packet = [0; sctp::LEN + 16];
    packet[sctp::LEN..].copy_from_slice(&[10, 0, 0, 5, 1, 0, 0, 0, 6, 0, 0, 4, 0, 0, 0, 3]);
    assert_eq!(kinds(&packet), [10, 6, 0], "padded to 4 bytes");
    for n in 0..packet.len() {
        let whole = n.saturating_sub(sctp::LEN);
        let expected = [whole >= 4, whole >= 12, whole >= 16];
        let expected = expected.iter().filter(|all| **all).count();
        assert_eq!(kinds(&packet[..n]).len(), expected, "{n} bytes");
    }
}

#[test]
fn a_gre_header_is_as_long_as_its_flags_say() {
    for (flags, len) in [
        (0, Some(4)),
        (gre::CHECKSUM_PRESENT, Some(8)),
        (0x2000, None),
        (1, None),
    ] {
        let mut bytes = [0; gre::MIN_LEN];
        gre::Header::new_mut(&mut bytes).set_flags(flags);
        assert_eq!(gre::Header::new(&bytes).header_len(), len, "{flags:#x}");
    }
}

#[test]
fn a_gue_header_with_a_control_message_or_of_another_version_is_no_data() {
    for (first, is_data, len) in [
        (0, true, 4),
        (0x1f, true, 128),
        (0x20, false, 4),
        (0x40, false, 4),
    ] {
        let bytes = [first, 4, 0, 0];
        let header = gue::Header::new(&bytes);
        assert_eq!((header.is_data(), header.header_len()), (is_data, len));
    }
}

/// Equal, and told which field is not.
fn same<T: PartialEq + Debug>(field: &str, ours: T, theirs: T) -> Result<(), TestCaseError> {
    prop_assert_eq!(ours, theirs, "{}", field);
    Ok(())
}

proptest! {
    #[test]
    fn views_read_what_pnet_reads(bytes in any::<[u8; 64]>()) {
        use pnet_packet::{arp as parp, ethernet as peth, gre as pgre, icmp as picmp, ipv4 as pip, tcp as ptcp, udp as pudp};
        let (ours, theirs) = (ethernet::Header::new(&bytes), peth::EthernetPacket::new(&bytes).expect("long enough"));
        same("destination", ours.dst(), theirs.get_destination().octets())?;
        same("source", ours.src(), theirs.get_source().octets())?;
        same("EtherType", ours.ethertype(), theirs.get_ethertype().0)?;

        let (ours, theirs) = (arp::Packet::new(&bytes), parp::ArpPacket::new(&bytes).expect("long enough"));
        same("hardware", ours.hardware(), theirs.get_hardware_type().0)?;
        same("protocol", ours.protocol(), theirs.get_protocol_type().0)?;
        same("lengths", (ours.hardware_len(), ours.protocol_len()), (theirs.get_hw_addr_len(), theirs.get_proto_addr_len()))?;
        same("operation", ours.operation(), theirs.get_operation().0)?;
        same("sender's MAC", ours.sender_mac(), theirs.get_sender_hw_addr().octets())?;
        same("sender", ours.sender(), theirs.get_sender_proto_addr().octets())?;
        same("target's MAC", ours.target_mac(), theirs.get_target_hw_addr().octets())?;
        same("target", ours.target(), theirs.get_target_proto_addr().octets())?;

        let (ours, theirs) = (ipv4::Header::new(&bytes), pip::Ipv4Packet::new(&bytes).expect("long enough"));
        same("version", ours.version(), theirs.get_version())?;
        same("header", ours.header_len(), usize::from(theirs.get_header_length()) * 4)?;
        same("TOS", ours.tos(), theirs.get_dscp() << 2 | theirs.get_ecn())?;
        same("total length", ours.total_len(), theirs.get_total_length())?;
        same("id", ours.id(), theirs.get_identification())?;
        same("DF", ours.dont_fragment(), theirs.get_flags() & pip::Ipv4Flags::DontFragment != 0)?;
        same("MF", ours.more_fragments(), theirs.get_flags() & pip::Ipv4Flags::MoreFragments != 0)?;
        same("offset", ours.fragment_offset(), usize::from(theirs.get_fragment_offset()) * 8)?;
        same("TTL", ours.ttl(), theirs.get_ttl())?;
        same("protocol", ours.protocol(), theirs.get_next_level_protocol().0)?;
        same("checksum", ours.checksum(), theirs.get_checksum())?;
        same("source", ours.src(), theirs.get_source().octets())?;
        same("destination", ours.dst(), theirs.get_destination().octets())?;

        let (ours, theirs) = (icmp::Header::new(&bytes), picmp::IcmpPacket::new(&bytes).expect("long enough"));
        same("type", (ours.kind(), ours.code()), (theirs.get_icmp_type().0, theirs.get_icmp_code().0))?;
        same("checksum", ours.checksum(), theirs.get_checksum())?;
        let echo = picmp::echo_request::EchoRequestPacket::new(&bytes).expect("long enough");
        same("echo", (ours.identifier(), ours.sequence()), (echo.get_identifier(), echo.get_sequence_number()))?;
        let unreachable = picmp::destination_unreachable::DestinationUnreachablePacket::new(&bytes).expect("long enough");
        same("next hop's MTU", ours.next_hop_mtu(), unreachable.get_next_hop_mtu())?;

        let (ours, theirs) = (tcp::Header::new(&bytes), ptcp::TcpPacket::new(&bytes).expect("long enough"));
        same("ports", (ours.src_port(), ours.dst_port()), (theirs.get_source(), theirs.get_destination()))?;
        same("numbers", (ours.seq(), ours.ack()), (theirs.get_sequence(), theirs.get_acknowledgement()))?;
        same("header", ours.header_len(), usize::from(theirs.get_data_offset()) * 4)?;
        same("flags", ours.flags(), theirs.get_flags())?;
        same("window", ours.window(), theirs.get_window())?;
        same("checksum", (ours.checksum(), ours.urgent()), (theirs.get_checksum(), theirs.get_urgent_ptr()))?;

        let (ours, theirs) = (udp::Header::new(&bytes), pudp::UdpPacket::new(&bytes).expect("long enough"));
        same("ports", (ours.src_port(), ours.dst_port()), (theirs.get_source(), theirs.get_destination()))?;
        same("length", (ours.length(), ours.checksum()), (theirs.get_length(), theirs.get_checksum()))?;
        let both = ports::Ports::new(&bytes);
        same("ports", (both.src(), both.dst()), (theirs.get_source(), theirs.get_destination()))?;

        let (ours, theirs) = (gre::Header::new(&bytes), pgre::GrePacket::new(&bytes).expect("long enough"));
        same("checksum", ours.flags() & gre::CHECKSUM_PRESENT != 0, theirs.get_checksum_present() == 1)?;
        same("protocol", ours.protocol(), theirs.get_protocol_type())?;
    }

    #[test]
    fn what_is_emitted_is_read(
        (a, b) in any::<([u8; 4], [u8; 4])>(), (m, n) in any::<([u8; 6], [u8; 6])>(),
        (p, q) in any::<(u16, u16)>(), (x, y) in any::<(u32, u32)>(), (s, t, u) in any::<(u8, u8, u8)>(),
        yes in any::<bool>(), mut bytes in any::<[u8; 64]>(),
    ) {
        let header = ethernet::Repr { dst: m, src: n, ethertype: p };
        header.emit(&mut bytes);
        let view = ethernet::Header::new(&bytes);
        prop_assert_eq!(header, ethernet::Repr { dst: view.dst(), src: view.src(), ethertype: view.ethertype() });

        let header = ipv4::Repr { tos: s, total_len: p, id: q, dont_fragment: yes, ttl: t, protocol: u, src: a, dst: b };
        header.emit(&mut bytes);
        let packet = ipv4::Packet::new_checked(&bytes).expect("what we wrote");
        let v = packet.header;
        prop_assert!(packet.is_sound() && packet.options.is_empty() && !v.is_fragment());
        prop_assert_eq!(header, ipv4::Repr {
            tos: v.tos(), total_len: v.total_len(), id: v.id(), dont_fragment: v.dont_fragment(), ttl: v.ttl(),
            protocol: v.protocol(), src: v.src(), dst: v.dst(),
        });

        let header = icmp::Repr { kind: s, code: t, rest: x };
        header.emit(&mut bytes);
        icmp::seal(&mut bytes);
        let v = icmp::Header::new(&bytes);
        prop_assert_eq!(header, icmp::Repr { kind: v.kind(), code: v.code(), rest: v.rest() });
        let theirs = pnet_packet::icmp::IcmpPacket::new(&bytes).expect("long enough");
        prop_assert_eq!(v.checksum(), pnet_packet::icmp::checksum(&theirs));

        let header = tcp::Repr { src_port: p, dst_port: q, seq: x, ack: y, flags: s, window: p };
        header.emit(&mut bytes);
        let pseudo = |protocol| checksum::pseudo_header_v4(a, b, protocol, 64);
        tcp::seal(&mut bytes, pseudo(protocol::TCP));
        let v = tcp::Header::new(&bytes);
        prop_assert_eq!((v.header_len(), v.urgent()), (tcp::MIN_LEN, 0));
        prop_assert_eq!(header, tcp::Repr {
            src_port: v.src_port(), dst_port: v.dst_port(), seq: v.seq(), ack: v.ack(), flags: v.flags(), window: v.window(),
        });
        let theirs = pnet_packet::tcp::TcpPacket::new(&bytes).expect("long enough");
        prop_assert_eq!(v.checksum(), pnet_packet::tcp::ipv4_checksum(&theirs, &a.into(), &b.into()));

        let header = udp::Repr { src_port: p, dst_port: q, length: 64 };
        header.emit(&mut bytes);
        udp::seal(&mut bytes, pseudo(protocol::UDP));
        let v = udp::Header::new(&bytes);
        prop_assert_eq!(header, udp::Repr { src_port: v.src_port(), dst_port: v.dst_port(), length: v.length() });
        let theirs = pnet_packet::udp::UdpPacket::new(&bytes).expect("long enough");
        prop_assert_eq!(theirs.payload().len(), 56);
        prop_assert_eq!(v.checksum(), udp::present(pnet_packet::udp::ipv4_checksum(&theirs, &a.into(), &b.into())));

        let header = gre::Repr { protocol: p, summed: yes };
        header.emit(&mut bytes);
        let v = gre::Header::new(&bytes);
        prop_assert_eq!((v.protocol(), v.header_len()), (p, Some(gre::header_len(yes))));
        prop_assert!(!yes || checksum::of(&bytes) == 0);

        gue::Repr { protocol: s }.emit(&mut bytes);
        let v = gue::Header::new(&bytes);
        prop_assert_eq!((v.is_data(), v.header_len(), v.protocol(), v.flags()), (true, gue::MIN_LEN, s, 0));
    }

    #[test]
    fn a_field_is_written_where_it_is_read(
        mut bytes in any::<[u8; 64]>(), ttl in any::<u8>(), tos in any::<u8>(), yes in any::<bool>(), part in 0usize..0x2000,
    ) {
        let before = bytes;
        let mut header = ipv4::Header::new_mut(&mut bytes);
        header.set_dont_fragment(yes);
        header.set_part(part * 8, yes);
        prop_assert_eq!((header.dont_fragment(), header.more_fragments(), header.fragment_offset()), (yes, yes, part * 8));
        header.set_whole(yes);
        prop_assert_eq!((header.dont_fragment(), header.is_fragment()), (yes, false));
        prop_assert_eq!(&bytes[..6], &before[..6], "before the field");
        prop_assert_eq!(&bytes[8..], &before[8..], "after the field");

        // What changes a sealed header leaves it sealed.
        ipv4::Header::new_mut(&mut bytes).set_ttl(ttl);
        bytes[0] = 0x45;
        ipv4::seal(&mut bytes[..ipv4::MIN_LEN]);
        let mut header = ipv4::Header::new_mut(&mut bytes);
        header.decrement_ttl();
        header.change_tos(tos);
        prop_assert_eq!((header.ttl(), header.tos()), (ttl.saturating_sub(1), tos));
        prop_assert!(ipv4::Packet::new_checked(&bytes).expect("what we wrote").is_sound());
    }

    #[test]
    fn an_sctp_packet_is_sealed_over_all_of_it(mut bytes in any::<[u8; 32]>(), at in 0usize..32) {
        sctp::seal(&mut bytes);
        let sum = sctp::Header::new(&bytes).checksum();
        sctp::Header::new_mut(&mut bytes).set_checksum([0; 4]);
        prop_assert_eq!(sum, checksum::crc32c(&bytes).to_le_bytes());
        bytes[at] ^= 1;
        sctp::seal(&mut bytes);
        let outside = (sctp::offset::CHECKSUM..sctp::LEN).contains(&at);
        prop_assert_eq!(sctp::Header::new(&bytes).checksum() == sum, outside);
    }
}

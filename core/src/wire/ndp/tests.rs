//! Neighbour discovery: what is believed, what is answered, and every byte of it.

use super::*;

const OURS: Mac = [2, 0, 0, 0, 1, 1];
const OTHER: Mac = [2, 0, 0, 0, 1, 0x10];
const VIP: Octets = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const HOST: Octets = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
const MESSAGE: usize = ethernet::LEN + ipv6::LEN;
const PAYLOAD_LEN: usize = ethernet::LEN + ipv6::offset::PAYLOAD_LEN;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|digit| crate::narrow::to_u8(char::from(digit).to_digit(16).unwrap() as usize))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Who has the VIP, tell the host at [`OTHER`]; recorded, as is the kernel's answer.
fn who_has() -> Vec<u8> {
    hex("3333ff000100 020000000110 86dd
        60000000 0020 3a ff 20010db8000100000000000000000010 ff0200000000000000000001ff000100
        87 00 190b 00000000 20010db8000100000000000000000100 0101 020000000110")
}

fn is_at() -> Vec<u8> {
    hex("020000000110 020000000101 86dd
        60000000 0020 3a ff 20010db8000100000000000000000100 20010db8000100000000000000000010
        88 00 0764 e0000000 20010db8000100000000000000000100 0201 020000000101")
}

/// What the kernel was seen to answer to a question that went to it alone.
fn is_there() -> Vec<u8> {
    hex("020000000110 020000000101 86dd
        60000000 0018 3a ff 20010db8000100000000000000000100 20010db8000100000000000000000010
        88 00 2c6e c0000000 20010db8000100000000000000000100")
}

/// Makes the checksum right again.
fn seal_again(frame: &mut [u8]) {
    let ip = ipv6::Header::new(&frame[ethernet::LEN..]);
    let len = narrow::to_u32(frame.len() - MESSAGE);
    let pseudo = checksum::pseudo_header_v6(ip.src(), ip.dst(), protocol::ICMPV6, len);
    icmpv6::seal(&mut frame[MESSAGE..], pseudo);
}

/// A frame with some bytes replaced, its checksum right.
fn with(frame: Vec<u8>, changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = frame;
    for (at, bytes) in changes {
        frame[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    seal_again(&mut frame);
    frame
}

fn answered(frame: &[u8]) -> Option<Vec<u8>> {
    answer(frame, |addr| addr == VIP, OURS, true)
}

const SRC: usize = ethernet::LEN + ipv6::offset::SRC;
const DST: usize = ethernet::LEN + ipv6::offset::DST;
const TARGET: usize = MESSAGE + offset::TARGET;
const OPTION: usize = MESSAGE + LEN;

/// The host asks whether anybody has the VIP that it is about to take.
fn about_to_take() -> Vec<u8> {
    probe(VIP, OTHER).to_vec()
}

#[test]
fn a_solicitation_for_an_owned_vip_is_answered_as_the_kernel_answers() {
    let asked = who_has();
    assert_eq!(answered(&asked), Some(is_at()));
    let as_host = self::answer(&asked, |addr| addr == VIP, OURS, false).unwrap();
    assert_eq!(as_host[MESSAGE + offset::FLAGS], 0x60, "no router");
}

#[test]
fn a_unicast_solicitation_is_answered_as_well() {
    let asked = with(who_has(), &[(0, &OURS), (DST, &VIP)]);
    assert_eq!(answered(&asked), Some(is_there()));
    // One without its sender's MAC address goes back to where it came from.
    let mut bare = asked[..OPTION].to_vec();
    bare[PAYLOAD_LEN..PAYLOAD_LEN + 2].copy_from_slice(&[0, 24]);
    seal_again(&mut bare);
    assert_eq!(answered(&bare), Some(is_there()));
}

#[test]
fn who_is_about_to_take_a_vip_is_told_before_all_that_it_is_taken() {
    let answer = answered(&about_to_take()).unwrap();
    assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(answer[DST..DST + 16], ALL_NODES);
    assert_eq!(answer[MESSAGE + offset::FLAGS], 0xa0, "not solicited");
    assert_eq!(reply(&answer), Some((VIP, OURS)));
    assert_eq!(answer, announcement(VIP, OURS, true));
}

#[test]
fn nothing_else_is_answered() {
    type Changes<'a> = &'a [(usize, &'a [u8])];
    let table: &[(&str, Changes<'_>)] = &[
        ("another host's frame", &[(0, &OTHER)]),
        (
            "another group's frame",
            &[(0, &[0x33, 0x33, 0xff, 0, 1, 1])],
        ),
        ("not IPv6", &[(12, &[8, 0])]),
        ("version 5", &[(14, &[0x50])]),
        ("behind another header", &[(20, &[0])]),
        ("from behind a router", &[(21, &[254])]),
        ("from ourselves", &[(6, &OURS)]),
        ("from a group's MAC", &[(6, &[1, 0, 0x5e, 0, 0, 1])]),
        ("from the VIP", &[(SRC, &VIP)]),
        ("from a group", &[(SRC, &ALL_NODES)]),
        ("to another address", &[(DST, &HOST)]),
        ("to all nodes", &[(DST, &ALL_NODES)]),
        ("an advertisement", &[(MESSAGE, &[ADVERTISEMENT])]),
        ("a redirect", &[(MESSAGE, &[REDIRECT])]),
        ("of a code", &[(MESSAGE + 1, &[1])]),
        ("for another address", &[(TARGET, &HOST)]),
        ("for a group", &[(TARGET, &ALL_NODES)]),
        ("an option of no length", &[(OPTION + 1, &[0])]),
        ("an option that is cut off", &[(OPTION + 1, &[2])]),
    ];
    for (what, changes) in table {
        assert_eq!(answered(&with(who_has(), changes)), None, "{what}");
    }
    let mut wrong = who_has();
    wrong[MESSAGE + 2] ^= 1;
    assert_eq!(answered(&wrong), None, "a wrong checksum");
    // Who has no address yet asks the group, and has no MAC address to tell.
    let unicast = with(about_to_take(), &[(0, &OURS), (DST, &VIP)]);
    assert_eq!(answered(&unicast), None);
    let telling = with(who_has(), &[(SRC, &[0; 16])]);
    assert_eq!(answered(&telling), None);
}

#[test]
fn a_frame_that_is_cut_off_anywhere_says_nothing() {
    let (mut asked, told) = (who_has(), is_at());
    for n in 0..asked.len() {
        assert_eq!(answered(&asked[..n]), None, "{n} bytes");
        assert_eq!(claim(&told[..n]), None, "{n} bytes");
    }
    asked.extend([0; 9]);
    assert!(answered(&asked).is_some(), "padding does not matter");
}

#[test]
fn whoever_speaks_from_an_address_claims_it() {
    assert_eq!(
        claim(&who_has()),
        Some((HOST, OTHER)),
        "by asking for another"
    );
    assert_eq!(claim(&is_at()), Some((VIP, OURS)), "by an answer");
    let told = announcement(VIP, OTHER, false);
    assert_eq!(claim(&told), Some((VIP, OTHER)));
    assert_eq!(claim(&about_to_take()), None, "a probe claims nothing yet");
    let group = with(told.clone(), &[(OPTION + 2, &[1, 0, 0x5e, 0, 0, 1])]);
    assert_eq!(claim(&group), None, "a group's MAC");
    let solicited = with(told.clone(), &[(MESSAGE + offset::FLAGS, &[0x60])]);
    assert_eq!(claim(&solicited), None, "an answer to all");
}

#[test]
fn a_redirect_is_the_kernels_and_no_longer_than_every_link_takes() {
    // Recorded: fe80::ff:fe00:201 tells 2001:db8:2::11 that fe80::10 is on its link.
    let recorded = hex("020000000211 020000000201 86dd
        60000000 0060 3a ff fe8000000000000000 0000fffe000201 20010db8000200000000000000000011
        89 00 37bf 00000000 fe800000000000000000000000000010 fe800000000000000000000000000010
        0407 000000000000
        6000000000091140 20010db8000200000000000000000011 fe800000000000000000000000000010
        00359c400009d609");
    let packet = hex("6000000000091140 20010db8000200000000000000000011
        fe800000000000000000000000000010 00359c400009d60961");
    let says = Redirection {
        from: (
            hex("fe80000000000000000000fffe000201").try_into().unwrap(),
            [2, 0, 0, 0, 2, 1],
        ),
        to: (
            hex("20010db8000200000000000000000011").try_into().unwrap(),
            [2, 0, 0, 0, 2, 0x11],
        ),
        target: hex("fe800000000000000000000000000010").try_into().unwrap(),
        station: None,
        packet: &packet,
    };
    assert_eq!(redirect(&says), recorded);
    let mut long = packet.clone();
    long.resize(9000, 7);
    for station in [None, Some(OTHER)] {
        let says = Redirection {
            station,
            packet: &long,
            ..says
        };
        let frame = redirect(&says);
        assert_eq!(frame.len() - ethernet::LEN, ipv6::MIN_MTU);
    }
}

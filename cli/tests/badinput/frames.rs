//! Frames that no stack would send, on the wire: each is dropped under its name, every frame is accounted
//! for, and the daemon serves on.

use uvs_lab::probe::send_frames;
use uvs_lab::{Mode, Options, VipOwner};

use crate::counters::Counters;
use crate::stand::{eventually, lab, must_serve, serving};
use crate::wire::{ACK, FRAGMENT, IP, IP_CHECKSUM, RST, SYN, TCP, TOTAL_LENGTH, Wire, seal};

/// One frame of each kind with the name under which it is dropped.
fn lies(wire: &Wire) -> Vec<(Vec<u8>, &'static str)> {
    let with_option = |option: [u8; 4]| {
        wire.changed(|f| {
            f.splice(TCP..TCP, option);
            f[IP] = 0x46;
            f[TOTAL_LENGTH + 1] += 4;
        })
    };
    let mut wrong_sum = wire.segment(SYN);
    wrong_sum[IP_CHECKSUM] ^= 1;
    vec![
        (wire.changed(|f| f.truncate(TCP + 3)), "truncated"),
        (wire.changed(|f| f[TOTAL_LENGTH] = 255), "truncated"),
        (wire.packet(6, &[]), "truncated"),
        (wire.packet(6, &[0; 19]), "truncated"),
        (wire.packet(17, &[0; 7]), "truncated"),
        (wire.packet(132, &[0; 15]), "truncated"),
        (wire.packet(1, &[8; 7]), "truncated"),
        (wire.changed(|f| f[IP] = 0x4f), "truncated"),
        (wire.changed(|f| f[IP] = 0x55), "bad_ip_header"),
        (wire.changed(|f| f[IP] = 0x44), "bad_ip_header"),
        (wire.changed(|f| f[IP] = 0x40), "bad_ip_header"),
        (wire.changed(|f| f[TOTAL_LENGTH + 1] = 19), "bad_ip_header"),
        (wire.changed(|f| f[TOTAL_LENGTH + 1] = 0), "bad_ip_header"),
        (wrong_sum, "bad_ip_checksum"),
        (wire.changed(|f| f[TCP + 12] = 4 << 4), "bad_tcp_header"),
        (wire.changed(|f| f[TCP + 12] = 15 << 4), "bad_tcp_header"),
        (wire.changed(|f| f[TCP + 12] = 0), "bad_tcp_header"),
        (wire.segment(RST), "no_connection"),
        // It would be answered by a reset, were its checksum right.
        (wire.segment(ACK), "bad_checksum"),
        // A loose source route (RFC 791 §3.1) of no address.
        (with_option([131, 3, 4, 0]), "source_route"),
        (wire.changed(|f| f[FRAGMENT] = 0x20), "bad_fragment_length"),
    ]
}

#[test]
fn lies_are_dropped_under_their_names() {
    // What is to a VIP that UVS owns is UVS's whatever it says; of the host's VIP the hook takes what is to a service.
    let options = Options {
        vip: VipOwner::Uvs,
        ..Options::default()
    };
    let (lab, shell) = lab(Mode::Nat, options);
    let daemon = serving(&lab);
    must_serve(&lab, &daemon);
    let before = Counters::read(&lab, &shell);
    let lies = lies(&Wire::of(&lab));
    let frames: Vec<Vec<u8>> = lies.iter().map(|(frame, _)| frame.clone()).collect();
    send_frames(&lab.client, "eth0", &frames).expect("they are sent");
    let mut expected = std::collections::BTreeMap::new();
    for (_, reason) in &lies {
        *expected.entry((*reason).to_owned()).or_insert(0) += 1;
    }
    let dropped = |c: &Counters| c.total("dropped") - before.total("dropped");
    eventually("all of them arrived", || {
        dropped(&Counters::read(&lab, &shell)) >= lies.len() as u64
    });
    let after = Counters::read(&lab, &shell);
    assert_eq!(after.drops_since(&before), expected);
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_fragment_waits_for_the_others_and_overlapping_ones_end_their_datagram() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    let wire = Wire::of(&lab);
    let before = Counters::read(&lab, &shell);
    // To the service, as the first one's port says: what is to none is the host's where the hook tells.
    let mut payload = [0; 24];
    payload[2..4].copy_from_slice(&lab.plan.vip.port().to_be_bytes());
    let fragment = |offset: u8| {
        let mut frame = wire.packet(6, &payload);
        (frame[FRAGMENT], frame[FRAGMENT + 1]) = (0x20, offset);
        seal(&mut frame);
        frame
    };
    // Bytes 0 to 23, and 16 to 39.
    send_frames(&lab.client, "eth0", &[fragment(0), fragment(2)]).expect("they are sent");
    eventually("both arrived", || {
        let dropped = Counters::read(&lab, &shell).total("dropped");
        dropped > before.total("dropped")
    });
    let after = Counters::read(&lab, &shell);
    assert_eq!(after.total("held") - before.total("held"), 1);
    assert_eq!(after.drops("fragment_limit"), 1);
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn noise_is_accounted_for_whoever_owns_the_vip() {
    for vip in [VipOwner::Host, VipOwner::Uvs] {
        let options = Options {
            vip,
            ..Options::default()
        };
        let (lab, shell) = lab(Mode::Nat, options);
        let daemon = serving(&lab);
        let noise = noise(&Wire::of(&lab));
        send_frames(&lab.client, "eth0", &noise).expect("they are sent");
        must_serve(&lab, &daemon);
        let counters = Counters::read(&lab, &shell);
        // Of the host's own VIP the hook leaves to the host what is to no service.
        if vip == VipOwner::Uvs {
            assert!(counters.total("received") > noise.len() as u64 / 2);
        }
        daemon.stop().expect("it ends well");
    }
}

/// Frames of every length to the director: nothing but headers, and random bytes in ever more of a packet
/// to the VIP. The same on every run.
fn noise(wire: &Wire) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut frames = Vec::new();
    for round in 0..2000_usize {
        let mut frame = wire.segment((random() & 0xff) as u8);
        frame.resize(frame.len() + round % 700, 0);
        // The destination stays, or the socket's filter keeps it out.
        let first = [TCP + 12, TCP, IP + 8, IP][round % 4];
        for (at, byte) in frame.iter_mut().enumerate().skip(first) {
            if !(IP + 16..IP + 20).contains(&at) {
                *byte = (random() & 0xff) as u8;
            }
        }
        if round % 3 == 0 && frame[IP] >> 4 == 4 {
            frame[IP] = 0x45;
            seal(&mut frame);
        }
        if round % 7 == 0 {
            frame.truncate(14 + (random() % 60) as usize);
        }
        frames.push(frame);
    }
    frames
}

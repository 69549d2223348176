//! What arrives of what is sent, where the sending device can do less than the frame asks for.

use std::net::UdpSocket;

use uvs_core::frame::Offload;

use super::net::Net;
use super::packets::{super_frame, transport_checksum_holds, udp};
use super::{A, B, PATIENCE, VIP, macs, open, receive, receive_one, send, sent, to};
use crate::port::Transmit as _;
use crate::port::filter::Program;

#[test]
fn an_unfinished_checksum_is_finished_where_the_device_cannot() {
    let net = Net::pair();
    net.run("a", "ethtool -K a0 tx off");
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(B));
    let listener = net
        .inside("b", || UdpSocket::bind((B, 9)))
        .expect("a socket");
    let datagram = udp(macs(&net), B, 300);
    assert_eq!(
        send(&mut a.transmit, std::slice::from_ref(&datagram)),
        sent(&[datagram])
    );

    let (bytes, offload) = receive_one(&mut b.receive);
    assert_eq!(offload, Offload::default());
    assert!(transport_checksum_holds(&bytes));
    let mut data = [0; 400];
    listener
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out");
    assert_eq!(
        listener
            .recv(&mut data)
            .expect("the kernel takes the datagram too"),
        300
    );
}

#[test]
fn a_super_frame_is_cut_where_the_device_cannot_carry_it() {
    let net = Net::pair();
    net.run("a", "ethtool -K a0 tx off");
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(B));
    let whole = super_frame(macs(&net), B, 10 * 1448);
    assert_eq!(
        send(&mut a.transmit, std::slice::from_ref(&whole)),
        sent(&[whole])
    );
    for segment in receive(&mut b.receive, 10) {
        let (bytes, offload) = segment.expect("a whole frame");
        assert_eq!(offload, Offload::default());
        assert_eq!(bytes.len(), 54 + 1448);
        assert!(transport_checksum_holds(&bytes));
    }
}

#[test]
fn what_the_port_sends_it_does_not_receive() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &Program::everything());
    let mut b = open(&net, "b", "b0", &Program::everything());
    let out = udp(macs(&net), VIP, 10);
    send(&mut a.transmit, std::slice::from_ref(&out));
    assert_eq!(receive_one(&mut b.receive).0, out.0);
    let (a_mac, b_mac) = macs(&net);
    let back = udp((b_mac, a_mac), VIP, 20);
    send(&mut b.transmit, std::slice::from_ref(&back));
    assert_eq!(
        receive_one(&mut a.receive).0,
        back.0,
        "the first that `a` sees is what `b` sent"
    );
}

#[test]
fn a_frame_above_the_mtu_is_skipped_and_the_rest_goes_on() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let good = udp(macs(&net), VIP, 100);
    let flushed = send(
        &mut a.transmit,
        &[good.clone(), udp(macs(&net), VIP, 5000), good.clone()],
    );
    assert_eq!(
        (flushed.sent, flushed.failed, flushed.queue_full),
        (2, 1, 0)
    );
    assert_eq!(a.transmit.errors(), [(libc::EMSGSIZE, 1)]);
    assert_eq!(receive(&mut b.receive, 2), [Ok(good.clone()), Ok(good)]);
}

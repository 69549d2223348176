//! Interfaces that go, come back, or cannot be used; rights that are missing.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::net::Net;
use super::packets::udp;
use super::{A, VIP, macs, only, open, receive_one, send, to};
use crate::port::afpacket::{Port, PortOptions};
use crate::port::{Budget, Link, PortError, Receive, Transmit as _};

#[test]
fn an_interface_that_goes_and_comes_back_is_told_and_recovers() {
    let net = Net::pair();
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let datagram = udp(macs(&net), VIP, 100);
    assert_eq!(b.receive.link(), Link::Up);
    net.run("b", "ip link set b0 down");
    assert!(reports_an_error(&b.receive));
    assert_eq!(b.receive.link(), Link::Down);
    assert!(!reports_an_error(&b.receive), "asking takes the error off");
    assert_eq!(
        send(&mut b.transmit, std::slice::from_ref(&datagram)).failed,
        1
    );
    assert_eq!(b.transmit.errors(), [(libc::ENETDOWN, 1)]);
    net.run("b", "ip link set b0 up");
    assert_eq!(b.receive.link(), Link::Up);
    send(&mut a.transmit, std::slice::from_ref(&datagram));
    assert_eq!(receive_one(&mut b.receive), datagram);

    net.run("b", "ip link delete b0");
    assert_eq!(
        (a.receive.link(), b.receive.link()),
        (Link::Gone, Link::Gone)
    );
    assert_eq!(
        send(&mut a.transmit, std::slice::from_ref(&datagram)).failed,
        1
    );
    assert_eq!(a.transmit.errors(), [(libc::ENXIO, 1)]);
    assert_eq!(b.receive.fill(Budget::default()), 0);

    net.veth(("a", "a0"), ("b", "b0"));
    let mut a = open(&net, "a", "a0", &to(A));
    let mut b = open(&net, "b", "b0", &to(VIP));
    let datagram = udp(macs(&net), VIP, 100);
    send(&mut a.transmit, std::slice::from_ref(&datagram));
    assert_eq!(receive_one(&mut b.receive), datagram);
}

#[test]
fn a_port_on_an_interface_that_is_down_works_once_it_is_up() {
    let net = Net::pair();
    net.run("b", "ip link set b0 down");
    let mut a = open(&net, "a", "a0", &to(VIP));
    let mut b = open(&net, "b", "b0", &to(VIP));
    assert_eq!(b.receive.link(), Link::Down);
    net.run("b", "ip link set b0 up");
    assert_eq!(b.receive.link(), Link::Up);
    let (a_mac, b_mac) = macs(&net);
    let there = udp((a_mac, b_mac), VIP, 100);
    send(&mut a.transmit, std::slice::from_ref(&there));
    assert_eq!(receive_one(&mut b.receive), there);
    let back = udp((b_mac, a_mac), VIP, 200);
    send(&mut b.transmit, std::slice::from_ref(&back));
    assert_eq!(receive_one(&mut a.receive), back);
}

fn reports_an_error(rx: &dyn Receive) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::from_borrowed_fd(rx.descriptors()[0], PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).expect("poll");
    fds[0].revents().contains(PollFlags::ERR)
}

#[test]
fn what_cannot_be_opened_is_told_with_the_fix() {
    let net = Net::pair();
    let failure = |dev: &str| {
        let dev = dev.to_owned();
        net.inside("b", move || only(&dev, &PortOptions::default(), &to(VIP)))
            .expect_err("must not open")
            .to_string()
    };
    assert_eq!(
        failure("eth7"),
        "no interface is named `eth7`; `ip link` lists those there are"
    );
    assert!(failure("").starts_with("no interface is named ``"));
    // Cut to 15 bytes, as the kernel would, it would be another name.
    assert!(failure("b0-and-much-too-long").starts_with("no interface is named `b0-and"));
    assert!(failure("lo").starts_with("`lo` is not an Ethernet interface (ARPHRD type 772)"));
}

/// Opens `b0` without some capabilities; they are a thread's own.
fn open_without(
    net: &Net,
    dropped: CapabilitySet,
    options: &PortOptions,
) -> Result<Port, PortError> {
    net.inside("b", || {
        let mut sets = capabilities(None).expect("capget");
        sets.effective.remove(dropped);
        set_capabilities(None, sets).expect("capset");
        only("b0", options, &to(VIP))
    })
}

#[test]
fn without_net_raw_the_capability_is_named() {
    let net = Net::pair();
    let e = open_without(&net, CapabilitySet::NET_RAW, &PortOptions::default())
        .expect_err("not allowed");
    assert!(e.to_string().contains("CAP_NET_RAW is missing"), "{e}");
}

#[test]
fn without_net_admin_the_port_opens_with_the_buffer_that_is_allowed() {
    let net = Net::pair();
    let options = PortOptions {
        receive_buffer: 64 << 20,
        ..PortOptions::default()
    };
    let port = open_without(&net, CapabilitySet::NET_ADMIN, &options).expect("opens");
    let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").expect("procfs");
    let allowed: usize = allowed.trim().parse().expect("a number");
    assert_eq!(port.receive_buffer, 2 * allowed.min(64 << 20));
}

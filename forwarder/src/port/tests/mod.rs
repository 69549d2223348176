//! The AF_PACKET port on real veth pairs: what the kernel hands over, and what arrives of what we send.

mod filter;
mod forward;
mod interface;
mod marked;
mod net;
mod packets;
mod receive;
mod send;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use uvs_core::frame::Offload;
use uvs_core::verdict::DropReason;

use net::Net;

use super::afpacket::{Port, PortOptions};
use super::filter::{FilterSpec, Program};
use super::{Budget, Flushed, PortError, Receive, Received, Transmit};

/// An address that no interface has, as a VIP's is.
const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

fn to(address: Ipv4Addr) -> Program {
    FilterSpec {
        to: vec![address],
        ..FilterSpec::default()
    }
    .compile()
}

/// A port of one worker.
fn only(dev: &str, options: &PortOptions, filter: &Program) -> Result<Port, PortError> {
    let mut ports = Port::open_all(dev, options, filter, 1)?;
    Ok(ports.pop().expect("one port"))
}

fn open(net: &Net, ns: &str, dev: &str, filter: &Program) -> Port {
    open_with(net, ns, dev, filter, &PortOptions::default())
}

fn open_with(net: &Net, ns: &str, dev: &str, filter: &Program, options: &PortOptions) -> Port {
    net.inside(ns, || only(dev, options, filter))
        .expect("the port opens")
}

/// Waits until the port is readable; `false` once the patience is at an end.
fn wait(rx: &dyn Receive, until: Instant) -> bool {
    while !rx.is_ready() {
        if Instant::now() > until {
            return false;
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        poll(
            &mut [PollFd::from_borrowed_fd(rx.descriptors()[0], PollFlags::IN)],
            Some(&timeout),
        )
        .expect("poll");
    }
    true
}

/// What arrived: the bytes, or the reason for a drop.
type Arrival = Result<(Vec<u8>, Offload), DropReason>;

/// Receives `count` frames.
fn receive(rx: &mut dyn Receive, count: usize) -> Vec<Arrival> {
    let until = Instant::now() + PATIENCE;
    let mut arrived = Vec::new();
    while arrived.len() < count {
        assert!(
            wait(rx, until),
            "{} of {count} frames arrived: {arrived:?}",
            arrived.len()
        );
        for i in 0..rx.fill(Budget::default()) {
            match rx.frame(i) {
                Received::Frame(frame, _) => {
                    arrived.push(Ok((frame.bytes().to_vec(), frame.offload)))
                }
                Received::Drop(reason) => arrived.push(Err(reason)),
                Received::Pass => panic!("the filter rejects tagged frames"),
            }
        }
        rx.release();
    }
    arrived
}

/// The bytes of one whole frame.
fn receive_one(rx: &mut dyn Receive) -> (Vec<u8>, Offload) {
    receive(rx, 1).remove(0).expect("a whole frame")
}

fn send(tx: &mut dyn Transmit, frames: &[(Vec<u8>, Offload)]) -> Flushed {
    for (bytes, offload) in frames {
        tx.queue_copy(bytes, offload).expect("room for the copy");
    }
    tx.flush(&[])
}

fn sent(frames: &[(Vec<u8>, Offload)]) -> Flushed {
    let bytes = frames.iter().map(|(f, _)| f.len() as u64).sum();
    Flushed {
        sent: frames.len() as u64,
        bytes,
        ..Flushed::default()
    }
}

/// The MAC addresses of the pair, source and destination of what `a` sends.
fn macs(net: &Net) -> ([u8; 6], [u8; 6]) {
    (net.mac("a", "a0"), net.mac("b", "b0"))
}

//! The way out: frames of the outbox, into the host, through the queue for a next hop, and what is lost.

use std::ops::Range;

use uvs_core::flow::Addr;
use uvs_core::frame::{Frame, Offload};
use uvs_core::time::Instant;
use uvs_core::verdict::{DropReason, Egress, PortId};
use uvs_core::wire::ethernet;

use super::Worker;
use super::ask::Notice;
use super::hold::Admission;
use crate::clock::realtime_ns;
use crate::port::afpacket::destination;
use crate::port::vnet::VNET_LEN;

impl Worker {
    /// For the host itself, which the guard has kept from it: to its programs, or to be forwarded by it. Where the
    /// engine has made something for the host, that goes in the frame's stead; what else it has made leaves.
    pub(super) fn send_to_host(
        &mut self,
        now: Instant,
        port: usize,
        index: usize,
        range: Range<usize>,
        offload: &Offload,
    ) {
        if !self.send_made_to_host(now) {
            self.rx[port].seal(index, range, offload);
            let bytes = self.rx[port].sealed(index)[VNET_LEN..].to_vec();
            self.hand_to_host(bytes, offload);
        }
    }

    /// As [`Worker::send_to_host`], of a frame that is in no ring.
    pub(super) fn send_copy_to_host(&mut self, now: Instant, bytes: &[u8], offload: &Offload) {
        if !self.send_made_to_host(now) {
            self.hand_to_host(bytes.to_vec(), offload);
        }
    }

    /// Sends what the engine has made; whether some of it goes to the host in the frame's stead.
    fn send_made_to_host(&mut self, now: Instant) -> bool {
        let outbox = std::mem::take(&mut self.outbox);
        let mut replaced = false;
        for (bytes, offload, egress) in outbox.iter() {
            if egress.port == PortId::HOST {
                replaced = true;
                self.hand_to_host(bytes.to_vec(), &offload);
            } else {
                self.send_made(now, bytes, offload, egress);
            }
        }
        self.outbox = outbox;
        replaced
    }

    /// For the host too, where the hook has kept it from it and it turns out not to be ours: the last packets of a
    /// connection that has ended meanwhile. Of ARP the host has its own copy.
    pub(super) fn give_back(
        &mut self,
        port: usize,
        index: usize,
        range: Range<usize>,
        offload: &Offload,
    ) {
        self.rx[port].seal(index, range, offload);
        let bytes = self.rx[port].sealed(index)[VNET_LEN..].to_vec();
        self.give_copy_back(&bytes, offload);
    }

    /// As [`Worker::give_back`], of a frame that is in no ring.
    pub(super) fn give_copy_back(&mut self, bytes: &[u8], offload: &Offload) {
        if ethernet::Header::new(bytes).ethertype() != ethernet::ethertype::ARP {
            self.hand_to_host(bytes.to_vec(), offload);
        }
    }

    fn hand_to_host(&mut self, mut bytes: Vec<u8>, offload: &Offload) {
        let packet = bytes.get(ethernet::LEN..).unwrap_or_default();
        let is_own = destination(packet).is_some_and(|dst| self.fib.is_local(dst));
        let mut header = ethernet::Header::new_mut(&mut bytes);
        header.set_dst([0; 6]);
        header.set_src([0; 6]);
        let host = self.host();
        self.ledgers[host].handed += 1;
        let way = match is_own {
            true => &mut self.tx[host],
            false => &mut self.reinject,
        };
        if let Err(reason) = way.queue_copy(&bytes, offload) {
            self.lose(host, 1, reason);
        }
    }

    pub(super) fn send_outbox(&mut self, now: Instant) {
        let outbox = std::mem::take(&mut self.outbox);
        for (bytes, offload, egress) in outbox.iter() {
            self.send_made(now, bytes, offload, egress);
        }
        self.outbox = outbox;
    }

    /// A frame that the engine has made.
    pub(super) fn send_made(
        &mut self,
        now: Instant,
        bytes: &[u8],
        offload: Offload,
        egress: Egress,
    ) {
        let port = self.place(egress.port);
        self.ledgers[port].handed += 1;
        if let Some(via) = egress.unresolved {
            let admission = self.hold.keep(now, egress.port, via, bytes, offload);
            self.held(egress.port, via, admission);
        } else if let Err(reason) = self.tx[port].queue_copy(bytes, &offload) {
            self.lose(port, 1, reason);
        }
    }

    pub(super) fn held(&mut self, port: PortId, via: Addr, admission: Admission) {
        match admission {
            Admission::First => self.solicited.push((port, via)),
            Admission::Kept => {}
            Admission::Full => self.lose(usize::from(port.0), 1, DropReason::HoldQueueFull),
        }
    }

    /// Frames that were to leave by a port did not.
    pub(super) fn lose(&mut self, port: usize, n: u64, reason: DropReason) {
        self.ledgers[port].lose(n, reason);
        self.engine.count_lost(n, reason);
    }

    /// Sends what is queued, and before it has the kernel know what it is to do with the answers.
    pub(super) fn flush(&mut self, now: Instant) {
        self.engine.give_orders(now);
        for (tx, ledger) in self.tx.iter_mut().zip(&mut self.ledgers) {
            let flushed = tx.flush(&self.rx);
            ledger.flushed(&flushed);
            self.engine
                .count_lost(flushed.queue_full, DropReason::SendQueueFull);
            self.engine
                .count_lost(flushed.failed, DropReason::SendFailed);
        }
        // What was said of a packet leaves before what the host says of it, and before the host asks for its next hop.
        let host = self.host();
        let reinjected = self.reinject.flush(&self.rx);
        self.ledgers[host].flushed(&reinjected);
        self.engine
            .count_lost(reinjected.queue_full, DropReason::SendQueueFull);
        self.engine
            .count_lost(reinjected.failed, DropReason::SendFailed);
        for (port, via) in self.solicited.drain(..) {
            (self.line.notices)(Notice::Solicit(port, via));
        }
    }

    /// One clock reading for the whole batch: it left together.
    pub(super) fn record_latency(&mut self) {
        let now = realtime_ns();
        for arrived in self.arrivals.drain(..) {
            self.latency.record(now.saturating_sub(arrived));
        }
    }

    /// Frames whose next hop did not answer in time are lost, and their senders are told.
    pub(super) fn give_up_on_held(&mut self, now: Instant) {
        if !self.hold.is_empty() {
            self.hold.expire(now, &mut self.given_up);
            self.tell_senders(now);
        }
    }

    pub(super) fn tell_senders(&mut self, now: Instant) {
        for (port, held) in std::mem::take(&mut self.given_up) {
            self.lose(usize::from(port.0), 1, DropReason::NeighbourUnresolved);
            let mut bytes = held.bytes;
            let end = bytes.len();
            let mut frame = Frame::new(&mut bytes, 0, end, held.offload);
            self.engine
                .handle_unreachable(now, &mut frame, &mut self.outbox);
            self.send_outbox(now);
            self.outbox.clear();
        }
        self.flush(now);
    }
}

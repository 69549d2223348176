//! All that can be seen of a bed, but for where its frames were forwarded.

use crate::counters::Counters;
use crate::engine::{ConnReport, Report};
use crate::testing::bed::{Bed, Sent};
use crate::wire::ethernet::{self, ethertype};
use crate::wire::{icmp, ipv4, protocol};

/// What can be seen, a line for each thing.
pub(super) struct View(Vec<String>);

impl View {
    pub(super) fn of(bed: &Bed) -> Self {
        let (connections, _) = bed.engine.report_connections(bed.now, 0, u32::MAX);
        let mut connections: Vec<String> = connections.into_iter().map(line).collect();
        connections.sort_unstable();
        let sent = bed.sent.iter().map(plain);
        let services = services(bed.engine.report(bed.now));
        let rest = [
            format!("{:?}", services.retired),
            format!("{:?}", counters(bed)),
        ];
        let services = services.services.iter().map(|s| format!("{s:?}"));
        let all = sent.chain(connections).chain(services).chain(rest);
        Self(all.collect())
    }

    /// The first line that is another one.
    pub(super) fn difference(&self, other: &Self) -> Option<(Option<String>, Option<String>)> {
        let lines = self.0.len().max(other.0.len());
        let mut both = (0..lines).map(|at| (self.0.get(at).cloned(), other.0.get(at).cloned()));
        both.find(|(a, b)| a != b)
    }
}

fn line(c: ConnReport) -> String {
    let c = ConnReport {
        in_kernel: false,
        ..c
    };
    format!("{c:?}")
}

/// A frame without the identification that the director gives its own packets and outer headers, and those that it
/// translates, which errors quote: it counts those of the packets that it sees.
fn plain(sent: &Sent) -> String {
    let mut bytes = sent.bytes.clone();
    if ethernet::Header::new(&bytes).ethertype() == ethertype::IPV4 {
        hide_identification(&mut bytes[ethernet::LEN..]);
        if let Some(quoted) = quoted_at(&bytes) {
            hide_identification(&mut bytes[quoted..]);
        }
    }
    format!("{:?} {:?} {bytes:02x?}", sent.port, sent.offload)
}

/// Where the header is that an ICMP error of IPv4 quotes, in the frame that has it.
fn quoted_at(bytes: &[u8]) -> Option<usize> {
    let header = ipv4::Header::new(&bytes[ethernet::LEN..]);
    let message = ethernet::LEN + header.header_len();
    let quoted = message + icmp::LEN;
    let is_whole = bytes.len() >= quoted + ipv4::MIN_LEN && header.protocol() == protocol::ICMP;
    let is_error = || icmp::ERRORS.contains(&icmp::Header::new(&bytes[message..]).kind());
    (is_whole && is_error()).then_some(quoted)
}

fn hide_identification(header: &mut [u8]) {
    let mut header = ipv4::Header::new_mut(header);
    header.set_id(0);
    header.set_checksum(0);
}

/// Without the time that handshakes took, and that they were answered: that is taken in a little later.
fn services(mut report: Report) -> Report {
    for service in &mut report.services {
        for server in &mut service.servers {
            server.numbers.handshake = 0;
            let handshakes = &mut server.numbers.handshakes;
            (handshakes.ok, handshakes.ok_ago, handshakes.failed_in_a_row) = (0, None, 0);
        }
    }
    report
}

/// As if all had come up. What comes up of a connection whose service has gone is given to the host.
fn counters(bed: &Bed) -> Counters {
    let mut c = bed.engine.counters();
    let forwarded = bed.hook.as_ref().map_or(0, |hook| hook.forwarded());
    c.received += forwarded;
    c.sent += forwarded;
    c.local += std::mem::take(&mut c.passed);
    c.segments = 0;
    c
}

//! Cutting a packet that is too long into fragments.

use crate::frame::Offload;
use crate::narrow;
use crate::outbox::Outbox;
use crate::verdict::Egress;
use crate::wire::{ethernet, ipv4, ipv6, protocol};

/// The fragments that a datagram came in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pieces<'a> {
    /// The lengths of their data; none where it came whole.
    pub sizes: &'a [u16],
    /// Their identification.
    pub id: u32,
}

/// How a packet is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    /// Bytes of the longest fragment, its headers included.
    pub limit: usize,
    /// What the packet, or the one within it, came in: the sizes are kept where they fit, and the identification
    /// where it is of IPv6 (IPv4's own header says it).
    pub pieces: Pieces<'a>,
}

impl Cut<'_> {
    /// Into fragments of at most `limit` bytes, of a packet that came whole.
    pub const fn to(limit: usize) -> Self {
        let pieces = Pieces { sizes: &[], id: 0 };
        Self { limit, pieces }
    }
}

/// Cuts the IP packet in a whole frame.
///
/// The caller has finished its checksum, and left IPv4's DF as it is to be.
pub fn cut(frame: &[u8], how: &Cut<'_>, egress: Egress, out: &mut Outbox) {
    match ethernet::Header::new(frame).ethertype() {
        ethernet::ethertype::IPV6 => cut_ipv6(frame, how, egress, out),
        _ => cut_ipv4(frame, how, egress, out),
    }
}

/// Options that are not to be copied become no-ops after the first fragment (RFC 791 §3.1).
fn cut_ipv4(frame: &[u8], how: &Cut<'_>, egress: Egress, out: &mut Outbox) {
    let ip = ethernet::LEN;
    let whole = ipv4::Header::new(&frame[ip..]);
    let header = whole.header_len();
    let (head, payload) = frame.split_at(ip + header);
    let plan = how.plan(header, payload.len());
    let mut at = 0;
    for n in plan {
        let last = at + n == payload.len();
        let mut draft = out.draft(head.len() + n);
        let b = draft.bytes_mut();
        b[..head.len()].copy_from_slice(head);
        b[head.len()..].copy_from_slice(&payload[at..at + n]);
        let fragment = &mut b[ip..head.len()];
        if at > 0 {
            ipv4::options::blank_uncopied(&mut fragment[ipv4::MIN_LEN..]);
        }
        let mut part = ipv4::Header::new_mut(fragment);
        part.set_total_len(narrow::to_u16(header + n));
        part.set_part(
            whole.fragment_offset() + at,
            !last || whole.more_fragments(),
        );
        ipv4::seal(fragment);
        let range = draft.range();
        out.push(range, Offload::default(), egress);
        at += n;
    }
}

/// Each fragment has the headers that routers look at, and a Fragment header behind them (RFC 8200 §4.5).
fn cut_ipv6(frame: &[u8], how: &Cut<'_>, egress: Egress, out: &mut Outbox) {
    let ip = ethernet::LEN;
    let repeated = ipv6::repeated(&frame[ip..]);
    let (head, payload) = frame.split_at(ip + repeated.len);
    let headers = repeated.len + ipv6::FRAGMENT_LEN;
    let mut at = 0;
    for n in how.plan(headers, payload.len()) {
        let last = at + n == payload.len();
        let mut draft = out.draft(ip + headers + n);
        let b = draft.bytes_mut();
        b[..head.len()].copy_from_slice(head);
        b[ip + repeated.named_at] = protocol::FRAGMENT;
        let mut packet = ipv6::Header::new_mut(&mut b[ip..]);
        packet.set_payload_len(narrow::to_u16(headers + n - ipv6::LEN));
        let mut part = ipv6::Fragment::new_mut(&mut b[head.len()..]);
        part.set_next_header(repeated.protocol);
        part.set_reserved(0);
        part.set_part(at, !last);
        part.set_id(how.pieces.id);
        b[ip + headers..].copy_from_slice(&payload[at..at + n]);
        let range = draft.range();
        out.push(range, Offload::default(), egress);
        at += n;
    }
}

impl Cut<'_> {
    /// The lengths of the fragments of `total` bytes, behind `headers` bytes each.
    ///
    /// As `ip6_fragment` and `ip_do_fragment`: the pieces that the packet came in are kept, the first with what has
    /// been put before it since, where all are of a length that a fragment may have.
    fn plan(&self, headers: usize, total: usize) -> impl Iterator<Item = usize> {
        let room = self.limit.saturating_sub(headers);
        let step = (room & !7).max(8);
        let pieces = self.pieces.sizes;
        let came: usize = pieces.iter().map(|n| usize::from(*n)).sum();
        let added = total.saturating_sub(came);
        let len = move |i: usize, n: &u16| usize::from(*n) + if i == 0 { added } else { 0 };
        let fits = |(i, n): (usize, &u16)| {
            let len = len(i, n);
            len <= room && (len.is_multiple_of(8) || i + 1 == pieces.len())
        };
        let kept = !pieces.is_empty() && came <= total && pieces.iter().enumerate().all(fits);
        let mut left = total;
        let mut i = 0;
        std::iter::from_fn(move || {
            let n = match pieces.get(i).filter(|_| kept) {
                Some(n) => len(i, n),
                None => step.min(left),
            };
            i += 1;
            left -= n;
            (n > 0).then_some(n)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fragments of a packet of 40 bytes of headers.
    fn plan(limit: usize, pieces: &[u16], total: usize) -> Vec<usize> {
        let pieces = Pieces {
            sizes: pieces,
            id: 0,
        };
        let cut = Cut { limit, pieces };
        cut.plan(48, total).collect()
    }

    #[test]
    fn a_packet_that_came_whole_is_cut_as_long_as_may_be() {
        assert_eq!(plan(1280, &[], 2048), [1232, 816]);
        assert_eq!(plan(1287, &[], 100), [100]);
        assert_eq!(plan(10, &[], 20), [8, 8, 4]);
    }

    #[test]
    fn the_old_pieces_are_kept_with_what_was_put_before_the_first() {
        assert_eq!(plan(1280, &[800, 800, 408], 2048), [840, 800, 408]);
        assert_eq!(plan(1280, &[200, 200], 400), [200, 200]);
    }

    #[test]
    fn pieces_that_do_not_fit_any_more_are_not_kept() {
        assert_eq!(plan(1280, &[1200, 808], 2048), [1232, 816]);
        assert_eq!(plan(1280, &[796, 804], 1600), [1232, 368]);
        assert_eq!(plan(1280, &[800, 900], 1600), [1232, 368]);
    }
}

//! What lies on the wire: one protocol a file, its fields by name.
//!
//! A header is a **view** over bytes, made once: `new_checked` looks whether the bytes are enough, and what is read
//! or written after that cannot fail, for the view borrows an array of exactly the header's length. `new` and
//! `new_mut` are for bytes that were checked before, as `packet::parse` does it for every received frame; fewer
//! there are a broken invariant, and a panic. What a header says of its own length (IPv4's options, TCP's data
//! offset) is checked by a function of its file; what a whole header holds that we write ourselves is a `Repr`.
//!
//! Numbers are in host byte order, addresses are octets, offsets (for socket filters and offloads) count from
//! the header's first byte. Nothing here knows of frames in hand, connections or verdicts: this folder uses no
//! other of the crate's, and no other has an offset of its own. A protocol that is missing is a file that is
//! missing, beside [`ipv4`] and [`icmp`].

#[macro_use]
mod view;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod ports;
pub mod protocol;
pub mod proxy;
pub mod sctp;
pub mod sip;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod udp;

/// Why bytes are not the header that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are fewer than the header has, or says that it has.
    Truncated,
    /// A field of it has a value that cannot be.
    Header,
}

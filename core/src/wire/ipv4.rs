//! IPv4 (RFC 791).

use std::borrow::{Borrow, BorrowMut};

use super::Malformed;
use super::checksum::{self, Delta};
use crate::narrow;

pub mod options;

/// Bytes of the header without options.
pub const MIN_LEN: usize = 20;
/// Bytes of the header with as many options as it can have.
pub const MAX_LEN: usize = 60;

/// The first byte of a header of version 4 without options.
const FIRST: u8 = 4 << 4 | narrow::to_u8(MIN_LEN / 4);
/// "Don't fragment" in the word of flags and fragment offset.
const DONT_FRAGMENT: u16 = 0x4000;
/// "More fragments" in the word of flags and fragment offset.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The offset's bits in the word of flags and fragment offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

header! {
    /// An IPv4 header without its options.
    pub struct Header[MIN_LEN], offset;
    /// Version, and the header's length in units of 4 bytes.
    pub(super) FIRST => first, set_first: u8 = 0;
    /// Type of service: DSCP and ECN (RFC 2474, RFC 3168).
    pub TOS => tos, set_tos: u8 = 1;
    /// Bytes of header and data; 0 in a super-frame that is too long for it.
    pub TOTAL_LEN => total_len, set_total_len: u16 = 2;
    /// Identification: whose fragment it is.
    pub ID => id, set_id: u16 = 4;
    /// Flags and fragment offset.
    pub FRAGMENT => fragment, set_fragment: u16 = 6;
    /// Time to live.
    pub TTL => ttl, set_ttl: u8 = 8;
    /// What lies behind it, of [`protocol`](crate::wire::protocol).
    pub PROTOCOL => protocol, set_protocol: u8 = 9;
    /// Checksum over header and options.
    pub CHECKSUM => checksum, set_checksum: u16 = 10;
    /// Source address.
    pub SRC => src, set_src: [u8; 4] = 12;
    /// Destination address.
    pub DST => dst, set_dst: [u8; 4] = 16;
}

impl<B: Borrow<[u8; MIN_LEN]>> Header<B> {
    /// IP version; 4.
    #[inline]
    pub fn version(&self) -> u8 {
        self.first() >> 4
    }

    /// Bytes of the header with its options, as it says: 0 to 60, of which only 20 and more can be.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.first() & 0x0f) * 4
    }

    /// Whether it is of version 4 and its length can be, where the packet has `available` bytes.
    ///
    /// # Errors
    /// [`Malformed::Header`] where it cannot be, [`Malformed::Truncated`] where it is longer than that.
    #[inline]
    pub fn check(&self, available: usize) -> Result<(), Malformed> {
        if self.first() == FIRST && available >= MIN_LEN {
            Ok(())
        } else if self.version() != 4 || self.header_len() < MIN_LEN {
            Err(Malformed::Header)
        } else if self.header_len() > available {
            Err(Malformed::Truncated)
        } else {
            Ok(())
        }
    }

    /// Whether its checksum is right, where it has no options.
    #[inline]
    pub fn is_sound(&self) -> bool {
        checksum::is_right_in(self.0.borrow())
    }

    /// Whether the packet must not be cut.
    #[inline]
    pub fn dont_fragment(&self) -> bool {
        self.fragment() & DONT_FRAGMENT != 0
    }

    /// Whether another fragment follows this one.
    #[inline]
    pub fn more_fragments(&self) -> bool {
        self.fragment() & MORE_FRAGMENTS != 0
    }

    /// Where this fragment's data begin in its datagram, bytes.
    #[inline]
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.fragment() & FRAGMENT_OFFSET) * 8
    }

    /// Whether it is a fragment, the first one too.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment() & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }
}

impl<B: BorrowMut<[u8; MIN_LEN]>> Header<B> {
    /// Sets whether the packet must not be cut.
    pub fn set_dont_fragment(&mut self, yes: bool) {
        let others = self.fragment() & !DONT_FRAGMENT;
        self.set_fragment(others | if yes { DONT_FRAGMENT } else { 0 });
    }

    /// Says that the packet is whole, and whether it must not be cut.
    pub fn set_whole(&mut self, dont_fragment: bool) {
        self.set_fragment(whole(dont_fragment));
    }

    /// Sets which part of its datagram it is: where its data begin, a multiple of 8 bytes below 64 KiB, and
    /// whether more follow.
    pub fn set_part(&mut self, offset: usize, more: bool) {
        let others = self.fragment() & !(MORE_FRAGMENTS | FRAGMENT_OFFSET);
        let more = if more { MORE_FRAGMENTS } else { 0 };
        self.set_fragment(others | more | narrow::to_u16(offset / 8) & FRAGMENT_OFFSET);
    }

    /// Replaces the type of service, and the checksum by the difference.
    pub fn change_tos(&mut self, tos: u8) {
        let delta = Delta::ZERO.word(self.tos().into(), tos.into());
        self.set_tos(tos);
        self.set_checksum(delta.apply(self.checksum()));
    }

    /// Lowers the time to live by one, not below 0, and changes the checksum by the difference.
    #[inline(always)]
    pub fn decrement_ttl(&mut self) {
        // The same for every TTL.
        const ONE_LESS: Delta = Delta::ZERO.word(1 << 8, 0);
        let Some(ttl) = self.ttl().checked_sub(1) else {
            return;
        };
        self.set_ttl(ttl);
        self.set_checksum(ONE_LESS.apply(self.checksum()));
    }
}

/// A packet whose header is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its header without options.
    pub header: Header<&'a [u8; MIN_LEN]>,
    /// The header's options.
    pub options: &'a [u8],
    /// What follows, to the end of the bytes; the total length is not looked at.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet that `bytes` are.
    ///
    /// # Errors
    /// As [`Header::new_checked`] and [`Header::check`].
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let header = Header::new_checked(bytes)?;
        header.check(bytes.len())?;
        let (head, payload) = bytes.split_at(header.header_len());
        Ok(Self {
            header,
            options: &head[MIN_LEN..],
            payload,
        })
    }

    /// Whether the header's checksum is right.
    pub fn is_sound(&self) -> bool {
        checksum::add(checksum::sum(self.header.0), checksum::sum(self.options)) == 0xffff
    }
}

/// What an IPv4 header without options says, of a packet that is no fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Type of service.
    pub tos: u8,
    /// Bytes of header and data.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Whether it must not be cut.
    pub dont_fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// What lies behind it, of [`protocol`](super::protocol).
    pub protocol: u8,
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
}

impl Repr {
    /// Writes it to the beginning of `packet`, with its checksum.
    ///
    /// # Panics
    /// Where that is shorter than [`MIN_LEN`].
    #[inline]
    pub fn emit(&self, packet: &mut [u8]) {
        let mut header = Header::new_mut(packet);
        header.set_first(FIRST);
        header.set_tos(self.tos);
        header.set_total_len(self.total_len);
        header.set_id(self.id);
        header.set_whole(self.dont_fragment);
        header.set_ttl(self.ttl);
        header.set_protocol(self.protocol);
        header.set_checksum(self.checksum());
        header.set_src(self.src);
        header.set_dst(self.dst);
    }

    /// Its checksum, of its words as they are here: a sum over bytes that were only just written would wait for them.
    fn checksum(&self) -> u16 {
        let pair = |high, low| u64::from(u16::from_be_bytes([high, low]));
        let address = |address| u64::from(u32::from_be_bytes(address));
        let sum = pair(FIRST, self.tos)
            + u64::from(self.total_len)
            + u64::from(self.id)
            + u64::from(whole(self.dont_fragment))
            + pair(self.ttl, self.protocol)
            + address(self.src)
            + address(self.dst);
        !checksum::fold(sum)
    }

    /// The sum of the pseudo-header of the transport behind it.
    pub fn pseudo_header(&self) -> u16 {
        let len = u32::from(self.total_len).saturating_sub(narrow::to_u32(MIN_LEN));
        checksum::pseudo_header_v4(self.src, self.dst, self.protocol, len)
    }
}

/// The word of flags and fragment offset of a packet that is no fragment.
const fn whole(dont_fragment: bool) -> u16 {
    if dont_fragment { DONT_FRAGMENT } else { 0 }
}

/// Writes the checksum of a whole header, options and all.
///
/// # Panics
/// Where it is shorter than [`MIN_LEN`].
pub fn seal(header: &mut [u8]) {
    Header::new_mut(header).set_checksum(0);
    let sum = checksum::of(header);
    Header::new_mut(header).set_checksum(sum);
}

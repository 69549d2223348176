//! Netlink's attributes: written with the kernel's padding, read with every length checked. Numbers are in the
//! host's byte order unless said otherwise (linux/netlink.h, include/net/netlink.h).

use netlink_packet_core::{DefaultNla, Emitable, NlaBuffer, NlasIterator};

use crate::errno::Errno;

/// Attributes to be sent, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<DefaultNla>);

impl Attributes {
    /// No attribute yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Bytes as they are.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.push(DefaultNla::new(kind, value.to_vec()));
        self
    }

    /// A number of 8 bits.
    #[must_use]
    pub fn u8(self, kind: u16, value: u8) -> Self {
        self.bytes(kind, &[value])
    }

    /// A number of 16 bits.
    #[must_use]
    pub fn u16(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A port, in network byte order.
    #[must_use]
    pub fn port(self, kind: u16, value: u16) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A number of 32 bits.
    #[must_use]
    pub fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A number of 64 bits.
    #[must_use]
    pub fn u64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// A text with its NUL.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    /// Attributes within an attribute, without NLA_F_NESTED, as IPVS in the kernel answers.
    #[must_use]
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        let bytes = inner.to_bytes();
        self.bytes(kind, &bytes)
    }

    /// As they lie in a message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let all = self.0.as_slice();
        let mut bytes = vec![0; all.buffer_len()];
        all.emit(&mut bytes);
        bytes
    }
}

/// Attributes that were received: the last one of each type counts, unknown ones are passed over.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a>(&'a [u8]);

impl<'a> Received<'a> {
    /// Looks at all of them.
    ///
    /// # Errors
    /// One that is cut off.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Errno> {
        match NlasIterator::new(bytes).all(|attribute| attribute.is_ok()) {
            true => Ok(Self(bytes)),
            false => Err(Errno::Invalid),
        }
    }

    /// The value of an attribute. NLA_F_NESTED makes no difference.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        let of_kind = |attribute: NlaBuffer<&'a [u8]>| {
            (attribute.kind() == kind).then(|| {
                let bytes = attribute.into_inner();
                let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
                &bytes[4..length]
            })
        };
        let all = NlasIterator::new(self.0).filter_map(Result::ok);
        all.filter_map(of_kind).last()
    }

    /// The attributes within an attribute.
    ///
    /// # Errors
    /// There is no such attribute, or something in it is cut off.
    pub fn nest(&self, kind: u16) -> Result<Self, Errno> {
        Self::parse(self.get(kind).ok_or(Errno::Invalid)?)
    }

    /// A number of 8 bits.
    pub fn u8(&self, kind: u16) -> Option<u8> {
        self.array(kind).map(|[byte]| byte)
    }

    /// A number of 16 bits.
    pub fn u16(&self, kind: u16) -> Option<u16> {
        self.array(kind).map(u16::from_ne_bytes)
    }

    /// A port, in network byte order.
    pub fn port(&self, kind: u16) -> Option<u16> {
        self.array(kind).map(u16::from_be_bytes)
    }

    /// A number of 32 bits.
    pub fn u32(&self, kind: u16) -> Option<u32> {
        self.array(kind).map(u32::from_ne_bytes)
    }

    /// The first bytes of an attribute that may be longer.
    pub fn array<const N: usize>(&self, kind: u16) -> Option<[u8; N]> {
        self.get(kind)?.first_chunk().copied()
    }

    /// A text up to its NUL, or to its end where it has none.
    pub fn text(&self, kind: u16) -> Option<&'a str> {
        let bytes = self.get(kind)?;
        let text = bytes.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }
}

//! The bytes of nfnetlink: attributes and messages, written, and read again. Numbers are big-endian in the
//! attributes of nf_tables, and the host's own in netlink's headers.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator,
};

/// NFNL_SUBSYS_NFTABLES (linux/netfilter/nfnetlink.h).
const SUBSYSTEM: u16 = 10;
/// NFPROTO_NETDEV (linux/netfilter.h).
pub(in crate::guard) const FAMILY: u8 = 5;
/// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// Bytes of `struct nlmsghdr` and of `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;
/// NLA_F_NESTED.
const NESTED: u16 = 1 << 15;

/// What a message is about: NFT_MSG_* (enum nf_tables_msg_types).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::guard) struct Kind(pub(in crate::guard) u8);

impl Kind {
    pub(in crate::guard) const NEW_TABLE: Self = Self(0);
    pub(in crate::guard) const GET_TABLE: Self = Self(1);
    pub(in crate::guard) const DELETE_TABLE: Self = Self(2);
    pub(in crate::guard) const NEW_CHAIN: Self = Self(3);
    pub(in crate::guard) const GET_CHAIN: Self = Self(4);
    pub(in crate::guard) const NEW_RULE: Self = Self(6);
    pub(in crate::guard) const GET_RULE: Self = Self(7);
    pub(in crate::guard) const NEW_SET: Self = Self(9);
    pub(in crate::guard) const GET_SET: Self = Self(10);
    pub(in crate::guard) const NEW_ELEMENTS: Self = Self(12);
    pub(in crate::guard) const GET_ELEMENTS: Self = Self(13);
    pub(in crate::guard) const DELETE_ELEMENTS: Self = Self(14);
    pub(in crate::guard) const NEW_GENERATION: Self = Self(15);
    pub(in crate::guard) const NEW_OBJECT: Self = Self(18);
    pub(in crate::guard) const GET_OBJECT: Self = Self(19);
}

/// Attributes, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::guard) struct Attributes(Vec<u8>);

impl Attributes {
    /// Made by `fill`.
    pub(in crate::guard) fn of(fill: impl FnOnce(&mut Self)) -> Self {
        let mut made = Self::default();
        fill(&mut made);
        made
    }

    /// Raw bytes.
    pub(in crate::guard) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.attribute(kind, |out| out.0.extend_from_slice(value))
    }

    /// A text with its NUL.
    pub(in crate::guard) fn text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.attribute(kind, |out| {
            out.0.extend_from_slice(text.as_bytes());
            out.0.push(0);
        })
    }

    /// A big-endian number of 32 bits.
    pub(in crate::guard) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A big-endian number of 64 bits.
    pub(in crate::guard) fn long(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Attributes within an attribute.
    pub(in crate::guard) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.attribute(kind | NESTED, fill)
    }

    /// Attributes made elsewhere.
    pub(in crate::guard) fn append(&mut self, more: &Self) {
        self.0.extend_from_slice(&more.0);
    }

    /// Length (16 bits, the padding to four bytes not counted), type, value.
    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// Messages that the kernel carries out in one transaction, all or none; as bytes ready to be sent. Each
/// has its place as its sequence number, and the last is acknowledged.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Batch(Vec<u8>);

impl Batch {
    /// Closes a list of messages with the bounds of a transaction.
    pub(in crate::guard) fn of(messages: &[(Kind, Attributes)]) -> Self {
        let mut out = Vec::new();
        bound(&mut out, BEGIN, 0);
        for (place, (kind, attributes)) in (1..).zip(messages) {
            // A message that deletes pays no heed to the flags of one that makes.
            let flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND;
            let last = place as usize == messages.len();
            let flags = if last { flags | NLM_F_ACK } else { flags };
            write(&mut out, *kind, flags, place, attributes);
        }
        let after_all = u32::try_from(messages.len() + 1).unwrap_or(u32::MAX);
        bound(&mut out, END, after_all);
        Self(out)
    }

    /// The whole transaction.
    pub(in crate::guard) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The messages within.
    pub(in crate::guard) fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        messages(&self.0).filter(|m| m.kind().is_some())
    }

    /// The same in several transactions of at most so many bytes each, where a message is no longer.
    pub(in crate::guard) fn pieces(&self, limit: usize) -> Vec<Self> {
        let mut pieces = vec![Vec::new()];
        let mut size = 0;
        for message in self.messages() {
            let length = HEADER + FAMILY_HEADER + message.attributes().len();
            size += length;
            if size + 2 * (HEADER + FAMILY_HEADER) > limit {
                pieces.push(Vec::new());
                size = length;
            }
            let (Some(piece), Some(kind)) = (pieces.last_mut(), message.kind()) else {
                continue;
            };
            piece.push((kind, Attributes(message.attributes().to_vec())));
        }
        pieces.iter().map(|piece| Self::of(piece)).collect()
    }
}

/// A single request, outside of any transaction.
pub(in crate::guard) fn request(kind: Kind, flags: u16, attributes: &Attributes) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, kind, NLM_F_REQUEST | flags, 1, attributes);
    out
}

fn write(out: &mut Vec<u8>, kind: Kind, flags: u16, sequence: u32, attributes: &Attributes) {
    let kind = SUBSYSTEM << 8 | u16::from(kind.0);
    header(out, kind, flags, sequence, attributes.0.len());
    out.extend_from_slice(&[FAMILY, 0, 0, 0]);
    out.extend_from_slice(&attributes.0);
}

/// A bound names the subsystem where other messages have nothing.
fn bound(out: &mut Vec<u8>, kind: u16, sequence: u32) {
    header(out, kind, NLM_F_REQUEST, sequence, 0);
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&SUBSYSTEM.to_be_bytes());
}

fn header(out: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, attributes: usize) {
    let length = HEADER + FAMILY_HEADER + attributes;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&sequence.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// A message of whatever kind.
pub(in crate::guard) struct Message<'a>(NetlinkBuffer<&'a [u8]>);

impl<'a> Message<'a> {
    /// Of nf_tables, else `None`.
    pub(in crate::guard) fn kind(&self) -> Option<Kind> {
        let [kind, subsystem] = self.0.message_type().to_le_bytes();
        (u16::from(subsystem) == SUBSYSTEM).then_some(Kind(kind))
    }

    /// The type in the header, of netlink's own messages too.
    pub(in crate::guard) fn raw_kind(&self) -> u16 {
        self.0.message_type()
    }

    pub(in crate::guard) fn flags(&self) -> u16 {
        self.0.flags()
    }

    pub(in crate::guard) fn sequence(&self) -> u32 {
        self.0.sequence_number()
    }

    /// The port of the socket whose request this is about.
    pub(in crate::guard) fn port(&self) -> u32 {
        self.0.port_number()
    }

    /// What follows netlink's header.
    pub(in crate::guard) fn payload(&self) -> &'a [u8] {
        self.0.payload()
    }

    /// Whether it is about the netdev family.
    pub(in crate::guard) fn is_netdev(&self) -> bool {
        self.payload().first() == Some(&FAMILY)
    }

    /// The attributes' bytes.
    pub(in crate::guard) fn attributes(&self) -> &'a [u8] {
        self.payload().get(FAMILY_HEADER..).unwrap_or_default()
    }

    /// An attribute's text.
    pub(in crate::guard) fn text(&self, kind: u16) -> Option<&'a str> {
        let bytes = find(self.attributes(), kind)?;
        let text = bytes.split(|b| *b == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    /// An attribute's number.
    pub(in crate::guard) fn number(&self, kind: u16) -> Option<u32> {
        let bytes = find(self.attributes(), kind)?;
        bytes.try_into().ok().map(u32::from_be_bytes)
    }
}

/// The messages of a datagram; a cut one ends it.
pub(in crate::guard) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
        Some(Message(message))
    })
}

/// An attribute.
#[derive(Clone, Copy, Debug)]
pub(in crate::guard) struct Attribute<'a> {
    /// Without its flags.
    pub(in crate::guard) kind: u16,
    /// Whether the flag says that attributes are within. The kernel's own often lack it.
    pub(in crate::guard) is_nest: bool,
    pub(in crate::guard) value: &'a [u8],
}

/// Attributes one after the other; a cut one ends them.
pub(in crate::guard) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    NlasIterator::new(bytes).map_while(|nla| {
        let nla: NlaBuffer<&[u8]> = nla.ok()?;
        let length = usize::from(nla.length());
        Some(Attribute {
            kind: nla.kind(),
            is_nest: nla.nested_flag(),
            value: nla.into_inner().get(4..length)?,
        })
    })
}

/// The first attribute of a type.
pub(in crate::guard) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut all = attributes(bytes);
    all.find_map(|a| (a.kind == kind).then_some(a.value))
}

#[cfg(test)]
mod tests {

    use super::*;

    fn some(kind: Kind, bytes: usize) -> (Kind, Attributes) {
        let fill = |out: &mut Attributes| {
            out.text(1, "uvs").bytes(2, &vec![7; bytes]);
        };
        (kind, Attributes::of(fill))
    }

    #[test]
    fn a_transaction_is_framed_numbered_and_its_last_message_acknowledged() {
        let batch = Batch::of(&[some(Kind::NEW_TABLE, 1), some(Kind::NEW_ELEMENTS, 5)]);
        let all: Vec<_> = messages(batch.bytes()).collect();
        let kinds: Vec<_> = all.iter().map(Message::raw_kind).collect();
        assert_eq!(kinds, [BEGIN, 0x0a00, 0x0a0c, END]);
        assert_eq!(all[0].payload(), [0, 0, 0, 10], "the subsystem");
        let acknowledged: Vec<_> = all.iter().map(|m| m.flags() & NLM_F_ACK != 0).collect();
        assert_eq!(acknowledged, [false, false, true, false]);
        let within: Vec<_> = batch.messages().map(|m| m.sequence()).collect();
        assert_eq!(within, [1, 2]);
        assert!(
            batch
                .messages()
                .all(|m| m.is_netdev() && m.text(1) == Some("uvs"))
        );
    }

    #[test]
    fn attributes_are_padded_and_read_again() {
        let written = Attributes::of(|out| {
            out.bytes(1, &[1, 2, 3]).number(2, 9).nest(3, |out| {
                out.text(4, "in");
            });
        });
        let read: Vec<_> = attributes(&written.0).collect();
        assert_eq!((read[0].kind, read[0].value), (1, &[1, 2, 3][..]));
        assert_eq!((read[1].kind, read[1].value), (2, &[0, 0, 0, 9][..]));
        assert!(read[2].is_nest && !read[1].is_nest);
        assert_eq!(find(read[2].value, 4), Some(&b"in\0"[..]));
        let cut = &written.0[..written.0.len() - 4];
        assert_eq!(attributes(cut).count(), 2, "a cut one ends them");
    }

    #[test]
    fn pieces_have_all_messages_in_their_order() {
        let list: Vec<_> = (1..=9).map(|n| some(Kind::NEW_ELEMENTS, n * 10)).collect();
        let batch = Batch::of(&list);
        let pieces = batch.pieces(300);
        assert!(pieces.len() > 2 && pieces.iter().all(|p| p.bytes().len() <= 300));
        let of = |batch: &Batch| -> Vec<Vec<u8>> {
            batch.messages().map(|m| m.attributes().to_vec()).collect()
        };
        assert_eq!(pieces.iter().flat_map(of).collect::<Vec<_>>(), of(&batch));
        assert_eq!(batch.pieces(1 << 20).len(), 1);
    }
}

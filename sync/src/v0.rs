//! Version 0: entries of 24 bytes and 24 more where sequence numbers are shifted; IPv4, no time-out
//! (`struct ip_vs_sync_conn_v0`).

use crate::bytes::Bytes;
use crate::message::{self, Message, flag};
use crate::reader::Refused;

/// Bytes before the first entry: count, syncid, size.
pub(crate) const HEADER: usize = 4;

/// The header of a datagram of this many bytes.
pub(crate) fn header(count: u8, syncid: u8, size: u16) -> [u8; HEADER] {
    let [high, low] = size.to_be_bytes();
    [count, syncid, high, low]
}

/// Puts an entry behind `out`.
pub(crate) fn put(out: &mut Vec<u8>, m: &Message) {
    out.extend([0, m.protocol]);
    message::put_ports(out, m);
    message::put_addresses(out, m);
    let sequence = m.sequence.filter(|_| m.flags & flag::SEQ != 0);
    let flags = match sequence {
        Some(_) => m.flags,
        None => m.flags & !flag::SEQ,
    };
    // Sixteen bits of them travel.
    let [_, _, high, low] = (flags & !flag::HASHED).to_be_bytes();
    out.extend([high, low]);
    out.extend(m.state.to_be_bytes());
    if let Some(sequence) = &sequence {
        message::put_sequences(out, sequence);
    }
}

/// Takes the next entry.
pub(crate) fn take(b: &mut Bytes<'_>) -> Result<Message, Refused> {
    let mut entry = || {
        let [_, protocol] = b.array()?;
        let ports = message::ports(b)?;
        let ends = message::endpoints_v4(b, ports)?;
        let (flags, state) = (u32::from(b.u16()?), b.u16()?);
        let sequence = match flags & flag::SEQ {
            0 => None,
            _ => Some(message::sequences(b)?),
        };
        Some(Message {
            sequence,
            ..Message::new(protocol, flags, state, ends)
        })
    };
    entry().ok_or(Refused::Truncated)
}

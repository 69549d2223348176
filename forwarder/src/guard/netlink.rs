//! Set elements over nfnetlink, in one transaction: what `nft add element` does, without the process.

use std::io;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::elements::Change;
use super::rules::TABLE;

/// linux/netfilter/nfnetlink.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
/// linux/netfilter.h: NFPROTO_NETDEV
const FAMILY: u8 = 5;
/// linux/netfilter/nf_tables.h
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;
/// linux/netlink.h
const REQUEST: u16 = 0x001;
const ACK: u16 = 0x004;
const CREATE: u16 = 0x400;
const NESTED: u16 = 1 << 15;
const ERROR: u16 = 2;
const HEADER: usize = 16;

/// Elements in one message, whose list is counted in 16 bits: 28 bytes each.
const PER_MESSAGE: usize = 1024;

/// Makes all of these changes, or none.
///
/// # Errors
/// The kernel's; `ENOENT` where the table, a set, or an element to be taken out is not there.
pub(super) fn change(changes: &[Change]) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    let (batch, asked) = batch(changes);
    socket.send(&batch, 0)?;
    // The kernel has carried it out, and answered, when the call returns.
    let mut answered = 0;
    let mut buffer = Vec::with_capacity(16 << 10);
    while answered < asked {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        answered += acknowledged(&buffer)?;
    }
    Ok(())
}

/// The transaction, and how many of its messages are to be acknowledged.
fn batch(changes: &[Change]) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let mut asked = 0;
    message(&mut out, BATCH_BEGIN, REQUEST, |_| {});
    for change in changes {
        let (kind, flags) = if change.gained {
            (NEW_ELEMENTS, REQUEST | ACK | CREATE)
        } else {
            (DELETE_ELEMENTS, REQUEST | ACK)
        };
        for keys in change.keys.chunks(PER_MESSAGE) {
            message(&mut out, kind, flags, |out| {
                attribute(out, LIST_TABLE, |out| text(out, TABLE));
                attribute(out, LIST_SET, |out| text(out, change.set));
                attribute(out, LIST_ELEMENTS | NESTED, |out| list(out, keys));
            });
            asked += 1;
        }
    }
    message(&mut out, BATCH_END, REQUEST, |_| {});
    (out, asked)
}

fn list(out: &mut Vec<u8>, keys: &[Vec<u8>]) {
    for key in keys {
        attribute(out, LIST_ELEMENT | NESTED, |out| {
            attribute(out, ELEMENT_KEY | NESTED, |out| {
                attribute(out, DATA_VALUE, |out| out.extend_from_slice(key));
            });
        });
    }
}

/// A message with its netlink and nfnetlink headers.
fn message(out: &mut Vec<u8>, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&[0; 8]);
    let (family, resource) = if kind < SUBSYSTEM << 8 {
        (0, SUBSYSTEM)
    } else {
        (FAMILY, 0)
    };
    out.extend_from_slice(&[family, 0]);
    out.extend_from_slice(&resource.to_be_bytes());
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// An attribute, padded to four bytes.
fn attribute(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&kind.to_ne_bytes());
    body(out);
    let length = (out.len() - start) as u16;
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// How many messages a datagram acknowledges.
fn acknowledged(datagram: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    for (kind, body) in messages(datagram) {
        let errno = body.first_chunk().map(|b| i32::from_ne_bytes(*b));
        match errno.filter(|_| kind == ERROR) {
            Some(0) => count += 1,
            Some(errno) => return Err(io::Error::from_raw_os_error(-errno)),
            None => {}
        }
    }
    Ok(count)
}

/// Type and body of each message of a datagram; a cut one ends it.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = datagram.get(..length).filter(|_| length >= HEADER)?;
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, &message[HEADER..]))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_transaction_is_framed_and_each_change_acknowledged() {
        let change = |gained, count| Change {
            set: "owned",
            gained,
            keys: vec![vec![10, 0, 0, 1]; count],
        };
        let (batch, asked) = batch(&[change(true, 1025), change(false, 1)]);
        let kinds: Vec<u16> = messages(&batch).map(|(kind, _)| kind).collect();
        let new = NEW_ELEMENTS;
        assert_eq!(kinds, [BATCH_BEGIN, new, new, DELETE_ELEMENTS, BATCH_END]);
        assert_eq!(asked, 3);
    }

    #[test]
    fn answers_are_counted_and_errors_told() {
        let answer = |errno: i32| {
            let mut bytes = Vec::new();
            bytes.extend(36u32.to_ne_bytes());
            bytes.extend(ERROR.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend((-errno).to_ne_bytes());
            bytes.extend([0; 16]);
            bytes
        };
        let both = [answer(0), answer(0)].concat();
        assert_eq!(acknowledged(&both).unwrap(), 2);
        let refused = [answer(0), answer(libc::ENOENT)].concat();
        let error = acknowledged(&refused).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        assert_eq!(acknowledged(&both[..20]).unwrap(), 0, "cut");
    }
}

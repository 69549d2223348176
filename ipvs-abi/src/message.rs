//! Netlink's messages: a datagram of requests in, datagrams of replies out (linux/netlink.h; `netlink_rcv_skb`
//! and `netlink_ack` of net/netlink/af_netlink.c).

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkBuffer};

use crate::errno::Errno;

/// NLMSG_ERROR, an acknowledgement where its number is 0.
const ERROR: u16 = 2;
/// NLMSG_DONE, the end of a dump.
const DONE: u16 = 3;
/// Types under this are netlink's own (NLMSG_MIN_TYPE).
const FIRST_TYPE: u16 = 0x10;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// How much of a dump goes into one datagram: libnl's buffer of a page holds it with room to spare.
const DATAGRAM: usize = 3500;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Which family it is for.
    pub kind: u16,
    /// What follows the header.
    pub payload: &'a [u8],
    flags: u16,
    sequence: u32,
    port: u32,
    whole: &'a [u8],
}

impl<'a> Request<'a> {
    /// The first request of a datagram, and what is behind it; `None` where there is none any more. As in the
    /// kernel, a message with a wrong length ends a datagram; what is no request, and what is netlink's own, is
    /// passed over.
    pub fn first(mut datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            let length = message.length() as usize;
            let next = length.next_multiple_of(4).min(datagram.len());
            let (whole, rest) = (&datagram[..length], &datagram[next..]);
            if message.flags() & NLM_F_REQUEST != 0 && message.message_type() >= FIRST_TYPE {
                let request = Self {
                    kind: message.message_type(),
                    payload: message.payload(),
                    flags: message.flags(),
                    sequence: message.sequence_number(),
                    port: message.port_number(),
                    whole,
                };
                return Some((request, rest));
            }
            datagram = rest;
        }
        None
    }

    /// Whether it is IPVS's, or asks the controller for IPVS.
    pub fn is_for_ipvs(&self) -> bool {
        uvs_ipvs_carried::is_for_ipvs(self.whole)
    }

    /// Whether all of a kind are asked for. Both bits must be set, as generic netlink wants it.
    pub const fn is_dump(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }

    /// What is sent where a request was carried out: its answer, and an acknowledgement where one is wanted.
    pub fn done(&self, answer: Option<&[u8]>) -> Vec<Vec<u8>> {
        let answer = answer.map(|payload| self.message(self.kind, 0, payload));
        let wanted = self.flags & NLM_F_ACK != 0;
        let acknowledgement = wanted.then(|| self.error(0, HEADER));
        answer.into_iter().chain(acknowledgement).collect()
    }

    /// What is sent where a request was refused: the number, and all of the request.
    pub fn refused(&self, errno: Errno) -> Vec<Vec<u8>> {
        vec![self.error(-errno.number(), self.whole.len())]
    }

    /// A dump, several entries a datagram. It has no acknowledgement but its end.
    pub fn dump(&self, entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
        let mut datagrams = vec![Vec::new()];
        let mut push = |message: Vec<u8>| match datagrams.last_mut() {
            Some(last) if last.is_empty() || last.len() + message.len() <= DATAGRAM => {
                last.extend(message);
            }
            _ => datagrams.push(message),
        };
        for entry in entries {
            push(self.message(self.kind, NLM_F_MULTIPART, &entry));
        }
        // The kernel's end of a dump is a datagram of its own where the last one is full only; readers take both.
        push(self.message(DONE, NLM_F_MULTIPART, &0i32.to_ne_bytes()));
        datagrams
    }

    fn error(&self, number: i32, quoted: usize) -> Vec<u8> {
        let payload = [&number.to_ne_bytes()[..], &self.whole[..quoted]].concat();
        self.message(ERROR, 0, &payload)
    }

    fn message(&self, kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = HEADER + payload.len();
        let mut bytes = vec![0; length.next_multiple_of(4)];
        bytes[HEADER..length].copy_from_slice(payload);
        let mut header = NetlinkBuffer::new(&mut bytes);
        header.set_length(u32::try_from(length).unwrap_or(u32::MAX));
        header.set_message_type(kind);
        header.set_flags(flags);
        header.set_sequence_number(self.sequence);
        header.set_port_number(self.port);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &[u8] = &[
        20, 0, 0, 0, 0x1c, 0, 5, 0, 7, 0, 0, 0, 0x39, 0x30, 0, 0, 15, 1, 0, 0,
    ];

    fn all(mut datagram: &[u8]) -> Vec<Request<'_>> {
        let mut requests = Vec::new();
        while let Some((request, rest)) = Request::first(datagram) {
            requests.push(request);
            datagram = rest;
        }
        requests
    }

    #[test]
    fn a_request_is_acknowledged_with_its_own_header() {
        let requests = all(ASKED);
        assert_eq!(requests.len(), 1);
        let sent = requests[0].done(None);
        let mut want = vec![
            36, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0x39, 0x30, 0, 0, 0, 0, 0, 0,
        ];
        want.extend(&ASKED[..16]);
        assert_eq!(sent, [want]);
    }

    #[test]
    fn a_refused_request_comes_back_whole() {
        let sent = all(ASKED)[0].refused(Errno::Exists);
        assert_eq!(sent[0][16..20], (-17i32).to_ne_bytes());
        assert_eq!(sent[0][20..], *ASKED);
    }

    #[test]
    fn what_is_cut_off_or_no_request_is_passed_over() {
        for length in 0..ASKED.len() {
            assert!(all(&ASKED[..length]).is_empty(), "{length} bytes");
        }
        let mut answer = ASKED.to_vec();
        answer[6] = 4;
        assert!(all(&answer).is_empty());
        let mut own = ASKED.to_vec();
        own[4] = 3;
        let both = [&own, ASKED].concat();
        assert_eq!(all(&both).len(), 1);
    }

    #[test]
    fn a_dump_is_cut_into_datagrams_and_ends_once() {
        let request = &all(ASKED)[0];
        let datagrams = request.dump((0..100).map(|_| vec![1; 400]));
        assert!(datagrams.iter().all(|d| d.len() <= DATAGRAM));
        let kinds: Vec<u16> = datagrams
            .iter()
            .flat_map(|d| messages(d))
            .map(|m| u16::from_ne_bytes([m[4], m[5]]))
            .collect();
        assert_eq!(kinds.len(), 101);
        assert_eq!(kinds.last(), Some(&DONE));
        assert!(kinds[..100].iter().all(|kind| *kind == 0x1c));
    }

    /// The messages of a datagram.
    fn messages(mut datagram: &[u8]) -> Vec<&[u8]> {
        let mut all = Vec::new();
        while let Some(length) = datagram
            .first_chunk()
            .map(|l| u32::from_ne_bytes(*l) as usize)
        {
            all.push(&datagram[..length]);
            datagram = &datagram[length.next_multiple_of(4)..];
        }
        all
    }
}

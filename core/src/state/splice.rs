//! The numbers of a stream that has more before its first byte at the server than at the client (the kernel's
//! `struct ip_vs_seq`; in the literature, TCP splicing).
//!
//! All that the client numbers is so many bytes further at the server, for the connection's life. What the server
//! acknowledges of the bytes that were put in, the client has not sent: to the client that is its first byte, still
//! awaited.

use serde::{Deserialize, Serialize};

/// Where bytes were put in, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Splice {
    /// The number of the client's first byte, as the client has it.
    pub(crate) start: u32,
    /// Bytes before it at the server.
    pub(crate) len: u32,
    /// Whether they were sent: before, the numbers are the client's.
    pub(crate) sent: bool,
    /// Whether the server is so far beyond them that numbers near the start are not of the stream's beginning, but of
    /// its next 4 GiB.
    past: bool,
}

/// How far beyond the start the server is then.
const FAR: u32 = 1 << 30;

impl Splice {
    /// Of a stream whose first byte has this number; nothing is put in yet.
    pub(crate) const fn new(start: u32, len: u32) -> Self {
        Self {
            start,
            len,
            sent: false,
            past: false,
        }
    }

    /// Of a stream that another director has begun, and whose server is somewhere beyond what was put in.
    pub(crate) const fn taken_up(start: u32, len: u32) -> Self {
        Self {
            start,
            len,
            sent: true,
            past: true,
        }
    }

    /// Bytes that numbers differ by now.
    const fn shift(&self) -> u32 {
        if self.sent { self.len } else { 0 }
    }

    /// A number of the client's as the server has it. Not that of a SYN, which both have.
    pub(crate) const fn to_server(self, number: u32) -> u32 {
        number.wrapping_add(self.shift())
    }

    /// A number by which the server means one of the client's, as the client has it.
    pub(crate) const fn to_client(self, number: u32) -> u32 {
        if !self.past {
            let beyond = number.wrapping_sub(self.start);
            if beyond == 0 || beyond > 1 << 31 {
                return number;
            }
            if beyond < self.shift() {
                return self.start;
            }
        }
        number.wrapping_sub(self.shift())
    }

    /// Takes in what the server acknowledges.
    pub(crate) const fn note(&mut self, acknowledged: u32) {
        let beyond = acknowledged.wrapping_sub(self.start);
        if beyond > FAR && beyond < 1 << 31 {
            self.past = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u32 = 5_001;
    const LEN: u32 = 50;

    #[test]
    fn numbers_are_the_clients_until_something_is_put_in() {
        let splice = Splice::new(START, LEN);
        for number in [START - 1, START, START + 7] {
            assert_eq!(splice.to_server(number), number);
            assert_eq!(splice.to_client(number), number);
        }
    }

    #[test]
    fn what_the_client_has_not_sent_is_never_acknowledged_to_it() {
        for start in [START, 3, u32::MAX - 20] {
            let mut splice = Splice::new(start, LEN);
            splice.sent = true;
            for (server, client) in [(0, 0), (1, 0), (LEN - 1, 0), (LEN, 0), (LEN + 9, 9)] {
                let number = start.wrapping_add(server);
                assert_eq!(splice.to_client(number), start.wrapping_add(client));
            }
            let before = start.wrapping_sub(1);
            assert_eq!(splice.to_client(before), before, "of the SYN");
        }
    }

    #[test]
    fn numbers_come_back_through_a_stream_of_many_gigabytes() {
        let mut splice = Splice::new(START, LEN);
        splice.sent = true;
        for chunk in 0..200_u32 {
            let client = START.wrapping_add(chunk.wrapping_mul(100 << 20));
            let server = splice.to_server(client);
            splice.note(server);
            assert_eq!(splice.to_client(server), client, "chunk {chunk}");
        }
        let taken_up = Splice::taken_up(START, LEN);
        let server = taken_up.to_server(START.wrapping_sub(9));
        assert_eq!(taken_up.to_client(server), START.wrapping_sub(9));
    }
}

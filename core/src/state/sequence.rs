//! What the ends of a TCP connection expect next, and which segments therefore cannot be theirs.
//!
//! Of each end one number is remembered: the highest that it acknowledged or that was sent to it. A segment is
//! *near* where its number is within [`WINDOW`] of that, before or after. What would end a connection and is
//! not near is forwarded, for its receiver to judge (RFC 5961 §3, §4), and changes nothing here: else one forged
//! RST, which the server ignores, would end the entry of an idle connection. What is learnt is bounded the same
//! way, so that a forged segment cannot make another one near.
//!
//! Where too little is known, every segment is taken as the kernel takes it: in a handshake, and until both
//! numbers are known. With DR and tunnels they are from the client's own segments.
use crate::ranks::Rank;
use crate::tcp::{self, TcpState};
use crate::wire::tcp::flag;

/// How far from the expected a segment of a connection's may be, bytes. What was lost before it came here
/// makes a true one late or early, by a receiver's window at most: Linux's largest (net.ipv4.tcp_rmem, 32 MiB
/// since 6.16), for the windows' scales are not remembered. A number at random is near once in 64 times.
pub const WINDOW: u32 = 1 << 25;

/// What a segment says of the numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// [`flag`]s.
    pub(crate) flags: u8,
    /// Its own.
    pub(crate) seq: u32,
    /// The one after it.
    pub(crate) end: u32,
    /// The one it acknowledges, where it does.
    pub(crate) ack: Option<u32>,
}

/// Whether a segment with these flags and this number would end a connection in `state` whose receiver and
/// sender expect these, and shows by its number that it is not of that connection.
#[inline]
pub(crate) fn is_out_of_window(
    state: u8,
    flags: u8,
    seq: u32,
    (receiver, sender): (u32, u32),
) -> bool {
    let known = receiver != 0 && sender != 0;
    tcp::ends(flags)
        && known
        && TcpState::from_number(state).is_synchronized()
        && !is_near(receiver, seq)
}

/// Takes a segment of the server's (`output`) or the client's into what its receiver and its sender expect. It
/// grows only: a retransmission or a keep-alive probe repeats what is known.
#[inline(always)]
pub(crate) fn note(state: u8, output: bool, n: &Numbers, (receiver, sender): (&mut u32, &mut u32)) {
    if n.flags & flag::SYN != 0 {
        // It begins again. A client's on an open connection does not, until the server's own SYN
        // shows that it has taken it.
        if output || TcpState::from_number(state).rank() == Rank::HalfOpen {
            *receiver = n.end;
            *sender = n.ack.unwrap_or_default();
        }
        return;
    }
    let acked = n.ack.filter(|_| *sender != 0);
    let nothing_known = *receiver == 0 && acked.is_none();
    let seq_is_near = *receiver != 0 && is_near(*receiver, n.seq);
    let ack_is_near = acked.is_some_and(|ack| is_near(*sender, ack));
    // One of the two is enough: much of one side's may have been lost on the way here.
    if nothing_known || seq_is_near || ack_is_near {
        grow(receiver, n.end);
        if let Some(ack) = n.ack {
            grow(sender, ack);
        }
    }
}

const fn is_near(expected: u32, seq: u32) -> bool {
    seq.wrapping_sub(expected).wrapping_add(WINDOW) <= 2 * WINDOW
}

fn grow(known: &mut u32, new: u32) {
    if *known == 0 || new.wrapping_sub(*known) < 1 << 31 {
        *known = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_a_window_either_way_also_where_the_numbers_wrap() {
        for expected in [5_000_000_u32, 3, u32::MAX - 2] {
            for (by, near) in [
                (0, true),
                (WINDOW, true),
                (WINDOW + 1, false),
                (1 << 31, false),
            ] {
                let (after, before) = (expected.wrapping_add(by), expected.wrapping_sub(by));
                assert_eq!(is_near(expected, after), near, "{expected} + {by}");
                assert_eq!(is_near(expected, before), near, "{expected} - {by}");
            }
        }
    }
}

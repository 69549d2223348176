//! SCTP as the director tracks it: IPVS's states, time-outs and what counts as active.
//!
//! Source: `net/netfilter/ipvs/ip_vs_proto_sctp.c`. The states are the real server's as far as the chunks
//! that pass tell them; the chunk that counts is a packet's first (RFC 9260 §3.2 and §6.10).

use crate::flow::Direction;
use crate::ranks::Rank;
use crate::wire::sctp::chunk;

/// An association's state. Discriminants are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SctpState {
    /// The moment before the first chunk is looked at.
    None = 0,
    /// The client's first INIT was seen.
    Init1,
    /// Further INITs of the client were seen.
    Init,
    /// The server has answered with a cookie.
    CookieSent,
    /// The client has echoed the cookie.
    CookieReplied,
    /// The server's INIT was seen.
    CookieWait,
    /// The client has answered the server with a cookie.
    Cookie,
    /// The server has echoed the cookie.
    CookieEchoed,
    /// Data flows.
    Established,
    /// The server has begun to shut down.
    ShutdownSent,
    /// The client has begun to shut down.
    ShutdownReceived,
    /// The server has acknowledged the shutdown.
    ShutdownAckSent,
    /// The server has refused the INIT.
    Rejected,
    /// Ended.
    Closed,
}

use SctpState::{
    Closed as CL, Cookie as CO, CookieEchoed as CE, CookieReplied as CR, CookieSent as CS,
    CookieWait as CW, Established as ES, Init as IN, Init1 as I1, None as NO, Rejected as RJ,
    ShutdownAckSent as SA, ShutdownReceived as SR, ShutdownSent as SS,
};

impl SctpState {
    /// All states in order of their discriminants.
    pub const ALL: [Self; 14] = [NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];

    /// The state with this discriminant, [`SctpState::None`] for an unknown one.
    pub fn from_number(n: u8) -> Self {
        Self::ALL.get(usize::from(n)).copied().unwrap_or(NO)
    }

    /// The name `ipvsadm -Lc` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Init1 => "INIT1",
            Self::Init => "INIT",
            Self::CookieSent => "C-SENT",
            Self::CookieReplied => "C-REPLIED",
            Self::CookieWait => "C-WAIT",
            Self::Cookie => "COOKIE",
            Self::CookieEchoed => "C-ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "S-SENT",
            Self::ShutdownReceived => "S-RECEIVED",
            Self::ShutdownAckSent => "S-ACK-SENT",
            Self::Rejected => "REJECTED",
            Self::Closed => "CLOSED",
        }
    }

    /// Whether the connection counts as active.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established)
    }

    /// How willingly such an association is given up.
    pub const fn rank(self) -> Rank {
        match self {
            Self::Init1 | Self::Init => Rank::HalfOpen,
            Self::Closed | Self::Rejected => Rank::Over,
            _ => Rank::Protected,
        }
    }

    /// Seconds without a packet until the entry goes. RFC 9260's RTO.Max is 60 s.
    pub const fn timeout(self) -> u32 {
        match self {
            Self::None => 2,
            Self::Init1 | Self::Rejected => 4,
            Self::Established => 900,
            Self::Init
            | Self::CookieSent
            | Self::CookieReplied
            | Self::CookieWait
            | Self::Cookie
            | Self::CookieEchoed
            | Self::ShutdownSent
            | Self::ShutdownReceived
            | Self::ShutdownAckSent
            | Self::Closed => 61,
        }
    }
}

/// The next state after a chunk of this type.
pub fn next(state: SctpState, direction: Direction, chunk: u8) -> SctpState {
    let event = match chunk {
        chunk::INIT => 1,
        chunk::INIT_ACK => 2,
        chunk::COOKIE_ECHO => 3,
        chunk::COOKIE_ACK => 4,
        chunk::SHUTDOWN => 5,
        chunk::SHUTDOWN_ACK => 6,
        chunk::SHUTDOWN_COMPLETE => 7,
        chunk::ERROR => 8,
        chunk::ABORT => 9,
        _ => 0,
    };
    TABLE[direction as usize][event][state as usize]
}

/// By direction, event (data and all else, INIT, INIT ACK, COOKIE ECHO, COOKIE ACK, SHUTDOWN, SHUTDOWN
/// ACK, SHUTDOWN COMPLETE, ERROR, ABORT) and current state.
//   NO  I1  IN  CS  CR  CW  CO  CE  ES  SS  SR  SA  RJ  CL
#[rustfmt::skip]
static TABLE: [[[SctpState; 14]; 10]; 3] = [
    [
        [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN],
        [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL],
        [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL],
        [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL],
        [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL],
        [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [
        [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW],
        [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL],
        [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL],
        [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL],
        [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL],
        [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
    [
        [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN],
        [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL],
        [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL],
        [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL],
        [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL],
        [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL],
        [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL],
        [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL],
        [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL],
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The states after each chunk, from nothing.
    fn walk(chunks: &[(Direction, u8)]) -> Vec<&'static str> {
        let mut state = NO;
        let step = |(direction, chunk): &(Direction, u8)| {
            state = next(state, *direction, *chunk);
            state.name()
        };
        chunks.iter().map(step).collect()
    }

    #[test]
    fn an_association_seen_from_both_sides_opens_and_closes() {
        use Direction::{Input, Output};
        let states = walk(&[
            (Input, chunk::INIT),
            (Output, chunk::INIT_ACK),
            (Input, chunk::COOKIE_ECHO),
            (Output, chunk::COOKIE_ACK),
            (Input, chunk::DATA),
            (Input, chunk::SHUTDOWN),
            (Output, chunk::SHUTDOWN_ACK),
            (Input, chunk::SHUTDOWN_COMPLETE),
        ]);
        let want = "INIT1 C-SENT C-REPLIED ESTABLISHED ESTABLISHED S-RECEIVED S-ACK-SENT CLOSED";
        assert_eq!(states.join(" "), want);
    }

    #[test]
    fn an_association_seen_from_one_side_opens_and_closes() {
        use Direction::InputOnly;
        let states = walk(&[
            (InputOnly, chunk::INIT),
            (InputOnly, chunk::COOKIE_ECHO),
            (InputOnly, chunk::DATA),
            (InputOnly, chunk::SHUTDOWN),
            (InputOnly, chunk::SHUTDOWN_COMPLETE),
        ]);
        let want = "INIT1 ESTABLISHED ESTABLISHED S-RECEIVED CLOSED";
        assert_eq!(states.join(" "), want);
    }

    #[test]
    fn a_refused_init_goes_soon() {
        let states = walk(&[
            (Direction::Input, chunk::INIT),
            (Direction::Output, chunk::ABORT),
        ]);
        assert_eq!(states, ["INIT1", "REJECTED"]);
        assert_eq!(RJ.timeout(), 4);
    }

    #[test]
    fn discriminants_are_places_in_the_list() {
        for s in SctpState::ALL {
            assert_eq!(SctpState::from_number(s as u8), s);
        }
    }
}

//! TCP as the director tracks it: IPVS's state tables, time-outs and what counts as active.
//!
//! Source: `net/netfilter/ipvs/ip_vs_proto_tcp.c`; every transition is checked against records of the
//! kernel (`tests/golden/states.json`).

use crate::flow::Direction;
use crate::ranks::Rank;
use crate::snapshot::Timeouts;
use crate::wire::tcp::flag;

/// A connection's state. Discriminants are the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TcpState {
    /// Templates, and the moment before the first segment is looked at.
    None = 0,
    /// Data flows.
    Established,
    /// The server's side opened it.
    SynSent,
    /// The client's SYN was seen.
    SynRecv,
    /// One side has closed.
    FinWait,
    /// Both sides have closed.
    TimeWait,
    /// Reset.
    Close,
    /// The client has closed.
    CloseWait,
    /// The last acknowledgement is due.
    LastAck,
    /// Unused by traffic.
    Listen,
    /// secure_tcp: the server has answered the SYN.
    SynAck,
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    None as NO, SynAck as SA, SynRecv as SR, SynSent as SS, TimeWait as TW,
};

impl TcpState {
    /// All states in order of their discriminants.
    pub const ALL: [Self; 11] = [NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA];

    /// The state with this discriminant, [`TcpState::None`] for an unknown one.
    pub fn from_number(n: u8) -> Self {
        Self::ALL.get(usize::from(n)).copied().unwrap_or(NO)
    }

    /// How willingly such a connection is given up.
    pub const fn rank(self) -> Rank {
        match self {
            Self::SynRecv | Self::SynAck => Rank::HalfOpen,
            Self::Close | Self::TimeWait => Rank::Over,
            _ => Rank::Protected,
        }
    }

    /// The name `ipvsadm -Lc` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
        }
    }

    /// Whether the connection counts as active.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Established | Self::SynSent | Self::SynRecv | Self::SynAck
        )
    }

    /// Whether both ends have agreed on their sequence numbers (RFC 9293 §3.3.2).
    pub const fn is_synchronized(self) -> bool {
        !matches!(
            self,
            Self::None | Self::SynSent | Self::SynRecv | Self::SynAck | Self::Listen
        )
    }

    /// Seconds without a packet until the entry goes.
    pub const fn timeout(self, t: &Timeouts) -> u32 {
        match self {
            Self::None => 2,
            Self::Established => t.tcp,
            Self::FinWait => t.tcp_fin,
            Self::SynSent | Self::TimeWait | Self::Listen | Self::SynAck => 120,
            Self::SynRecv | Self::CloseWait => 60,
            Self::Close => 10,
            Self::LastAck => 30,
        }
    }
}

/// The next state; `strict` is secure_tcp. A segment without RST, SYN, FIN and ACK closes.
pub fn next(state: TcpState, direction: Direction, flags: u8, strict: bool) -> TcpState {
    let event = match flags {
        f if f & flag::RST != 0 => 3,
        f if f & flag::SYN != 0 => 0,
        f if f & flag::FIN != 0 => 1,
        f if f & flag::ACK != 0 => 2,
        _ => return CL,
    };
    let table = if strict { &STRICT } else { &NORMAL };
    table[direction as usize][event][state as usize]
}

/// Whether a segment with these flags is one that ends a connection, or begins to: RST, FIN without SYN, and
/// those with none of the four, for which see [`next`].
pub const fn ends(flags: u8) -> bool {
    let (rst, syn) = (flags & flag::RST != 0, flags & flag::SYN != 0);
    rst || !syn && flags & (flag::FIN | flag::ACK) != flag::ACK
}

/// Whether a segment with these flags leaves an established connection as it is, whoever sends it: it acknowledges, and
/// has none of SYN, FIN and RST.
#[inline(always)]
pub(crate) const fn keeps_established(flags: u8) -> bool {
    flags & (flag::SYN | flag::FIN | flag::RST | flag::ACK) == flag::ACK
}

/// By direction, event (SYN, FIN, ACK, RST) and current state.
type Table = [[[TcpState; 11]; 4]; 3];

//     NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
static NORMAL: Table = [
    [
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    ],
    [
        [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

//     NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
static STRICT: Table = [
    [
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
        [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
    [
        [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [
        [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tcp::flag::{ACK, FIN, PSH, RST, SYN};

    #[test]
    fn what_ends_a_connection_is_told_by_its_flags() {
        for flags in [RST, RST | ACK, RST | SYN, FIN, FIN | ACK, 0, PSH] {
            assert!(ends(flags), "{flags:#x}");
        }
        for flags in [ACK, ACK | PSH, SYN, SYN | ACK, SYN | FIN] {
            assert!(!ends(flags), "{flags:#x}");
        }
    }

    #[test]
    fn what_keeps_a_connection_established_does_so_in_every_table() {
        for flags in (0..=u8::MAX).filter(|flags| keeps_established(*flags)) {
            assert!(!ends(flags), "{flags:#x}");
            for direction in [Direction::Input, Direction::Output, Direction::InputOnly] {
                for strict in [false, true] {
                    let kept = next(TcpState::Established, direction, flags, strict);
                    assert_eq!(kept, TcpState::Established, "{flags:#x} {direction:?}");
                }
            }
        }
    }
}

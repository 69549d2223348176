//! A datagram from another director: what is in it, as far as the kernel would take it.

use uvs_core::flow::Protocol;
use uvs_core::sctp::SctpState;
use uvs_core::tcp::TcpState;

use crate::bytes::Bytes;
use crate::message::Message;
use crate::{v0, v1};

/// Why a datagram or one of its messages is not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// Its size is not what its header says.
    #[error("its size is not what its header says")]
    Size,
    /// It is of another group of directors.
    #[error("it has syncid {0}")]
    SyncId(u8),
    /// It is cut off.
    #[error("it is cut off")]
    Truncated,
    /// An entry of a version that nobody speaks.
    #[error("an entry of version {0}")]
    EntryVersion(u16),
    /// An entry of an unknown type.
    #[error("an entry of type {0}")]
    Type(u8),
    /// An option that is empty, cut off, of a wrong size or there twice.
    #[error("an option that cannot be read")]
    Option,
    /// An option that is not known and must be.
    #[error("an option of the unknown type {0}")]
    UnknownOption(u8),
    /// Data of a persistence engine that is not known, or that it cannot have.
    #[error("data of a persistence engine that there is not")]
    Engine,
    /// A protocol that is not balanced.
    #[error("a connection of protocol {0}")]
    Protocol(u8),
    /// A state that the protocol does not have.
    #[error("a connection in the unknown state {0}")]
    State(u16),
}

impl Refused {
    /// Whether nothing behind it in its datagram can be read.
    pub const fn is_final(self) -> bool {
        !matches!(
            self,
            Self::UnknownOption(_) | Self::Protocol(_) | Self::State(_)
        )
    }
}

/// The messages of a datagram for directors with this syncid, 0 for all, in order. Nothing follows a refusal that
/// [is final](Refused::is_final).
///
/// # Errors
/// A datagram that is not taken up at all.
pub fn read(datagram: &[u8], syncid: u8) -> Result<Messages<'_>, Refused> {
    let mut b = Bytes(datagram);
    let mut head = || Some((b.u8()?, b.u8()?, b.u16()?));
    let (v0_count, theirs, size) = head().ok_or(Refused::Truncated)?;
    if usize::from(size) != datagram.len() {
        return Err(Refused::Size);
    }
    if syncid != 0 && theirs != syncid {
        return Err(Refused::SyncId(theirs));
    }
    let messages = match (v0_count, b.0) {
        (0, [count, 1, 0, 0, entries @ ..]) => Messages {
            take: v1::take,
            left: *count,
            rest: Bytes(entries),
        },
        _ => Messages {
            take: v0::take,
            left: v0_count,
            rest: b,
        },
    };
    Ok(messages)
}

/// The messages that are left of a datagram.
pub struct Messages<'a> {
    take: fn(&mut Bytes<'a>) -> Result<Message, Refused>,
    left: u8,
    rest: Bytes<'a>,
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, Refused>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let message = (self.take)(&mut self.rest).and_then(check);
        if message.as_ref().err().is_some_and(|r| r.is_final()) {
            self.left = 0;
        }
        Some(message)
    }
}

/// A message of a persistence engine, a protocol and a state that there are.
fn check(m: Message) -> Result<Message, Refused> {
    if !m.engine_data.is_empty() && m.call().is_none() {
        return Err(Refused::Engine);
    }
    let known = match Protocol::from_number(m.protocol) {
        _ if m.is_template() => return Ok(m),
        Some(Protocol::Tcp) => TcpState::ALL.len(),
        Some(Protocol::Sctp) => SctpState::ALL.len(),
        Some(Protocol::Udp) => 1,
        None => return Err(Refused::Protocol(m.protocol)),
    };
    match usize::from(m.state) < known {
        true => Ok(m),
        false => Err(Refused::State(m.state)),
    }
}

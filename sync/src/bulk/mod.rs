//! One director asks another one for all that it has: a conversation of two, over a stream, sealed by the key that both
//! share. For UVS's among themselves, as the seal is.
//!
//! ```text
//! who asks                                        who is asked
//!   greeting: magic, nonce            ──────►
//!                                     ◄──────      greeting: magic, nonce
//!   ask: syncid                       ──────►
//!                                     ◄──────      datagram, as it would be sent by itself, again and again
//!                                     ◄──────      end
//! ```
//!
//! All behind the greetings is frames, each with a code of a key that holds for this conversation: it is made of the shared
//! key, of both nonces, both addresses and the port. So what was said in another conversation is worth nothing in this
//! one, nor to another director. A frame's code is over its direction and its number too: none can be left out, put
//! elsewhere or sent back. Who is asked says nothing of its connections before the other has proved that it has the key.
//!
//! Each frame has its age: how long after its greeting it was made. By that the other end knows how old a copy of a
//! connection is, whatever the clocks of the two say, and refuses one that was under way for too long ([`LATE`]).

mod asking;
mod frame;
mod giving;

use std::net::IpAddr;
use std::time::Duration;

use uvs_core::counters::BulkResult;

pub use asking::{Asking, Heard};
pub use giving::{Asked, Giving};

/// Random bytes that hold for one conversation.
pub type Nonce = [u8; 16];

/// The protocol and its version.
const MAGIC: [u8; 8] = *b"uvsbulk1";
/// Bytes of a greeting.
const GREETING: usize = MAGIC.len() + size_of::<Nonce>();
/// The longest datagram in a frame, bytes: room for as many messages as one can count, of those that there are.
pub const LONGEST: u16 = 1 << 15;
/// How long a frame may be under way: less than the shortest time-out of what is over (TCP's CLOSE, 10 s), so that what was
/// told of by itself meanwhile, and is known to have ended, is still there to be compared.
pub const LATE: Duration = Duration::from_secs(5);

/// Who speaks with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The address of who asks, as the other one sees it.
    pub asking: IpAddr,
    /// The address of who is asked, as the other one sees it.
    pub asked: IpAddr,
    /// The TCP port that is asked at.
    pub port: u16,
}

/// Why a conversation ends before all was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The other end's greeting is none.
    #[error("it speaks another protocol, or another version of this one")]
    Greeting,
    /// A frame is not sealed with the conversation's key.
    #[error(
        "what it says is not of this key and this conversation: another key, a copy, or translated addresses"
    )]
    Key,
    /// A frame is longer than any is.
    #[error("it says more at once than there is to say")]
    Oversized,
    /// A frame of another kind or size than has its turn.
    #[error("what it says makes no sense here")]
    Unexpected,
    /// Who asks belongs to others.
    #[error("it has syncid {0}")]
    SyncId(u8),
    /// A frame was under way for longer than [`LATE`].
    #[error("what it says was on its way for {} seconds", .0.as_secs())]
    Late(Duration),
}

impl Refused {
    /// As what it is counted.
    pub const fn result(self) -> BulkResult {
        match self {
            Self::Greeting => BulkResult::Greeting,
            Self::Key => BulkResult::Key,
            Self::Oversized | Self::Unexpected => BulkResult::Frame,
            Self::SyncId(_) => BulkResult::SyncId,
            Self::Late(_) => BulkResult::Slow,
        }
    }
}

fn greeting(nonce: Nonce) -> Vec<u8> {
    [&MAGIC[..], &nonce].concat()
}

/// The nonce of a greeting, once the bytes begin with a whole one, which is then taken from them.
fn take_greeting(bytes: &mut Vec<u8>) -> Result<Option<Nonce>, Refused> {
    let begun = bytes.len().min(MAGIC.len());
    if bytes[..begun] != MAGIC[..begun] {
        return Err(Refused::Greeting);
    }
    let Some((greeting, _)) = bytes.split_first_chunk::<GREETING>() else {
        return Ok(None);
    };
    let mut nonce = Nonce::default();
    nonce.copy_from_slice(&greeting[MAGIC.len()..]);
    bytes.drain(..GREETING);
    Ok(Some(nonce))
}

//! Follows the host's rules: nf_tables counts its changes, and where the count has moved `nft` is asked again,
//! by a thread of its own, since a large rule set takes it a while.

use std::io;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use uvs_control::firewall::{DropRule, Ruleset};

use crate::guard;

/// NFT_MSG_GETGEN of the nf_tables subsystem, NLM_F_REQUEST, and the answer's attribute NFTA_GEN_ID
/// (linux/netfilter/nf_tables.h).
const GET_GENERATION: u16 = 10 << 8 | 16;
const REQUEST: u16 = 1;
const GENERATION: [u8; 2] = 1u16.to_ne_bytes();
/// Bytes of a netlink header and the nfnetlink header behind it.
const HEADERS: u8 = 20;

/// What came of reading the rules.
pub(crate) type Outcome = Result<Vec<DropRule>, String>;

/// Reads the rules when they have changed.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// As of when they were read last.
    generation: Option<u32>,
    reading: Option<Receiver<Outcome>>,
}

impl Watch {
    /// Reads them now.
    pub(crate) fn first(&mut self) -> Outcome {
        self.generation = generation().ok();
        read()
    }

    /// What they are, where that has been read since this was asked last. Has them read where they changed.
    pub(crate) fn turn(&mut self) -> Option<Outcome> {
        if let Some(reading) = &self.reading {
            let outcome = match reading.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Ok(outcome) => outcome,
                Err(TryRecvError::Disconnected) => Err("the thread that reads it ended".to_owned()),
            };
            self.reading = None;
            return Some(outcome);
        }
        let now = generation().ok()?;
        if self.generation.replace(now) == Some(now) {
            return None;
        }
        let (to, from) = channel();
        let reader = thread::Builder::new().name("uvs-firewall".to_owned());
        // Whoever asked may be gone.
        match reader.spawn(move || drop(to.send(read()))) {
            Ok(_) => self.reading = Some(from),
            Err(error) => return Some(Err(error.to_string())),
        }
        None
    }

    /// Forgets what was read: the next turn reads it again.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

fn read() -> Outcome {
    let ruleset = Ruleset::of_host(|words| guard::ask(words, ""))?;
    Ok(ruleset.drop_rules())
}

/// How often this network namespace's rules have changed.
fn generation() -> io::Result<u32> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    // The kernel has answered when the call returns.
    socket.set_non_blocking(true)?;
    let mut request = Vec::with_capacity(HEADERS.into());
    request.extend_from_slice(&u32::from(HEADERS).to_ne_bytes());
    request.extend_from_slice(&GET_GENERATION.to_ne_bytes());
    request.extend_from_slice(&REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 12]);
    socket.send(&request, 0)?;
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    // Attributes: two bytes of length, two of type, what it is, and padding to four bytes.
    let mut rest = answer.get(usize::from(HEADERS)..).unwrap_or_default();
    while let [a, b, c, d, after @ ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b])).max(4) - 4;
        if [*c, *d] == GENERATION
            && let Some(number) = after.first_chunk()
        {
            return Ok(u32::from_be_bytes(*number));
        }
        rest = after.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no generation"))
}

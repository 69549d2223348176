//! How a trace ends: the verdict in words that can be written down, and the frames that leave.

use serde::{Deserialize, Serialize};

use super::fields::Change;
use crate::flow::Addr;
use crate::verdict::{DropReason, Verdict};

/// What became of the frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum End {
    /// It leaves, rewritten.
    Send,
    /// It leaves as other frames: segments or fragments.
    SendInParts,
    /// It was answered.
    Answered,
    /// A fragment, kept until its datagram is whole.
    Held,
    /// It is the kernel's.
    Pass,
    /// It is the director's own, as its real server.
    Local,
    /// It is another worker's.
    Elsewhere {
        /// The worker's number.
        worker: u32,
    },
    /// It was dropped.
    Drop {
        /// The reason's label.
        reason: String,
        /// What it means.
        meaning: String,
        /// What to do about it.
        advice: String,
    },
}

impl From<Verdict> for End {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Send(_) => Self::Send,
            Verdict::SendOutbox => Self::SendInParts,
            Verdict::Answered => Self::Answered,
            Verdict::Held => Self::Held,
            Verdict::Pass => Self::Pass,
            Verdict::Local => Self::Local,
            Verdict::Elsewhere(handing) => Self::Elsewhere { worker: handing.to },
            Verdict::Drop(reason) => Self::of_drop(reason),
        }
    }
}

impl End {
    fn of_drop(reason: DropReason) -> Self {
        Self::Drop {
            reason: reason.label().to_owned(),
            meaning: reason.meaning().to_owned(),
            advice: reason.advice().to_owned(),
        }
    }
}

/// A frame that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The port's place among the interfaces.
    pub port: u16,
    /// The next hop, where its MAC address is not known yet.
    pub unresolved: Option<Addr>,
    /// What it is: `TCP SYN`, `ICMP type 3 code 1`, `ARP`.
    pub kind: String,
    /// Its bytes from the MAC addresses on.
    pub bytes: u32,
    /// Field by field, what differs from the frame that came in.
    pub changes: Vec<Change>,
}

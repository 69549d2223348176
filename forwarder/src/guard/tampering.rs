//! What others do to the guard, and what was done about it.

use std::fmt;
use std::time::SystemTime;

/// What others did to the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tampering {
    /// The table was deleted.
    Removed,
    /// Something in it was changed: what, in a few words.
    Damaged(String),
}

impl fmt::Display for Tampering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Removed => f.write_str("the table is gone"),
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

/// The reconciler's repairs so far.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    /// Times that the table was put up again after somebody had deleted it.
    pub removed: u64,
    /// Times that it was replaced because it was not as it had been put up.
    pub damaged: u64,
    /// When it was last, and why.
    pub last: Option<(SystemTime, Tampering)>,
    /// Why it is not as it must be now, where it could not be repaired.
    pub(crate) broken: Option<String>,
}

impl Repairs {
    /// Notes a repair.
    pub(crate) fn note(&mut self, tampering: Tampering, at: SystemTime) {
        match tampering {
            Tampering::Removed => self.removed += 1,
            Tampering::Damaged(_) => self.damaged += 1,
        }
        self.last = Some((at, tampering));
    }
}

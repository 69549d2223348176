//! How a conversation ends in which a director asks another one for all that it has, before all was told.

use std::fmt;
use std::io::{self, ErrorKind};

use uvs_core::counters::BulkResult;
use uvs_sync::bulk::Refused;

/// As what it is counted, and why in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) result: BulkResult,
    why: String,
}

impl Ended {
    pub(super) const fn new(result: BulkResult, why: String) -> Self {
        Self { result, why }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        Self::new(refused.result(), refused.to_string())
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        let why = match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
                "it has closed the connection; its log may say why".to_owned()
            }
            _ => error.to_string(),
        };
        Self::new(BulkResult::Closed, why)
    }
}

//! What a check brings: findings with the command that fixes each, or the reason why it was not made.

use std::fmt;

use serde::Serialize;
use uvs_realserver::Fault;

use super::catalog::Check;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// What was seen, with the actual values.
    pub seen: String,
    /// What fixes it.
    pub(crate) fix: Fix,
}

/// A shell command, and the host on which it is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fix {
    /// The host, where it is not this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// The command, ready to be pasted.
    pub command: String,
}

impl Finding {
    /// A finding that a command on this host fixes.
    pub fn here(check: Check, seen: String, command: String) -> Self {
        let fix = Fix { on: None, command };
        Self { check, seen, fix }
    }

    /// A finding that a command on another host fixes.
    pub(super) fn elsewhere(check: Check, seen: String, on: String, command: String) -> Self {
        let fix = Fix {
            on: Some(on),
            command,
        };
        Self { check, seen, fix }
    }
}

impl From<uvs_realserver::Finding> for Finding {
    fn from(found: uvs_realserver::Finding) -> Self {
        let check = match found.fault {
            Fault::ArpIgnore => Check::RsArpIgnore,
            Fault::ArpAnnounce => Check::RsArpAnnounce,
            Fault::RpFilter => Check::RsRpFilter,
            Fault::Tunnel => Check::RsTunnel,
            Fault::VipAbsent => Check::RsVipAbsent,
            Fault::LinkDown => Check::RsLinkDown,
            Fault::Ipv6Off => Check::RsIpv6Off,
            Fault::VipAnswers => Check::RsVipAnswers,
            Fault::VipProxied => Check::RsVipProxied,
            Fault::VipNetwork => Check::RsVipNetwork,
            Fault::NatVip => Check::RsNatVip,
            Fault::DefaultRoute => Check::RsDefaultRoute,
        };
        Self::here(check, found.seen, found.fix)
    }
}

/// One line, as `uvs rs check` prints it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, fix) = (self.check.why(), &self.fix.command);
        write!(f, "{}: {why}; fix: {fix}", self.seen)
    }
}

/// What a check saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// What was looked at, with the actual values.
    pub(super) looked: Vec<String>,
    /// What is wrong with it.
    pub(super) findings: Vec<Finding>,
}

impl Seen {
    /// Notes something that is as it should be.
    pub(super) fn well(&mut self, what: impl Into<String>) {
        self.looked.push(what.into());
    }

    /// Notes something that is not; once, however many services show it.
    pub(super) fn wrong(&mut self, finding: Finding) {
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

/// Why a check could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotMade(pub(super) String);

impl NotMade {
    /// From any error.
    pub(super) fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

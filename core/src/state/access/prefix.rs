//! A prefix as a person writes it: `192.0.2.0/24`, `192.0.2.7`, `2001:db8::/32`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::flow::Addr;

/// Addresses whose first bits are alike.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    addr: Addr,
    length: u8,
}

/// Why a text is no [`Prefix`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixError {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub help: String,
}

impl Prefix {
    /// The prefix of this length that has an address; a length beyond the family's is cut to it.
    pub fn around(addr: Addr, length: u8) -> Self {
        let length = length.min(bits(addr));
        let addr = addr.masked(length);
        Self { addr, length }
    }

    /// Its first address.
    pub const fn addr(&self) -> Addr {
        self.addr
    }

    /// Bits that count within its family: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether it has an address.
    pub fn has(&self, addr: Addr) -> bool {
        addr.is_v4() == self.addr.is_v4() && addr.masked(self.length) == self.addr
    }
}

/// Bits of an address of this family.
const fn bits(addr: Addr) -> u8 {
    if addr.is_v4() { 32 } else { 128 }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.addr)?;
        if self.length < bits(self.addr) {
            write!(f, "/{}", self.length)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = PrefixError;

    fn try_from(text: String) -> Result<Self, PrefixError> {
        text.parse()
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    /// `ADDRESS[/LENGTH]`. Bits behind the length are refused, not cleared: `192.0.2.7/24` may be meant for
    /// one address as well as for 256.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (host, length) = match text.split_once('/') {
            Some((host, length)) => (host, Some(length)),
            None => (text, None),
        };
        let Ok(host) = host.parse::<IpAddr>() else {
            let help = "write ADDRESS or ADDRESS/LENGTH, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32; \
                        names are not looked up";
            return wrong(format!("\"{text}\" is not an address or a prefix"), help);
        };
        let addr = Addr::from(host);
        let most = bits(addr);
        let length = match length {
            None => Some(most),
            // `parse` would take a sign too.
            Some(digits) if digits.starts_with('+') => None,
            Some(digits) => digits.parse().ok().filter(|n| *n <= most),
        };
        let Some(length) = length else {
            let help = format!("use a length from 0 to {most}; netmasks are not taken");
            return wrong(format!("\"{text}\" has no prefix length"), help);
        };
        let prefix = Self::around(addr, length);
        if prefix.addr != addr {
            let help = format!("write {prefix} for all of it, or {addr} for the one address");
            return wrong(format!("{text} has bits behind its length"), help);
        }
        Ok(prefix)
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.help)
    }
}

impl std::error::Error for PrefixError {}

fn wrong<T>(what: String, help: impl Into<String>) -> Result<T, PrefixError> {
    let help = help.into();
    Err(PrefixError { what, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_reads_as_it_is_written() {
        for text in [
            "192.0.2.0/24",
            "192.0.2.7",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
            "2001:db8::1",
        ] {
            let prefix: Prefix = text.parse().expect(text);
            assert_eq!(prefix.to_string(), text);
            let json = serde_json::to_string(&prefix).expect("JSON");
            assert_eq!(serde_json::from_str::<Prefix>(&json).expect(text), prefix);
        }
        let same = ["192.0.2.7/32", "192.0.2.7"].map(|t| t.parse::<Prefix>().expect(t));
        assert_eq!(same[0], same[1]);
    }

    #[test]
    fn what_is_no_prefix_is_named_with_what_would_be() {
        for (text, said) in [
            ("", "is not an address or a prefix"),
            ("example.org", "names are not looked up"),
            ("192.0.2", "is not an address or a prefix"),
            ("192.0.2.0/33", "use a length from 0 to 32"),
            ("192.0.2.0/+8", "has no prefix length"),
            ("192.0.2.0/255.255.255.0", "netmasks are not taken"),
            ("192.0.2.0/", "has no prefix length"),
            ("2001:db8::/129", "use a length from 0 to 128"),
            (
                "192.0.2.7/24",
                "write 192.0.2.0/24 for all of it, or 192.0.2.7 for the one address",
            ),
        ] {
            let error = text.parse::<Prefix>().expect_err(text).to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}

//! The filter of `uvs trace --live`: which real packets to look at.
//!
//! ```text
//! FILTER = "any" | [PROTO] [END [END]] ["from" END] ["to" END]
//! PROTO  = "tcp" | "udp" | "sctp" | "icmp" | "icmpv6"
//! END    = ADDRESS | ADDRESS/BITS | ADDRESS:PORT | ADDRESS/BITS:PORT | :PORT
//! ```
//!
//! In front of a port an IPv6 address is in brackets, with its bits: `[2001:db8::5]:80`, `[2001:db8::/32]:80`.
//! A bare END is at either end of the packet, two of them at both; so `10.0.0.5:4711 192.168.0.38:80` is a
//! connection in both directions. A fragment or an ICMP message has no ports.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uvs_core::access::Prefix;
use uvs_core::flow::Addr;
use uvs_core::glance::Glance;
use uvs_core::wire::protocol;

/// Which packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// IP protocol number.
    protocol: Option<u8>,
    /// At either end; at most two.
    ends: Vec<End>,
    from: Option<End>,
    to: Option<End>,
}

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    /// `None` = any address, of either family.
    place: Option<Prefix>,
    port: Option<u16>,
}

/// Why a filter is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Nothing was said.
    #[error("an empty filter; say `any` for all packets that UVS sees")]
    Empty,
    /// A word that is neither a keyword nor an end.
    #[error(
        "`{0}` is neither tcp, udp, sctp, icmp, icmpv6, any, from, to, nor an end such as 10.0.0.5:4711, 10.0.0.0/24, [2001:db8::5]:4711 or :80"
    )]
    Word(String),
    /// A keyword without its end.
    #[error("`{0}` wants an end behind it, such as `{0} 10.0.0.5:4711`")]
    NoEnd(&'static str),
    /// Something was said twice.
    #[error("`{0}` is one {1} too many")]
    TooMany(String, &'static str),
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        let mut words = text.split_whitespace().peekable();
        if words.peek().is_none() {
            return Err(FilterError::Empty);
        }
        if text.trim() == "any" {
            return Ok(filter);
        }
        while let Some(word) = words.next() {
            match word {
                "tcp" => filter.set_protocol(word, protocol::TCP)?,
                "udp" => filter.set_protocol(word, protocol::UDP)?,
                "sctp" => filter.set_protocol(word, protocol::SCTP)?,
                "icmp" => filter.set_protocol(word, protocol::ICMP)?,
                "icmpv6" => filter.set_protocol(word, protocol::ICMPV6)?,
                "from" => set_end(&mut filter.from, "from", words.next())?,
                "to" => set_end(&mut filter.to, "to", words.next())?,
                end if filter.ends.len() < 2 => filter.ends.push(end.parse()?),
                end => return Err(FilterError::TooMany(end.to_owned(), "end")),
            }
        }
        Ok(filter)
    }
}

fn set_end(
    place: &mut Option<End>,
    keyword: &'static str,
    word: Option<&str>,
) -> Result<(), FilterError> {
    let word = word.ok_or(FilterError::NoEnd(keyword))?;
    match place.replace(word.parse()?) {
        None => Ok(()),
        Some(_) => Err(FilterError::TooMany(word.to_owned(), keyword)),
    }
}

impl FromStr for End {
    type Err = FilterError;

    fn from_str(word: &str) -> Result<Self, FilterError> {
        let wrong = || FilterError::Word(word.to_owned());
        let (place, port) = split(word).ok_or_else(wrong)?;
        let port = port.map(|digits| digits.parse().map_err(|_| wrong()));
        let place = (!place.is_empty()).then(|| prefix(place).ok_or_else(wrong));
        Ok(Self {
            place: place.transpose()?,
            port: port.transpose()?,
        })
    }
}

/// Place and port; a bare IPv6 address has no port, for its last group could be taken for one. `None` where a bracket
/// stays open.
fn split(word: &str) -> Option<(&str, Option<&str>)> {
    if let Some(inside) = word.strip_prefix('[') {
        return match inside.split_once(']')? {
            (place, "") => Some((place, None)),
            (place, rest) => Some((place, Some(rest.strip_prefix(':')?))),
        };
    }
    Some(match word.split_once(':') {
        Some((_, rest)) if rest.contains(':') => (word, None),
        Some((place, port)) => (place, Some(port)),
        None => (word, None),
    })
}

/// `ADDRESS` or `ADDRESS/BITS`, of which what is behind the bits does not count.
fn prefix(place: &str) -> Option<Prefix> {
    let (addr, bits) = match place.split_once('/') {
        Some((addr, bits)) => (addr, Some(bits.parse::<u8>().ok()?)),
        None => (place, None),
    };
    let addr = Addr::from(addr.parse::<IpAddr>().ok()?);
    let most = addr.family().bits();
    let bits = bits.unwrap_or(most);
    (bits <= most).then(|| Prefix::around(addr, bits))
}

impl Filter {
    fn set_protocol(&mut self, word: &str, number: u8) -> Result<(), FilterError> {
        match self.protocol.replace(number) {
            None => Ok(()),
            Some(_) => Err(FilterError::TooMany(word.to_owned(), "protocol")),
        }
    }

    /// Whether a frame is one of those. Its headers may be inconsistent: nothing is read beyond its bytes.
    pub fn matches(&self, frame: &[u8]) -> bool {
        let Some(seen) = Glance::of_frame(frame) else {
            return false;
        };
        if self.protocol.is_some_and(|p| p != seen.protocol) {
            return false;
        }
        let from = (seen.src, seen.ports.map(|(from, _)| from));
        let to = (seen.dst, seen.ports.map(|(_, to)| to));
        let either = match self.ends.as_slice() {
            [] => true,
            [one] => one.is(from) || one.is(to),
            [one, other, ..] => (one.is(from) && other.is(to)) || (one.is(to) && other.is(from)),
        };
        either && self.from.is_none_or(|end| end.is(from)) && self.to.is_none_or(|end| end.is(to))
    }
}

/// Address, and port where there is one.
type Seen = (Addr, Option<u16>);

impl End {
    fn is(&self, (addr, port): Seen) -> bool {
        self.place.is_none_or(|place| place.has(addr))
            && self.port.is_none_or(|wanted| port == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::flow::{Content, Flags, endpoint, frame};

    fn packet(from: &str, to: &str) -> Vec<u8> {
        let end = |text| endpoint(text).expect("an endpoint");
        frame(&Content::Tcp(Flags(2)), end(from), end(to))
    }

    fn passes(filter: &str, from: &str, to: &str) -> bool {
        let filter: Filter = filter.parse().expect("a filter");
        filter.matches(&packet(from, to))
    }

    #[test]
    fn bare_ends_are_either_way_and_keywords_are_not() {
        let (c, v) = ("10.0.0.5:4711", "192.168.0.38:80");
        for filter in [
            "any",
            "tcp",
            "10.0.0.5",
            ":80",
            "10.0.0.0/24 192.168.0.38:80",
        ] {
            assert!(passes(filter, c, v) && passes(filter, v, c), "{filter}");
        }
        assert!(passes("tcp from 10.0.0.5 to :80", c, v));
        assert!(!passes("tcp from 10.0.0.5 to :80", v, c));
        for filter in [
            "udp",
            "10.0.0.6",
            ":81",
            "10.0.0.5:4711 192.168.0.38:81",
            "to 10.0.0.5",
        ] {
            assert!(!passes(filter, c, v), "{filter}");
        }
    }

    #[test]
    fn ends_may_be_of_ipv6_and_a_bare_port_is_of_both_families() {
        let (c, v) = ("[2001:db8::5]:4711", "[2001:db8:1::38]:80");
        for filter in [
            "tcp :80",
            "2001:db8::5",
            "[2001:db8::5]",
            "2001:db8::/48 [2001:db8:1::38]:80",
            "to [2001:db8:1::/48]:80",
        ] {
            assert!(passes(filter, c, v), "{filter}");
        }
        for filter in ["0.0.0.0/0", "2001:db8::6", "[2001:db8::5]:80", "icmpv6"] {
            assert!(!passes(filter, c, v), "{filter}");
        }
        assert!(!passes("::/0", "10.0.0.5:4711", "192.168.0.38:80"));
    }

    #[test]
    fn what_is_no_filter_is_told_by_its_word() {
        let wrong = |text: &str| text.parse::<Filter>().expect_err("no filter");
        assert_eq!(wrong(" "), FilterError::Empty);
        assert_eq!(wrong("tcp port"), FilterError::Word("port".to_owned()));
        assert_eq!(
            wrong("10.0.0.5:x"),
            FilterError::Word("10.0.0.5:x".to_owned())
        );
        assert_eq!(
            wrong("10.0.0.5/33"),
            FilterError::Word("10.0.0.5/33".to_owned())
        );
        for text in ["2001:db8::/129", "[2001:db8::5", "[2001:db8::5]80", "[]:x"] {
            assert_eq!(wrong(text), FilterError::Word(text.to_owned()));
        }
        assert_eq!(wrong("tcp to"), FilterError::NoEnd("to"));
        assert!(matches!(wrong("tcp udp"), FilterError::TooMany(..)));
        assert!(matches!(wrong(":1 :2 :3"), FilterError::TooMany(..)));
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_no_trouble() {
        let filter: Filter = "tcp :80".parse().expect("a filter");
        let whole = packet("10.0.0.5:4711", "192.168.0.38:80");
        for end in 0..whole.len() {
            let _ = filter.matches(&whole[..end]);
        }
        assert!(filter.matches(&whole));
    }
}

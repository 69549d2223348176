//! The filter of `uvs trace --live`: which real packets to look at.
//!
//! ```text
//! FILTER = "any" | [PROTO] [END [END]] ["from" END] ["to" END]
//! PROTO  = "tcp" | "udp" | "sctp" | "icmp"
//! END    = ADDRESS | ADDRESS/BITS | ADDRESS:PORT | ADDRESS/BITS:PORT | :PORT
//! ```
//!
//! A bare END is at either end of the packet, two of them at both; so `10.0.0.5:4711 192.168.0.38:80` is a
//! connection in both directions. A fragment or an ICMP message has no ports.

use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uvs_core::wire::ethernet::{self, ethertype};
use uvs_core::wire::ports::{self, Ports};
use uvs_core::wire::{ipv4, protocol};

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
    addr: Ipv4Addr,
    /// Bits of the address that count.
    bits: u8,
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
        "`{0}` is neither tcp, udp, sctp, icmp, any, from, to, nor an end such as 10.0.0.5:4711, 10.0.0.0/24 or :80"
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
                "tcp" => filter.set_protocol(word, 6)?,
                "udp" => filter.set_protocol(word, 17)?,
                "sctp" => filter.set_protocol(word, 132)?,
                "icmp" => filter.set_protocol(word, 1)?,
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
        let (place, port) = match word.split_once(':') {
            Some((place, port)) => (place, Some(port.parse().map_err(|_| wrong())?)),
            None => (word, None),
        };
        if place.is_empty() {
            let addr = Ipv4Addr::UNSPECIFIED;
            return Ok(Self {
                addr,
                bits: 0,
                port,
            });
        }
        let (addr, bits) = match place.split_once('/') {
            Some((addr, bits)) => (addr, bits.parse().map_err(|_| wrong())?),
            None => (place, 32),
        };
        if bits > 32 {
            return Err(wrong());
        }
        let addr = addr.parse().map_err(|_| wrong())?;
        Ok(Self { addr, bits, port })
    }
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
        let Some((header, ports)) = headers(frame) else {
            return false;
        };
        if self.protocol.is_some_and(|p| p != header.protocol()) {
            return false;
        }
        let from = (u32::from_be_bytes(header.src()), ports.map(|p| p.src()));
        let to = (u32::from_be_bytes(header.dst()), ports.map(|p| p.dst()));
        let either = match self.ends.as_slice() {
            [] => true,
            [one] => one.is(from) || one.is(to),
            [one, other, ..] => (one.is(from) && other.is(to)) || (one.is(to) && other.is(from)),
        };
        either && self.from.is_none_or(|end| end.is(from)) && self.to.is_none_or(|end| end.is(to))
    }
}

type Header<'a> = ipv4::Header<&'a [u8; ipv4::MIN_LEN]>;

/// An IPv4 frame's header, and its ports where it has any.
fn headers(frame: &[u8]) -> Option<(Header<'_>, Option<Ports<&[u8; ports::LEN]>>)> {
    let ethernet = ethernet::Header::new_checked(frame).ok()?;
    let packet = &frame[ethernet::LEN..];
    let header = ipv4::Header::new_checked(packet).ok()?;
    if ethernet.ethertype() != ethertype::IPV4 {
        return None;
    }
    let with_ports = [protocol::TCP, protocol::UDP, protocol::SCTP];
    let has_ports = with_ports.contains(&header.protocol()) && !header.is_fragment();
    let l4 = packet.get(header.header_len()..).filter(|_| has_ports);
    let ports = l4.and_then(|l4| Ports::new_checked(l4).ok());
    Some((header, ports))
}

/// Address, and port where there is one.
type Seen = (u32, Option<u16>);

impl End {
    fn is(&self, (addr, port): Seen) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
        let same = (u32::from(self.addr) ^ addr) & mask == 0;
        same && self.port.is_none_or(|wanted| port == Some(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::flow::{Flags, endpoint, frame};
    use uvs_core::flow::Protocol;

    fn packet(from: &str, to: &str) -> Vec<u8> {
        let end = |text| endpoint(text).expect("an endpoint");
        frame(Protocol::Tcp, end(from), end(to), Flags(2))
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

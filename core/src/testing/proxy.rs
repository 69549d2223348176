//! A receiver of the PROXY protocol that lets nothing pass that haproxy's `doc/proxy-protocol.txt` does not allow, written
//! from that and not from what is sent here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::wire::checksum::crc32c;

const SIGNATURE: &[u8; 12] = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A";
/// Bytes of the longest line of version 1.
const LINE: usize = 107;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// 1 or 2.
    pub version: u8,
    /// Whether it is TCP's; else UDP's.
    pub stream: bool,
    /// The client.
    pub src: SocketAddr,
    /// Whom it asked.
    pub dst: SocketAddr,
    /// Version 2's host name.
    pub authority: Option<String>,
    /// Version 2's identifier of the connection.
    pub unique_id: Option<Vec<u8>>,
    /// Whether there was a checksum.
    pub summed: bool,
}

/// Reads the header that bytes begin with, and how long it is; `None` where more are needed to say.
///
/// # Errors
/// What is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Option<(Introduced, usize)>, String> {
    let begins = |with: &[u8]| {
        let common = bytes.len().min(with.len());
        bytes[..common] == with[..common]
    };
    if begins(SIGNATURE) {
        return read_2(bytes);
    }
    if begins(b"PROXY ") {
        return read_1(bytes);
    }
    Err(format!("no header: {:?}", &bytes[..bytes.len().min(16)]))
}

fn read_1(bytes: &[u8]) -> Result<Option<(Introduced, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() {
            0..LINE => Ok(None),
            _ => Err("the line does not end".to_owned()),
        };
    };
    if end + 2 > LINE {
        return Err("the line is too long".to_owned());
    }
    let line = std::str::from_utf8(&bytes[..end]).map_err(|e| e.to_string())?;
    let wrong = || format!("no line of version 1: {line}");
    let words: Vec<&str> = line.split(' ').collect();
    let [_, family, src, dst, src_port, dst_port] = words[..] else {
        return Err(wrong());
    };
    let address = |word: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let port = |word: &str| {
        let port = word.parse::<u16>().ok()?;
        (port.to_string() == word).then_some(port)
    };
    let end_of = |addr, number| Some(SocketAddr::new(address(addr)?, port(number)?));
    let introduced = Introduced {
        version: 1,
        stream: true,
        src: end_of(src, src_port).ok_or_else(wrong)?,
        dst: end_of(dst, dst_port).ok_or_else(wrong)?,
        authority: None,
        unique_id: None,
        summed: false,
    };
    Ok(Some((introduced, end + 2)))
}

fn read_2(bytes: &[u8]) -> Result<Option<(Introduced, usize)>, String> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<16>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    if fixed[12] != 0x21 {
        return Err(format!("version and command {:#x}", fixed[12]));
    }
    let stream = match fixed[13] & 0x0f {
        1 => true,
        2 => false,
        other => return Err(format!("protocol {other}")),
    };
    let (src, dst, parts) = match fixed[13] >> 4 {
        1 => ends::<4>(body).map(|(s, d, rest)| (s.map(IpAddr::from), d.map(IpAddr::from), rest)),
        2 => ends::<16>(body).map(|(s, d, rest)| (s.map(IpAddr::from), d.map(IpAddr::from), rest)),
        other => return Err(format!("family {other}")),
    }
    .ok_or("addresses cut off")?;
    let mut introduced = Introduced {
        version: 2,
        stream,
        src: SocketAddr::new(src.0, src.1),
        dst: SocketAddr::new(dst.0, dst.1),
        authority: None,
        unique_id: None,
        summed: false,
    };
    read_parts(&bytes[..16 + len], parts.len(), &mut introduced)?;
    Ok(Some((introduced, 16 + len)))
}

/// An address and a port.
struct End<T>(T, u16);

impl<T> End<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> End<U> {
        End(change(self.0), self.1)
    }
}

/// Both ends, and what follows.
type Ends<'a, const N: usize> = (End<[u8; N]>, End<[u8; N]>, &'a [u8]);

/// Both addresses, then both ports.
fn ends<const N: usize>(body: &[u8]) -> Option<Ends<'_, N>> {
    let (src, rest) = body.split_first_chunk::<N>()?;
    let (dst, rest) = rest.split_first_chunk::<N>()?;
    let (ports, rest) = rest.split_first_chunk::<4>()?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Some((End(*src, port(0)), End(*dst, port(2)), rest))
}

/// Reads the optional parts, which are so many last bytes of a header.
fn read_parts(header: &[u8], len: usize, into: &mut Introduced) -> Result<(), String> {
    let mut at = header.len() - len;
    while at < header.len() {
        let Some([kind, high, low]) = header.get(at..at + 3).and_then(|h| h.first_chunk()) else {
            return Err("a part is cut off".to_owned());
        };
        let size = usize::from(u16::from_be_bytes([*high, *low]));
        let value = header
            .get(at + 3..at + 3 + size)
            .ok_or("a value is cut off")?;
        match kind {
            0x02 if into.authority.is_none() => {
                into.authority =
                    Some(String::from_utf8(value.to_vec()).map_err(|e| e.to_string())?);
            }
            0x03 if !into.summed => {
                let mut zeroed = header.to_vec();
                zeroed[at + 3..at + 3 + size].fill(0);
                if value != crc32c(&zeroed).to_be_bytes() {
                    return Err("the checksum is wrong".to_owned());
                }
                into.summed = true;
            }
            0x05 if into.unique_id.is_none() && size <= 128 => {
                into.unique_id = Some(value.to_vec());
            }
            other => return Err(format!("part {other:#x} twice, or not expected")),
        }
        at += 3 + size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of §2.1.
    const LINE_4: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET /";

    fn v2(body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[0x21, 0x11], &len, body].concat()
    }

    #[test]
    fn a_line_is_read_to_its_end_and_waited_for() {
        let (introduced, len) = read(LINE_4).expect("right").expect("whole");
        assert_eq!(&LINE_4[len..], b"GET /");
        assert_eq!(introduced.src.to_string(), "192.168.0.1:56324");
        assert_eq!(introduced.dst.to_string(), "192.168.0.11:443");
        for cut in 0..len {
            assert_eq!(read(&LINE_4[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn what_is_not_quite_a_header_is_refused() {
        let ends = [10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 0, 81];
        assert!(matches!(read(&v2(&ends)), Ok(Some((_, 28)))));
        for wrong in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY TCP4 192.168.0.1  192.168.0.11 1 2\r\n",
            &v2(&ends[..11]),
            &v2(&[&ends[..], &[3, 0, 4, 1, 2, 3, 4]].concat()),
            &v2(&[&ends[..], &[5, 0, 9, 1]].concat()),
            &v2(&[&ends[..], &[5, 0]].concat()),
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}

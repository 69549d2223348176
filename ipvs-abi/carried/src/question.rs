//! What the preload library asks beside netlink's messages: a socket option, or a file under /proc/net. One
//! question a connection, in one datagram; its answer follows in several.
//!
//! A question begins with [`MAGIC`], where a netlink message has its length: no message is as long as that.

use crate::errno::Errno;

/// The first bytes of a question.
pub const MAGIC: [u8; 4] = *b"UVS\x01";
/// The most bytes of an answer's datagram.
const PART: usize = 32 << 10;
/// Bytes of a question before its data, and of an answer's first datagram.
const HEADER: usize = 12;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// getsockopt(SOL_IP, name), with what the program has put into its buffer.
    Get {
        /// The option.
        name: u32,
        /// The buffer.
        buffer: &'a [u8],
    },
    /// setsockopt(SOL_IP, name, value).
    Set {
        /// The option.
        name: u32,
        /// The value.
        value: &'a [u8],
    },
    /// A file under /proc/net, of [`FILES`].
    File {
        /// Its place there.
        place: u32,
    },
}

/// The files that are there with IPVS in the kernel.
pub const FILES: [&str; 3] = [
    "/proc/net/ip_vs",
    "/proc/net/ip_vs_conn",
    "/proc/net/ip_vs_stats",
];

impl<'a> Question<'a> {
    /// As it is sent: [`MAGIC`], what is asked (1 get, 2 set, 3 file), number, data; numbers of 32 bits, the
    /// host's order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (what, number, data): (u32, u32, &[u8]) = match *self {
            Self::Get { name, buffer } => (1, name, buffer),
            Self::Set { name, value } => (2, name, value),
            Self::File { place } => (3, place, &[]),
        };
        [&MAGIC, &what.to_ne_bytes(), &number.to_ne_bytes(), data].concat()
    }

    /// Reads a datagram; `None` where it is none of ours.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, data) = datagram.split_first_chunk::<HEADER>()?;
        let (magic, numbers) = header.split_first_chunk::<4>()?;
        if *magic != MAGIC {
            return None;
        }
        let [what, number] = pair(numbers)?;
        match what {
            1 => Some(Self::Get {
                name: number,
                buffer: data,
            }),
            2 => Some(Self::Set {
                name: number,
                value: data,
            }),
            3 => Some(Self::File { place: number }),
            _ => None,
        }
    }
}

/// An answer as it is sent: error number and length, then the data.
pub fn answer(result: Result<Vec<u8>, Errno>) -> Vec<Vec<u8>> {
    let (number, data) = match result {
        Ok(data) => (0, data),
        Err(errno) => (errno.number(), Vec::new()),
    };
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let first = [number.to_ne_bytes(), length.to_ne_bytes()].concat();
    let parts = data.chunks(PART).map(<[u8]>::to_vec);
    std::iter::once(first).chain(parts).collect()
}

/// Reads an answer's first datagram: the number of bytes that follow, or the error's number.
pub fn outcome(first: &[u8]) -> Option<Result<u32, i32>> {
    let [number, length] = pair(first)?;
    match number {
        0 => Some(Ok(length)),
        _ => Some(Err(i32::from_ne_bytes(number.to_ne_bytes()))),
    }
}

fn pair(bytes: &[u8]) -> Option<[u32; 2]> {
    let (first, rest) = bytes.split_first_chunk()?;
    let second = rest.first_chunk()?;
    Some([u32::from_ne_bytes(*first), u32::from_ne_bytes(*second)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let questions = [
            Question::Get {
                name: 1153,
                buffer: &[0; 12],
            },
            Question::Set {
                name: 1154,
                value: b"value",
            },
            Question::File { place: 1 },
        ];
        for question in questions {
            let bytes = question.to_bytes();
            assert_eq!(Question::parse(&bytes), Some(question));
            for length in 0..HEADER {
                assert_eq!(Question::parse(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn an_answer_says_how_much_follows() {
        let sent = answer(Ok(vec![7; PART + 1]));
        assert_eq!(outcome(&sent[0]), Some(Ok(PART as u32 + 1)));
        assert_eq!(sent[1..].concat(), vec![7; PART + 1]);
        let refused = answer(Err(Errno::NoService));
        assert_eq!(refused.len(), 1);
        assert_eq!(outcome(&refused[0]), Some(Err(3)));
        assert_eq!(outcome(&[0; 7]), None);
    }
}

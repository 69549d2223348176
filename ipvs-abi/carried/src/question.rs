//! What the preload library asks beside netlink's messages: a socket option, or a file under /proc/net. One
//! question a connection, in one datagram; its answer follows in several.
//!
//! A question begins with [`MAGIC`], where a netlink message has its length: no message is as long as that.

use std::ops::RangeInclusive;

/// The first bytes of a question.
pub const MAGIC: [u8; 4] = *b"UVS\x01";
/// The most bytes of data in an answer's datagram.
const PART: usize = 32 << 10;
/// Bytes of a question before its data.
const HEADER: usize = 16;
/// Bytes of a getsockopt buffer that a question carries: the kernel reads no more than 24 of it.
const BUFFER_HEAD: usize = 64;

/// An answer's datagrams begin with one of these, or with an errno, as numbers of 32 bits.
const LAST: i32 = 0;
const MORE: i32 = -1;

/// The files that are there with IPVS in the kernel.
pub const FILES: [&str; 3] = [
    "/proc/net/ip_vs",
    "/proc/net/ip_vs_conn",
    "/proc/net/ip_vs_stats",
];

/// IP_VS_BASE_CTL and IP_VS_SO_SET_MAX (linux/ip_vs.h): the socket options of IPVS, at SOL_IP.
pub const OPTIONS: RangeInclusive<i32> = 1152..=1167;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question<'a> {
    /// getsockopt(SOL_IP, name).
    Get {
        /// The option.
        name: u32,
        /// Bytes of the program's buffer.
        room: u32,
        /// What the program has put into its beginning.
        head: &'a [u8],
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

impl<'a> Question<'a> {
    /// getsockopt with a program's buffer.
    pub fn get(name: u32, buffer: &'a [u8]) -> Self {
        Self::Get {
            name,
            room: u32::try_from(buffer.len()).unwrap_or(u32::MAX),
            head: &buffer[..buffer.len().min(BUFFER_HEAD)],
        }
    }

    /// As it is sent: [`MAGIC`], what is asked (1 get, 2 set, 3 file), its number, the buffer's length, data;
    /// numbers of 32 bits, the host's order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (what, number, room, data): (u32, u32, u32, &[u8]) = match *self {
            Self::Get { name, room, head } => (1, name, room, head),
            Self::Set { name, value } => (2, name, 0, value),
            Self::File { place } => (3, place, 0, &[]),
        };
        let numbers = [what, number, room].map(u32::to_ne_bytes);
        [&MAGIC, numbers.as_flattened(), data].concat()
    }

    /// Reads a datagram; `None` where it is none of ours.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, data) = datagram.split_first_chunk::<HEADER>()?;
        let (words, _) = header.as_chunks::<4>();
        let [magic, what, number, room] = words else {
            return None;
        };
        if *magic != MAGIC {
            return None;
        }
        let [what, number, room] = [what, number, room].map(|word| u32::from_ne_bytes(*word));
        match what {
            1 => Some(Self::Get {
                name: number,
                room,
                head: data,
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

/// A datagram of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Some of the data; another part follows.
    More(&'a [u8]),
    /// The rest of the data.
    Last(&'a [u8]),
    /// The question was refused with this errno.
    Refused(i32),
}

impl<'a> Part<'a> {
    /// Data in parts of a datagram each, the last of which ends the answer unless more data is to come.
    pub fn all(data: &[u8], more_to_come: bool) -> Vec<Vec<u8>> {
        let parts = data.len().div_ceil(PART).max(1);
        let part = |n: usize| {
            let chunk = &data[n * PART..data.len().min((n + 1) * PART)];
            match more_to_come || n + 1 < parts {
                true => Part::More(chunk).to_bytes(),
                false => Part::Last(chunk).to_bytes(),
            }
        };
        (0..parts).map(part).collect()
    }

    /// As it is sent.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (number, data): (i32, &[u8]) = match *self {
            Self::More(data) => (MORE, data),
            Self::Last(data) => (LAST, data),
            Self::Refused(errno) => (errno, &[]),
        };
        [&number.to_ne_bytes(), data].concat()
    }

    /// Reads a datagram; `None` where it is no part of an answer.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (number, data) = datagram.split_first_chunk()?;
        match i32::from_ne_bytes(*number) {
            MORE => Some(Self::More(data)),
            LAST => Some(Self::Last(data)),
            errno if errno > 0 => Some(Self::Refused(errno)),
            _ => None,
        }
    }
}

/// An answer's data, from its datagrams as they are received.
///
/// # Errors
/// The errno of the refusal, or of receiving; EIO where a datagram is no part of an answer.
pub fn answer(mut receive: impl FnMut() -> Result<Vec<u8>, i32>) -> Result<Vec<u8>, i32> {
    const EIO: i32 = 5;
    let mut data = Vec::new();
    loop {
        let datagram = receive()?;
        match Part::parse(&datagram).ok_or(EIO)? {
            Part::More(part) => data.extend_from_slice(part),
            Part::Last(part) => {
                data.extend_from_slice(part);
                return Ok(data);
            }
            Part::Refused(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked() {
        let questions = [
            Question::get(1153, &[0; 12]),
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
    fn a_long_buffer_is_told_of_and_not_sent() {
        let buffer = [7; 1 << 20];
        let question = Question::get(1154, &buffer);
        assert_eq!(question.to_bytes().len(), HEADER + BUFFER_HEAD);
        let Question::Get { room, head, .. } = question else {
            panic!("{question:?}");
        };
        assert_eq!((room, head), (1 << 20, &buffer[..BUFFER_HEAD]));
    }

    #[test]
    fn an_answer_in_parts_is_the_data_and_ends_once() {
        for length in [0, 1, PART, PART + 1, 3 * PART] {
            let data = vec![7; length];
            for more in [false, true] {
                let sent = Part::all(&data, more);
                let parts: Vec<_> = sent.iter().filter_map(|d| Part::parse(d)).collect();
                let got: Vec<u8> = parts
                    .iter()
                    .flat_map(|part| match part {
                        Part::More(data) | Part::Last(data) => data.to_vec(),
                        Part::Refused(errno) => panic!("{errno}"),
                    })
                    .collect();
                assert_eq!(got, data);
                let ends = parts.iter().filter(|p| matches!(p, Part::Last(_))).count();
                assert_eq!(ends, usize::from(!more));
            }
        }
        let refused = Part::Refused(3).to_bytes();
        assert_eq!(Part::parse(&refused), Some(Part::Refused(3)));
        for length in 0..4 {
            assert_eq!(Part::parse(&refused[..length]), None);
        }
    }
}

//! A program as a filter of an interface's clsact qdisc, over rtnetlink: for kernels without tcx.
//!
//! The qdisc may be others' too: it is made where it lacks and never removed. The filter has a priority, a handle and a
//! name of its own.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use uvs_core::narrow;

use crate::attach::Place;
use crate::sys::program::Program;

/// The name that `tc filter show` tells.
pub(crate) const NAME: &str = "uvs";
/// First of all.
const PRIORITY: u32 = 1;
const HANDLE: u32 = 0x5556;

/// linux/rtnetlink.h, linux/netlink.h.
const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
/// ETH_P_ALL of linux/if_ether.h.
const ALL_PROTOCOLS: u16 = 3;
/// linux/pkt_sched.h: the qdisc, and its two places.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
/// linux/rtnetlink.h: TCA_*, and linux/pkt_cls.h: TCA_BPF_*.
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const NESTED: u16 = 1 << 15;
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const BPF_ID: u16 = 11;
/// The program's verdict is the filter's.
const DIRECT_ACTION: u32 = 1;
/// Bytes before a message's attributes: `struct nlmsghdr` and `struct tcmsg`.
const HEADERS: usize = 16 + 20;

/// Puts a program there; another one's of ours gives way to it.
pub(crate) fn attach(ifindex: u32, place: Place, program: &Program) -> io::Result<()> {
    let qdisc = Message::new(NEW_QDISC, CREATE | EXCLUSIVE | ACK, ifindex)
        .handle(CLSACT_HANDLE)
        .parent(CLSACT)
        .attribute(KIND, b"clsact\0");
    match ask(&qdisc) {
        Err(e) if e.raw_os_error() != Some(libc::EEXIST) => return Err(e),
        _ => {}
    }
    let fd = program.as_fd().as_raw_fd();
    let name = [NAME.as_bytes(), b"\0"].concat();
    let options = [
        attribute(BPF_FD, &fd.to_ne_bytes()),
        attribute(BPF_NAME, &name),
        attribute(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
    ];
    let filter = filter(NEW_FILTER, CREATE | ACK, ifindex, place)
        .attribute(KIND, b"bpf\0")
        .attribute(OPTIONS | NESTED, &options.concat());
    ask(&filter).map(drop)
}

/// Takes the filter away; it may be gone already.
pub(crate) fn detach(ifindex: u32, place: Place) -> io::Result<()> {
    let filter = filter(DELETE_FILTER, ACK, ifindex, place).attribute(KIND, b"bpf\0");
    ask(&filter).map(drop)
}

/// Whether the filter is there, with the program of this number.
pub(crate) fn is_attached(ifindex: u32, place: Place, program: u32) -> io::Result<bool> {
    Ok(program_at(ifindex, place)? == Some(program))
}

/// The number of the program in our filter.
pub(crate) fn program_at(ifindex: u32, place: Place) -> io::Result<Option<u32>> {
    let filter = filter(GET_FILTER, 0, ifindex, place).attribute(KIND, b"bpf\0");
    let answer = match ask(&filter) {
        Ok(answer) => answer,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => return Ok(None),
        Err(e) => return Err(e),
    };
    let options = find(answer.get(HEADERS..).unwrap_or_default(), OPTIONS);
    let id = options.and_then(|options| find(options, BPF_ID));
    Ok(id.and_then(|id| Some(u32::from_ne_bytes(*id.first_chunk()?))))
}

fn filter(kind: u16, flags: u16, ifindex: u32, place: Place) -> Message {
    let parent = match place {
        Place::Ingress => INGRESS,
        Place::Egress => EGRESS,
    };
    let all = u32::from(ALL_PROTOCOLS.to_be());
    Message::new(kind, flags, ifindex)
        .handle(HANDLE)
        .parent(parent)
        .info(PRIORITY << 16 | all)
}

/// A message in the making.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, ifindex: u32) -> Self {
        let mut bytes = vec![0; HEADERS];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes[20..24].copy_from_slice(&ifindex.to_ne_bytes());
        Self(bytes)
    }

    fn set(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn handle(self, handle: u32) -> Self {
        self.set(24, handle)
    }

    fn parent(self, parent: u32) -> Self {
        self.set(28, parent)
    }

    fn info(self, info: u32) -> Self {
        self.set(32, info)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(attribute(kind, value));
        let len = narrow::to_u32(self.0.len());
        self.set(0, len)
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = narrow::to_u16(4 + value.len());
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of an attribute among others.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let (head, _) = attributes.split_at_checked(4)?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let this = u16::from_ne_bytes([head[2], head[3]]) & !NESTED;
        let value = attributes.get(4..len)?;
        if this == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

/// Sends a message, and takes the first one that answers it.
fn ask(message: &Message) -> io::Result<Vec<u8>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message.0, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let kind = answer.get(4..6).and_then(|b| b.first_chunk());
    let number = answer.get(16..20).and_then(|b| b.first_chunk());
    match (kind.map(|b| u16::from_ne_bytes(*b)), number) {
        (Some(ERROR), Some(number)) => match i32::from_ne_bytes(*number) {
            0 => Ok(answer),
            error => Err(io::Error::from_raw_os_error(-error)),
        },
        (Some(_), _) => Ok(answer),
        (None, _) => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_as_they_were_written() {
        let all = [
            attribute(KIND, b"bpf\0"),
            attribute(OPTIONS | NESTED, b"12345"),
        ]
        .concat();
        assert_eq!(all.len(), 8 + 12);
        assert_eq!(find(&all, KIND), Some(&b"bpf\0"[..]));
        assert_eq!(find(&all, OPTIONS), Some(&b"12345"[..]));
        assert_eq!(find(&all, BPF_ID), None);
        assert_eq!(find(&all[..9], OPTIONS), None, "cut off");
    }
}

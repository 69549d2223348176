//! The system calls of the real server's side that neither rustix nor socket2 wraps, one safe function
//! each.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};
use uvs_core::wire::ethernet::ethertype;

// linux/if_packet.h and asm-generic/socket.h; libc does not export them for this target.
const PACKET_VNET_HDR: c_int = 15;
const PACKET_FANOUT: c_int = 18;
const PACKET_FANOUT_LB: c_int = 1;
const PACKET_FANOUT_FLAG_UNIQUEID: c_int = 0x2000;
const PACKET_FANOUT_FLAG_DEFRAG: c_int = 0x8000;
const SO_NETNS_COOKIE: c_int = 71;

/// `struct ifreq` as TUNSETIFF reads it.
#[repr(C)]
struct TunRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<TunRequest>() == size_of::<libc::ifreq>());

/// Makes the TUN device `name`; it lives as long as the file. Packets go through it without a link header,
/// each after a `virtio_net_hdr`.
pub(super) fn open_tun(name: &str) -> io::Result<File> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an interface's flags are the low half of an int"
    )]
    const FLAGS: u16 = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let mut request = TunRequest {
        name: [0; libc::IFNAMSIZ],
        flags: FLAGS,
        rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, whose size `TunRequest` has and whose name and
    // flags lie where `TunRequest` has them; it does not keep the pointer.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(file)
    }
}

/// A socket that gets every IPv4 packet that arrives on any device, each after a `virtio_net_hdr` and its
/// link header, fragments put together by the kernel.
pub(super) fn ipv4_tap() -> io::Result<Socket> {
    let socket = tap(ethertype::IPV4)?;
    // A fan-out group of one, joined for its reassembly, which knows IPv4 alone (`ip_check_defrag()`).
    let group = (PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_UNIQUEID | PACKET_FANOUT_FLAG_DEFRAG) << 16;
    set_packet_option(&socket, PACKET_FANOUT, group)?;
    Ok(socket)
}

/// As [`ipv4_tap`], of IPv6 packets, fragments as they come.
pub(super) fn ipv6_tap() -> io::Result<Socket> {
    tap(ethertype::IPV6)
}

fn tap(ethertype: u16) -> io::Result<Socket> {
    let protocol = Protocol::from(c_int::from(ethertype.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(protocol))?;
    set_packet_option(&socket, PACKET_VNET_HDR, 1)?;
    Ok(socket)
}

/// Receives one packet from an [`ipv4_tap`] or [`ipv6_tap`]. Returns its length, which is larger than the buffer where it
/// did not fit, and the type of the device it came by (`ARPHRD_…`).
pub(super) fn receive(tap: &Socket, buf: &mut [u8]) -> io::Result<(usize, u16)> {
    let mut from = libc::sockaddr_ll {
        sll_family: 0,
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut from_len = length_of::<libc::sockaddr_ll>();
    // SAFETY: the buffer and the address are valid for writes of the lengths given with them for the whole
    // call, and any bytes are valid in both.
    let len = unsafe {
        libc::recvfrom(
            tap.as_raw_fd(),
            buf.as_mut_ptr().cast(),
            buf.len(),
            libc::MSG_TRUNC,
            (&raw mut from).cast(),
            &raw mut from_len,
        )
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    Ok((len, from.sll_hatype))
}

/// Children get standard input, output and error and no other descriptor of ours, or of whoever ran us
/// (a lock, a pipe that somebody waits for the end of). Best effort: Linux 5.11.
pub(super) fn keep_descriptors() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: marks descriptors as close-on-exec and closes none, so no owner of one is affected.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// The network namespace's cookie: a number that no other namespace has or had since boot (Linux 5.14).
pub(super) fn netns_cookie() -> io::Result<u64> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut cookie = 0u64;
    let mut len = length_of::<u64>();
    // SAFETY: the value and its length are valid for writes for the whole call, and the length is the
    // value's size.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(cookie)
    }
}

/// The size of a `T` as the socket calls take it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what these calls take has a few bytes"
)]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}

fn set_packet_option(socket: &Socket, option: c_int, value: c_int) -> io::Result<()> {
    let len = length_of::<c_int>();
    // SAFETY: the value is a live c_int of the given length; the kernel copies it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

//! The system calls of the real server's side that neither rustix nor socket2 wraps: three, one safe
//! function each.

use std::ffi::c_int;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

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
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
    let mut request = TunRequest {
        name: [0; libc::IFNAMSIZ],
        flags,
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

/// A socket that gets every IPv4 packet that arrives on any device, without link header, each after a
/// `virtio_net_hdr`, fragments put together by the kernel.
pub(super) fn ipv4_tap() -> io::Result<Socket> {
    let protocol = Protocol::from(c_int::from((libc::ETH_P_IP as u16).to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), Some(protocol))?;
    set_packet_option(&socket, PACKET_VNET_HDR, 1)?;
    // A fan-out group of one, joined for its reassembly.
    let group = (PACKET_FANOUT_LB | PACKET_FANOUT_FLAG_UNIQUEID | PACKET_FANOUT_FLAG_DEFRAG) << 16;
    set_packet_option(&socket, PACKET_FANOUT, group)?;
    Ok(socket)
}

/// The network namespace's cookie: a number that no other namespace has or had since boot (Linux 5.14).
pub(super) fn netns_cookie() -> io::Result<u64> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
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

fn set_packet_option(socket: &Socket, option: c_int, value: c_int) -> io::Result<()> {
    let len = size_of::<c_int>() as libc::socklen_t;
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

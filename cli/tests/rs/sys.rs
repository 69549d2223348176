//! The tests' own system calls: a TUN device that takes and gives unfinished checksums, and a frame put on
//! a wire as it is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};
use uvs_core::wire::ethernet::ethertype;

/// `struct ifreq` with flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// Makes a TUN device whose packets have a `virtio_net_hdr` and whose kernel may leave checksums to us.
pub(crate) fn open_tun(name: &str) -> io::Result<File> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an interface's flags are the low half of an int"
    )]
    const FLAGS: u16 = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as u16;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")?;
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        flags: FLAGS,
        rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: `Request` has the size and layout of `struct ifreq`; the pointer is not kept.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    // SAFETY: the argument is a plain number.
    let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::TUN_F_CSUM) };
    if made < 0 || set < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(file)
    }
}

/// Sends an Ethernet frame, whatever is in it.
pub(crate) fn send_frame(ifindex: i32, frame: &[u8]) -> io::Result<()> {
    const AF_PACKET: libc::sa_family_t = 17;
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let to = libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: ethertype::IPV4.to_be(),
        sll_ifindex: ifindex,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    let to_len =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: frame and address are valid for reads of the lengths given with them.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            to_len,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

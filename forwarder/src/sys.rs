//! The syscalls of AF_PACKET that neither rustix nor socket2 offers: one safe function per syscall.
//!
//! All of the shell's unsafe code is here and in `port/afpacket/ring.rs`. A function here takes values or
//! slices, never pointers, and turns the kernel's answer into an `io::Result`.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use rustix::net::AddressFamily;
use socket2::{SockAddr, SockAddrStorage, Socket};

/// Most frames one [`send_batch`] takes; 8 to 256 cost the same per frame, and a longer batch keeps ring
/// slots from the kernel for longer.
pub(crate) const MAX_BATCH: usize = 64;

/// Sets an option whose value is an int.
pub fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            len_of::<i32>(),
        )
    };
    check(ret).map(drop)
}

/// From so many bytes on a piece of memory is asked of the host by itself, and goes back to it when it is freed: glibc
/// begins with this (mallopt(3)), and raises it to what was freed last.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 << 10;

/// Keeps large pieces out of the heap, where what lives longer would come to lie behind them. To be called once, before
/// there are threads.
#[cfg(target_env = "gnu")]
pub fn keep_large_apart() {
    // SAFETY: it takes two numbers and changes only where what is allocated from now on lies.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// As above; other C libraries do so by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
pub const fn keep_large_apart() {}

/// Gives memory that was freed back to the host, which the allocator else keeps for the process (malloc_trim(3)). It
/// takes some milliseconds where there is much; a thread that allocates meanwhile waits for part of that.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_memory() {
    // SAFETY: it takes a number and touches nothing but what is free.
    unsafe { libc::malloc_trim(0) };
}

/// As above; other C libraries give back what is free by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
pub(crate) const fn trim_memory() {}

/// PACKET_RX_RING: has the kernel allocate a receive ring.
pub(crate) fn set_rx_ring(fd: BorrowedFd<'_>, request: &libc::tpacket_req) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `request`, which outlives the call.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_RX_RING,
            (&raw const *request).cast(),
            len_of::<libc::tpacket_req>(),
        )
    };
    check(ret).map(drop)
}

/// PACKET_FANOUT: joins a group of sockets among which a program divides an interface's frames, but for those that the
/// host sends; `None` makes a new group. Its number.
pub(crate) fn join_fan_out(socket: &Socket, group: Option<i32>) -> io::Result<i32> {
    let kind = libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
    let request = match group {
        Some(id) => id.cast_unsigned() | kind << 16,
        None => (kind | libc::PACKET_FANOUT_FLAG_UNIQUEID) << 16,
    };
    let request = request.cast_signed();
    set_option(
        socket.as_fd(),
        libc::SOL_PACKET,
        libc::PACKET_FANOUT,
        request,
    )?;
    let mut joined = 0_i32;
    let mut len = len_of::<i32>();
    // SAFETY: the kernel writes at most `len` bytes to `joined`, which is that long.
    let ret = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT,
            (&raw mut joined).cast(),
            &raw mut len,
        )
    };
    check(ret).map(|_| joined & 0xffff)
}

/// PACKET_FANOUT_DATA: the program by which a socket's group divides frames, from now on.
pub(crate) fn set_fan_out(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the pointer and the length are those of `program`, whose instructions outlive the call; the kernel copies
    // them and writes nothing.
    let ret = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT_DATA,
            (&raw const program).cast(),
            len_of::<libc::sock_fprog>(),
        )
    };
    check(ret).map(drop)
}

/// PACKET_STATISTICS: frames seen (the dropped ones included) and dropped since the last call.
pub(crate) fn packet_statistics(fd: BorrowedFd<'_>) -> io::Result<libc::tpacket_stats> {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut len = len_of::<libc::tpacket_stats>();
    // SAFETY: the kernel writes at most `len` bytes to `stats`, which is that long.
    let ret = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    };
    check(ret).map(|_| stats)
}

/// SO_NETNS_COOKIE: the number of a socket's network namespace, which none had before it since the host was
/// started (Linux 5.14).
pub(crate) fn namespace_cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = len_of::<u64>();
    // SAFETY: the kernel writes at most `len` bytes to `cookie`, which is that long.
    let ret = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    check(ret).map(|_| cookie)
}

/// Binds a packet socket to an interface; protocol 0 receives nothing.
pub fn bind_packet(socket: &Socket, index: u32, protocol: u16) -> io::Result<()> {
    let index = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: a sockaddr_ll is one of the addresses that sockaddr_storage is there for.
    let link = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    link.sll_family = AddressFamily::PACKET.as_raw();
    link.sll_protocol = protocol.to_be();
    link.sll_ifindex = index;
    // SAFETY: the storage holds an address of this length and of the family just written.
    let address = unsafe { SockAddr::new(storage, len_of::<libc::sockaddr_ll>()) };
    socket.bind(&address)
}

/// What a bound packet socket is bound to: the interface's index (−1 once it is gone), kind and MAC.
pub fn packet_address(socket: &Socket) -> io::Result<libc::sockaddr_ll> {
    let address = socket.local_addr()?;
    if i32::from(address.family()) != libc::AF_PACKET {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: `as_ptr` points to a whole, initialised sockaddr_storage, larger than sockaddr_ll, whose
    // family says that a sockaddr_ll is in it.
    Ok(unsafe { address.as_ptr().cast::<libc::sockaddr_ll>().read() })
}

/// SIOCGIFMTU: an interface's MTU.
pub(crate) fn interface_mtu(fd: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let request = interface_ioctl(fd, name, libc::SIOCGIFMTU)?;
    // SAFETY: the union was zeroed and SIOCGIFMTU filled this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// SIOCGIFFLAGS: whether an interface is set up (IFF_UP).
pub(crate) fn interface_is_up(fd: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let request = interface_ioctl(fd, name, libc::SIOCGIFFLAGS)?;
    // SAFETY: the union was zeroed and SIOCGIFFLAGS filled this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_UP != 0)
}

/// SIOCETHTOOL with one of the commands that get a number (`struct ethtool_value`, linux/ethtool.h).
pub fn ethtool_value(fd: BorrowedFd<'_>, name: &str, command: u32) -> io::Result<u32> {
    let mut request = interface_request(name)?;
    // The command, and behind it the place for the value.
    let mut value = [command, 0u32];
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: the request points to two words, which is what the getting commands read and write; both
    // outlive the call.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    check(ret).map(|_| value[1])
}

/// An ifreq with a name in it.
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes is a valid ifreq: integers and a union of plain data.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays the terminating zero.
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn interface_ioctl(fd: BorrowedFd<'_>, name: &str, code: u64) -> io::Result<libc::ifreq> {
    let mut request = interface_request(name)?;
    // SAFETY: both codes used here read and write one ifreq, which outlives the call.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), code as _, &raw mut request) };
    check(ret).map(|_| request)
}

/// sendmmsg: sends up to [`MAX_BATCH`] frames without blocking and returns how many the kernel took.
/// Where the first fails its error is returned; a later one's failure only ends the batch.
pub(crate) fn send_batch(fd: BorrowedFd<'_>, frames: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zeroes is a valid mmsghdr: null pointers with zero lengths.
    let empty: libc::mmsghdr = unsafe { mem::zeroed() };
    let mut messages = [empty; MAX_BATCH];
    for (message, frame) in messages.iter_mut().zip(frames) {
        // IoSlice has iovec's layout; the kernel only reads through it.
        message.msg_hdr.msg_iov = (&raw const *frame).cast_mut().cast();
        message.msg_hdr.msg_iovlen = 1;
    }
    let count = u32::try_from(frames.len().min(MAX_BATCH)).unwrap_or(0);
    // SAFETY: `count` messages are initialised, each pointing to one live iovec in `frames`; everything
    // outlives the call.
    let ret = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            messages.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT as _,
        )
    };
    check(ret).map(|sent| sent as usize)
}

/// A negative result becomes errno.
fn check(ret: libc::c_int) -> io::Result<u32> {
    u32::try_from(ret).map_err(|_| io::Error::last_os_error())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the structs of the kernel's interface are small"
)]
fn len_of<T>() -> libc::socklen_t {
    mem::size_of::<T>() as libc::socklen_t
}

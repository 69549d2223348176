//! The sockets of sync daemons (`make_send_sock`, `make_receive_sock` of net/netfilter/ipvs/ip_vs_sync.c).

use std::io::{self, ErrorKind, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use uvs_control::protocol::SyncDaemon;

use crate::sys;

/// Connections that wait to be accepted, at most: a handful of directors ask.
const BACKLOG: i32 = 16;

/// Bytes that the kernel may hold of a conversation at either end: what is told is not to be old when it is heard
/// (`uvs_sync::bulk::LATE`), on a link that takes a hundred thousand bytes a second.
const ON_ITS_WAY: usize = 128 << 10;

/// The MTU of an interface.
///
/// # Errors
/// There is no such interface ([`io::ErrorKind`] of ENODEV).
pub(crate) fn mtu(interface: &str) -> io::Result<u32> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    sys::interface_mtu(socket.as_fd(), interface)
}

/// Where the daemon's `n`th socket speaks to, through its interface.
struct To {
    address: SocketAddr,
    ifindex: NonZeroU32,
}

impl To {
    fn of(daemon: &SyncDaemon, n: u16, socket: &Socket) -> io::Result<Self> {
        let index = name_to_index(socket, &daemon.interface)?;
        let ifindex = NonZeroU32::new(index).ok_or(io::ErrorKind::NotFound)?;
        let port = port_of(daemon, n);
        let address = match daemon.group {
            IpAddr::V4(group) => SocketAddr::from((group, port)),
            IpAddr::V6(group) => SocketAddrV6::new(group, port, 0, index).into(),
        };
        Ok(Self { address, ifindex })
    }
}

fn open(daemon: &SyncDaemon, speaks_to: IpAddr) -> io::Result<Socket> {
    open_for(&daemon.interface, speaks_to, (Type::DGRAM, Protocol::UDP))
}

fn open_for(
    interface: &str,
    speaks_to: IpAddr,
    (kind, protocol): (Type, Protocol),
) -> io::Result<Socket> {
    let domain = match speaks_to {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

/// Where other directors ask for all. Another one may be open for the daemon that this one takes the place of.
pub(super) fn listener(daemon: &SyncDaemon) -> io::Result<TcpListener> {
    let speaks_to = *daemon.peers.first().unwrap_or(&daemon.group);
    let tcp = (Type::STREAM, Protocol::TCP);
    let socket = open_for(&daemon.interface, speaks_to, tcp)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_send_buffer_size(ON_ITS_WAY)?;
    socket.bind(&SocketAddr::new(any_like(speaks_to), daemon.port).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A connection to another director that is asked for all, begun and not there yet.
pub(super) fn connect(interface: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let tcp = (Type::STREAM, Protocol::TCP);
    let socket = open_for(interface, to.ip(), tcp)?;
    socket.set_recv_buffer_size(ON_ITS_WAY)?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        connected => connected?,
    }
    Ok(socket.into())
}

/// Has a socket looked after by the daemon's poll.
///
/// # Errors
/// The poll's.
pub(super) fn watch(
    (registry, token): (&Registry, Token),
    socket: &impl AsRawFd,
    interest: Interest,
) -> io::Result<()> {
    registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest)
}

/// Lets as much of `out` leave as the other end takes now.
///
/// # Errors
/// The connection is gone.
pub(super) fn flush(stream: &mut TcpStream, out: &mut Vec<u8>) -> io::Result<()> {
    while !out.is_empty() {
        match stream.write(out) {
            Ok(len) => {
                out.drain(..len);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

const fn any_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The sockets by which a master speaks, from the interface's address and a port of the host's choice: one to the
/// group, or one to each other director.
pub(super) fn senders(
    daemon: &SyncDaemon,
    n: u16,
    buffer: Option<usize>,
) -> io::Result<Vec<UdpSocket>> {
    if daemon.peers.is_empty() {
        return Ok(vec![to_group(daemon, n, buffer)?]);
    }
    let to_peer = |peer: &IpAddr| {
        let socket = open(daemon, *peer)?;
        set_send_buffer(&socket, buffer)?;
        let address = SocketAddr::new(*peer, port_of(daemon, n));
        socket.connect(&address.into())?;
        Ok(socket.into())
    };
    daemon.peers.iter().map(to_peer).collect()
}

fn to_group(daemon: &SyncDaemon, n: u16, buffer: Option<usize>) -> io::Result<UdpSocket> {
    let socket = open(daemon, daemon.group)?;
    set_send_buffer(&socket, buffer)?;
    let to = To::of(daemon, n, &socket)?;
    if daemon.group.is_ipv4() {
        socket.set_multicast_loop_v4(false)?;
        socket.set_multicast_ttl_v4(daemon.ttl.into())?;
    } else {
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_hops_v6(daemon.ttl.into())?;
        socket.set_multicast_if_v6(to.ifindex.get())?;
    }
    socket.connect(&to.address.into())?;
    Ok(socket.into())
}

fn set_send_buffer(socket: &Socket, bytes: Option<usize>) -> io::Result<()> {
    bytes.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))
}

/// The daemon's `n`th port.
pub(super) const fn port_of(daemon: &SyncDaemon, n: u16) -> u16 {
    daemon.port.wrapping_add(n)
}

/// A socket that hears the group, or whoever speaks to this director.
pub(super) fn receiver(
    daemon: &SyncDaemon,
    n: u16,
    buffer: Option<usize>,
) -> io::Result<UdpSocket> {
    let peer = daemon.peers.first();
    let socket = open(daemon, *peer.unwrap_or(&daemon.group))?;
    socket.set_reuse_address(true)?;
    if let Some(bytes) = buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(peer) = peer {
        socket.bind(&SocketAddr::new(any_like(*peer), port_of(daemon, n)).into())?;
        return Ok(socket.into());
    }
    let to = To::of(daemon, n, &socket)?;
    socket.bind(&to.address.into())?;
    match daemon.group {
        IpAddr::V4(group) => {
            let interface = InterfaceIndexOrAddress::Index(to.ifindex.get());
            socket.join_multicast_v4_n(&group, &interface)?;
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, to.ifindex.get())?,
    }
    Ok(socket.into())
}

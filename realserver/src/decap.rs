//! The decapsulator: a process that takes outer headers off where the kernel has no driver for them.
//!
//! An AF_PACKET socket of each outer family gets the director's packets together with their unfinished checksums
//! and super-frames, and a TUN device takes them back in without the outer header. Raw sockets that nobody reads
//! keep the kernel from answering "protocol unreachable" (ICMP 3/2) or "unrecognized next header" (ICMPv6 4/1)
//! to the director.
//! The TUN device lives and dies with the process, however it dies.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fs::{FlockOperation, flock};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use socket2::{Domain, Protocol, Socket, Type};
use uvs_core::wire::{ethernet, protocol};

use super::counters::Counters;
use super::filter;
use super::fragments::{Fragments, Put};
use super::ipip::{self, Inner, Refusal};
use super::own::OwnAddresses;
use super::state::state_file;
use super::sys;
use super::tunnel::Carried;

/// What the process prints once it works.
pub(super) const READY: &str = "ready";
/// The largest super-frame (IPv4 BIG TCP reaches 185 KB) and then some.
const BUFFER_LEN: usize = 256 * 1024;
/// Packets between two looks at the signals.
const BATCH: usize = 64;
/// What may wait in the socket while others run: about 100 full super-frames.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

const TUN: Token = Token(0);
const SIGNALS: Token = Token(1);
/// The first tap's; the others follow.
const TAPS: usize = 2;

/// Runs until SIGTERM, SIGINT or the end of its device. Prints `READY` once it works.
///
/// # Errors
/// Where it cannot start, or a descriptor fails.
pub fn run(device: &str, carried: &[Carried]) -> io::Result<()> {
    // Our own session: no terminal's hang-up ends us. Fails only where we lead one already.
    let _ = rustix::process::setsid();
    // Started by way of /proc/self/exe it would be called "exe".
    let _ = rustix::thread::set_name(c"uvs-decap");
    let pid_path = state_file("pid").map_err(io::Error::other)?;
    let _pid_file = hold_pid_file(&pid_path)?;
    let mut decapsulator = Decapsulator::open(device, carried)?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1])?;
    leave_parent()?;
    let result = decapsulator.run(&mut signals);
    eprintln!("uvs rs decap: {}", decapsulator.counters);
    let _ = fs::remove_file(pid_path);
    result
}

/// Locks the pid file for as long as the process lives; a lock is what tells a running one from a left file.
fn hold_pid_file(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::other(format!("another one holds {}", path.display())))?;
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// Tells the waiting `up`, and releases everything inherited from it: the pipe, the directory, the privileges.
fn leave_parent() -> io::Result<()> {
    std::env::set_current_dir("/")?;
    // All descriptors are open; what reads the network needs no capability any more.
    let none = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        },
    )?;
    writeln!(io::stdout(), "{READY}")?;
    rustix::stdio::dup2_stdout(OpenOptions::new().write(true).open("/dev/null")?)?;
    Ok(())
}

/// The descriptors and the counters.
struct Decapsulator {
    /// One of each outer family.
    taps: Vec<Socket>,
    /// Held, never read.
    _claims: Vec<Socket>,
    tun: File,
    own: OwnAddresses,
    fragments: Fragments,
    counters: Counters,
    buf: Vec<u8>,
}

impl Decapsulator {
    fn open(device: &str, carried: &[Carried]) -> io::Result<Self> {
        let (in_ipv4, in_ipv6) = protocols(carried);
        let (mut taps, mut claims) = (Vec::new(), Vec::new());
        let families = [(Domain::IPV4, &in_ipv4), (Domain::IPV6, &in_ipv6)];
        for (domain, protocols) in families.into_iter().filter(|(_, p)| !p.is_empty()) {
            for &protocol in protocols {
                claims.push(claim(domain, protocol)?);
            }
            let tap = if domain == Domain::IPV4 {
                let tap = sys::ipv4_tap()?;
                tap.attach_filter(&filter::in_ipv4(protocols))?;
                tap
            } else {
                let tap = sys::ipv6_tap()?;
                tap.attach_filter(&filter::in_ipv6(protocols))?;
                tap
            };
            // The kernel caps it at net.core.rmem_max; less is slower, not wrong.
            tap.set_recv_buffer_size(RECEIVE_BUFFER)?;
            taps.push(tap);
        }
        let tun = sys::open_tun(device)
            .map_err(|e| io::Error::new(e.kind(), format!("/dev/net/tun: {e}")))?;
        rustix::io::ioctl_fionbio(&tun, true)?;
        let own = OwnAddresses::default();
        Ok(Self {
            taps,
            _claims: claims,
            tun,
            own,
            fragments: Fragments::new(),
            counters: Counters::default(),
            buf: vec![0; BUFFER_LEN],
        })
    }

    fn run(&mut self, signals: &mut Signals) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let registry = poll.registry();
        for (tap, token) in self.taps.iter().zip(TAPS..) {
            let mut tap = SourceFd(&tap.as_raw_fd());
            registry.register(&mut tap, Token(token), Interest::READABLE)?;
        }
        registry.register(
            &mut SourceFd(&self.tun.as_raw_fd()),
            TUN,
            Interest::READABLE,
        )?;
        registry.register(signals, SIGNALS, Interest::READABLE)?;
        let mut drained = false;
        loop {
            // mio tells of a readable socket once: what a batch leaves must be remembered.
            let timeout = if drained { None } else { Some(Duration::ZERO) };
            match poll.poll(&mut events, timeout) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    SIGNALS if self.stop_asked(signals) => return Ok(()),
                    TUN if !self.drain_tun()? => return Ok(()),
                    _ => {}
                }
            }
            drained = true;
            for tap in 0..self.taps.len() {
                match self.batch(tap)? {
                    Batch::DeviceGone => return Ok(()),
                    Batch::Drained => {}
                    Batch::More => drained = false,
                }
            }
        }
    }

    fn stop_asked(&self, signals: &mut Signals) -> bool {
        let mut stop = false;
        for signal in signals.pending() {
            match signal {
                SIGUSR1 => eprintln!("uvs rs decap: {}", self.counters),
                _ => stop = true,
            }
        }
        stop
    }

    /// Whatever the kernel sends into the device (multicast of its own accord) goes nowhere. False where the
    /// device is gone.
    fn drain_tun(&mut self) -> io::Result<bool> {
        loop {
            match self.tun.read(&mut self.buf) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) if device_gone(&e) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    fn batch(&mut self, tap: usize) -> io::Result<Batch> {
        for _ in 0..BATCH {
            let (len, device_type) = match sys::receive(&self.taps[tap], &mut self.buf) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Batch::Drained),
                Err(e) if passes(&e) => continue,
                Err(e) => return Err(e),
            };
            match self.one(len, link_len(device_type)) {
                Ok(()) => {}
                Err(e) if device_gone(&e) => return Ok(Batch::DeviceGone),
                Err(_) => self.counters.refused_by_tun += 1,
            }
        }
        Ok(Batch::More)
    }

    /// Passes on the packet of `len` bytes in the buffer; fails only where the device does not take it.
    fn one(&mut self, len: usize, link: usize) -> io::Result<()> {
        let Some(packet) = self.buf.get_mut(..len) else {
            self.counters.refuse(Refusal::Truncated);
            return Ok(());
        };
        let now = Instant::now();
        let destination = ipip::outer_destination(packet, link);
        if !destination.is_some_and(|addr| self.own.contains(addr, now)) {
            self.counters.not_ours += 1;
            return Ok(());
        }
        match self.fragments.put(packet, link) {
            Put::Other => self.counters.add(pass_on(&mut self.tun, packet, link)?),
            Put::Whole(mut whole) => self.counters.add(pass_on(&mut self.tun, &mut whole, link)?),
            Put::Waits => {}
            Put::Refused => self.counters.refuse(Refusal::Fragment),
        }
        self.counters.fragments += self.fragments.expire();
        Ok(())
    }
}

/// Hands a packet to the device without its outer header; fails only where the device does not take it.
fn pass_on(tun: &mut File, packet: &mut [u8], link: usize) -> io::Result<Result<Inner, Refusal>> {
    let inner = ipip::decapsulate(packet, link);
    if let Ok(inner) = &inner {
        tun.write_all(&packet[inner.start..inner.end])?;
    }
    Ok(inner)
}

/// How a batch ended.
enum Batch {
    /// The socket is empty.
    Drained,
    /// It may have more.
    More,
    /// There is nobody to pass anything on to.
    DeviceGone,
}

/// Errors of one packet or one device, after which others come: the device it came by went down or away, a
/// packet whose offload metadata the socket cannot express, no memory.
fn passes(error: &io::Error) -> bool {
    let passing = [
        libc::ENETDOWN,
        libc::ENODEV,
        libc::ENXIO,
        libc::EINVAL,
        libc::ENOBUFS,
        libc::EINTR,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| passing.contains(&code))
}

/// Bytes before the IP header on devices of this type: of those that carry IP, only Ethernet and what
/// imitates it have any.
const fn link_len(device_type: u16) -> usize {
    match device_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => ethernet::LEN,
        _ => 0,
    }
}

/// A TUN file whose device was deleted.
fn device_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADFD)
}

/// The numbers of what is carried in IPv4 and in IPv6.
fn protocols(carried: &[Carried]) -> (Vec<u8>, Vec<u8>) {
    let (mut in_ipv4, mut in_ipv6) = (Vec::new(), Vec::new());
    for carried in carried {
        match carried {
            Carried::Ipip => in_ipv4.push(protocol::IPIP),
            Carried::Sit => in_ipv4.push(protocol::IPV6),
            Carried::Ip6tnl => in_ipv6.extend([protocol::IPIP, protocol::IPV6]),
        }
    }
    (in_ipv4, in_ipv6)
}

/// A socket that makes the kernel take a protocol for handled, and gets nothing of it.
fn claim(domain: Domain, number: u8) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(number));
    let claim = Socket::new(domain, Type::RAW, Some(protocol))?;
    claim.attach_filter(&filter::nothing())?;
    Ok(claim)
}

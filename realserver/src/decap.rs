//! The decapsulator: a process that takes outer headers off where the kernel has no `ipip`.
//!
//! An AF_PACKET socket gets the director's packets together with their unfinished checksums and
//! super-frames, a TUN device takes them back in without the outer header, and a raw IPIP socket that
//! nobody reads keeps the kernel from answering "protocol unreachable" (ICMP 3/2) to the director.
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
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use uvs_core::wire::{ethernet, ipv4};

use super::counters::Counters;
use super::ipip::{self, Refusal};
use super::own::OwnAddresses;
use super::state::state_file;
use super::sys;

/// What the process prints once it works.
pub(super) const READY: &str = "ready";
/// The largest super-frame (IPv4 BIG TCP reaches 185 KB) and then some.
const BUFFER_LEN: usize = 256 * 1024;
/// Packets between two looks at the signals.
const BATCH: usize = 64;
/// What may wait in the socket while others run: about 100 full super-frames.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

const PACKETS: Token = Token(0);
const TUN: Token = Token(1);
const SIGNALS: Token = Token(2);

/// Runs until SIGTERM, SIGINT or the end of its device. Prints `READY` once it works.
///
/// # Errors
/// Where it cannot start, or a descriptor fails.
pub fn run(device: &str) -> io::Result<()> {
    // Our own session: no terminal's hang-up ends us. Fails only where we lead one already.
    let _ = rustix::process::setsid();
    // Started by way of /proc/self/exe it would be called "exe".
    let _ = rustix::thread::set_name(c"uvs-decap");
    let pid_path = state_file("pid").map_err(io::Error::other)?;
    let _pid_file = hold_pid_file(&pid_path)?;
    let mut decapsulator = Decapsulator::open(device)?;
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
    packets: Socket,
    /// Held, never read.
    _claim: Socket,
    tun: File,
    own: OwnAddresses,
    counters: Counters,
    buf: Vec<u8>,
}

impl Decapsulator {
    fn open(device: &str) -> io::Result<Self> {
        let claim = Socket::new(
            Domain::IPV4,
            Type::RAW,
            Some(Protocol::from(libc::IPPROTO_IPIP)),
        )?;
        claim.attach_filter(&[SockFilter::new(RET, 0, 0, 0)])?;
        let packets = sys::ipv4_tap()?;
        packets.attach_filter(&ipip_to_this_host())?;
        // The kernel caps it at net.core.rmem_max; less is slower, not wrong.
        packets.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let tun = sys::open_tun(device)
            .map_err(|e| io::Error::new(e.kind(), format!("/dev/net/tun: {e}")))?;
        rustix::io::ioctl_fionbio(&tun, true)?;
        let own = OwnAddresses::default();
        Ok(Self {
            packets,
            _claim: claim,
            tun,
            own,
            counters: Counters::default(),
            buf: vec![0; BUFFER_LEN],
        })
    }

    fn run(&mut self, signals: &mut Signals) -> io::Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let registry = poll.registry();
        registry.register(
            &mut SourceFd(&self.packets.as_raw_fd()),
            PACKETS,
            Interest::READABLE,
        )?;
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
            match self.batch()? {
                Batch::DeviceGone => return Ok(()),
                Batch::Drained => drained = true,
                Batch::More => drained = false,
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

    fn batch(&mut self) -> io::Result<Batch> {
        for _ in 0..BATCH {
            let (len, device_type) = match sys::receive(&self.packets, &mut self.buf) {
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
        let destination = ipip::outer_destination(packet, link).unwrap_or_default();
        if !self.own.contains(destination.into(), Instant::now()) {
            self.counters.not_ours += 1;
            return Ok(());
        }
        let inner = match ipip::decapsulate(packet, link) {
            Ok(inner) => inner,
            Err(refusal) => {
                self.counters.refuse(refusal);
                return Ok(());
            }
        };
        self.tun.write_all(&packet[inner.start..inner.end])?;
        self.counters.packets += 1;
        self.counters.bytes += (inner.end - inner.start - ipip::VNET_LEN) as u64;
        self.counters.unfinished += u64::from(inner.unfinished);
        self.counters.super_frames += u64::from(inner.super_frame);
        Ok(())
    }
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

// Classic BPF (linux/bpf_common.h).
const LD_W_ABS: u16 = 0x20;
const LD_B_ABS: u16 = 0x30;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;

/// Lets through IPIP packets whose link-layer destination is this host.
fn ipip_to_this_host() -> [SockFilter; 6] {
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
    const PACKET_HOST: u32 = 0;
    // Counted from the IP header, whatever the link.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an offset in a header of a few bytes"
    )]
    const PROTOCOL: u32 = libc::SKF_NET_OFF.cast_unsigned() + ipv4::offset::PROTOCOL as u32;
    [
        SockFilter::new(LD_W_ABS, 0, 0, PACKET_TYPE),
        SockFilter::new(JEQ, 0, 3, PACKET_HOST),
        SockFilter::new(LD_B_ABS, 0, 0, PROTOCOL),
        SockFilter::new(JEQ, 0, 1, libc::IPPROTO_IPIP as u32),
        SockFilter::new(RET, 0, 0, u32::MAX),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

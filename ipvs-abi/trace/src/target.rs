//! The process that calls: its memory, its descriptors, its rights. All of it is found by the thread's number, which
//! is another's when the caller was killed: so the kernel is asked whether it still waits, after each opening.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::filter::NETLINK_ADDRESS;
use uvs_seccomp::{Call, Listener};

/// The most bytes that are read of or for a program at once.
pub(crate) const MOST: usize = 1 << 20;
/// The most parts of a message (UIO_MAXIOV).
const MOST_PARTS: usize = 1024;

/// A caller.
pub(crate) struct Target {
    process: u32,
    user: u32,
    memory: File,
}

impl Target {
    /// The process of a call.
    ///
    /// # Errors
    /// It has ended, or may not be looked at.
    pub(crate) fn open(listener: &Listener, call: &Call) -> io::Result<Self> {
        let thread = call.thread;
        let memory = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{thread}/mem"))?;
        let status = fs::read_to_string(format!("/proc/{thread}/status"))?;
        let found = (number(&status, "Tgid:", 0), number(&status, "Uid:", 1));
        let (Some(process), Some(user)) = found else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        if !listener.waits(call) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            process,
            user,
            memory,
        })
    }

    /// Its number.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Whether it has this process's rights, by which the daemon judges what is carried to it.
    pub(crate) fn is_our_user(&self) -> bool {
        self.user == rustix::process::geteuid().as_raw()
    }

    /// A descriptor's file.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn descriptor(&self, fd: u32) -> io::Result<OwnedFd> {
        let process = Pid::from_raw(self.process.cast_signed());
        let process = process.ok_or(io::ErrorKind::NotFound)?;
        let process = pidfd_open(process, PidfdFlags::empty())?;
        let flags = PidfdGetfdFlags::empty();
        Ok(pidfd_getfd(&process, fd.cast_signed(), flags)?)
    }

    /// Whether a descriptor is closed when the process starts another program.
    pub(crate) fn closes_on_exec(&self, fd: u32) -> bool {
        let info = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.process));
        let flags = info.ok().and_then(|info| {
            let line = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(line.trim(), 8).ok()
        });
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
    }

    /// As many bytes as are there, and no more than asked for.
    pub(crate) fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(MOST)];
        let got = self.memory.read_at(&mut bytes, at).unwrap_or(0);
        bytes.truncate(got);
        bytes
    }

    /// Exactly so many bytes.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn read_all(&self, at: u64, length: usize) -> Result<Vec<u8>, i32> {
        let bytes = self.read(at, length);
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(libc::EFAULT)
        }
    }

    /// A number of 32 bits.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn word(&self, at: u64) -> Result<u32, i32> {
        let bytes = self.read_all(at, 4)?;
        let word = bytes.first_chunk().copied();
        word.map(u32::from_ne_bytes).ok_or(libc::EFAULT)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<(), i32> {
        let written = self.memory.write_all_at(bytes, at);
        written.map_err(|_| libc::EFAULT)
    }

    /// Writes an address of netlink as the kernel does: as much as there is room for, and its whole length.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn write_address(&self, port: u32, to: u64, length: u64) -> Result<(), i32> {
        let room = usize::try_from(self.word(length)?).unwrap_or(usize::MAX);
        let address = netlink_address(port);
        self.write(to, &address[..address.len().min(room)])?;
        self.write(length, &NETLINK_ADDRESS.to_ne_bytes())
    }

    /// The header of a message.
    ///
    /// # Errors
    /// EFAULT, EMSGSIZE.
    pub(crate) fn message(&self, at: u64) -> Result<Message, i32> {
        let header = self.read_all(at, size_of::<libc::msghdr>())?;
        let (words, _) = header.as_chunks::<8>();
        let word = |n: usize| words.get(n).map_or(0, |word| u64::from_ne_bytes(*word));
        // msg_name, msg_namelen, msg_iov, msg_iovlen; the rest is written only.
        let count = usize::try_from(word(3)).unwrap_or(usize::MAX);
        if count > MOST_PARTS {
            return Err(libc::EMSGSIZE);
        }
        let vector = self.read_all(word(2), count * 16)?;
        let parts = vector.as_chunks::<8>().0.as_chunks::<2>().0.iter();
        let parts = parts.map(|[start, length]| {
            let length = usize::try_from(u64::from_ne_bytes(*length)).unwrap_or(usize::MAX);
            (u64::from_ne_bytes(*start), length)
        });
        Ok(Message {
            at,
            name: word(0),
            parts: parts.collect(),
        })
    }
}

/// A `struct msghdr`, as far as it is needed.
pub(crate) struct Message {
    at: u64,
    /// Where the address goes; 0 for nowhere.
    name: u64,
    /// The buffers: each one's start and length.
    pub(crate) parts: Vec<(u64, usize)>,
}

impl Message {
    /// Writes what recvmsg(2) says beside the data: the kernel's address, no control data, and flags.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn write_result(&self, target: &Target, flags: i32) -> Result<(), i32> {
        const NAME_LENGTH: u64 = 8;
        const CONTROL_LENGTH: u64 = 40;
        const FLAGS: u64 = 48;
        if self.name != 0 {
            target.write_address(0, self.name, self.at + NAME_LENGTH)?;
        }
        target.write(self.at + CONTROL_LENGTH, &0u64.to_ne_bytes())?;
        target.write(self.at + FLAGS, &flags.to_ne_bytes())
    }
}

/// `struct sockaddr_nl`: family, padding, port, groups.
fn netlink_address(port: u32) -> [u8; NETLINK_ADDRESS as usize] {
    let mut address = [0; NETLINK_ADDRESS as usize];
    address[..2].copy_from_slice(&16u16.to_ne_bytes());
    address[4..8].copy_from_slice(&port.to_ne_bytes());
    address
}

fn number(status: &str, name: &str, place: usize) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().nth(place)?.parse().ok()
}

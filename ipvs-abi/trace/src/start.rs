//! Starts a program under the filter, and brings the listener into this process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};

use rustix::fd::{AsRawFd as _, IntoRawFd as _};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use crate::calls::Calls;
use crate::filter::{install, program};
use uvs_seccomp::Listener;

/// A program whose calls are answered here.
pub struct Traced {
    child: Child,
    calls: JoinHandle<io::Result<()>>,
}

impl Traced {
    /// Starts it, with the daemon's socket for such programs. It gets SIGTERM where the thread that calls this ends,
    /// as it could not go on: without this process, the calls that the kernel asks about fail with ENOSYS.
    ///
    /// # Errors
    /// The program cannot be started; or the filter: EBUSY where a process above has one of the same kind, EINVAL
    /// before Linux 5.19.
    pub fn start(mut command: Command, socket: &Path) -> io::Result<Self> {
        let (told, telling) = pipe_with(PipeFlags::CLOEXEC)?;
        let (hearing, heard) = pipe_with(PipeFlags::CLOEXEC)?;
        let filter = program();
        let before_exec = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            let listener = install(&filter)?;
            let own = rustix::process::getpid().as_raw_pid();
            let [a, b, c, d] = own.to_ne_bytes();
            let [e, f, g, h] = listener.as_raw_fd().to_ne_bytes();
            rustix::io::write(&telling, &[a, b, c, d, e, f, g, h])?;
            let mut taken = [0];
            rustix::io::read(&hearing, &mut taken)?;
            // It is closed by exec; closing it is no call that is asked about, but there is no need.
            let _ = listener.into_raw_fd();
            match taken {
                [1] => Ok(()),
                _ => Err(io::ErrorKind::PermissionDenied.into()),
            }
        };
        // SAFETY: between fork and exec it makes system calls only; nothing allocates or locks.
        unsafe { command.pre_exec(before_exec) };
        let taking = thread::spawn(move || {
            let listener = take(&told);
            let taken = [u8::from(listener.is_ok())];
            rustix::io::write(&heard, &taken)?;
            listener
        });
        let child = command.spawn();
        // With it goes the pipe's end that the other thread waits at, where the program never came so far.
        drop(command);
        let listener = taking
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        let child = child?;
        let calls = Calls::new(Listener(listener?), socket);
        let calls = thread::spawn(move || calls.serve());
        Ok(Self { child, calls })
    }

    /// The program's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program's end, and then for all that it has left running.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        let served = self.calls.join();
        served.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        Ok(status)
    }
}

/// The listener, from the process that has it: that waits meanwhile.
fn take(told: &OwnedFd) -> io::Result<OwnedFd> {
    let mut numbers = [0; 8];
    let got = rustix::io::read(told, &mut numbers)?;
    let ([process, fd], []) = numbers.as_chunks::<4>() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    if got != numbers.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let process = Pid::from_raw(i32::from_ne_bytes(*process));
    let process = pidfd_open(process.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    let fd = i32::from_ne_bytes(*fd);
    Ok(pidfd_getfd(&process, fd, PidfdGetfdFlags::empty())?)
}

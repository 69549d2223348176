//! The fan-out program: which worker's ring the kernel puts a frame into, as the engine would say
//! ([`Steering`]).
//!
//! PACKET_FANOUT_CBPF asks it once a frame; without one all go to the first worker. It sees a frame from the network header on, and of what the hook has hidden
//! from the tag on that hides it. It need not be right, for a frame that comes to another worker is handed over, only
//! nearly always: what it cannot see it leaves, that is what lies behind extension headers of IPv6, the ports of
//! fragments (all of a datagram are one worker's, which puts it together), and an error about a tunnel's packet.
//! Where there are more addresses than a program holds, each packet is taken for a client's.

mod compiler;

use libc::sock_filter;
use uvs_core::crew::{Class, Fan, Steering};

use crate::sys;
use compiler::Compiler;

/// Instructions the kernel takes at most (BPF_MAXINSNS).
const MAX_INSTRUCTIONS: usize = 4096;

/// Bytes of the tag that hides a frame, behind which its own EtherType is the last two.
const TAG: u32 = 4;

/// What it says of the frames of a port.
#[derive(Clone, Debug)]
pub(crate) struct FanOut {
    /// For frames as they come in.
    pub(in crate::port) plain: Vec<sock_filter>,
    /// For those that the hook has hidden.
    pub(in crate::port) hidden: Vec<sock_filter>,
    /// Whether it knows all addresses.
    pub(crate) exact: bool,
}

impl FanOut {
    /// What follows from a steering, with FULLNAT's local ports.
    pub(crate) fn new(steering: &Steering, fan: Fan, local_ports: (u16, u16)) -> Self {
        let program =
            |steering: &Steering, base| Compiler::compile(steering, fan, local_ports, base);
        let (plain, hidden) = (program(steering, 0), program(steering, TAG));
        if plain.len().max(hidden.len()) <= MAX_INSTRUCTIONS {
            return Self {
                plain,
                hidden,
                exact: true,
            };
        }
        let classes = steering.vips.values().chain(steering.servers.values());
        let all = classes.chain(&steering.otherwise).copied();
        let mut nothing_known = Steering::default();
        nothing_known.otherwise = all.reduce(Class::and);
        Self {
            plain: program(&nothing_known, 0),
            hidden: program(&nothing_known, TAG),
            exact: false,
        }
    }
}

/// Several sockets among which the kernel divides an interface's frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// Known once the first has joined.
    id: Option<i32>,
}

impl Group {
    /// A socket joins, as the next worker's.
    ///
    /// # Errors
    /// The interface is down, on Linux before 6.13 (`fanout_add`); or the kernel is before 5.12, and knows no fan-out
    /// that leaves out what the host sends.
    pub(super) fn join(&mut self, socket: &socket2::Socket) -> std::io::Result<()> {
        let id = sys::join_fan_out(socket, self.id)?;
        self.id = Some(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

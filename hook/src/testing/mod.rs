//! The program on single frames, for tests: no interface carries them.

pub mod net;

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use uvs_core::time::Instant;

use crate::hook::Hook;
use crate::layout::{Conn, HIDDEN, OURS_MARK};
use crate::sys::program::{Program, Ran};

/// `struct __sk_buff` of linux/bpf.h: its size, and where its fields are that a test sets or reads.
const CONTEXT: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;
const GSO_SIZE: usize = 176;
/// What the program returns. (The packet's type is not among what the kernel tells: a real interface shows it.)
const OK: u32 = 0;
const DROP: u32 = 2;
const REDIRECT: u32 = 7;
const UNSPEC: u32 = u32::MAX;

/// How a frame comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// The interface; its MAC address decides whether the frame is to this host.
    pub ifindex: u32,
    /// Its mark.
    pub mark: u32,
    /// Bytes of a super-frame's segments, 0 = it is none.
    pub gso_size: u32,
}

/// What the program made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was forwarded, and is like this now.
    Taken(Vec<u8>),
    /// It is UVS's: the rings have it, the host's stack does not.
    Ours,
    /// It was left as it was; and with this mark.
    NotOurs(u32),
    /// It was dropped.
    Dropped,
}

impl Hook {
    /// What the ingress program makes of a frame.
    ///
    /// # Errors
    /// The kernel does not run it, such as where there is no such interface.
    pub fn run(&self, frame: &[u8], arrival: Arrival) -> io::Result<Outcome> {
        judge(frame, run(&self.programs.ingress, frame, arrival)?)
    }

    /// The mark with which the egress program sends a frame back in; `None` where it lets it go.
    ///
    /// # Errors
    /// As [`Hook::run`].
    pub fn run_at_egress(&self, frame: &[u8], arrival: Arrival) -> io::Result<Option<u32>> {
        let ran = run(&self.programs.egress, frame, arrival)?;
        match ran.ret {
            REDIRECT => Ok(Some(mark_of(&ran))),
            UNSPEC => Ok(None),
            ret => Err(io::Error::other(format!("it returns {ret}"))),
        }
    }

    /// As [`Hook::run`] at a virtual time: what the program has entered by its own clock is `now`.
    ///
    /// # Errors
    /// As [`Hook::run`].
    pub fn run_at(&self, now: Instant, frame: &[u8], arrival: Arrival) -> io::Result<Outcome> {
        let conns = &self.memory.conns;
        let times = || {
            let of = |c: &Conn| [c.last_seen.load(Relaxed), c.answered.load(Relaxed)];
            conns.iter().map(of).collect::<Vec<_>>()
        };
        let before = times();
        let outcome = self.run(frame, arrival)?;
        for ((conn, before), after) in conns.iter().zip(before).zip(times()) {
            for (i, at) in [&conn.last_seen, &conn.answered].into_iter().enumerate() {
                if before[i] != after[i] {
                    at.store(now.0, Relaxed);
                }
            }
        }
        Ok(outcome)
    }

    /// The kernel's clock, by which the program goes.
    pub fn clock() -> Instant {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let [s, ns] = [time.tv_sec, time.tv_nsec].map(|n| u64::try_from(n).unwrap_or_default());
        Instant(s * 1_000_000_000 + ns)
    }
}

fn run(program: &Program, frame: &[u8], arrival: Arrival) -> io::Result<Ran> {
    let mut context = [0; CONTEXT];
    let mut set = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    set(MARK, arrival.mark);
    set(IFINDEX, arrival.ifindex);
    set(GSO_SIZE, arrival.gso_size);
    program.run_frame(frame, &context)
}

fn mark_of(ran: &Ran) -> u32 {
    let bytes = ran.context.get(MARK..).and_then(|b| b.first_chunk());
    bytes.map_or(0, |b| u32::from_ne_bytes(*b))
}

/// A frame as the rings get it: a tag between its MAC addresses and its EtherType.
fn hidden(frame: &[u8]) -> Vec<u8> {
    const NO_VLAN: u16 = 0xfff;
    let (macs, rest) = frame.split_at(12);
    [macs, &HIDDEN.to_be_bytes(), &NO_VLAN.to_be_bytes(), rest].concat()
}

fn judge(frame: &[u8], ran: Ran) -> io::Result<Outcome> {
    let (mark, untouched) = (mark_of(&ran), ran.frame == frame);
    match ran.ret {
        REDIRECT if mark & OURS_MARK == 0 => Ok(Outcome::Taken(ran.frame)),
        OK if mark & OURS_MARK != 0 && ran.frame == hidden(frame) => Ok(Outcome::Ours),
        UNSPEC if untouched => Ok(Outcome::NotOurs(mark)),
        DROP => Ok(Outcome::Dropped),
        ret => Err(io::Error::other(format!(
            "it returns {ret}, mark {mark:#x}, untouched: {untouched}"
        ))),
    }
}

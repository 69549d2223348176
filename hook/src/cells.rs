//! What the engine hands over, as it lies in a connection's cell: and what the program made of it.
//!
//! The engine's thread alone writes cells, the program only what it tracks. What a frame is decided by is written while
//! its connection's generation is none: a frame that comes in between goes up.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use uvs_core::flow::{Addr, Protocol};
use uvs_core::offload::{Birth, Change, Leg as Wanted, Reply, Seen, Taken, Tracked};
use uvs_core::time::Instant;

use crate::layout::{Conn, Leg, flag, leg, ports, words};

/// Which keys of a connection are in the maps.
pub(crate) const CLIENT_KEY: u64 = 1;
pub(crate) const SERVER_KEY: u64 = 2;

/// The low half of a birth, above what a word has beside it.
pub(crate) fn half(birth: Birth) -> u64 {
    birth.0 << 32
}

/// Where a key leads to.
pub(crate) fn target(cell: u32, direction: u64, birth: Birth) -> u64 {
    u64::from(cell) << 1 | direction | half(birth)
}

impl Conn {
    /// Whether it is this one's.
    pub(crate) fn is(&self, birth: Birth) -> bool {
        self.birth.load(Relaxed) == birth.0
    }

    /// Makes it nobody's.
    pub(crate) fn clear(&self) {
        self.word.store(0, Release);
        self.birth.store(0, Relaxed);
        self.keys.store(0, Relaxed);
    }

    /// Writes what was handed over, in this generation of all ways; what the program tracks, only where it is a new
    /// connection.
    pub(crate) fn write(&self, legs: [&Leg; 2], taken: &Taken, ways: u32) {
        let is_new = !self.is(taken.birth);
        if is_new {
            self.clear();
        }
        // Of one that was only known, the program has tracked nothing.
        let is_untaken = |leg: &Leg| leg.kind.load(Relaxed) == leg::NONE;
        let tracks_anew = is_new || legs.into_iter().all(is_untaken);
        self.generation.store(!taken.generation, Release);
        let reply = match taken.reply {
            Reply::Taken(leg) => Some(leg),
            Reply::Known(_) | Reply::Direct => None,
        };
        legs[0].write(taken.forward.as_ref());
        legs[1].write(reply.as_ref());
        self.server.store(taken.server.0, Relaxed);
        self.ways.store(ways, Relaxed);
        if is_new {
            self.last_seen.store(taken.last.0, Relaxed);
            self.answered.store(0, Relaxed);
            self.client_packets.store(0, Relaxed);
            self.birth.store(taken.birth.0, Relaxed);
        }
        if tracks_anew {
            self.expect(&taken.tracked);
            self.last_seen.fetch_max(taken.last.0, Relaxed);
        }
        let kept = &taken.kept;
        let opens = kept.protocol == Protocol::Tcp && kept.local.port != 0;
        let says = |is: bool, what: u64| if is { what } else { 0 };
        let flags = says(taken.up, flag::UP)
            | says(taken.tells_proven, flag::TELLS)
            | says(opens, flag::OPENING)
            | says(taken.counts, flag::COUNTS);
        if tracks_anew {
            let tracked = state_of(&taken.tracked);
            self.word
                .store(half(taken.birth) | flags | tracked, Release);
        } else {
            let asked = flag::UP | flag::TELLS | flag::OPENING | flag::COUNTS;
            self.set_flags(asked, flags);
        }
        self.generation.store(taken.generation, Release);
    }

    /// Sets those of `mask`'s flags that are in `flags`, and clears the others of it.
    pub(crate) fn set_flags(&self, mask: u64, flags: u64) {
        self.word.fetch_and(!(mask & !flags), AcqRel);
        self.word.fetch_or(flags, AcqRel);
    }

    fn expect(&self, tracked: &Tracked) {
        self.server_expects.store(tracked.server_expects, Relaxed);
        self.client_expects.store(tracked.client_expects, Relaxed);
    }

    /// What has become of it.
    pub(crate) fn seen(&self) -> Seen {
        let word = self.word.load(Acquire);
        let answered = self.answered.load(Relaxed);
        Seen {
            tracked: Tracked {
                state: (word & 0xff).to_le_bytes()[0],
                no_output: word & flag::NO_OUTPUT != 0,
                client_expects: self.client_expects.load(Relaxed),
                server_expects: self.server_expects.load(Relaxed),
            },
            last: Instant(self.last_seen.load(Relaxed)),
            client_packets: self.client_packets.load(Relaxed),
            proven: word & flag::PROVEN != 0,
            answered: (answered != 0).then_some(Instant(answered)),
        }
    }

    /// Moves it on by a packet that came up; `false` where the program has moved it meanwhile.
    pub(crate) fn put(&self, before: &Tracked, after: &Tracked, last: Instant) -> bool {
        const TRACKED: u64 = 0xff | flag::NO_OUTPUT;
        let moved = self.word.fetch_update(AcqRel, Acquire, |word| {
            (word & TRACKED == state_of(before)).then_some(word & !TRACKED | state_of(after))
        });
        if moved.is_err() {
            return false;
        }
        self.expect(after);
        self.last_seen.fetch_max(last.0, Relaxed);
        true
    }
}

/// State and "no output" as in a word.
fn state_of(tracked: &Tracked) -> u64 {
    let silent = if tracked.no_output {
        flag::NO_OUTPUT
    } else {
        0
    };
    u64::from(tracked.state) | silent
}

impl Leg {
    fn write(&self, wanted: Option<&Wanted>) {
        let Some(wanted) = wanted else {
            self.kind.store(leg::NONE, Release);
            return;
        };
        let flow = &wanted.flow;
        let (src, dst) = (flow.source(), flow.destination());
        match wanted.change {
            Change::Nothing => self.kind.store(leg::PLAIN, Release),
            Change::Ends(ends) => {
                let (new_src, new_dst) = (ends.src.unwrap_or(src), ends.dst.unwrap_or(dst));
                self.set_addresses(new_src.addr, new_dst.addr);
                let (old, new) = (ports(src.port, dst.port), ports(new_src.port, new_dst.port));
                self.ports.store(new, Relaxed);
                let mut addresses = Sum::default();
                addresses.changed(src.addr, new_src.addr);
                addresses.changed(dst.addr, new_dst.addr);
                self.addresses.store(addresses.fold(), Relaxed);
                let mut changed = Sum::default();
                if old != new {
                    changed.word(old, new);
                }
                self.port_sum.store(changed.fold(), Relaxed);
                self.kind.store(leg::TRANSLATE, Release);
            }
            Change::Wrap { src, dst, copy_df } => {
                self.set_addresses(src, dst);
                let kind = if dst.is_v4() { leg::WRAP4 } else { leg::WRAP6 };
                let df = if copy_df { leg::COPY_DF } else { 0 };
                self.kind.store(kind | df, Release);
            }
        }
        self.hop.store(wanted.hop, Relaxed);
        self.arrival.store(wanted.arrival.unwrap_or(0), Relaxed);
    }

    fn set_addresses(&self, src: Addr, dst: Addr) {
        for (to, from) in self.src.iter().zip(words(src)) {
            to.store(from, Relaxed);
        }
        for (to, from) in self.dst.iter().zip(words(dst)) {
            to.store(from, Relaxed);
        }
    }
}

/// A difference for a checksum, of words as they lie in memory: the ones' complement sum does not mind the order of
/// bytes (RFC 1071 §2(B)).
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn word(&mut self, old: u32, new: u32) {
        self.0 += u64::from(!old) + u64::from(new);
    }

    fn changed(&mut self, old: Addr, new: Addr) {
        if old == new {
            return;
        }
        let halves = |a: Addr| a.0.chunks_exact(4).map(as_word).collect::<Vec<_>>();
        for (old, new) in halves(old).into_iter().zip(halves(new)) {
            if old != new {
                self.word(old, new);
            }
        }
    }

    fn fold(self) -> u32 {
        let mut sum = self.0;
        while sum >> 32 != 0 {
            sum = (sum >> 32) + (sum & 0xffff_ffff);
        }
        u32::try_from(sum).unwrap_or(u32::MAX)
    }
}

fn as_word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
}

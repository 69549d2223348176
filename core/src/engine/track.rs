//! The states that connections go through, by protocol, and what is counted of their packets. After
//! `ip_vs_set_state` and its handlers (`ip_vs_proto_tcp.c`, `ip_vs_proto_sctp.c`, `ip_vs_proto_udp.c`).

use super::Engine;
use super::transit::Transit;
use crate::conn::{self, ConnId, NONE};
use crate::flow::Direction;
use crate::packet::{Packet, Transport};
use crate::ranks::Rank;
use crate::sctp::{self, SctpState};
use crate::tcp::{self, TcpState};
use crate::trace::Recorder;

impl<R: Recorder> Engine<R> {
    /// Counts a packet of a connection at its server and service: from the server (`out`) or the client.
    pub(super) fn count_packet(&mut self, place: u32, out: bool, bytes: u64) {
        let server = self.servers.get_mut(place);
        server.numbers.stats.count(out, bytes);
        let service = self.services.get_mut(server.service as usize);
        if let Some(s) = service.and_then(Option::as_mut) {
            s.stats.count(out, bytes);
        }
    }

    /// Takes a packet into the connection's state and time, from the server (`output`) or the client; not
    /// one that only claims to be of the connection.
    pub(super) fn follow(&mut self, t: &Transit<'_, '_>, id: ConnId, output: bool) {
        if self.is_out_of_window(t, id, output) {
            return;
        }
        self.track(id, t.packet, output);
        self.note_sequence(t, id, output);
        self.conns.touch(t.now, id);
    }

    /// Moves the connection's state on and sets its time-out; counts it as active or inactive.
    fn track(&mut self, id: ConnId, packet: &Packet, output: bool) {
        let timeouts = self.snapshot.timeouts;
        let strict = self.defence.is_on(self.snapshot.sysctls.secure_tcp);
        let before = self.conns.get(id).state;
        let c = self.conns.get_mut(id);
        if output {
            c.flags &= !conn::NO_OUTPUT;
        }
        let direction = match (output, c.has(conn::NO_OUTPUT)) {
            (true, _) => Direction::Output,
            (false, true) => Direction::InputOnly,
            (false, false) => Direction::Input,
        };
        let (active, rank, proven) = match packet.transport {
            Transport::Tcp { flags, .. } => {
                let state = tcp::next(TcpState::from_number(c.state), direction, flags, strict);
                (c.state, c.timeout) = (state as u8, state.timeout(&timeouts));
                let proven = state == TcpState::Established && c.state != before;
                (state.is_active(), state.rank(), proven)
            }
            Transport::Sctp { chunk } => {
                let state = sctp::next(SctpState::from_number(c.state), direction, chunk);
                (c.state, c.timeout) = (state as u8, state.timeout());
                let proven = state == SctpState::Established && c.state != before;
                (state.is_active(), state.rank(), proven)
            }
            Transport::Udp => {
                c.timeout = timeouts.udp;
                let single = !output && c.in_packets <= 1;
                (
                    false,
                    if single { Rank::Single } else { Rank::Kept },
                    output,
                )
            }
            Transport::Icmp { .. } | Transport::Fragment | Transport::Other => return,
        };
        if proven && c.control != NONE {
            let template = ConnId(c.control);
            self.assure_template(template);
        }
        self.record(|e| e.moved(id, before));
        let was_over = self.conns.get(id).is_over();
        self.conns.set_rank(id, rank);
        if was_over != (rank == Rank::Over) {
            let place = self.conns.get(id).backend;
            let over = &mut self.servers.get_mut(place).over;
            *over = if was_over { *over - 1 } else { *over + 1 };
        }
        self.recount(id, active);
    }

    /// Counts a connection as active or inactive at its server.
    fn recount(&mut self, id: ConnId, active: bool) {
        let c = self.conns.get_mut(id);
        if active != c.has(conn::INACTIVE) {
            return;
        }
        c.flags ^= conn::INACTIVE;
        let place = c.backend;
        let load = self.load_mut(place);
        if active {
            (load.active, load.inactive) = (load.active + 1, load.inactive - 1);
        } else {
            (load.active, load.inactive) = (load.active - 1, load.inactive + 1);
        }
    }
}

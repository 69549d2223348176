//! What the worker does when it is asked: between two batches, and never for long.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::TryRecvError;

use mio::unix::SourceFd;
use uvs_control::trace::LiveState;
use uvs_core::time::Instant;
use uvs_core::verdict::PortId;

use super::ask::{Ask, PortStatus, Status};
use super::clock::monotonic;
use super::{Worker, register, set_filter};
use crate::port::{Receive, Transmit};
use crate::trace;
use crate::trace::live::{Live, Seen};

/// Connections copied per question.
const PAGE: u32 = 2048;

impl Worker {
    /// Answers what is asked; `false` = stop.
    pub(super) fn answer_asks(&mut self, now: Instant) -> bool {
        loop {
            match self.asks.try_recv() {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) | Ok(Ask::Stop) => return false,
                Ok(Ask::Sync(to)) => {
                    self.take_up();
                    let _ = to.send(self.apply_error.clone().map_or(Ok(()), Err));
                }
                Ok(Ask::Report(to)) => {
                    let _ = to.send(self.status());
                }
                Ok(Ask::Connections(from, to)) => {
                    let _ = to.send(self.engine.report_connections(now, from, PAGE));
                }
                Ok(Ask::ConnectionsOf(servers, to)) => {
                    let of = |(service, server)| self.engine.connections_of(service, server);
                    let _ = to.send(servers.into_iter().map(of).collect());
                }
                Ok(Ask::Trace(arrivals, to)) => {
                    let _ = to.send(trace::rehearse(&self.engine, now, &arrivals));
                }
                Ok(Ask::Live(request, to)) => {
                    let free = self.live.as_ref().is_none_or(|live| live.is_over(now));
                    if free {
                        self.live = Some(Box::new(Live::new(request, now)));
                    }
                    let _ = to.send(free);
                }
                Ok(Ask::LiveSeen(to)) => {
                    let _ = to.send(self.live_seen(now));
                }
                Ok(Ask::Unreachable(port, via)) => {
                    self.hold.give_up(port, via, &mut self.given_up);
                    self.tell_senders(now);
                }
                Ok(Ask::Port(port, rx, tx)) => self.replace_port(usize::from(port.0), rx, tx),
                Ok(Ask::Send(port, bytes)) => self.send(usize::from(port.0), &bytes),
            }
        }
    }

    /// What the look at real frames has seen; one that is over ends with it.
    fn live_seen(&mut self, now: Instant) -> (Vec<Seen>, LiveState) {
        let Some(live) = &mut self.live else {
            let over = true;
            return (Vec::new(), LiveState { over, matched: 0 });
        };
        let seen = live.take(now);
        if seen.1.over {
            self.live = None;
        }
        seen
    }

    /// A frame of the control thread's, which was never received: what becomes of it is not counted with
    /// the engine's.
    fn send(&mut self, port: usize, bytes: &[u8]) {
        self.flush();
        // With nothing else queued there is room, and a link that is down is told of by itself.
        let ledger = &mut self.ledgers[port];
        ledger.handed += 1;
        if let Err(reason) = self.tx[port].queue_copy(bytes, &Default::default()) {
            ledger.lose(1, reason);
        }
        ledger.flushed(&self.tx[port].flush(&self.rx));
    }

    fn replace_port(&mut self, port: usize, mut rx: Box<dyn Receive>, tx: Box<dyn Transmit>) {
        if !self.gone[port] {
            let _ = self
                .poll
                .registry()
                .deregister(&mut SourceFd(&self.rx[port].as_fd().as_raw_fd()));
        }
        if let Some(desired) = &self.filter {
            set_filter(rx.as_mut(), self.filter_of(port, desired));
        }
        if let Err(e) = register(&self.poll, rx.as_ref(), port) {
            tracing::error!("port {port} cannot be watched again: {e}");
        }
        self.ledgers[port].keep(self.rx[port].statistics(), self.tx[port].errors());
        (self.rx[port], self.tx[port], self.gone[port]) = (rx, tx, false);
    }

    fn status(&mut self) -> Status {
        let host = self.host();
        let ports = self.rx.iter_mut().zip(&self.tx).zip(&self.ledgers);
        let ports = ports.enumerate().map(|(i, ((rx, tx), ledger))| PortStatus {
            rx: ledger.rx(rx.statistics()),
            waiting: self.hold.waiting(PortId(i as u16)),
            errors: ledger.errors(tx.errors()),
            ledger: ledger.clone(),
        });
        let mut ports: Vec<PortStatus> = ports.collect();
        let mut own = ports.remove(host);
        for (errno, count) in self.give_back.errors() {
            *own.errors.entry(*errno).or_insert(0) += count;
        }
        Status {
            taken: monotonic(),
            started: self.started,
            ports,
            own,
            services: self.engine.report(),
            counters: self.engine.counters().clone(),
            connections: self.engine.connections().len(),
            latency: self.latency.clone(),
            batches: self.batches,
            busy: monotonic().since(self.started).saturating_sub(self.waited),
            waited: self.waited,
        }
    }
}

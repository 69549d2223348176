//! What the worker does when it is asked: between two batches, and never for long.

use std::sync::Arc;
use std::sync::mpsc::{Sender, TryRecvError};

use uvs_core::engine::{Kill, Killed, Report};
use uvs_core::peer::TakenUp;
use uvs_core::time::Instant;

use super::ask::{Ask, KillOrder};
use super::status::{PortStatus, Status, Work, WorkerStatus};
use super::{Worker, deregister, register, set_fan_out, set_filter};
use crate::clock::monotonic;
use crate::port::{Ends, port_id};
use crate::trace;
use crate::trace::live::{Live, Look, Seen};

/// Places of the connection table that one question looks at: a pause for the packets that wait, of less than 0.1 ms.
const PAGE: u32 = 512;
/// Services copied per question: a pause of about 0.1 ms.
const SERVICE_PAGE: u32 = 128;
/// Places looked at for one part of what another director is told: a pause for the packets that wait, of about 0.1 ms, as
/// that of expiry is.
const TELLABLE_PAGE: u32 = 1024;

impl Worker {
    /// Answers what is asked; `false` = stop.
    pub(super) fn answer_asks(&mut self, now: Instant) -> bool {
        loop {
            let ask = self.line.asks.try_recv();
            if ask.is_ok() {
                // What is told is true of what the kernel forwards too.
                self.engine.catch_up();
            }
            match ask {
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) | Ok(Ask::Stop) => {
                    self.line.records.take(&mut self.engine);
                    self.line.records.take_last(&self.engine, now);
                    return false;
                }
                Ok(Ask::HandDown(to)) => {
                    if !self.hand_down(now, &to) {
                        return false;
                    }
                }
                // Only a worker that stands by has been waiting for it.
                Ok(Ask::GoOn) => {}
                Ok(Ask::Sync(to)) => {
                    self.take_up(now);
                    self.inherit(now);
                    self.engine.give_orders(now);
                    let _ = to.send(self.apply_error.clone().map_or(Ok(()), Err));
                }
                Ok(Ask::Report(to)) => {
                    let _ = to.send(self.status());
                }
                Ok(Ask::Services(from, to)) => {
                    let _ = to.send(self.engine.report_services(now, from, SERVICE_PAGE));
                }
                Ok(Ask::ServicesOf(keys, to)) => {
                    let of = |key| self.engine.report_service(now, key);
                    let _ = to.send(keys.iter().filter_map(of).collect());
                }
                Ok(Ask::Connections(from, to)) => {
                    let _ = to.send(self.engine.report_connections(now, from, PAGE));
                }
                Ok(Ask::Kill(from, order, to)) => self.kill(now, from, &order, &to),
                Ok(Ask::ConnectionsOf(servers, to)) => {
                    let of = |(service, server)| self.engine.connections_of(service, server);
                    let _ = to.send(servers.into_iter().map(of).collect());
                }
                Ok(Ask::Trace(arrivals, to)) => {
                    let _ = to.send(trace::dry_run(&self.engine, now, &arrivals));
                }
                Ok(Ask::Live(look, to)) => {
                    self.look_at(now, look);
                    let _ = to.send(());
                }
                Ok(Ask::LiveSeen(last, to)) => {
                    let _ = to.send(self.take_seen(now, last));
                }
                Ok(Ask::Unreachable(port, via)) => {
                    self.hold.give_up(port, via, &mut self.given_up);
                    self.tell_senders(now);
                }
                Ok(Ask::Port(port, ends)) => self.replace_port(usize::from(port.0), ends),
                Ok(Ask::Send(port, bytes)) => self.send(now, usize::from(port.0), &bytes),
                Ok(Ask::TakeUp(told)) => self.take_up_told(now, &told),
                Ok(Ask::TakeUpPart(told, to)) => {
                    self.take_up_told(now, &told);
                    let _ = to.send(());
                }
                Ok(Ask::TellAll(from, to)) => {
                    let _ = to.send(self.engine.tell_all(now, from, TELLABLE_PAGE));
                }
            }
        }
    }

    /// Ends connections; what the kernel forwards of them ends before their ends are told.
    fn kill(&mut self, now: Instant, from: u32, order: &KillOrder, to: &Sender<Killed>) {
        let kill = Kill {
            from,
            budget: PAGE,
            wants: &order.wants,
            tell: order.tell,
        };
        let killed = self.engine.kill(now, &kill, &mut self.outbox);
        self.engine.give_orders(now);
        if !self.outbox.is_empty() {
            self.send_outbox(now);
            self.outbox.clear();
            self.flush(now);
        }
        let _ = to.send(killed);
    }

    /// Looks at real frames from now on.
    fn look_at(&mut self, now: Instant, look: Arc<Look>) {
        let wanted = Arc::clone(&look);
        self.engine
            .watch(Some(Box::new(move |flow| wanted.wants(flow))));
        self.engine.give_orders(now);
        self.live = Some(Box::new(Live::new(look, now)));
    }

    /// What was seen of them since the last time; `last` ends the look.
    fn take_seen(&mut self, now: Instant, last: bool) -> Vec<Seen> {
        let seen = self.live.as_mut().map_or_else(Vec::new, |live| live.take());
        if last {
            self.live = None;
            self.engine.watch(None);
            self.engine.give_orders(now);
        }
        seen
    }

    fn take_up_told(&mut self, now: Instant, told: &[TakenUp]) {
        for told in told {
            if let Err(why) = self.engine.take_up(now, told) {
                tracing::debug!(?why, client = %told.client, "another director's connection is not taken up");
            }
        }
    }

    /// A frame of the control thread's, which was never received: what becomes of it is not counted with
    /// the engine's.
    fn send(&mut self, now: Instant, port: usize, bytes: &[u8]) {
        self.flush(now);
        // With nothing else queued there is room, and a link that is down is told of by itself.
        let ledger = &mut self.ledgers[port];
        ledger.handed += 1;
        if let Err(reason) = self.tx[port].queue_copy(bytes, &Default::default()) {
            ledger.lose(1, reason);
        }
        ledger.flushed(&self.tx[port].flush(&self.rx));
    }

    fn replace_port(&mut self, port: usize, (mut rx, tx): Ends) {
        if !self.gone[port] {
            deregister(&self.poll, self.rx[port].as_ref());
        }
        if let Some(desired) = &self.filter {
            set_filter(rx.as_mut(), self.filter_of(port, desired));
            set_fan_out(rx.as_mut(), desired);
        }
        if let Err(e) = register(&self.poll, rx.as_ref(), port) {
            tracing::error!("port {port} cannot be watched again: {e}");
        }
        self.before[port].keep(self.rx[port].statistics(), self.tx[port].errors());
        (self.rx[port], self.tx[port], self.gone[port]) = (rx, tx, false);
    }

    fn status(&mut self) -> WorkerStatus {
        let mut ports: Vec<PortStatus> = (0..self.rx.len()).map(|i| self.port_status(i)).collect();
        let mut own = ports.remove(self.host());
        for (errno, count) in self.reinject.errors() {
            *own.errors.entry(*errno).or_insert(0) += count;
        }
        let taken = monotonic();
        WorkerStatus {
            work: Work {
                taken,
                started: self.started,
                busy: taken.since(self.started).saturating_sub(self.waited),
                waited: self.waited,
                batches: self.batches,
            },
            counted: Status {
                services: Report {
                    retired: self.engine.retired(),
                    ..Report::default()
                },
                counters: self.engine.counters().clone(),
                connections: self.engine.connections().len(),
                taken_up: self.engine.taken_up(),
                ports,
                own,
                latency: self.latency.clone(),
                handed_over: self.engine.handed_over(),
            },
        }
    }

    fn port_status(&mut self, port: usize) -> PortStatus {
        let before = &self.before[port];
        PortStatus {
            rx: before.and_rx(self.rx[port].statistics()),
            ledger: self.ledgers[port].clone(),
            waiting: self.hold.waiting(port_id(port)),
            errors: before.and_errors(self.tx[port].errors()),
        }
    }
}

//! A trace for reading: one line a decision, in the order they were taken, and why each went as it did.

use std::fmt::Write;

use uvs_control::trace::Traced;
use uvs_core::flow::Endpoint;
use uvs_core::trace::{Candidate, Change, End, Hop, NoHop, Step, Trace};
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::mac_text;

use self::sentences::{
    ABSENT, access, aside, begun, connection, gave_way, introduced, packet, reopened, row, said_of,
    seconds, service, set_aside, stray, taken, template, verdict,
};
use self::words::{mask, mode, plural};
use super::Report;
use crate::commands::output::{self, number, text};

mod sentences;
mod words;

/// Width of the first column, blanks included.
const COLUMN: usize = 15;

/// All frames, an empty line behind each.
pub(super) fn render(report: &Report) -> String {
    report
        .frames
        .iter()
        .map(|frame| {
            let mut page = Page {
                interfaces: &report.interfaces,
                out: String::new(),
            };
            page.frame(frame);
            page.out + "\n"
        })
        .collect()
}

/// What is printed of one frame.
struct Page<'a> {
    interfaces: &'a [String],
    out: String,
}

impl Page<'_> {
    fn frame(&mut self, frame: &Traced) {
        let Some(trace) = &frame.trace else {
            let at = seconds(frame.after_ns);
            let _ = writeln!(self.out, "{at}sent by the director itself, not received");
            return;
        };
        self.title(frame, trace);
        let first = trace.steps.iter().position(is_packet).map_or(0, |i| i + 1);
        for event in &trace.steps[first..] {
            self.event(event);
        }
        self.leaving(trace);
        self.guard(frame, &trace.end);
        self.end(trace);
        if let Some(decided) = &frame.decided {
            let server = decided
                .server
                .map(|s| format!(", its connection is with {s}"));
            let same = if decided.end == trace.end {
                "the same"
            } else {
                "OTHERWISE"
            };
            let said = format!(
                "{same}: {}{}",
                verdict(&decided.end),
                server.unwrap_or_default()
            );
            self.line("in fact", &said);
        }
    }

    fn title(&mut self, frame: &Traced, trace: &Trace) {
        let what = match trace.steps.iter().find(|event| is_packet(event)) {
            Some(event) => packet(event),
            None => "a frame".to_owned(),
        };
        let at = seconds(frame.after_ns);
        let by = frame
            .interface
            .as_ref()
            .map(|name| format!(", in by {name}"));
        let _ = writeln!(self.out, "{at}{what}{}", by.unwrap_or_default());
    }

    fn line(&mut self, name: &str, said: &str) {
        let _ = writeln!(self.out, "  {name:<width$}{said}", width = COLUMN - 2);
    }

    fn block(&mut self, lines: &str) {
        for line in lines.lines() {
            let _ = writeln!(self.out, "{:COLUMN$}{line}", "");
        }
    }

    fn event(&mut self, event: &Step) {
        match event {
            Step::Packet { .. } => self.line("datagram", &format!("whole: {}", packet(event))),
            Step::Aside { why } => self.line("frame", aside(*why)),
            Step::Lookup { found } => self.line("connection", &connection(found.as_ref())),
            Step::SetAside { why } => self.line("", set_aside(*why)),
            Step::Service { found, others } => self.line("service", &service(*found, others)),
            Step::Absent => self.line("", ABSENT),
            Step::Access {
                client,
                service,
                rule,
            } => self.line("access", &access(*client, *service, *rule)),
            Step::NoOpening => {
                self.line("", "it does not open a connection, so none is made for it")
            }
            Step::Begun { service } => self.line("begun", &begun(*service)),
            Step::Persistence {
                client,
                call,
                mask: bits,
                timeout,
                template: found,
            } => {
                let call = call.as_ref().map(|call| format!(", call {call}"));
                let call = call.unwrap_or_default();
                let mask = mask(*bits);
                let who = format!("client {client} (mask {mask}){call}, {timeout} s: ");
                self.line("persistence", &(who + &template(found)));
            }
            Step::Schedule {
                scheduler,
                exact,
                candidates,
                chosen,
                ..
            } => self.scheduled(scheduler, *exact, candidates, *chosen),
            Step::GaveWay { vip, state, over } => {
                self.line("gave way", &gave_way(*vip, state, *over))
            }
            Step::Taken { up } => self.line("kernel", &taken(up.as_deref())),
            Step::Reopened { local } => self.line("reopened", &reopened(*local)),
            Step::Introduced { bytes } => self.line("introduced", &introduced(*bytes)),
            Step::Refused { why } => self.line("refused", why),
            Step::Opened { server, local } => {
                let local = local.map(|l| format!(", from the local endpoint {l}"));
                self.line(
                    "opened",
                    &format!("a connection to {server}{}", local.unwrap_or_default()),
                );
            }
            Step::State { from, to, timeout } => {
                self.line("state", &format!("{from} → {to}, for {timeout} s from now"));
            }
            Step::OutOfWindow { seq, expected } => self.line(
                "state",
                &format!(
                    "stays: the sequence number {seq} is far from {expected}, which is expected"
                ),
            ),
            Step::Stray { from_server, owned } => self.line("stray", stray(*from_server, *owned)),
            Step::Leave {
                mode: name,
                forward,
                overhead,
                hop,
                unreachable,
            } => self.leave(name, *forward, *overhead, *hop, *unreachable),
        }
    }

    fn scheduled(
        &mut self,
        scheduler: &str,
        exact: bool,
        candidates: &[Candidate],
        chosen: Option<Endpoint>,
    ) {
        let choice = chosen.map_or_else(|| "no server".to_owned(), |server| server.to_string());
        let example = if exact {
            ""
        } else {
            " (an example: the state of this scheduler cannot be copied, so a new instance was asked)"
        };
        self.line(
            "scheduler",
            &format!("{scheduler} chooses {choice}{example}"),
        );
        let columns = [
            text("SERVER"),
            number("WEIGHT"),
            number("ACTIVE"),
            number("INACTIVE"),
            number("CONNECTIONS"),
            text("WHY"),
        ];
        let rows: Vec<Vec<String>> = candidates.iter().map(row).collect();
        self.block(&output::table(&columns, &rows));
    }

    fn leave(
        &mut self,
        name: &str,
        forward: bool,
        overhead: u32,
        hop: Option<Hop>,
        unreachable: Option<NoHop>,
    ) {
        let towards = match (name, forward) {
            ("Addresses", _) => "",
            (_, true) => ", to the server",
            (_, false) => ", back to the client",
        };
        let more = match overhead {
            0 => String::new(),
            n => format!(", {n} bytes more"),
        };
        self.line("mode", &format!("{}{towards}{more}", mode(name)));
        let said = match (hop, unreachable) {
            (Some(hop), _) => {
                let by = self.interface(hop.port);
                format!(
                    "{}{by}, MTU {}, {}",
                    hop.via,
                    hop.mtu,
                    self.neighbour(hop.mac)
                )
            }
            (None, Some(NoHop::NoRoute)) => "none: the kernel has no route".to_owned(),
            (None, Some(NoHop::Refused)) => {
                "none: the route refuses (blackhole, unreachable or prohibit)".to_owned()
            }
            (None, Some(NoHop::NotAPort)) => {
                "none: the route leads out of an interface that UVS does not run on".to_owned()
            }
            (None, Some(NoHop::Local) | None) => "none: it is the director itself".to_owned(),
        };
        self.line("next hop", &said);
    }

    /// What is known of a next hop; without a daemon there are no neighbours.
    fn neighbour(&self, mac: Option<[u8; 6]>) -> String {
        match mac {
            Some(mac) => format!("at {}", mac_text(mac)),
            None if self.interfaces.is_empty() => {
                "its MAC address unknown without a daemon".to_owned()
            }
            None => {
                "its MAC address not known yet: the kernel is asked, the packet waits".to_owned()
            }
        }
    }

    fn interface(&self, port: u16) -> String {
        if PortId(port) == PortId::HOST {
            return ", into the host's own stack".to_owned();
        }
        let name = self.interfaces.get(usize::from(port));
        name.map_or_else(String::new, |name| format!(", by {name}"))
    }

    fn leaving(&mut self, trace: &Trace) {
        let Some(first) = trace.leaving.first() else {
            return;
        };
        if trace.end == End::Answered {
            for answer in &trace.leaving {
                let by = self.interface(answer.port);
                self.line("answer", &format!("{}{by}", said_of(answer)));
            }
            return;
        }
        if trace.leaving.len() > 1 {
            let said = format!(
                "{}, the first of them:",
                plural(trace.leaving.len(), "frame")
            );
            self.line("leaves as", &said);
        }
        self.rewrite(&first.changes);
    }

    fn rewrite(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return self.line("rewrite", "nothing");
        }
        let width = changes
            .iter()
            .map(|c| c.field.chars().count())
            .max()
            .unwrap_or(0);
        for (i, change) in changes.iter().enumerate() {
            let before = change.before.as_ref().map(|b| format!("{b} → "));
            let said = format!(
                "{:<width$}  {}{}",
                change.field,
                before.unwrap_or_default(),
                change.after
            );
            self.line(if i == 0 { "rewrite" } else { "" }, &said);
        }
    }

    fn guard(&mut self, frame: &Traced, end: &End) {
        let Some(kernel_copy) = &frame.guard else {
            return;
        };
        let said = match (&kernel_copy.by, end) {
            (Some(rule), End::Pass) => format!(
                "the kernel's copy is dropped (rule {rule}), so that nobody gets the packet"
            ),
            (Some(rule), _) => format!("the kernel's copy is dropped (rule {rule})"),
            (None, End::Pass) => "the kernel's copy goes on: it is the kernel's packet".to_owned(),
            (None, _) => "the kernel's copy goes on as well, to the host's own stack".to_owned(),
        };
        self.line("guard", &said);
    }

    fn end(&mut self, trace: &Trace) {
        let by = trace.leaving.first().map(|l| self.interface(l.port));
        let by = by
            .filter(|_| trace.end != End::Answered)
            .unwrap_or_default();
        self.line("verdict", &format!("{}{by}", verdict(&trace.end)));
        if let End::Drop {
            meaning, advice, ..
        } = &trace.end
        {
            self.line("", meaning);
            self.line("", advice);
        }
    }
}

const fn is_packet(event: &Step) -> bool {
    matches!(event, Step::Packet { .. })
}

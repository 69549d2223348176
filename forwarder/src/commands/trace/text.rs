//! A trace for reading: one line a decision, in the order they were taken, and why each went as it did.

use std::fmt::Write;

use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;
use uvs_core::trace::{
    Aside, Candidate, Change, End, Fate, Hop, Known, Leaving, NoHop, SetAside, Step, Template,
    Trace,
};

use self::words::{mask, mode, plural};
use super::Report;
use crate::commands::output::{self, number, text};
use crate::trace::Traced;

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
            Step::NoOpening => {
                self.line("", "it does not open a connection, so none is made for it")
            }
            Step::Persistence {
                client,
                mask: bits,
                timeout,
                template: found,
            } => {
                let who = format!("client {client} (mask {}), {timeout} s: ", mask(*bits));
                self.line("persistence", &(who + &template(found)));
            }
            Step::Schedule {
                scheduler,
                exact,
                candidates,
                chosen,
                ..
            } => self.scheduled(scheduler, *exact, candidates, *chosen),
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
            ("Plain" | "Addresses", _) => "",
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
            Some(mac) => format!("at {}", words::mac(mac)),
            None if self.interfaces.is_empty() => {
                "its MAC address unknown without a daemon".to_owned()
            }
            None => {
                "its MAC address not known yet: the kernel is asked, the packet waits".to_owned()
            }
        }
    }

    fn interface(&self, port: u16) -> String {
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
        let Some(kept) = &frame.guard else { return };
        let said = match (&kept.by, end) {
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

fn packet(event: &Step) -> String {
    let Step::Packet {
        protocol,
        source,
        destination,
        kind,
        ttl,
        bytes,
    } = event
    else {
        return String::new();
    };
    let ends = if source.port == 0 && destination.port == 0 {
        format!("{} > {}", source.addr, destination.addr)
    } else {
        format!("{source} > {destination}")
    };
    let kind = if kind.is_empty() {
        String::new()
    } else {
        format!(" {kind}")
    };
    format!("{protocol}{kind} {ends}, TTL {ttl}, {bytes} bytes")
}

/// When, after the first frame; nothing for the first.
fn seconds(after_ns: u64) -> String {
    match after_ns {
        0 => String::new(),
        ns => format!("+{:.6} s  ", ns as f64 / 1e9),
    }
}

const fn aside(why: Aside) -> &'static str {
    match why {
        Aside::UnknownInterface => "it came in by an interface that UVS does not run on",
        Aside::Foreign => "it is neither IPv4 nor ARP",
        Aside::Arp => "it is ARP",
        Aside::OtherMac => "it is for another MAC address than this interface's",
        Aside::Malformed => "its headers lie",
    }
}

fn connection(found: Option<&Known>) -> String {
    let Some(known) = found else {
        return "none in the table".to_owned();
    };
    let side = if known.from_client {
        "from its client"
    } else {
        "from its server"
    };
    let local = known.local.map(|l| format!(" by {l}"));
    let removed = if known.removed {
        "; its server was removed"
    } else {
        ""
    };
    format!(
        "{} > {} > {}{}, {side}: {}, idle {} s, expires in {} s{removed}",
        known.client,
        known.vip,
        known.server,
        local.unwrap_or_default(),
        known.state,
        known.idle,
        known.expires
    )
}

const fn set_aside(why: SetAside) -> &'static str {
    match why {
        SetAside::NoService => "its service is gone: the packet is the host's",
        SetAside::Quiesced => {
            "its server has weight 0 and expire_nodest_conn is 1: a new connection is made"
        }
        SetAside::Over => "it is over, and conn_reuse_mode lets a new one begin",
        SetAside::ServerGone => {
            "its server was removed, and neither expire_nodest_conn nor on_removal ends it"
        }
        SetAside::LetGo => "its server was removed, and lets it go",
    }
}

fn service(found: Option<ServiceKey>, others: &[ServiceKey]) -> String {
    match (found, others) {
        (Some(key), _) => key.to_string(),
        (None, []) => "none: the destination is no VIP".to_owned(),
        (None, others) => {
            let list: Vec<String> = others.iter().map(ToString::to_string).collect();
            format!(
                "none for this port and protocol; this VIP has {}",
                list.join(", ")
            )
        }
    }
}

fn template(found: &Template) -> String {
    match found {
        Template::Hit { server, expires } => {
            format!("stays with {server}, no scheduler is asked; expires in {expires} s")
        }
        Template::Stale { server } => format!("was with {server}, which takes no more"),
        Template::Miss => "no server yet".to_owned(),
    }
}

const fn stray(from_server: bool, owned: bool) -> &'static str {
    match (from_server, owned) {
        (true, _) => "a real server sent it, for no connection: routed as the kernel would",
        (false, true) => "to a VIP that UVS answers for, as a host with nothing listening would",
        (false, false) => "of no connection, no service and no server",
    }
}

fn row(candidate: &Candidate) -> Vec<String> {
    let why = match candidate.fate {
        Fate::Chosen => "chosen",
        Fate::NotPicked => "not picked",
        Fate::WeightZero => "weight 0: no new connections",
        Fate::Overloaded => "overloaded: at its upper threshold",
    };
    vec![
        candidate.server.to_string(),
        candidate.weight.to_string(),
        candidate.active.to_string(),
        candidate.inactive.to_string(),
        candidate.connections.to_string(),
        why.to_owned(),
    ]
}

fn said_of(answer: &Leaving) -> String {
    format!("{}, {} bytes", answer.kind, answer.bytes)
}

fn verdict(end: &End) -> String {
    match end {
        End::Send => "sent".to_owned(),
        End::SendInParts => "sent in parts".to_owned(),
        End::Answered => "answered".to_owned(),
        End::Held => "held until its datagram is whole".to_owned(),
        End::Pass => "passed: the kernel's".to_owned(),
        End::Local => "the director itself is its real server".to_owned(),
        End::Drop { reason, .. } => format!("dropped: {reason}"),
    }
}
